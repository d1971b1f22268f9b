"""Extraction on a Ray cluster: the same files as on one machine, whatever is lost on the way.

One real cluster for all tests: a Ray of four logical CPUs in processes of its own. Every run is a process, too, because
Ray leaves sockets open that the tests' settings count as errors.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3dvideo import C3D, __version__
from c3dvideo.errors import C3DVideoError
from c3dvideo.features import cluster_stages
from c3dvideo.features.activations import FailedVideo, StoredVideo, VideoActivations
from c3dvideo.features.cluster_collector import Collector
from c3dvideo.features.cluster_stages import ActorError, Final, NetworkReport, Row, table_of
from c3dvideo.features.decoding import Checked, End, Failed
from c3dvideo.features.extract import extract
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.timings import Timings
from c3dvideo.network.folder import save_folder
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.sources import Source

pytest.importorskip("ray")

Write = Callable[..., Path]
PLAN = ClipPlan(clip_length=8, stride_frames=8)
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(sys.path),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0" * 64,
}
OPTIONS = ["--clip-length", "8", "--stride-frames", "8", "--json"]

# Runs the command line with other stages, which Ray sends to its workers as they stand in this script. Tables are so
# small that a video of 120 frames takes several.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from c3dvideo.features import cluster, cluster_collector, cluster_stages

def once(marker):
    try:
        Path(marker).touch(exist_ok=False)
        return True
    except FileExistsError:
        return False

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Decode(cluster_stages.DecodeStage):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        cluster_stages.TABLE_BYTES = 60_000

cluster.DecodeStage = Decode
cluster.BLOCK_BYTES = 60_000
{changes}
from c3dvideo.cli import main
main()
"""
LOSE_WORKERS = """
class Dying(Decode):
    def __call__(self, batch):
        for number, table in enumerate(super().__call__(batch)):
            yield table
            if number == 1 and once("{folder}/decoder"):
                die()

class DyingNetwork(cluster_stages.NetworkStage):
    def __call__(self, batch):
        for number, table in enumerate(super().__call__(batch)):
            if once("{folder}/network"):
                die()
            yield table

cluster.DecodeStage, cluster.NetworkStage = Dying, DyingNetwork
"""
LOSE_MAIN = """
stored, real = [], cluster_collector.store
def store(*arguments):
    if len(stored) == 2:
        die()
    settled = real(*arguments)
    stored.extend([settled] * (settled.state == "done"))
    return settled
cluster_collector.store = store
"""
SLOW_NETWORK = """
import time
class Slow(cluster_stages.NetworkStage):
    def __call__(self, batch):
        time.sleep(0.5)
        yield from super().__call__(batch)
cluster.DecodeStage, cluster.NetworkStage = cluster_stages.DecodeStage, Slow
cluster.BLOCK_BYTES = 4 << 20
"""


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    """A short path, for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="c3d", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def address(ray_folder: Path) -> Iterator[str]:
    """The address of a cluster that runs until the last test of this module."""
    program = (
        "import ray, sys\n"
        f"context = ray.init(num_cpus=4, object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False, "
        f"_temp_dir={str(ray_folder / 'ray')!r})\n"
        "print(context.address_info['gcs_address'], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
    ) as head:
        assert head.stdout is not None
        yield head.stdout.readline().strip()
        head.communicate(input="", timeout=60)


@pytest.fixture
def videos(tmp_path: Path, moving_square: Write) -> Path:
    """Seven good videos, two of them of one name in two folders, and three bad ones."""
    folder = tmp_path / "videos"
    for index, name in enumerate(["a.mp4", "b.mp4", "sub/a.mp4", "sub/deep/c.mp4", "d.avi", "e.mkv"]):
        moving_square(folder / name, n_frames=9 + 5 * index, height=48, width=64, seed=index)
    moving_square(folder / "long.mp4", n_frames=160, height=48, width=64, seed=9)
    moving_square(folder / "short.mp4", n_frames=4, height=48, width=64)
    (folder / "bad.mp4").write_text("not a video")
    (folder / "cut.mp4").write_bytes((folder / "long.mp4").read_bytes()[:3000])
    return folder


@pytest.fixture
def run(tmp_path: Path, tiny_network: C3D, address: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line on the cluster with `changes` to the stages; returns the finished process."""
    save_folder(tiny_network, tmp_path / "weights")
    (tmp_path / "markers").mkdir()

    def run(*arguments: str, changes: str = "", weights: Path = tmp_path / "weights") -> Any:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.format(changes=changes.format(folder=tmp_path / "markers")))
        return subprocess.run(
            [sys.executable, str(program), "extract", "--cluster", address, "--weights", str(weights), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env=ENVIRONMENT,
        )

    return run


def test_an_address_without_a_cluster_is_a_usage_error(run: Any, videos: Path, tmp_path: Path) -> None:
    for address, message in (("ray://host:1", "address of Ray's client"), ("nonsense", "no Ray cluster answers there")):
        done = run("videos", "--out", "out", *OPTIONS, "--cluster", address)
        assert done.returncode == 2
        assert message in done.stderr
    assert not (tmp_path / "out").exists()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# What the main process makes of the rows, whatever order they come in


class Rows:
    """Rows of videos as actors would return them, and the outcomes of giving them to a collector in any order."""

    def __init__(self, network: C3D, out: Path) -> None:
        extractor = Extractor(network, plan=PLAN, device="cpu")
        self.decoded: list[int] = []
        self.collector = Collector(extractor, out=out, report=lambda event: self.decoded.append(event.n_clips))
        self.sources = self.collector.begin([Source("x/a.mp4", "x/a.mp4"), Source("y/a.mp4", "y/a.mp4")])

    def clip(self, video: int, clip: int, attempt: str = "one", value: float = 1.0) -> Row:
        layers = {"fc6": np.full((1, 16), value + clip, np.float32)}
        return Row(video, attempt, clip, 8 * clip, 0.32 * clip, b"", pickle.dumps(layers))

    def end(self, video: int, n_clips: int, attempt: str = "one", end: End | Failed | None = None) -> Row:
        content = end or End(None, 8 * n_clips)
        final = Final(Checked(content_sha256=attempt), content, n_clips, Timings(decode=1.0))
        return Row(video, attempt, n_clips, 0, 0.0, pickle.dumps(final), b"")

    def take(self, *rows: Row) -> list[Any]:
        return [outcome for row in rows for outcome in self.collector.take(table_of([row]))]


@pytest.fixture
def rows(tiny_network: C3D, tmp_path: Path) -> Rows:
    return Rows(tiny_network, tmp_path)


def test_rows_out_of_order_and_twice_are_one_video(rows: Rows) -> None:
    assert rows.take(rows.end(0, 3), rows.clip(0, 2), rows.clip(0, 0), rows.clip(0, 2), rows.clip(0, 0)) == []
    (video,) = rows.take(rows.clip(0, 1))
    assert isinstance(video, VideoActivations)
    assert video.source == Source("x/a.mp4", "x/a.mp4")
    assert video.start_frame.tolist() == [0, 8, 16]
    assert video.layers["fc6"][:, 0].tolist() == [1.0, 2.0, 3.0]
    assert rows.take(rows.clip(0, 0), rows.clip(0, 1), rows.clip(0, 2), rows.end(0, 3)) == []
    assert sum(rows.decoded) == 3
    assert [source.name for source in rows.collector.missing()] == ["y/a.mp4"]


def test_a_video_with_a_hole_is_missing(rows: Rows) -> None:
    assert rows.take(rows.clip(0, 0), rows.clip(0, 2), rows.end(0, 3), rows.clip(1, 0)) == []
    assert [source.name for source in rows.collector.missing()] == ["x/a.mp4", "y/a.mp4"]
    rows.collector.begin(rows.collector.missing())
    assert rows.take(rows.clip(0, 1), rows.end(0, 3)) == []  # of an earlier pass nothing counts


def test_a_video_that_changes_between_two_attempts_is_not_mixed(rows: Rows) -> None:
    early = rows.take(
        rows.clip(0, 0, "old"), rows.clip(0, 1, "new", 10.0), rows.end(0, 2, "new"), rows.end(0, 2, "old")
    )
    assert early == []
    (video,) = rows.take(rows.clip(0, 0, "new", 10.0))
    assert video.layers["fc6"][:, 0].tolist() == [10.0, 11.0]
    assert video.checked.content_sha256 == "new"


def test_failures_and_stored_videos_are_outcomes(rows: Rows) -> None:
    (failed,) = rows.take(rows.clip(0, 0), rows.end(0, 1, end=Failed("decode", "it is damaged")))
    assert isinstance(failed, FailedVideo)
    assert (failed.failure.path, failed.failure.message) == ("x/a.mp4", "it is damaged")
    stored = Final(Checked(content_sha256="one", is_stored=True), None, 0)
    (skipped,) = rows.take(Row(1, "one", 0, 0, 0.0, pickle.dumps(stored), b""))
    assert isinstance(skipped, StoredVideo)
    assert rows.collector.missing() == []


def test_an_actor_that_cannot_work_ends_the_run(rows: Rows) -> None:
    def of_actor(message: Any) -> Row:
        return Row(-1, "", 0, 0, 0.0, pickle.dumps(message), b"")

    with pytest.raises(C3DVideoError, match="cannot work: there is no compiler"):
        rows.take(of_actor(ActorError("there is no compiler")))
    engine = {"device": "cuda:0", "kernels": True}
    rows.take(of_actor(NetworkReport(engine, 2, 1.0)), of_actor(NetworkReport({**engine, "device": "cuda:3"}, 1, 1.0)))
    assert (rows.collector.n_overflows, rows.collector.timings.network) == (3, 2.0)
    with pytest.raises(C3DVideoError, match=r"different engines \(kernels: True and False\)"):
        rows.take(of_actor(NetworkReport({**engine, "kernels": False}, 0, 1.0)))


@pytest.mark.parametrize("n_cpus", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("workers", [None, 1, 5])
def test_pools_fit_into_the_cluster(n_cpus: int, workers: int | None) -> None:
    from c3dvideo.features.cluster import Pools

    for kind, n_gpus in (("cpu", 0), ("cuda", 3)):
        pools = Pools.of(n_cpus=n_cpus, n_gpus=n_gpus, kind=kind, workers=workers)  # type: ignore[arg-type]
        assert pools.n_decoders * pools.decoder_cpus + pools.n_networks * pools.network_cpus <= n_cpus + 1e-9
        assert pools.n_networks * pools.network_gpus <= n_gpus
        assert min(pools.n_decoders, pools.n_networks, pools.decoder_cpus) > 0


def test_an_extractor_for_gpus_elsewhere_needs_none_here(tiny_network: C3D) -> None:
    extractor = Extractor(tiny_network, plan=PLAN, device="cuda", is_elsewhere=True)
    assert (extractor.device.type, extractor.precision) == ("cuda", "fp16")
    here = pickle.loads(pickle.dumps(Extractor(tiny_network, plan=PLAN, device="cpu", is_elsewhere=True))).on("cpu")
    assert here.engine.description()["device"] == "cpu"


def test_every_table_of_a_network_begins_with_its_engine(tiny_network: C3D, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video may be complete, and be stored, before the last table of a batch has arrived."""
    extractor = Extractor(tiny_network, plan=PLAN, crops="five", device="cpu", is_elsewhere=True)
    pickled = np.frombuffer(pickle.dumps(extractor), np.uint8)
    clip = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 32, 32), np.uint8)
    rows = [Row(0, "one", number, 8 * number, 0.0, b"", clip.tobytes()) for number in (2, 0, 1)]
    monkeypatch.setattr(cluster_stages, "TABLE_BYTES", 1)
    n_threads = torch.get_num_threads()
    try:
        tables = list(cluster_stages.NetworkStage(lambda: pickled, "cpu", __version__)(table_of(rows)))
    finally:
        torch.set_num_threads(n_threads)
    assert len(tables) == 4
    found = []
    for table in tables:
        report, *computed = cluster_stages.rows_of(table)
        assert pickle.loads(report.message).engine == extractor.engine.description()
        found += computed
    assert [row.clip for row in found] == [0, 1, 2]
    expected = extractor.engine(clip, np.arange(5))["fc6"]
    assert all(np.array_equal(pickle.loads(row.data)["fc6"], expected) for row in found)


def test_an_actor_of_another_version_says_so() -> None:
    (table,) = cluster_stages.NetworkStage(lambda: b"", "cpu", "0.0")({})
    (row,) = cluster_stages.rows_of(table)
    assert "a machine of the cluster has c3dvideo" in pickle.loads(row.message).message


# Runs on a real cluster


def test_a_killed_run_continues_and_lost_workers_cost_nothing(
    run: Any, videos: Path, tmp_path: Path, tiny_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run loses its main process, the second a decoder in the middle of a video and a network."""
    killed = run("videos", "--out", "out", *OPTIONS, changes=LOSE_MAIN)
    assert killed.returncode == -9, killed.stderr
    assert sum(name.endswith(".npz") for name in tree(tmp_path / "out")) == 2
    done = run("videos", "--out", "out", "--workers", "2", *OPTIONS, changes=LOSE_WORKERS)
    assert done.returncode == 3, done.stderr
    assert sorted(path.name for path in (tmp_path / "markers").iterdir()) == ["decoder", "network"]
    summary = json.loads(done.stdout)
    assert (summary["n_done"], summary["n_skipped"], summary["n_failed"], summary["not_done"]) == (5, 2, 3, [])
    monkeypatch.chdir(tmp_path)
    single = extract(["videos"], "single", weights=tiny_network, plan=PLAN)
    assert tree(tmp_path / "out") == tree(tmp_path / "single")
    assert [each["name"] for each in summary["failures"]] == [each.name for each in single.failures]


def test_decoders_wait_for_a_slow_network(
    run: Any, tmp_path: Path, ray_folder: Path, narrow_network: C3D, moving_square: Write
) -> None:
    """280 clips of 600 KB are twice what the cluster can hold, and nothing of it is written to disk."""
    moving_square(tmp_path / "videos" / "long.mp4", n_frames=296, height=48, width=64)
    save_folder(narrow_network, tmp_path / "narrow")
    done = run(
        "videos", "--out", "out", "--stride-frames", "1", "--json", changes=SLOW_NETWORK, weights=tmp_path / "narrow"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_clips"] == 281
    assert not [path for path in ray_folder.rglob("ray_spilled_objects*/*") if path.is_file()]
