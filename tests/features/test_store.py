"""Feature files and folders: what is written comes back, never half-written; a folder never mixes settings."""

import errno
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features import store
from c3dvideo.features.failures import Failure, append_failure, read_failures, settle_failures
from c3dvideo.features.manifest import Manifest, claim_folder, read_manifest
from c3dvideo.features.store import (
    VideoFeatures,
    descriptor,
    feature_path,
    list_features,
    read_features,
    read_layer_names,
    read_metadata,
    write_features,
)
from c3dvideo.files import atomic_file, sweep_leftovers


def some_features(name: str = "sub/a.mp4", *, n_clips: int = 3, seed: int = 0, **metadata: Any) -> VideoFeatures:
    generator = np.random.default_rng(seed)
    return VideoFeatures(
        name=name,
        layers={
            "fc6": generator.random((n_clips, 5), np.float32),
            "conv5b": generator.random((n_clips, 2, 2, 3, 3), np.float32),
        },
        start_frame=np.arange(n_clips, dtype=np.int64) * 16,
        start_seconds=np.arange(n_clips) * 0.64,
        metadata=metadata,
    )


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    features = some_features(source="v/sub/a.mp4", fps="30000/1001", n_frames=48)
    path = feature_path(tmp_path, features.name)
    write_features(path, features)
    back = read_features(path)
    assert path == tmp_path / "sub" / "a.mp4.npz"
    assert back.name == "sub/a.mp4"
    assert back.metadata == {"name": "sub/a.mp4", "source": "v/sub/a.mp4", "fps": "30000/1001", "n_frames": 48}
    assert list(back.layers) == ["fc6", "conv5b"]
    for name, array in features.layers.items():
        np.testing.assert_array_equal(back.layers[name], array)
        assert back.layers[name].dtype == np.float32
    np.testing.assert_array_equal(back.start_frame, [0, 16, 32])
    np.testing.assert_array_equal(back.start_seconds, [0, 0.64, 1.28])
    assert read_metadata(path) == back.metadata


def test_numpy_alone_reads_a_feature_file(tmp_path: Path) -> None:
    write_features(tmp_path / "a.npz", some_features("a", fps="25"))
    with np.load(tmp_path / "a.npz") as arrays:
        assert sorted(arrays.files) == ["conv5b", "fc6", "metadata", "start_frame", "start_seconds"]
        assert arrays["fc6"].shape == (3, 5)
        assert json.loads(str(arrays["metadata"]))["fps"] == "25"


@settings(max_examples=30, deadline=None)
@given(
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=40),
    n_clips=st.integers(0, 5),
    metadata=st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20) | st.none(), max_size=4),
)
def test_any_content_comes_back(name: str, n_clips: int, metadata: dict[str, Any], tmp_path_factory: Any) -> None:
    features = some_features(name, n_clips=n_clips, **{f"_{key}": value for key, value in metadata.items()})
    path = tmp_path_factory.mktemp("store") / "x.npz"
    write_features(path, features)
    back = read_features(path)
    assert back.name == name
    assert back.metadata == {**features.metadata, "name": name}
    for layer, array in features.layers.items():
        np.testing.assert_array_equal(back.layers[layer], array)


def test_bytes_depend_on_content_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_features(tmp_path / "a.npz", some_features(b=1, a=2))
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_features(tmp_path / "b.npz", some_features(a=2, b=1))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_memory_map_is_stored_like_the_array(tmp_path: Path) -> None:
    features = some_features()
    rows = np.memmap(tmp_path / "rows", np.float32, "w+", shape=features.layers["fc6"].shape)
    rows[:] = features.layers["fc6"]
    mapped = VideoFeatures(**{**vars(features), "layers": {**features.layers, "fc6": rows}})
    write_features(tmp_path / "a.npz", features)
    write_features(tmp_path / "b.npz", mapped)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layers": {"fc6": np.zeros((2, 5), np.float32)}},
            "layer fc6 is float32 (2, 5); expected float32 with 3",
        ),
        ({"layers": {"fc6": np.zeros((3, 5))}}, "layer fc6 is float64 (3, 5)"),
        ({"layers": {}}, "0 layers"),
        ({"start_frame": np.zeros(3, np.int32)}, "start_frame is int32"),
        ({"start_seconds": np.zeros(2)}, "start_seconds (2,)"),
    ],
)
def test_parts_that_do_not_belong_together(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError) as error:
        VideoFeatures(**{**vars(some_features()), **change})
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.npz is not a file of c3dvideo features: .*extract again"):
        read_features(tmp_path / "a.npz")


def test_every_cut_and_every_flipped_byte_of_the_arrays_is_noticed(tmp_path: Path) -> None:
    write_features(tmp_path / "a.npz", some_features())
    whole = (tmp_path / "a.npz").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(StoreError):
            read_features(tmp_path / "cut.npz")
    data = whole.index(some_features().layers["fc6"].tobytes())
    (tmp_path / "flipped.npz").write_bytes(whole[:data] + bytes([whole[data] ^ 1]) + whole[data + 1 :])
    with pytest.raises(StoreError, match="CRC"):
        read_features(tmp_path / "flipped.npz")


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.npz could not be read: it does not exist"):
        read_features(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", fc6=np.zeros((2, 3)))
    with pytest.raises(StoreError, match="metadata"):
        read_features(tmp_path / "other.npz")
    np.save(tmp_path / "bare.npy", np.zeros(3))
    with pytest.raises(StoreError, match=r"it is no whole \.npz archive"):
        read_features(tmp_path / "bare.npy")
    np.savez(tmp_path / "pickled.npz", metadata=np.array([{}], dtype=object))
    with pytest.raises(StoreError, match="expected numbers or text, not Python objects"):
        read_features(tmp_path / "pickled.npz")


def foreign(folder: Path, *, save: Any = np.savez, **changes: Any) -> Path:
    """A feature file with some of its arrays replaced, added, or with None left out."""
    arrays: dict[str, Any] = {
        "fc6": np.ones((3, 5), np.float32),
        "start_frame": np.arange(3) * 16,
        "start_seconds": np.arange(3) * 0.64,
        "metadata": np.array(json.dumps({"name": "a.mp4"})),
        **changes,
    }
    save(folder / "a.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "a.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_features_saved_by_numpy_are_features(tmp_path: Path, save: Any) -> None:
    features = read_features(foreign(tmp_path, save=save))
    assert features.layers["fc6"].shape == (3, 5)
    assert read_layer_names(tmp_path / "a.npz") == ("fc6",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"start_frame": np.array([0, np.inf, 1])}, "'start_frame' holds floats (float64), expected integers"),
        ({"start_frame": np.array([0, -1, 1])}, "a clip starts at a frame or a time that no video has"),
        ({"start_frame": np.array([0, 2**62, 1])}, "a clip starts at a frame or a time that no video has"),
        ({"start_seconds": np.array([0, np.inf, 1])}, "a clip starts at a frame or a time that no video has"),
        ({"start_frame": np.arange(3, dtype=np.int32)}, "start_frame is int32"),
        ({"start_frame": np.arange(4)}, "start_frame (4,)"),
        ({"start_frame": np.array(0)}, "start_frame ()"),
        ({"start_frame": None}, "it has no array 'start_frame'"),
        ({"metadata": None}, "it has no array 'metadata'"),
        ({"metadata": np.array("[" * 100_000)}, "it is nested too deeply"),
        ({"metadata": np.array('{"name": 3}')}, "its metadata does not name the video"),
        ({"metadata": np.array("{}")}, "its metadata does not name the video"),
        ({"metadata": np.array("no")}, "it is not JSON"),
        ({"metadata": np.array([1, 2])}, "'metadata' holds integers"),
        ({"metadata": np.array([{}], dtype=object)}, "not Python objects"),
        ({"fc6": np.array([object()])}, "not Python objects"),
        ({"fc6": np.ones((3, 5))}, "layer fc6 is float64"),
        ({"fc6": np.ones((3, 0), np.float32)}, "layer fc6 is float32 (3, 0)"),
        ({"fc6": np.ones((2, 5), np.float32)}, "layer fc6 is float32 (2, 5); expected float32 with 3 rows"),
        ({"fc6": np.float32(1)}, "layer fc6 is float32 ()"),
        ({"fc6": np.array(["a", "b", "c"])}, "'fc6' holds text"),
        ({"fc6": None}, "0 layers"),
    ],
)
def test_foreign_arrays_that_are_no_features_are_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = foreign(tmp_path, **changes)
    with pytest.raises(StoreError) as error:
        read_features(path)
    assert reason in str(error.value)
    assert str(error.value).startswith(f"{path} is not a file of c3dvideo features: ") or "line 1, is not" in str(
        error.value
    )
    assert str(error.value).endswith("; if it once was, delete it and extract again")


@pytest.mark.parametrize(
    "name", ["../up", "x/../../up", "/abs", "a/b", "a\\b", "..\\up", ".", "..", "", "a\0b", "a" * 101, "C:up", "a\nb"]
)
def test_the_name_of_a_layer_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be the name of a layer"):
        VideoFeatures(**{**vars(some_features()), "layers": {name: np.zeros((3, 5), np.float32)}})
    if "\0" not in name:  # which no archive can hold
        with pytest.raises(StoreError, match="cannot be the name of a layer"):
            read_features(foreign(tmp_path, **{name: np.zeros((3, 5), np.float32)}))


def test_a_bomb_of_features_takes_bounded_memory(tmp_path: Path) -> None:
    path = foreign(tmp_path, save=np.savez_compressed, fc6=np.zeros((3, 24 << 20), np.float32))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(StoreError, match=r"bytes; at most .* are allowed"):
        read_features(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["", ".", "/etc/a.mp4", "../a.mp4", "sub/../../a.mp4", "..", "..\\a", "a\\..\\b", "a\0b"]
)
def test_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name below a folder"):
        feature_path(tmp_path, name)


def test_listing_is_recursive_sorted_and_without_leftovers(tmp_path: Path) -> None:
    for name in ("b.mp4", "sub/a.mp4", "a.b.avi", ".hidden.mp4", "-dash.mp4", "line\nbreak.mp4"):
        write_features(feature_path(tmp_path, name), some_features(name))
    (tmp_path / ".0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "manifest.json").write_text("{}")
    names = [name for name, _ in list_features(tmp_path)]
    assert names == ["-dash.mp4", ".hidden.mp4", "a.b.avi", "b.mp4", "line\nbreak.mp4", "sub/a.mp4"]
    assert [read_features(path).name for _, path in list_features(tmp_path)] == names
    with pytest.raises(StoreError, match="no folder of features"):
        list_features(tmp_path / "missing")


def test_descriptor_is_the_mean_then_one_norm() -> None:
    rows = np.array([[3, 0], [0, 4]], np.float32)
    np.testing.assert_allclose(descriptor(rows), [0.6, 0.8], rtol=1e-7)
    np.testing.assert_array_equal(descriptor(rows[:, None]), descriptor(rows))
    assert descriptor(np.zeros((2, 3), np.float32)).tolist() == [0, 0, 0]
    assert descriptor(rows).dtype == np.float32


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    write_features(path, some_features(seed=1))
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(StoreError, match=r"a\.npz could not be written: the disk is full .* free some space") as error:
        write_features(path, some_features(seed=2))
    assert isinstance(error.value.__cause__, OSError)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "sub").write_text("a file")
    with pytest.raises(StoreError, match=r"sub.a\.mp4\.npz could not be written"):
        write_features(tmp_path / "sub" / "a.mp4.npz", some_features())


def test_leftovers_of_a_killed_writer_are_swept_and_nothing_else(tmp_path: Path) -> None:
    keep = [tmp_path / "sub" / "a.mp4.npz", tmp_path / "notes.tmp", tmp_path / ".mine.tmp"]
    for path in [*keep, tmp_path / "sub" / f".{'0f' * 8}.tmp", tmp_path / f".{'a1' * 8}.tmp"]:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    sweep_leftovers(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(keep)


def test_a_folder_never_mixes_two_settings(tmp_path: Path) -> None:
    here = Manifest(settings={"weights": "aa", "plan": {"stride_frames": 16}, "layers": ["fc6"]})
    there = Manifest(settings={"weights": "aa", "plan": {"stride_frames": 8}, "layers": ["fc6"]})
    claim_folder(tmp_path, here, version="1")
    text = (tmp_path / "manifest.json").read_text()
    claim_folder(tmp_path, here, version="2")
    assert (tmp_path / "manifest.json").read_text() == text
    assert json.loads(text)["fingerprint"] == here.fingerprint
    assert read_manifest(tmp_path) == here
    with pytest.raises(StoreError, match=r"plan\.stride_frames is 16 there and 8 here.*choose another `out=`"):
        claim_folder(tmp_path, there, version="1")


def test_a_folder_that_lost_its_manifest_is_known_by_its_files(tmp_path: Path) -> None:
    here, there = Manifest(settings={"weights": "aa"}), Manifest(settings={"weights": "bb"})
    write_features(tmp_path / "a.npz", some_features("a", settings=there.settings))
    (tmp_path / "damaged.npz").write_bytes(b"")
    with pytest.raises(
        StoreError, match=r"a\.npz holds features of other settings: weights is 'bb' there and 'aa' here"
    ):
        claim_folder(tmp_path, here, version="1")
    claim_folder(tmp_path, there, version="1")
    assert read_manifest(tmp_path) == there


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json, line 1, is not the manifest .*it is damaged: delete it"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"settings": 5}', b"\xff{}", b"[]"])
def test_every_reader_of_a_damaged_manifest_gives_the_same_advice(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    read: list[Callable[[Path], Any]] = [read_manifest, *([list_features] if b"settings" not in content else [])]
    for reader in read:
        with pytest.raises(StoreError, match=r"is not the manifest of a folder of features: .*delete it") as raised:
            reader(tmp_path)
        assert "iconv" not in str(raised.value)


def test_failures_survive_a_crash_and_leave_when_solved(tmp_path: Path) -> None:
    assert read_failures(tmp_path) == []
    first = Failure(name="b.mp4", path="v/b.mp4", stage="decode", message="no video\nin it")
    second = Failure(name="a.mp4", path="v/a.mp4", stage="clips", message="15 frames")
    append_failure(tmp_path, first)
    append_failure(tmp_path, second)
    again = Failure(name="b.mp4", path="v/b.mp4", stage="decode", message="still")
    with (tmp_path / "failures.jsonl").open("a") as file:
        file.write('\n{"name": "cut off')
    append_failure(tmp_path, again)
    assert read_failures(tmp_path) == [second, again]
    assert settle_failures(tmp_path, solved=["a.mp4", "never failed"]) == [again]
    lines = (tmp_path / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"name": "b.mp4", "path": "v/b.mp4", "stage": "decode", "message": "still"}
    ]
    append_failure(tmp_path, second)
    assert read_failures(tmp_path) == [second, again]
    assert settle_failures(tmp_path, solved=["a.mp4", "b.mp4"]) == []
    assert not (tmp_path / "failures.jsonl").exists()


def test_without_locks_a_rewrite_loses_no_failure_of_another_run(tmp_path: Path) -> None:
    """Run one reads the file, run two appends, run one writes: the line of run two is back when run two ends."""
    solved, own = (Failure(name=name, path=name, stage="decode", message="x") for name in ("a.mp4", "b.mp4"))
    append_failure(tmp_path, solved)
    append_failure(tmp_path, own)
    before = (tmp_path / "failures.jsonl").read_bytes()
    assert settle_failures(tmp_path, [], failed=[own], is_locked=False) == [solved, own]
    assert (tmp_path / "failures.jsonl").read_bytes() == before  # nothing to do, so nothing is written
    assert settle_failures(tmp_path, ["a.mp4", "b.mp4"]) == []  # by the other run, which did not see the second line
    assert settle_failures(tmp_path, [], failed=[own], is_locked=False) == [own]
    assert read_failures(tmp_path) == [own]


def test_lines_that_record_no_failure_are_skipped(tmp_path: Path) -> None:
    good = Failure(name="a", path="a", stage="decode", message="m")
    lines = [
        json.dumps({"name": "b", "path": "b", "stage": 3, "message": "m"}).encode(),
        json.dumps({"name": "c"}).encode(),
        b"[" * 100_000,
        b'{"name": "\xff"}',
        b"null",
        b"\0" * 50,
        json.dumps(vars(good)).encode(),
        b'{"name": "cut',
    ]
    (tmp_path / "failures.jsonl").write_bytes(b"\n".join(lines))
    assert read_failures(tmp_path) == [good]
    assert settle_failures(tmp_path, solved=[]) == [good]
    (tmp_path / "failures.jsonl").unlink()
    (tmp_path / "failures.jsonl").mkdir()
    with pytest.raises(StoreError, match=r"failures\.jsonl is not a list of failures: it is a folder; delete it"):
        read_failures(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{}", b'{"settings": []}', b'{"settings": ' * 5000, b"\xff", b"{\0}", b'{"settings": null}'],
)
def test_any_damage_to_the_manifest_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"manifest\.json.* is not the manifest .*delete it, and the next run"):
        claim_folder(tmp_path, Manifest(settings={}), version="1")
    (tmp_path / "manifest.json").unlink()
    claim_folder(tmp_path, Manifest(settings={}), version="1")
    assert read_manifest(tmp_path) == Manifest(settings={})


def test_files_whose_settings_are_no_settings_do_not_decide_about_a_folder(tmp_path: Path) -> None:
    write_features(tmp_path / "a.npz", some_features("a", settings=[1, 2]))
    write_features(tmp_path / "b.npz", some_features("b", settings=None))
    claim_folder(tmp_path, Manifest(settings={"weights": "aa"}), version="1")


def test_failures_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "failures.jsonl").mkdir()
    with pytest.raises(StoreError, match=r"failures\.jsonl could not be written"):
        append_failure(tmp_path, Failure(name="a", path="a", stage="decode", message="m"))


def test_format_constant_is_in_the_manifest(tmp_path: Path) -> None:
    claim_folder(tmp_path, Manifest(settings={}), version="1.2.3")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == (store.FORMAT, "1.2.3")
