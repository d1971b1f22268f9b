"""Readers of data sets, splits by group, and what they refuse."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.datasets import annotations, layouts
from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.datasets.lists import read_csv, read_folders, write_csv
from c3dvideo.datasets.read import read_dataset
from c3dvideo.datasets.splits import (
    check_for_training,
    shared_source,
    split_at_random,
    split_by_group,
    with_groups,
    with_validation,
)
from c3dvideo.errors import DatasetError, UsageError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_folder_per_class_at_any_depth_and_with_frame_folders(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "run/more/b.avi", "jump/take 1/000001.jpg", "jump/take 1/000002.jpg", "jump/x.txt")
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("jump", "run")
    assert [(e.path, e.label) for e in dataset.examples] == [
        ("jump/take 1", "jump"),
        ("run/a.mp4", "run"),
        ("run/more/b.avi", "run"),
    ]
    assert dataset.source(dataset.examples[1]) == tmp_path / "run/a.mp4"
    assert dataset.targets().tolist() == [0, 1, 1] and dataset.counts() == {"jump": 1, "run": 2}


def test_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4", "train/jump/b.mp4", "validation/run/c.mp4")
    dataset = read_dataset(tmp_path)
    assert [(e.path, e.label, e.split) for e in dataset.part("val").examples] == [
        ("validation/run/c.mp4", "run", "val")
    ]
    assert len(dataset.part("train").examples) == 2


def test_empty_class_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4")
    (tmp_path / "walk").mkdir()
    with pytest.raises(DatasetError, match="walk has no video"):
        read_folders(tmp_path)


def test_folder_without_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    with pytest.raises(DatasetError, match="one folder of videos per class"):
        read_dataset(tmp_path)
    write(tmp_path / "labels.csv", "path,label", "a.mp4,run")
    assert [(e.path, e.label) for e in read_dataset(tmp_path).examples] == [("a.mp4", "run")]
    with pytest.raises(UsageError, match="no file or folder"):
        read_dataset(tmp_path / "nowhere")


def test_csv_with_everything_comes_back(tmp_path: Path) -> None:
    touch(tmp_path, "a b,c.mp4", "d.mp4")
    examples = (
        Example("a b,c.mp4", "ü", "train", "g1", 0.5, 2.5),
        Example("d.mp4", "x", "val", "g2", start_frame=16),
    )
    write_csv(Dataset(examples, ("x", "ü"), root=tmp_path), tmp_path / "labels.csv")
    assert read_dataset(tmp_path / "labels.csv") == Dataset(examples, ("x", "ü"), root=tmp_path)


def test_csv_lists_missing_videos_and_refuses_broken_lines(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    dataset = read_dataset(write(tmp_path / "l.csv", "path,label,split", "a.mp4,x,validation", "gone.mp4,y,train"))
    assert dataset.missing == ("gone.mp4",) and dataset.examples == (Example("a.mp4", "x", "val"),)
    assert read_csv(tmp_path / "l.csv").missing == ()  # without a root nobody looks
    with pytest.raises(DatasetError, match="leaves no video: 1 are named but missing"):
        read_dataset(write(tmp_path / "l.csv", "path,label", "gone.mp4,y"))
    with pytest.raises(DatasetError, match=r"no column 'label'; its first line is 'path'"):
        read_dataset(write(tmp_path / "l.csv", "path", "a.mp4"))
    with pytest.raises(DatasetError, match=r"line 2: the column 'label' is empty"):
        read_dataset(write(tmp_path / "l.csv", "path,label", "a.mp4,"))
    with pytest.raises(DatasetError, match=r"line 2: end_seconds 1\.0 is not after start_seconds 2\.0"):
        read_dataset(write(tmp_path / "l.csv", "path,label,start_seconds,end_seconds", "a.mp4,x,2,1"))
    with pytest.raises(DatasetError, match="line 2: start_seconds is 'soon'; expected a number"):
        read_dataset(write(tmp_path / "l.csv", "path,label,start_seconds", "a.mp4,x,soon"))
    with pytest.raises(DatasetError, match=r"names a\.mp4 twice"):
        read_dataset(write(tmp_path / "l.csv", "path,label", "a.mp4,x", "a.mp4,y"))
    (tmp_path / "empty.csv").write_text("path,label\n")
    with pytest.raises(DatasetError, match=r"empty\.csv.*names no video"):
        read_dataset(tmp_path / "empty.csv")


def test_official_ucf101_files(tmp_path: Path) -> None:
    touch(tmp_path, "UCF/Run/v_Run_g01_c01.mp4", "UCF/v_Jump_g08_c01.avi")
    lists = tmp_path / "lists"
    write(lists / "classInd.txt", "1 Jump", "2 Run")
    write(lists / "trainlist02.txt", "Jump/v_Jump_g08_c01.avi 1", "Jump/v_Jump_g08_c02.avi 1")
    write(lists / "testlist02.txt", "Run/v_Run_g01_c01.avi")
    dataset = read_dataset(lists, videos=tmp_path / "UCF", fold=2)
    assert dataset.classes == ("Jump", "Run") and dataset.missing == ("Jump/v_Jump_g08_c02.avi",)
    assert dataset.examples == (
        Example("v_Jump_g08_c01.avi", "Jump", "train", "08"),
        Example("Run/v_Run_g01_c01.mp4", "Run", "test", "01"),
    )
    with pytest.raises(UsageError, match=r"trainlist03\.txt; this layout needs it"):
        read_dataset(lists, videos=tmp_path / "UCF", fold=3)


def test_official_hmdb51_files(tmp_path: Path) -> None:
    touch(tmp_path, "v/wave/FILM_wave_u_cm_np1_fr_goo_3.avi", "v/wave/OTHER_wave_u_0.avi", "v/wave/UNUSED_wave_u_0.avi")
    write(
        tmp_path / "s/wave_test_split1.txt",
        "FILM_wave_u_cm_np1_fr_goo_3.avi 1 ",
        "OTHER_wave_u_0.avi 2 ",
        "UNUSED_wave_u_0.avi 0 ",
    )
    dataset = read_dataset(tmp_path / "s", videos=tmp_path / "v")
    assert [(e.path.split("/")[-1][:4], e.split, e.group) for e in dataset.examples] == [
        ("FILM", "train", "wave/FILM"),
        ("OTHE", "test", "wave/OTHER"),
    ]
    write(tmp_path / "s/wave_test_split1.txt", "FILM_wave_u_cm_np1_fr_goo_3.avi 7")
    with pytest.raises(DatasetError, match="ends in '7'; expected 0, 1 or 2"):
        read_dataset(tmp_path / "s", videos=tmp_path / "v")
    with pytest.raises(DatasetError, match=r"\*_test_split2\.txt"):
        read_dataset(tmp_path / "s", videos=tmp_path / "v", fold=2)


def test_kinetics_csv_finds_cut_and_uncut_videos(tmp_path: Path) -> None:
    touch(tmp_path, "juggling/-3B32lodo2M_000059_000069.mp4", "whole/abcdefghijk.webm")
    table = write(
        tmp_path / "val.csv",
        "label,youtube_id,time_start,time_end,split",
        "juggling,-3B32lodo2M,59,69,val",
        "diving,abcdefghijk,3,13,val",
        "diving,gonegonegon,0,10,val",
    )
    dataset = read_dataset(table)
    assert dataset.examples == (
        Example("juggling/-3B32lodo2M_000059_000069.mp4", "juggling", "val", "-3B32lodo2M"),
        Example("whole/abcdefghijk.webm", "diving", "val", "abcdefghijk", 3.0, 13.0),
    )
    assert dataset.missing == ("gonegonegon_000000_000010",)


def test_sports1m_lists(tmp_path: Path) -> None:
    touch(tmp_path, "videos/Q6xm-AWdQ0Y.mp4")
    lists = tmp_path / "lists"
    write(lists / "labels.txt", "aikido", "american football", "archery")
    write(lists / "train_partition.txt", "http://www.youtube.com/watch?v=Q6xm-AWdQ0Y 2,0")
    write(lists / "test_partition.txt", "http://www.youtube.com/watch?v=aaaaaaaaaaa 1")
    dataset = read_dataset(lists, videos=tmp_path / "videos")
    (example,) = dataset.examples
    assert (example.label, example.other_labels, example.split) == ("archery", ("aikido",), "train")
    assert dataset.missing == ("aaaaaaaaaaa",)
    write(lists / "test_partition.txt", "http://www.youtube.com/watch?v=aaaaaaaaaaa 3")
    with pytest.raises(DatasetError, match="label '3'; expected a number from 0 to 2"):
        read_dataset(lists, videos=tmp_path / "videos")


def test_list_files_of_the_release(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.avi", "in/frames of b/000001.jpg")
    lines = ["in/a.avi 0 1", "in/a.avi 16 1", "in/frames of b/ 17 0", "in/gone.avi 0 2"]
    dataset = read_dataset(write(tmp_path / "train.lst", *lines))
    assert [(e.path, e.start_frame, e.label) for e in dataset.examples] == [
        ("in/a.avi", 0, "1"),
        ("in/a.avi", 16, "1"),
        ("in/frames of b", 16, "0"),
    ]
    assert dataset.classes == ("0", "1", "2") and dataset.missing == ("in/gone.avi",)
    write(tmp_path / "lists/train_01.lst", *lines[:2])
    write(tmp_path / "lists/test_01.lst", "in/a.avi 16 0", "in/gone.avi 0 3")
    both = read_dataset(tmp_path / "lists", videos=tmp_path)
    assert [(e.split, e.start_frame, e.label) for e in both.examples] == [
        ("train", 0, "1"),
        ("train", 16, "1"),
        ("test", 16, "0"),
    ]
    assert both.classes == ("0", "1", "2", "3") and both.missing == ("in/gone.avi",)
    jitter = write(tmp_path / "jitter.lst", "in/a.avi 1", "in/frames of b/ 44 0")
    dataset = layouts.read_list(jitter, root=tmp_path, temporal_jitter=True, classes=("no", "yes"))
    assert [(e.path, e.start_frame, e.label) for e in dataset.examples] == [
        ("in/a.avi", None, "yes"),
        ("in/frames of b", None, "no"),
    ]
    with pytest.raises(DatasetError, match="two fields; expected path, start and label"):
        layouts.read_list(write(tmp_path / "bad.lst", "a.avi 3"))
    with pytest.raises(DatasetError, match="is not a line of a list file"):
        layouts.read_list(write(tmp_path / "bad.lst", "a.avi x 3"))


def test_scene_sets_take_the_parent_folder_and_say_what_is_short(tmp_path: Path) -> None:
    touch(tmp_path, "camera_static/Beach/a.mp4", "camera_moving/Beach/b.mp4", "camera_static/Street/c.mp4")
    dataset = read_dataset(tmp_path, layout="maryland")
    assert dataset.classes == ("Beach", "Street")
    assert dataset.shortfalls == ("Beach: 2 of 10 videos", "Street: 1 of 10 videos", "2 of 13 classes")
    assert dataset.missing == ()
    touch(tmp_path, "lost.mp4")
    with pytest.raises(DatasetError, match=r"lost\.mp4 lies in"):
        read_dataset(tmp_path, layout="yupenn")


def test_aslan_pairs(tmp_path: Path) -> None:
    from scipy.io import savemat

    table = np.zeros((600, 5, 10))
    table[:, 0], table[:, 1] = np.arange(600)[:, None], 1000
    table[:300, 2] = 1
    savemat(tmp_path / "View2.mat", {"View2": table})
    pairs = annotations.read_aslan(tmp_path / "View2.mat")
    assert len(pairs) == 6000 and pairs[600] == annotations.Pair("0", "1000", True, 2)
    assert [sum(pair.same for pair in pairs if pair.fold == fold) for fold in (1, 10)] == [300, 300]
    listed = annotations.read_aslan(
        write(tmp_path / "p.csv", "first,second,same,fold", "a.mp4,b.mp4,0,3", "a,c,same,1")
    )
    assert listed == (annotations.Pair("a.mp4", "b.mp4", False, 3), annotations.Pair("a", "c", True, 1))
    with pytest.raises(DatasetError, match="no column 'same'"):
        annotations.read_aslan(write(tmp_path / "p.csv", "first,second,fold", "a,b,1"))
    savemat(tmp_path / "other.mat", {"x": np.zeros((3, 3))})
    with pytest.raises(DatasetError, match="no array of pairs x 5 x folds"):
        annotations.read_aslan(tmp_path / "other.mat")


def test_frame_labels(tmp_path: Path) -> None:
    write(tmp_path / "test/kitchen.txt", "cup", "", "cup")
    assert annotations.read_frame_labels(tmp_path) == (annotations.FrameLabels("kitchen", ("cup", "", "cup"), "test"),)
    table = write(tmp_path / "l.csv", "path,start_frame,end_frame,label", "k.avi,3,5,cup", "k.avi,0,1,pan")
    assert annotations.read_frame_labels(table) == (annotations.FrameLabels("k.avi", ("pan", "", "", "cup", "cup")),)
    with pytest.raises(DatasetError, match=r"line 2: frames \[5, 5\) are not a half-open span"):
        annotations.read_frame_labels(write(tmp_path / "l.csv", "path,start_frame,end_frame,label", "k.avi,5,5,cup"))


def ucf_like(n_groups: int = 10, classes: tuple[str, ...] = ("a", "b"), clips: int = 4) -> Dataset:
    names = [(c, f"{c}/v_{c}_g{g:02d}_c{k:02d}.mp4") for c in classes for g in range(n_groups) for k in range(clips)]
    return Dataset(tuple(Example(name, label) for label, name in names), classes)


def test_random_split_that_leaks_is_refused_unless_asked_for() -> None:
    dataset = ucf_like()
    with pytest.raises(DatasetError, match="come from one source video"):
        split_at_random(dataset, fractions={"val": 0.2})
    leaking = split_at_random(dataset, fractions={"val": 0.2}, allow_leaks=True)
    assert leaking.part("val").counts() == {"a": 8, "b": 8}
    assert all(example.group == "" for example in leaking.examples)


def test_leaks_are_seen_by_file_group_and_name() -> None:
    def pair(*examples: Example) -> tuple[str, str] | None:
        return shared_source(Dataset(examples, ("x",)))

    assert pair(Example("a.mp4", "x", start_seconds=0.0), Example("a.mp4", "x", start_seconds=9.0))
    assert pair(Example("a.mp4", "x", group="1"), Example("b.mp4", "x", group="1"))
    assert pair(Example("v_Run_g01_c01.avi", "x"), Example("sub/v_Run_g01_c02.avi", "x"))
    assert pair(Example("-3B32lodo2M_000059_000069.mp4", "x"), Example("-3B32lodo2M_000079_000089.mp4", "x"))
    assert pair(Example("v_Run_g01_c01.avi", "x"), Example("v_Run_g02_c01.avi", "x")) is None
    assert pair(Example("a.mp4", "x"), Example("b.mp4", "x")) is None


def test_the_recommended_pattern_keeps_classes_apart() -> None:
    paths = ("WallPushups/v_WallPushups_g08_c01.avi", "v_Walk_g08_c02.avi", "my_v_x/v_HandStand_2_g25_c07.avi")
    dataset = with_groups(Dataset(tuple(Example(path, "x") for path in paths), ("x",)), r"v_(\w+_g\d+)_")
    assert [example.group for example in dataset.examples] == ["WallPushups_g08", "Walk_g08", "HandStand_2_g25"]
    with pytest.raises(DatasetError, match=re.escape(r"`group_pattern='v_(\w+_g\d+)_'`")):
        split_at_random(ucf_like(), fractions={"val": 0.2})


@given(
    n_groups=st.integers(3, 20), clips=st.integers(1, 6), share=st.sampled_from([0.2, 0.3, 0.5]), seed=st.integers(0, 9)
)
def test_a_group_is_never_on_two_sides(n_groups: int, clips: int, share: float, seed: int) -> None:
    dataset = with_groups(ucf_like(n_groups, clips=clips), r"_g(\d+)_")
    split = split_by_group(dataset, fractions={"val": share}, seed=seed)
    sides = [{example.group for example in split.part(side).examples} for side in ("train", "val")]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == n_groups
    assert abs(len(split.part("val").examples) / len(split.examples) - share) <= 1 / n_groups
    assert split == split_by_group(dataset, fractions={"val": share}, seed=seed)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_refuses_is_named(seed: int) -> None:
    with pytest.raises(UsageError, match=f"`seed=` is {seed}; expected a whole number from 0"):
        split_by_group(ucf_like(), fractions={"val": 0.2}, seed=seed)


def test_group_splits_that_cannot_be_made_say_why() -> None:
    with pytest.raises(DatasetError, match="80 examples have no group"):
        split_by_group(ucf_like(), fractions={"val": 0.2})
    with pytest.raises(DatasetError, match=r"class 'a' gets no example in '\w+': its 4 examples form 1 group"):
        split_by_group(with_groups(ucf_like(1), r"_g(\d+)_"), fractions={"val": 0.2})
    with pytest.raises(DatasetError, match="does not match a/v_a_g00_c00"):
        with_groups(ucf_like(), r"_h(\d+)_")
    with pytest.raises(UsageError, match="no capture group"):
        with_groups(ucf_like(), "_g")
    with pytest.raises(UsageError, match="not a regular expression"):
        with_groups(ucf_like(), "_g(")
    with pytest.raises(UsageError, match=r"`val=1\.0`; expected each between 0 and 1, with a sum below 1"):
        split_by_group(ucf_like(), fractions={"val": 1.0})


def test_what_cannot_be_trained_says_why() -> None:
    def check(*rows: tuple[str, str]) -> None:
        examples = tuple(Example(f"{i}.mp4", label, split) for i, (label, split) in enumerate(rows))
        check_for_training(Dataset(examples, tuple(sorted({label for label, _ in rows}))))

    check(("a", "train"), ("b", "train"), ("a", "val"))
    with pytest.raises(DatasetError, match="'c' in val or test but not in train"):
        check(("a", "train"), ("b", "train"), ("c", "val"))
    with pytest.raises(DatasetError, match=r"has 1 class \('a'\); expected at least two"):
        check(("a", "train"), ("a", "val"))
    with pytest.raises(DatasetError, match=r"0\.mp4 is the only video"):
        with_validation(Dataset((Example("0.mp4", "a"),), ("a",)), 0.2)
    with pytest.raises(DatasetError, match="no example is in val or test"):
        check(("a", "train"), ("b", "train"))
    with pytest.raises(DatasetError, match="has label 'z', which is not one of the classes"):
        Dataset((Example("a.mp4", "z"),), ("a",))


@pytest.mark.oracle
def test_the_official_split_files_hold_what_their_papers_say(reference: Path) -> None:
    named = {}
    for fold in (1, 2, 3):
        dataset = layouts.read_ucf101(reference / "data/ucf7", reference / "data/splits/ucf101_splits", fold=fold)
        named[fold] = len(dataset.examples) + len(dataset.missing)
        assert len(dataset.classes) == 101
        if fold == 1:
            assert len(dataset.part("train").examples) == 662 and not dataset.part("test").examples
            assert {example.group for example in dataset.examples} == {f"{g:02d}" for g in range(8, 26)}
    assert named == {1: 13_320, 2: 13_320, 3: 13_320}
    for fold in (1, 2, 3):
        hmdb = layouts.read_hmdb51(reference / "data/ucf7", reference / "data/splits/hmdb51_splits", fold=fold)
        assert len(hmdb.missing) == 5_100 and len(hmdb.classes) == 51


@pytest.mark.oracle
def test_real_clips_split_by_group(reference: Path) -> None:
    dataset = with_groups(read_dataset(reference / "data/ucf7"), r"_g(\d+)_")
    assert len(dataset.examples) == 662 and len(dataset.classes) == 7
    split = split_by_group(dataset, fractions={"val": 0.2})
    for name, n in split.part("val").counts().items():
        assert 0.13 < n / dataset.counts()[name] < 0.27
    lists = layouts.read_list(reference / "oracle/lists/train.lst", root=reference)
    assert len(lists.missing) == 3 and lists.classes[-1] == "9"


def test_files_of_a_folder_that_are_no_videos_are_counted_in_one_line(tmp_path: Path) -> None:
    for label in ("jump", "run"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.mp4").write_bytes(b"not read here")
        (tmp_path / label / "notes.txt").write_text("no video")
    assert read_dataset(tmp_path).left_out == "left out 2 files that are no videos: 2 .txt"
    (tmp_path / "jump" / "notes.txt").unlink()
    (tmp_path / "run" / "notes.txt").unlink()
    assert read_dataset(tmp_path).left_out is None


def test_odd_names_and_labels_come_back_as_they_were(tmp_path: Path) -> None:
    names = (" lead.mp4", "lead.mp4", "tail ", "\ttab\t.mp4", '"quoted".mp4', "a,b.mp4", "two\nlines.mp4", "=cmd().mp4")
    examples = tuple(Example(name, f"{name[:1]}x ", "train", name) for name in names)
    write_csv(Dataset(examples, tuple(sorted({e.label for e in examples}))), tmp_path / "labels.csv")
    assert read_csv(tmp_path / "labels.csv").examples == examples
    with pytest.raises(DatasetError, match="is not UTF-8"):
        write_csv(Dataset((Example("caf\udce9.mp4", "x"),), ("x",)), tmp_path / "labels.csv")
