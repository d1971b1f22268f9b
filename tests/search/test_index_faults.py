"""Writers of an index that are killed, that meet, and that write to object storage."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from c3dvideo.errors import StoreError
from c3dvideo.features.store import feature_path, list_features, read_features
from c3dvideo.search.build_index import build_index
from c3dvideo.search.index import Index
from c3dvideo.search.index_tables import database
from c3dvideo.search.query import search

Folder = Callable[..., Path]
KILLS = Path(__file__).with_name("index_kills.py")
BUILD = """
import sys
from c3dvideo.search import build_index as building
building._ROWS_AT_ONCE = 4
print(building.build_index(sys.argv[1], sys.argv[2]).n_added)
"""


def clips(seed: int, n_clips: int = 3) -> Any:
    return (2 + np.random.default_rng(seed).random((n_clips, 8))).astype(np.float32)


@pytest.fixture
def features(tmp_path: Path, feature_folder: Folder) -> Path:
    return feature_folder(tmp_path / "features", {f"{name}.mp4": clips(seed) for seed, name in enumerate("abcd")})


def sums(features: Path) -> list[float]:
    arrays = [read_features(path).layers["fc6"].sum(axis=1) for _, path in list_features(features)]
    return [float(value) for value in np.concatenate(arrays).round(3)]


def kills(*arguments: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-W", "ignore", str(KILLS), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_kill_9_at_any_change_leaves_an_index_that_the_next_run_completes(tmp_path: Path, features: Path) -> None:
    found = kills(features, tmp_path)
    assert [line["change"] for line in found] == ["create_table"] * 3 + ["add", "execute", "execute"]
    # Nothing is visible before it is whole: no index, an empty one, then all of the batch.
    assert [line["seen"] for line in found] == [None] * 3 + [[]] * 2 + [["a.mp4", "b.mp4", "c.mp4", "d.mp4"]]
    for line in found:
        np.testing.assert_allclose(line["vectors"], sums(features), atol=2e-3)
        assert (line["n_rows"], line["n_tables"], line["n_written_again"]) == ([12, 4], 3, 0), line


def test_kill_9_while_an_index_changes(tmp_path: Path, features: Path, feature_folder: Folder) -> None:
    build_index(features, tmp_path / "older")
    feature_path(features, "a.mp4").unlink()
    feature_folder(features, {"b.mp4": clips(20, 4), "e.mp4": clips(21)})
    found = kills(features, tmp_path, tmp_path / "older")
    assert {line["change"] for line in found} >= {"add", "delete", "execute"}
    for line in found:
        assert {"b.mp4", "c.mp4", "d.mp4"} <= set(line["seen"])
        np.testing.assert_allclose(line["vectors"], sums(features), atol=2e-3)
        assert (line["n_rows"], line["n_tables"], line["n_written_again"]) == ([13, 4], 3, 0), line


def test_kill_9_while_an_index_is_rebuilt(tmp_path: Path, features: Path, feature_folder: Folder) -> None:
    build_index(features, tmp_path / "older")
    feature_folder(features, {f"{seed}.mp4": clips(seed) for seed in range(30, 34)})
    found = kills(features, tmp_path, tmp_path / "older")
    assert "drop_table" in {line["change"] for line in found}
    # The old rows stay until the new ones are complete.
    assert [len(line["seen"]) for line in found] == sorted(len(line["seen"]) for line in found)
    assert {len(line["seen"]) for line in found} == {4, 8}
    for line in found:
        assert (line["n_rows"], line["n_tables"], line["n_written_again"]) == ([24, 8], 3, 0), line


def test_two_writers_of_one_folder_take_turns(tmp_path: Path, features: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(features), str(tmp_path / "db")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ended
    assert sorted(int(out) for out, _ in ended) == [0, 4]
    index = Index.open(tmp_path / "db")
    assert (index.clip_rows.count_rows(), index.video_rows.count_rows()) == (12, 4)


def test_rows_that_no_video_refers_to_are_passed_over(tmp_path: Path, features: Path) -> None:
    build_index(features, tmp_path / "db")
    index = Index.open(tmp_path / "db")
    rows = index.clip_rows.search().limit(None).to_arrow()
    copies = rows.set_column(0, "part", [["0-lost"] * len(rows)])
    for _ in range(3):
        index.clip_rows.add(copies)
    assert (index.n_clips, len(index.clips())) == (12, 12)
    vector = index.clips("a.mp4").vectors[0]
    found = search(index, vector, top=5)
    assert [match.video for match in found].count("a.mp4") <= 3
    assert len({(match.video, match.start_seconds) for match in found}) == 5
    notes: list[str] = []
    build_index(features, tmp_path / "db", note=notes.append)
    assert index.clip_rows.count_rows() == 12
    assert notes == ["deleted clips that a stopped run had left behind"]


def test_a_reader_that_stays_open_sees_every_change(tmp_path: Path, features: Path, feature_folder: Folder) -> None:
    build_index(features, tmp_path / "db")
    index = Index.open(tmp_path / "db")
    failed: list[BaseException] = []
    stop = False

    def read() -> None:
        try:
            while not stop:
                search(index, "d.mp4", top=3)
                assert len(index.clips("d.mp4")) == 3
        except BaseException as error:
            failed.append(error)

    reader = Thread(target=read)
    reader.start()
    for number in range(1, 5):
        feature_folder(features, {f"{number}-{seed}.mp4": clips(seed) for seed in range(2**number)})
        build_index(features, tmp_path / "db")
    stop = True
    reader.join()
    assert not failed
    assert index.n_videos == 4 + 2 + 4 + 8 + 16


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket on an S3 server of this machine, whose keys are in the environment."""
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ENDPOINT": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        patch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=address)
    client.create_bucket(Bucket="videos")
    yield "s3://videos"
    client.close()
    patch.undo()
    server.stop()


def test_an_index_in_object_storage(bucket: str, features: Path, feature_folder: Folder) -> None:
    db = f"{bucket}/one.db"
    with pytest.raises(StoreError, match=r"s3://videos/one\.db is no index"):
        Index.open(db)
    assert build_index(features, db).n_added == 4
    index = Index.open(db)
    assert search(index, "a.mp4", top=2)
    np.testing.assert_array_equal(index.clips("b.mp4").vectors, clips(1))
    feature_path(features, "a.mp4").unlink()
    feature_folder(features, {"b.mp4": clips(7)})
    report = build_index(features, db)
    assert (report.n_changed, report.n_removed, report.n_unchanged) == (1, 1, 2)
    np.testing.assert_array_equal(index.clips("b.mp4").vectors, clips(7))
    assert index.n_videos == 3


def test_two_writers_in_object_storage_leave_one_row_per_video(bucket: str, features: Path) -> None:
    """There is no lock: what they do to each other, their last pass repairs."""
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(features), f"{bucket}/two.db"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, env=dict(os.environ), **streams) for _ in range(2)]  # type: ignore[call-overload]
    ended = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ended
    index = Index.open(f"{bucket}/two.db")
    assert (index.n_videos, index.n_clips, len(index.clips())) == (4, 12, 12)
    np.testing.assert_allclose(index.clips().vectors.sum(axis=1), sums(features), atol=2e-3)
    assert index.video_rows.count_rows() == 4


@pytest.mark.parametrize("left", [0, 0.5])
def test_a_damaged_index_is_to_be_made_again(
    tmp_path: Path, features: Path, feature_folder: Folder, left: float
) -> None:
    build_index(features, tmp_path / "db")
    feature_folder(features, {"b.mp4": clips(20, 4)})
    build_index(features, tmp_path / "db")  # which deletes rows
    files = {"_deletions": 0, "_versions": 0, "data": 0}
    for path in sorted((tmp_path / "db").rglob("*")):
        if path.parent.name not in files:
            continue
        whole = path.read_bytes()
        path.write_bytes(whole[: int(left * len(whole))])
        try:
            search(Index.open(tmp_path / "db"), "a.mp4")
        except StoreError as error:
            files[path.parent.name] += 1
            assert "db is damaged (" in str(error)
            assert "make it again from the features with `c3dvideo index FEATURES --db" in str(error)
        path.write_bytes(whole)
    assert all(files.values()), files


def test_a_full_disk_while_indexing_is_said_in_the_usual_words(tmp_path: Path) -> None:
    full = "LanceError(IO): Generic LocalFileSystem error: No space left on device (os error 28), /root/x"
    words = r"db could not be written: the disk is full .*free some space"
    with pytest.raises(StoreError, match=words), database(tmp_path / "db"):
        raise RuntimeError(full)
    taken = r"db could not be used: LanceError\(Commit\): Commit conflict for version 3$"
    with pytest.raises(StoreError, match=taken), database(tmp_path / "db"):
        raise OSError("LanceError(Commit): Commit conflict for version 3, /root/y")


def test_a_file_that_lance_could_not_finish_on_a_full_disk_names_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    words = r"is damaged \(LanceError.*\), and its disk is full; free some space, then delete it and make it again"
    with pytest.raises(StoreError, match=words), database(tmp_path):
        raise RuntimeError("LanceError(IO): Generic memory error: Invalid range 0..3236 for object of size 1500 bytes")
