"""What every writer does with names from files, with a disk that takes no more, and with files that are there."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pyarrow.parquet
import pytest

from c3dvideo.choices import Format
from c3dvideo.errors import C3DVideoError, StoreError
from c3dvideo.features.convert import (
    OutputConflictError,
    activitynet_writer,
    caffe_writer,
    convert,
    crops_writer,
    csv_writer,
    hdf5_writer,
    npy_writer,
    npz_writer,
    parquet_writer,
    shards_writer,
    tall_hdf5_writer,
    tall_writer,
    ucf_crime_writer,
)
from c3dvideo.features.convert.hdf5_output import _Sink
from c3dvideo.features.store import list_features

WRITERS = {
    "caffe": caffe_writer,
    "npy": npy_writer,
    "activitynet": activitynet_writer,
    "hdf5": hdf5_writer,
    "ucf-crime": ucf_crime_writer,
    "tall": tall_writer,
    "tall --merge": tall_hdf5_writer,
    "crops": crops_writer,
    "csv": csv_writer,
    "parquet": parquet_writer,
    "shards": shards_writer,
    "npz": npz_writer,
}
ONE_FILE = ("activitynet", "hdf5", "tall --merge", "parquet")
NEEDS_UTF8 = ONE_FILE
NOT_UTF8 = os.fsdecode(b"caf\xe9.mp4")


def place(to: str, folder: Path) -> Path:
    return folder / "out" / "all" if to in ONE_FILE else folder / "out"


def run(folder: Path, to: str, out: Path, **options: Any) -> Any:
    if to == "tall --merge":
        options["merge"] = True
    return convert(folder, to=to.split(maxsplit=1)[0], out=out, **options)  # type: ignore[arg-type]


def shape_for(to: str, width: int = 8) -> dict[str, tuple[int, ...]]:
    return {"fc6": (5, width) if to == "crops" else (width,)}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def at_most_4096_bytes_per_file() -> Iterator[None]:
    """A limit of the system on the size of a file that is written; it works for any user, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_every_format_is_tried() -> None:
    assert {to.split()[0] for to in WRITERS} == set(get_args(Format))


@pytest.mark.parametrize("name", ["../up", "sub/../../up", "/up", "", ".", "..", "..\\up", "a\\..\\..\\b", "a\0b"])
@pytest.mark.parametrize("to", WRITERS)
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, video, to: str, name: str) -> None:
    (tmp_path / "deep").mkdir()
    with pytest.raises(C3DVideoError), WRITERS[to](place(to, tmp_path / "deep")) as write:
        write(name, video(n_clips=40, layers=shape_for(to)))
        raise StoreError("written")  # an HDF5 group may have any name, so that only the files count
    assert not contents(tmp_path)


@pytest.mark.parametrize("layer", ["x/../../../ESCAPED", "../ESCAPED", "/ESCAPED", "..\\ESCAPED", "..", "a\nb"])
@pytest.mark.parametrize("to", WRITERS)
def test_the_name_of_a_layer_never_becomes_a_path(tmp_path: Path, video, feature_folder, to: str, layer: str) -> None:
    good = video("good.mp4", n_clips=40, layers=shape_for(to))
    folder = feature_folder(good)
    np.savez(
        folder / "bad.mp4.npz",
        **{layer: good.layers["fc6"]},
        start_frame=good.start_frame,
        start_seconds=good.start_seconds,
        metadata=np.array(json.dumps({**good.metadata, "name": "bad.mp4"})),
    )
    before = set(tmp_path.parent.rglob("*ESCAPED*"))
    summary = run(folder, to, place(to, tmp_path))
    assert list(summary.failures) == ["bad.mp4"]
    assert "cannot be the name of a layer" in summary.failures["bad.mp4"]
    assert set(tmp_path.parent.rglob("*ESCAPED*")) == before
    assert summary.n_videos == 1


@pytest.mark.parametrize("to", WRITERS)
def test_a_name_that_is_not_utf8_keeps_its_bytes_or_is_named(tmp_path: Path, video, feature_folder, to: str) -> None:
    layers = shape_for(to)
    folder = feature_folder(video("a.mp4", n_clips=40, layers=layers), video(NOT_UTF8, n_clips=40, layers=layers))
    summary = run(folder, to, place(to, tmp_path))
    if to in NEEDS_UTF8:
        assert summary.n_videos == 1
        assert list(summary.failures) == [NOT_UTF8]
        assert r"caf\xe9" in summary.failures[NOT_UTF8]
        assert "is not UTF-8, which" in summary.failures[NOT_UTF8]
    elif to == "shards":
        assert summary.failures == {}
        assert [name for name, _ in list_features(tmp_path / "out")] == ["a.mp4", NOT_UTF8]
    else:
        assert summary.failures == {}
        assert any(b"caf\xe9" in os.fsencode(path) for path in contents(tmp_path / "out"))
    if to == "caffe":
        assert b"videos/caf\xe9.mp4 16 0\n" in (tmp_path / "out" / "input_list_video.txt").read_bytes()
    if to == "npy":
        sidecar = json.loads((tmp_path / "out" / NOT_UTF8.replace(".mp4", ".json")).read_text("ascii"))
        assert os.fsencode(sidecar["name"]) == b"caf\xe9.mp4"


@pytest.mark.parametrize("to", WRITERS)
def test_a_name_of_245_bytes_is_written_or_named_and_the_others_are_written(
    tmp_path: Path, video, feature_folder, to: str
) -> None:
    long = "x" * 241 + ".mp4"
    layers = shape_for(to)
    videos = video("a.mp4", n_clips=40, layers=layers), video(long, n_clips=40, layers=layers)
    options = {"keep_suffix": True} if to in ("csv", "crops", "ucf-crime", "npy") else {}
    summary = run(
        feature_folder(*videos, video("z.mp4", n_clips=40, layers=layers)), to, place(to, tmp_path), **options
    )
    too_long = to in ("csv", "tall")
    assert summary.n_videos == 3 - too_long
    assert list(summary.failures) == [long] * too_long
    assert all("a name in its path is too long" in reason for reason in summary.failures.values())
    assert not [path for path in contents(tmp_path / "out") if too_long and "xxx" in path.name]


@pytest.mark.parametrize("to", WRITERS)
def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, video, feature_folder, to: str
) -> None:
    layers = shape_for(to, 2048)
    folder = feature_folder(video("a.mp4", n_clips=40, layers=layers), video("b.mp4", n_clips=40, layers=layers))
    with (
        at_most_4096_bytes_per_file(),
        pytest.raises(StoreError, match="could not be written: the file would") as error,
    ):
        run(folder, to, place(to, tmp_path))
    assert "\n" not in str(error.value)
    assert isinstance(error.value.__cause__, OSError)
    assert not contents(tmp_path / "out")


@pytest.mark.parametrize("to", ["hdf5", "parquet", "npy"])
def test_the_command_ends_with_one_line_and_exit_code_1(tmp_path: Path, video, feature_folder, to: str) -> None:
    folder = feature_folder(video("a.mp4", n_clips=40, layers={"fc6": (2048,)}))
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from c3dvideo.cli import main; main()"
    )
    words = [sys.executable, "-B", "-c", code, "convert", str(folder), "--to", to, "--out", str(place(to, tmp_path))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "could not be written: the file would be larger than is allowed here" in done.stderr
    assert not contents(tmp_path / "out")


def test_a_video_that_is_stopped_half_way_leaves_none_of_its_files(
    tmp_path: Path, video, feature_folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = feature_folder(video("a.mp4", n_clips=3), video("sub/b.mp4", n_clips=3))
    save, calls = np.savetxt, []

    def fill_up(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*arguments, **options)

    monkeypatch.setattr(np, "savetxt", fill_up)
    with pytest.raises(StoreError, match=r"b_000032.csv could not be written: the disk is full \([\d.]+ MB free\)"):
        convert(folder, to="csv", out=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").rglob("*")} == {"a_000000.csv", "a_000016.csv", "a_000032.csv"}


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_hdf5_never_sees_a_failure_and_the_caller_does(tmp_path: Path, failure: BaseException) -> None:
    class Full:
        written = 0

        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: Any) -> int:
            self.written += len(data)
            if self.written > 20_000:
                raise failure
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with (tmp_path / "a").open("w+b", buffering=0) as raw:
        sink = _Sink(Full(raw))  # type: ignore[arg-type]
        with h5py.File(sink, "w") as file:
            for number in range(50):
                file.create_dataset(f"sub/{number}", data=np.random.rand(50, 20), compression="gzip")
        with pytest.raises(type(failure)):
            sink.check()


def test_hdf5_through_the_sink_holds_what_was_put(tmp_path: Path, video) -> None:
    videos = {f"sub{number % 7}/v{number}": video(n_clips=1 + number % 9, seed=number) for number in range(200)}
    with hdf5_writer(tmp_path / "a.hdf5") as write:
        for name, features in videos.items():
            write(name, features)
    with h5py.File(tmp_path / "a.hdf5") as file:
        for name, features in videos.items():
            np.testing.assert_array_equal(file[name][:], features.layers["fc6"])


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        ("npy", "npy", ({"layers": ["fc6"]}, {"layers": ["fc7"]})),
        ("csv", "csv", ({"layers": ["fc6"]}, {"layers": ["fc7"]})),
        ("tall", "tall", ({"layers": ["fc6"]}, {"layers": ["fc6"], "context": True})),
        ("ucf-crime", "ucf-crime", ({"layers": ["fc6"]}, {"layers": ["fc7"]})),
        ("hdf5", "activitynet", ({"layers": ["fc6"]}, {"layers": ["fc6"]})),
        ("activitynet", "hdf5", ({"layers": ["fc6"]}, {"layers": ["fc6"]})),
        ("hdf5", "hdf5", ({"layers": ["fc6"]}, {"layers": ["fc7"]})),
        ("hdf5", "parquet", ({"layers": ["fc6"]}, {"layers": ["fc6"]})),
        ("parquet", "hdf5", ({"layers": ["fc6"]}, {"layers": ["fc6"]})),
        ("parquet", "parquet", ({"layers": ["fc6"]}, {})),
        ("tall --merge", "hdf5", ({"layers": ["fc6"]}, {"layers": ["fc6"]})),
    ],
)
def test_another_conversion_is_never_overwritten_in_silence(
    *, tmp_path: Path, video, feature_folder, first: str, second: str, options: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    folder = feature_folder(video("a.mp4", n_clips=40, layers={"fc6": (8,), "fc7": (8,)}))
    out = place(first, tmp_path)
    run(folder, first, out, **options[0])
    before = contents(tmp_path / "out")
    with pytest.raises(OutputConflictError, match=r"holds something else than .* give `overwrite=` to replace it"):
        run(folder, second, out, **options[1])
    assert contents(tmp_path / "out") == before
    run(folder, second, out, **options[1], overwrite=True)
    assert contents(tmp_path / "out") != before


def test_crops_do_not_overwrite_npy(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video("a.mp4"))
    convert(folder, to="npy", out=tmp_path / "out")
    before = contents(tmp_path / "out")
    (folder / "a.mp4.npz").unlink()
    feature_folder(video("a.mp4", layers={"fc6": (5, 8)}))
    with pytest.raises(OutputConflictError, match=r"a\.npy holds something else"):
        convert(folder, to="crops", crop_layout="rtfm", out=tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_json_file_of_the_user_is_not_a_sidecar(tmp_path: Path, video, feature_folder) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text('{"mine": 1}')
    with pytest.raises(OutputConflictError, match=r"a\.json holds something else"):
        convert(feature_folder(video("a.mp4")), to="npy", out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.json"]


@pytest.mark.parametrize("to", WRITERS)
def test_the_same_conversion_runs_again_and_adds_videos(tmp_path: Path, video, feature_folder, to: str) -> None:
    layers = shape_for(to)
    folder = feature_folder(video("b.mp4", n_clips=40, layers=layers))
    out = place(to, tmp_path)
    run(folder, to, out)
    first = contents(tmp_path / "out")
    feature_folder(video("a.mp4", n_clips=40, layers=layers, seed=1), video("c.mp4", n_clips=40, layers=layers, seed=2))
    assert run(folder, to, out).n_videos == 3
    if to == "shards":  # whose names state their content
        assert [name for name, _ in list_features(tmp_path / "out")] == ["a.mp4", "b.mp4", "c.mp4"]
    else:
        assert set(contents(tmp_path / "out")) >= set(first)
    if to in ("hdf5", "activitynet", "tall --merge"):
        with h5py.File(out) as file:
            assert len(file) == 3
    if to == "parquet":
        assert pyarrow.parquet.ParquetFile(out).num_row_groups == 3
    if to == "caffe":
        assert len((tmp_path / "out" / "input_list_video.txt").read_text().splitlines()) == 120


@pytest.mark.parametrize("to", ["hdf5", "parquet", "caffe"])
def test_videos_are_not_lost_from_one_file_in_silence(tmp_path: Path, video, feature_folder, to: str) -> None:
    folder = feature_folder(video("a.mp4"), video("b.mp4"))
    out = place(to, tmp_path)
    run(folder, to, out)
    before = contents(tmp_path / "out")
    (folder / "a.mp4.npz").unlink()
    with pytest.raises(OutputConflictError):
        run(folder, to, out)
    assert contents(tmp_path / "out") == before


def test_a_new_basis_does_not_replace_another_in_silence(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video("a.mp4", n_clips=30))
    out = tmp_path / "out" / "all.hdf5"
    convert(folder, to="activitynet", out=out, pca=3)
    before = contents(tmp_path / "out")
    convert(folder, to="activitynet", out=out, pca=3)
    assert contents(tmp_path / "out").keys() == before.keys()
    with pytest.raises(OutputConflictError, match=r"all\.hdf5\.pca\.npz holds something else"):
        convert(folder, to="activitynet", out=out, pca=4)
    assert contents(tmp_path / "out").keys() == before.keys()
    convert(folder, to="activitynet", out=out, pca=4, overwrite=True)
    with h5py.File(out) as file:
        assert file["v_a/c3d_features"].shape == (30, 4)


@pytest.mark.parametrize(
    ("metadata", "to"),
    [
        ({"n_frames": "many"}, "tall"),
        ({"n_frames": None}, "tall"),
        ({"n_frames": 10**30}, "tall"),
        ({"n_frames": 2**31 - 1}, "tall"),
        ({"settings": [1]}, "tall"),
        ({"settings": {"plan": {"clip_length": "x", "sampling_rate": 1}, "pool": None}}, "tall"),
        ({"settings": {"plan": 3, "pool": None}}, "tall --merge"),
        ({"source": 7}, "caffe"),
        ({"source": None}, "caffe"),
        ({"settings": "x"}, "activitynet"),
    ],
)
def test_recorded_values_of_other_kinds_fail_that_video_only(
    *, tmp_path: Path, video, feature_folder, metadata: dict[str, Any], to: str
) -> None:
    bad = video("bad.mp4", n_clips=40)
    bad.metadata.update(metadata)
    summary = run(feature_folder(video("good.mp4", n_clips=40), bad), to, place(to, tmp_path))
    assert list(summary.failures) == ["bad.mp4"]
    assert summary.n_videos == 1


def test_a_video_without_the_layer_fails_alone(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video("a.mp4", layers={"conv": (8,)}), video("b.mp4"))
    summary = convert(folder, to="npy", out=tmp_path / "out", layers=["fc6"])
    assert list(summary.failures) == ["a.mp4"]
    assert "a.mp4 has no layer 'fc6', only conv" in summary.failures["a.mp4"]


@pytest.mark.parametrize("out", ["x" * 300, "a\0b", "\ud800", "loop/x", "file/x"])
@pytest.mark.parametrize("to", WRITERS)
def test_a_place_that_no_file_can_have_is_one_sentence(
    tmp_path: Path, video, feature_folder, to: str, out: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    options = {"pca": 2} if to == "activitynet" else {}
    with pytest.raises(C3DVideoError) as raised:
        run(feature_folder(video("a.mp4", n_clips=40, layers=shape_for(to))), to, tmp_path / out, **options)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features", "file", "loop"]
