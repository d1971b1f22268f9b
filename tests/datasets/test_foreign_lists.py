"""Lists and tables that are damaged, misspelt or absurd: one DatasetError that names the line, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c3dvideo.datasets import annotations, layouts
from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.datasets.lists import read_csv, write_csv
from c3dvideo.datasets.read import read_dataset
from c3dvideo.datasets.splits import check_leaks
from c3dvideo.errors import C3DVideoError, DatasetError, UsageError


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\ncaf\xe9.mp4,a\n", "line 2, .*not UTF-8"),
        (b"path,label\na\0.mp4,a\n", "line 2.*NUL"),
        (b"path,label\n" + b"x" * 140_000 + b",a\n", "line 2"),
        (b"path,label,start_frame\na.mp4,a,inf\n", "line 2: start_frame is 'inf'; expected a number"),
        (b"path,label,start_frame\na.mp4,a,nan\n", "line 2: start_frame is 'nan'"),
        (b"path,label,start_frame\na.mp4,a,1.5\n", r"line 2: start_frame is 1\.5; expected a whole number"),
        (b"path,label,start_frame\na.mp4,a,-3\n", "line 2: start_frame is '-3'; expected a number of at least 0"),
        (b"path,label,end_seconds\na.mp4,a,1e999\n", "line 2: end_seconds is '1e999'"),
        (b"path,label,split\na.mp4,a,trian\n", "line 2: the split is 'trian'; expected one of train, training, val"),
        (b'path,label\n"a.mp4,a\n', "line 2"),
        (b"path,label\na.mp4\n", "line 2.*ends before the column 'label'"),
        (b"\xff\xfep\0a\0t\0h\0", "UTF-16"),
        (b"", "no column 'path'"),
    ],
)
def test_tables_that_are_damaged_name_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_csv(put(tmp_path / "labels.csv", content), root=tmp_path)


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    table = put(tmp_path / "labels.csv", "path,label,start_frame\na.mp4,a,16.0\nb.mp4,a,\n")
    assert [example.start_frame for example in read_csv(table).examples] == [16, None]


def test_names_that_no_file_can_have_are_missing(tmp_path: Path) -> None:
    names = ["x" * 300 + ".mp4", "a/" * 3000 + "b.mp4"]
    put(tmp_path / "here.mp4", b"")
    table = put(tmp_path / "labels.csv", "\n".join(["path,label", "here.mp4,a", *(f"{name},a" for name in names)]))
    assert set(read_csv(table, root=tmp_path).missing) == set(names)
    listed = put(tmp_path / "train.lst", f"{names[0]} 0 0\nhere.mp4 0 0\n")
    assert layouts.read_list(listed, root=tmp_path).missing == (names[0],)
    with pytest.raises(UsageError, match="there is no file or folder"):
        read_dataset("y" * 300)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mp4 0 999999999", "label 999,999,999; expected labels below 100,000"),
        ("a.mp4 0 99999999999999999999999", "line 2: .* is not a line of a list file"),
        ("a.mp4 ² 1", "line 2: .* is not a line of a list file"),
        ("frames/ 0 1", "line 2: the first frame is 0; in frame folders they count from 1"),
        ("a.mp4", "line 2: 'a.mp4' is not a line of a list file"),
    ],
)
def test_list_files_that_are_damaged_name_the_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        layouts.read_list(put(tmp_path / "train.lst", f"b.mp4 0 0\n{line}\n"), root=tmp_path)


def test_official_lists_that_are_cut_short_name_the_line(tmp_path: Path) -> None:
    put(tmp_path / "v/a.mp4", b"")
    put(tmp_path / "ucf/classInd.txt", "1 Jump\n2\n")
    with pytest.raises(DatasetError, match=r"classInd\.txt, line 2: '2' has too few fields"):
        layouts.read_ucf101(tmp_path / "v", tmp_path / "ucf")
    put(tmp_path / "hmdb/wave_test_split1.txt", "film_wave_u.avi\n")
    with pytest.raises(DatasetError, match=r"split1\.txt, line 1: .* too few fields; expected a file and 0, 1 or 2"):
        layouts.read_hmdb51(tmp_path / "v", tmp_path / "hmdb")
    put(tmp_path / "sports/labels.txt", "aikido\n")
    put(tmp_path / "sports/train_partition.txt", "address_without_labels\n")
    with pytest.raises(DatasetError, match=r"partition\.txt, line 1: .* expected an address and label numbers"):
        layouts.read_sports1m(tmp_path / "v", tmp_path / "sports")
    kinetics = put(tmp_path / "k.csv", "label,youtube_id,time_start,time_end,split\nx,abc,0,10,vall\n")
    with pytest.raises(DatasetError, match="line 2: the split is 'vall'"):
        layouts.read_kinetics(tmp_path / "v", kinetics)


def test_absurd_annotations_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    table = put(tmp_path / "l.csv", "path,start_frame,end_frame,label\nk.avi,0,999999999999,cup\n")
    with pytest.raises(DatasetError, match="line 2: end_frame is 999,999,999,999; expected at most"):
        annotations.read_frame_labels(table)
    pairs = put(tmp_path / "p.csv", "first,second,same,fold\na,b,mabye,1\n")
    with pytest.raises(DatasetError, match="line 2: same is 'mabye'"):
        annotations.read_aslan(pairs)
    with pytest.raises(DatasetError, match="is not a table of video pairs"):
        annotations.read_aslan(put(tmp_path / "View2.mat", b"MATLAB 5.0 MAT-file, cut"))


def test_folders_named_after_splits_must_all_be(tmp_path: Path) -> None:
    for name in ("train/a/1.mp4", "train/b/2.mp4", "valdation/a/3.mp4"):
        put(tmp_path / "nested" / name, b"")
    with pytest.raises(DatasetError, match="folders 'train', which name splits, and 'valdation', which do not"):
        read_dataset(tmp_path / "nested")
    for name in ("train/1.mp4", "bus/2.mp4"):
        put(tmp_path / "vehicles" / name, b"")
    assert read_dataset(tmp_path / "vehicles").classes == ("bus", "train")


def test_sources_on_two_sides_are_counted_and_refused() -> None:
    def examples(*rows: tuple[str, str, str]) -> Dataset:
        return Dataset(tuple(Example(path, "a", split, group) for path, split, group in rows), ("a",))

    clean = examples(("1.mp4", "train", "g1"), ("2.mp4", "val", "g2"), ("3.mp4", "test", "g2"))
    assert check_leaks(clean) == 0
    leaking = examples(
        *(("1.mp4", "train", "g1"), ("2.mp4", "val", "g1"), ("3.mp4", "test", "g1"), ("4.mp4", "train", "g2")),
        *(("5.mp4", "test", "g2"), ("6.mp4", "test", "g3")),
    )
    with pytest.raises(DatasetError, match=r"2 source videos are in train and in val or test, such as 'g1': 1\.mp4 is"):
        check_leaks(leaking)
    assert check_leaks(leaking, allow_leaks=True) == 2
    by_name = examples(("v_Run_g01_c01.avi", "train", ""), ("v_Run_g01_c02.avi", "val", ""))
    assert check_leaks(by_name, allow_leaks=True) == 1
    grouped = examples(("v_Run_g01_c01.avi", "train", "x"), ("v_Run_g01_c02.avi", "val", "y"))
    assert check_leaks(grouped) == 0, "groups that are named count, not what names look like"


def test_names_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    odd = Dataset((Example("caf\udce9.mp4", "a"),), ("a",), root=tmp_path)
    with pytest.raises(DatasetError, match=r"the name caf\\udce9\.mp4 is not UTF-8"):
        write_csv(odd, tmp_path / "l.csv")
    assert not (tmp_path / "l.csv").exists()


def _frame_labels(folder: Path) -> Path:
    return put(folder / "labels.csv", "path,start_frame,end_frame,label,split\nk.avi,3,5,cup,train\n")


def _kinetics(folder: Path) -> Path:
    return put(folder / "k.csv", "label,youtube_id,time_start,time_end,split\njuggling,-3B32lodo2M,59,69,val\n")


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "csv": (lambda d: put(d / "l.csv", "path,label,split,start_seconds\na.mp4,x,train,0.5\n"), read_csv),
    "list": (lambda d: put(d / "t.lst", "in/a.avi 16 1\nin/frames/ 17 0\n"), layouts.read_list),
    "kinetics": (_kinetics, lambda file: layouts.read_kinetics(file.parent, file)),
    "pairs": (lambda d: put(d / "p.csv", "first,second,same,fold\na,b,1,2\n"), annotations.read_aslan),
    "frame labels": (_frame_labels, annotations.read_frame_labels),
}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_any_damage_is_a_foreseen_error(name: str, tmp_path: Path, seed: int) -> None:
    make, read = READERS[name]
    put(tmp_path / "video.mp4", b"")
    file = make(tmp_path)
    content, random = bytearray(file.read_bytes()), np.random.default_rng(seed)
    for _ in range(random.integers(1, 5)):
        place = int(random.integers(0, len(content) + 1))
        noise = random.choice([b"\0", b"\xff", b'"', b",", b"\n", b"1e999", b"-", b"9" * 30, b"\xe9", b"nan"])
        content[place : place + int(random.integers(0, 9))] = noise
    file.write_bytes(content)
    try:
        read(file)
    except C3DVideoError as error:
        assert str(error)
