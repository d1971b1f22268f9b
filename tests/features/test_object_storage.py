"""Videos and features in object storage: a real server of the S3 protocol, on this machine."""

import http.client
import json
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo.errors import DecodeError, StoreError, UsageError
from c3dvideo.features.convert import convert
from c3dvideo.features.extract import ExtractSummary, extract
from c3dvideo.features.failures import Failure, append_failure, read_failures, settle_failures
from c3dvideo.features.manifest import Manifest, claim_folder, read_manifest
from c3dvideo.features.store import feature_path, list_features, read_features
from c3dvideo.probing.descriptors import read_descriptors
from c3dvideo.storage import ObjectPath, _file_system, is_object, location
from c3dvideo.video.access import shown
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import open_video
from c3dvideo.video.sources import find_sources

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

Write = Callable[..., Path]
PLAN = ClipPlan(clip_length=8, stride_frames=8)
KEY, SECRET = "AKIAMADEUPFORTESTS00", "Made+Up/Secret0123456789abcdefghijklmnopq"


class Server:
    """A server of the S3 protocol in threads of this process."""

    def __init__(self) -> None:
        self.threads = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.threads.start()
        host, port = self.threads.get_host_and_port()
        self.address = f"http://{host}:{port}"
        self._place = host, port

    def allow_requests_without_rights(self, count: str) -> None:
        """Refuse requests with keys that are not known, after so many of them."""
        connection = http.client.HTTPConnection(*self._place)
        connection.request("POST", "/moto-api/reset-auth", body=count)
        connection.getresponse().read()
        connection.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.threads.stop()


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an empty bucket; keys and server are in the environment."""
    for name, value in {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    _file_system.cache_clear()
    files = _file_system("s3")
    files.mkdir("bucket")
    yield "bucket"
    files.rm("bucket", recursive=True)
    _file_system.cache_clear()
    type(files).clear_instance_cache()


@pytest.fixture
def videos(tmp_path: Path, moving_square: Write) -> Path:
    folder = tmp_path / "videos"
    for index, name in enumerate(["a.mp4", "sub/a.mp4", "sub/b.avi", "c.mkv"]):
        moving_square(folder / name, n_frames=9 + 5 * index, height=48, width=64, seed=index)
    (folder / "bad.mp4").write_text("not a video")
    (folder / "cut.avi").write_bytes((folder / "sub/b.avi").read_bytes()[:-2000])
    (folder / "notes.txt").write_text("left out")
    return folder


def upload(folder: Path, address: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            ObjectPath.of(f"{address}/{path.relative_to(folder).as_posix()}").put(path)


def run(inputs: list[str], out: Any, network: C3D, **options: Any) -> ExtractSummary:
    return extract(inputs, out, weights=network, plan=PLAN, device="cpu", **{"workers": 0, **options})


def arrays(folder: Any) -> dict[str, dict[str, Any]]:
    """What is stored of each video, without what depends on where it was read."""
    found = {}
    for name, path in list_features(folder):
        features = read_features(path)
        metadata = {
            key: value
            for key, value in features.metadata.items()
            if key not in ("source", "content_sha256", "url_state")
        }
        found[name] = {
            "metadata": metadata,
            **{layer: array.tobytes() for layer, array in features.layers.items()},
            "start": features.start_frame.tolist(),
        }
    return found


def test_videos_and_features_in_a_bucket_are_those_of_a_disk(
    bucket: str, videos: Path, tmp_path: Path, tiny_network: C3D
) -> None:
    upload(videos, "s3://bucket/videos")
    there = run(["s3://bucket/videos/"], "s3://bucket/features", tiny_network, workers=2)
    here = run([str(videos)], tmp_path / "features", tiny_network)
    assert (there.n_done, there.n_failed, there.n_clips) == (here.n_done, here.n_failed, here.n_clips) == (4, 2, 7)
    assert there.out == "s3://bucket/features"
    assert arrays("s3://bucket/features") == arrays(tmp_path / "features")
    assert read_manifest("s3://bucket/features") == read_manifest(tmp_path / "features")
    assert [each.name for each in read_failures("s3://bucket/features")] == ["bad.mp4", "cut.avi"]
    assert [re.sub(r"'.*?': ", "", each.message) for each in there.failures] == [
        re.sub(r"'.*?': ", "", each.message) for each in here.failures
    ]
    lines = location("s3://bucket/features/failures.jsonl").open().read().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["s3://bucket/videos/bad.mp4", "s3://bucket/videos/cut.avi"]

    again = run(["s3://bucket/videos"], "s3://bucket/features", tiny_network)
    assert (again.n_done, again.n_skipped, again.n_failed) == (0, 4, 2)
    changed = ObjectPath.of("s3://bucket/videos/c.mkv")
    changed.put(videos / "a.mp4")
    ObjectPath.of("s3://bucket/videos/bad.mp4").put(videos / "a.mp4")
    once_more = run(["s3://bucket/videos"], "s3://bucket/features", tiny_network)
    assert (once_more.n_done, once_more.n_skipped, once_more.n_failed) == (2, 3, 1)
    assert [each.name for each in read_failures("s3://bucket/features")] == ["cut.avi"]


def test_readers_take_a_folder_in_a_bucket(bucket: str, tmp_path: Path, feature_folder: Any) -> None:
    vectors = {f"{name}.mp4": np.random.default_rng(index).random((3, 6)) for index, name in enumerate("abcd")}
    upload(feature_folder(tmp_path / "here", vectors), "s3://bucket/features")
    assert [name for name, _ in list_features("s3://bucket/features")] == sorted(vectors)
    convert("s3://bucket/features", to="npy", out=tmp_path / "npy")
    assert np.array_equal(np.load(tmp_path / "npy" / "b.npy"), vectors["b.mp4"].astype(np.float32))
    there, here = read_descriptors(["s3://bucket/features"]), read_descriptors([tmp_path / "here"])
    assert np.array_equal(there.matrix, here.matrix)
    with pytest.raises(UsageError, match="`out=` is an address"):
        convert("s3://bucket/features", to="npy", out="s3://bucket/npy")
    with pytest.raises(StoreError, match="is no folder of features"):
        list_features("s3://bucket/nothing")
    with pytest.raises(StoreError, match=r"s3://bucket/nothing/a\.npz could not be read: it does not exist"):
        read_features("s3://bucket/nothing/a.npz")


def test_parquet_shards_in_a_bucket_are_read(
    bucket: str, tmp_path: Path, feature_folder: Any, tiny_network: C3D, videos: Path
) -> None:
    vectors = {f"sub/{name}.mp4": np.random.default_rng(index).random((3, 6)) for index, name in enumerate("abcd")}
    folder = feature_folder(tmp_path / "here", vectors)
    convert(folder, to="shards", out=tmp_path / "shards")
    upload(tmp_path / "shards", "s3://bucket/shards")
    assert arrays("s3://bucket/shards") == arrays(folder)
    convert("s3://bucket/shards", to="npz", out=tmp_path / "again")
    assert arrays(tmp_path / "again") == arrays(folder)
    with pytest.raises(StoreError, match="holds Parquet shards, to which nothing can be added"):
        run([str(videos)], "s3://bucket/shards", tiny_network)


def test_an_index_takes_a_folder_in_a_bucket(bucket: str, tmp_path: Path, feature_folder: Any) -> None:
    from c3dvideo.search.collection import Collection

    vectors = {f"{name}.mp4": np.random.default_rng(index).random((3, 6)) for index, name in enumerate("ab")}
    folder = feature_folder(tmp_path / "here", vectors)
    upload(folder, "s3://bucket/features")
    there, here = Collection("s3://bucket/features"), Collection(folder)
    assert there.states == here.states
    assert there.failures == {}


def test_inputs_are_single_objects_folders_and_lists(bucket: str, videos: Path, tmp_path: Path) -> None:
    upload(videos, "s3://bucket/v")
    assert [(each.name, each.path) for each in find_sources(["s3://bucket/v/sub/a.mp4"])] == [
        ("a.mp4", "s3://bucket/v/sub/a.mp4")
    ]
    (tmp_path / "list.csv").write_text("path\ns3://bucket/v/a.mp4\n")
    assert [each.name for each in find_sources([tmp_path / "list.csv"])] == ["bucket/v/a.mp4"]
    found = find_sources(["s3://bucket/v/"])
    assert [each.name for each in found] == ["a.mp4", "bad.mp4", "c.mkv", "cut.avi", "sub/a.mp4", "sub/b.avi"]
    assert found.note() == "left out 1 file that is no video: 1 .txt"
    for address, message in (
        ("s3://bucket/empty/", "there is nothing below it"),
        ("s3://nowhere/v/", "s3://nowhere/v cannot be searched: it does not exist"),
        ("s3://", "names no bucket"),
    ):
        with pytest.raises(UsageError, match=message):
            find_sources([address])


def test_an_object_that_changes_while_it_is_read_fails(
    bucket: str, tmp_path: Path, moving_square: Write, tiny_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = moving_square(tmp_path / "big.avi", n_frames=60, height=360, width=480, seed=1)
    monkeypatch.setattr("c3dvideo.storage._WHOLE_BYTES", 1 << 10)
    monkeypatch.setattr("c3dvideo.storage._BLOCK_BYTES", 1 << 14)
    place = ObjectPath.of("s3://bucket/big.avi")
    place.put(big)
    with open_video("s3://bucket/big.avi") as video:
        frames = video.frames()
        for _ in range(3):
            next(frames)
        place.put(big.read_bytes()[: big.stat().st_size // 2])
        with pytest.raises(DecodeError, match="changed while it was read"):
            list(frames)


def test_a_shorter_object_under_an_old_identity_is_noticed(
    bucket: str, videos: Path, tiny_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is replaced between the look at its identity and the first read."""
    from c3dvideo.features import check_stored

    upload(videos / "sub", "s3://bucket/v")
    real = check_stored.identify

    def late(source: Any, step: Any, *, stall_seconds: float) -> Any:
        found = real(source, step, stall_seconds=stall_seconds)
        ObjectPath.of("s3://bucket/v/a.mp4").put(videos / "a.mp4")
        return found

    monkeypatch.setattr(check_stored, "identify", late)
    summary = run(["s3://bucket/v/a.mp4"], "s3://bucket/f", tiny_network)
    assert "it has changed while it was read" in summary.failures[0].message
    assert list(location("s3://bucket/f").rglob("*.npz")) == []


def test_a_store_that_goes_away_loses_nothing(
    videos: Path, tmp_path: Path, tiny_network: C3D, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second server over the same bucket, which ends after the first file is stored."""
    from c3dvideo.features import folder_run

    other = Server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", other.address)
    _file_system.cache_clear()
    type(_file_system("s3")).clear_instance_cache()
    _file_system.cache_clear()
    real, stored = folder_run.write_features, []

    def write(path: Any, features: Any) -> None:
        if stored:
            other.threads.stop()
        real(path, features)
        stored.append(path)

    monkeypatch.setattr(folder_run, "write_features", write)
    with pytest.raises(StoreError, match=r"could not be written: the store cannot be reached") as caught:
        run([str(videos)], "s3://bucket/features", tiny_network)
    assert len(stored) == 1
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(UsageError, match="cannot be searched: the store cannot be reached"):
        find_sources(["s3://bucket/videos/"])


def test_access_denied_is_said_once_for_the_whole_folder(
    server: Server, bucket: str, videos: Path, tiny_network: C3D
) -> None:
    upload(videos, "s3://bucket/v")
    address = "s3://bucket/v/a.mp4"
    sources = find_sources([address])
    server.allow_requests_without_rights("0")
    try:
        with pytest.raises(UsageError, match="s3://bucket/v cannot be searched: permission is denied"):
            find_sources(["s3://bucket/v/"])
        with pytest.raises(StoreError, match=r"permission is denied"):
            run([str(videos)], "s3://bucket/features", tiny_network)
        with pytest.raises(StoreError, match=r"s3://bucket/f could not be listed: permission is denied"):
            list_features("s3://bucket/f")
        with pytest.raises(DecodeError, match=r"'s3://bucket/v/a.mp4': cannot be read: permission is denied"):
            open_video(sources[0].path)
    finally:
        server.allow_requests_without_rights("inf")


def test_failures_of_two_writers_are_all_kept(bucket: str) -> None:
    folder = "s3://bucket/f"
    one, two = (Failure(name=name, path=name, stage="decode", message="damaged") for name in ("x/a.mp4", "y/a.mp4"))
    append_failure(folder, one)
    append_failure(folder, two)
    append_failure(folder, one)
    assert read_failures(folder) == [one, two]
    assert settle_failures(folder, solved=["x/a.mp4"]) == [two]
    assert location(f"{folder}/failures.jsonl").open().read() == json.dumps(vars(two)).encode() + b"\n"
    assert settle_failures(folder, solved=["y/a.mp4"]) == read_failures(folder) == []
    assert not location(f"{folder}/failures.jsonl").exists()


def test_of_two_manifests_at_once_one_wins(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from c3dvideo.features import manifest as manifests

    ours, theirs = Manifest(settings={"weights": "a"}), Manifest(settings={"weights": "b"})
    real = manifests._refuse_foreign_files

    def meanwhile(folder: Any, manifest: Manifest) -> None:
        real(folder, manifest)
        monkeypatch.setattr(manifests, "_refuse_foreign_files", real)
        claim_folder(folder, theirs, version="1")

    monkeypatch.setattr(manifests, "_refuse_foreign_files", meanwhile)
    with pytest.raises(StoreError, match="weights is 'b' there and 'a' here"):
        claim_folder("s3://bucket/f", ours, version="1")
    assert read_manifest("s3://bucket/f") == theirs


@pytest.mark.parametrize("refusal", [OSError(22, "pre-conditions"), OSError(38, "not here"), TypeError("mode")])
def test_a_store_without_conditional_writes_is_looked_at_first(
    bucket: str, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    files = _file_system("s3")
    real = files.pipe_file

    def pipe_file(path: str, content: bytes, **options: Any) -> None:
        if options:
            raise refusal
        real(path, content)

    monkeypatch.setattr(files, "pipe_file", pipe_file)
    place = ObjectPath.of("s3://bucket/new")
    place.put(b"first", only_if_new=True)
    with pytest.raises(FileExistsError):
        place.put(b"second", only_if_new=True)
    assert place.open().read() == b"first"


def test_objects_appear_whole(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from c3dvideo.files import atomic_file

    place = location("s3://bucket/whole")
    with pytest.raises(ZeroDivisionError), atomic_file(place) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert not place.exists()
    with atomic_file(place) as file:
        file.write(b"whole")
    assert place.open().read() == b"whole"


def test_addresses() -> None:
    assert location("features") == Path("features")
    assert is_object("s3://b/k") and is_object(Path("gs://b/k")) and not is_object("https://b/k")
    assert str(feature_path("s3://b/f", "sub/a.mp4")) == "s3://b/f/sub/a.mp4.npz"
    with pytest.raises(UsageError, match="no name below a folder"):
        feature_path("s3://b/f", "../a.mp4")


def test_keys_are_never_shown(bucket: str, videos: Path, tiny_network: C3D, tmp_path: Path) -> None:
    for address in (f"s3://{KEY}:{SECRET.replace('/', '')}@bucket/v", f"s3://{KEY}@bucket/v"):
        with pytest.raises(UsageError, match="contains a key or password") as caught:
            find_sources([address])
        assert KEY not in str(caught.value)
        with pytest.raises(UsageError, match="contains a key or password"):
            run([str(videos)], address, tiny_network)
    assert shown("https://me:pass@h/a.mp4?X-Amz-Credential=AK&x=1&X-Amz-Signature=s#t") == (
        "https://h/a.mp4?X-Amz-Credential=...&x=...&X-Amz-Signature=..."
    )
    upload(videos, "s3://bucket/v")
    summary = run(["s3://bucket/v", f"http://me:{SECRET}@127.0.0.1:9/b.mp4?token={KEY}"], tmp_path / "f", tiny_network)
    assert summary.n_failed == 3
    assert summary.failures[0].name == "127.0.0.1:9/b.mp4"
    written = json.dumps(summary.to_dict()) + "".join(
        path.read_bytes().decode("latin-1") for path in (tmp_path / "f").rglob("*") if path.is_file()
    )
    assert KEY not in written and SECRET not in written


def test_a_missing_package_for_another_store_is_named() -> None:
    pytest.importorskip("fsspec")
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="gs:// needs the package gcsfs; run: pip install gcsfs"):
            location("gs://bucket/a").exists()
