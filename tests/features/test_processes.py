"""Several processes, one a device: the same files as one process writes, whatever becomes of the processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c3dvideo import C3D
from c3dvideo.cli import main
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features import device_process, processes
from c3dvideo.features.clip_slots import ClipSlots, SlotLayout
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoding import Begun, Checked, End
from c3dvideo.features.extract import ExtractSummary, extract
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure, append_failure, read_failures
from c3dvideo.features.folder_run import Settled, store
from c3dvideo.features.pipeline import Writer, compute
from c3dvideo.features.store import list_features, read_features
from c3dvideo.features.timings import Timings
from c3dvideo.machine import n_cores
from c3dvideo.network.folder import save_folder
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.sources import Source

Write = Callable[..., Path]
PLAN = ClipPlan(clip_length=8, stride_frames=4)

PATCHES = """
import time
from pathlib import Path
from c3dvideo.features import processes

HERE = Path(__file__).parent
prepare = processes._prepare
pass_on = processes._Router._pass_on

def note_processes(devices, *rest):
    found = prepare(devices, *rest)
    for device in devices:
        (HERE / f"here-{device._child.pid}").touch()
    while (HERE / "hold").exists():
        time.sleep(0.01)
    return found

def slowly(*rest):
    # Once a video is stored, the run waits for the test, which may be late on a busy machine.
    time.sleep(20 if any(HERE.parent.glob("out/**/*.npz")) else 0.03)
    pass_on(*rest)

processes._prepare = note_processes
processes._Router._pass_on = slowly
from c3dvideo import cli
if __name__ == "__main__":
    cli.main()
"""


@pytest.fixture
def videos(tmp_path: Path, moving_square: Write) -> Path:
    """Five good videos of 8 to 28 frames and one that is none."""
    for index, name in enumerate(["a.mp4", "b.mp4", "sub/a.mp4", "sub/deep/c.mp4", "d.avi"]):
        moving_square(tmp_path / "videos" / name, n_frames=8 + 5 * index, height=48, width=64, seed=index)
    (tmp_path / "videos" / "bad.mp4").write_text("not a video")
    return tmp_path / "videos"


@pytest.fixture
def weights(tmp_path: Path, tiny_network: C3D) -> Path:
    save_folder(tiny_network, tmp_path / "weights")
    return tmp_path / "weights"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def words(weights: Path, videos: Path, out: Path) -> list[str]:
    options = ["--clip-length", "8", "--stride-frames", "4", "--device", "cpu,cpu", "--json"]
    return ["extract", str(videos), "--out", str(out), "--weights", str(weights), *options]


def command(weights: Path, videos: Path, out: Path, *, hold: bool = False) -> subprocess.Popen[str]:
    """The run in a process of its own, slowed down. hold: it waits for ever once its processes are ready."""
    script = weights.parent / "script" / "run.py"
    script.parent.mkdir()
    if hold:
        (script.parent / "hold").touch()
    script.write_text(PATCHES)
    line = [sys.executable, str(script), *words(weights, videos, out)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def run_with_deaths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process, and kills some of its processes with their first clip; as `run` of the cli."""
    pass_on = processes._Router._pass_on

    def call(line: list[str], *, dead: tuple[int, ...]) -> tuple[int, str, str]:
        def deadly(self: processes._Router, source: Source, content: Any) -> None:
            time.sleep(0.03)
            pass_on(self, source, content)
            device = self._device_of[source.name]
            if isinstance(content, Filled) and self._processes.index(device) in dead:
                os.kill(device._child.pid, signal.SIGKILL)  # type: ignore[arg-type]
                while device.is_alive:
                    time.sleep(0.01)

        monkeypatch.setattr(processes._Router, "_pass_on", deadly)
        monkeypatch.setattr(sys, "argv", ["c3dvideo", *line])
        with pytest.raises(SystemExit) as end:
            main()
            raise SystemExit(0)
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return call


def alone(weights: Path, videos: Path, out: Path) -> ExtractSummary:
    return extract([videos], out, weights=weights, plan=PLAN, device="cpu")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(") ")[2][0] != "Z"


def test_two_processes_write_what_one_writes(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    notes: list[str] = []
    options: dict[str, Any] = {"weights": tiny_network, "plan": PLAN, "layers": ["fc6", "pool5"]}
    both = extract([videos], tmp_path / "two", device="cpu, cpu", note=notes.append, **options)
    one = extract([videos], tmp_path / "one", device="cpu", **options)
    assert tree(tmp_path / "two") == tree(tmp_path / "one")
    assert (both.n_videos, both.n_done, both.n_skipped, both.n_failed) == (6, 5, 0, 1)
    assert (both.n_clips, both.fingerprint, both.failures) == (one.n_clips, one.fingerprint, one.failures)
    assert (both.devices, one.devices) == (("cpu", "cpu"), ("cpu",))
    assert (both.lost_processes, both.not_done) == ((), ())
    assert min(vars(both.timings)[name] for name in ("decode", "network", "write", "waiting_for_clips")) > 0
    assert [note.partition("engine ")[2] for note in notes] == ["winograd in fp32 on cpu, and a process each on cpu"]
    again = extract([videos], tmp_path / "two", device="cpu,cpu", **options)
    assert (again.n_done, again.n_skipped, again.n_failed) == (0, 5, 1)
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_one_video_needs_one_process(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    summary = extract([videos / "a.mp4"], tmp_path / "out", weights=tiny_network, plan=PLAN, device="cpu,cpu")
    assert (summary.n_done, summary.devices) == (1, ("cpu",))


def test_files_do_not_tell_which_gpu_wrote_them(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    extract([videos / "a.mp4"], tmp_path / "out", weights=tiny_network, plan=PLAN, device="cpu")
    assert read_features(tmp_path / "out" / "a.mp4.npz").metadata["engine"]["device"] == "cpu"


def test_the_decoders_are_shared(tiny_network: C3D) -> None:
    extractor = Extractor(tiny_network, layers=["fc6"])
    assert extractor.workers == max(1, n_cores() // 4)
    assert extractor.on("cpu").workers == extractor.workers


def test_a_process_that_dies_takes_its_own_videos_only(
    videos: Path, tmp_path: Path, weights: Path, run_with_deaths: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "out"
    alone(weights, videos, tmp_path / "whole")
    out.mkdir()
    # Failures of an earlier run that this one solves, one of them in the process that dies before it can say so.
    for name in ("a.mp4", "b.mp4"):
        append_failure(out, Failure(name=name, path=name, stage="decode", message="was broken"))
    code, stdout, stderr = run_with_deaths(words(weights, videos, out), dead=(1,))
    assert code == 1, stderr
    summary = json.loads(stdout)
    (lost,) = summary["not_done"]
    assert (summary["n_done"], summary["n_failed"], summary["n_videos"]) == (4, 1, 6)
    assert summary["lost_processes"] == ["the process on cpu was killed by SIGKILL"]
    assert f"not done: {lost}\n" in stderr
    assert stderr.endswith(
        "c3dvideo: the process on cpu was killed by SIGKILL; 1 videos are not done, the same command does them\n"
    )
    assert lost not in [name for name, _ in list_features(out)]
    assert {failure.name for failure in read_failures(out)} <= {"bad.mp4", lost}
    assert not list(out.rglob(".*"))
    assert alone(weights, videos, out).n_done == 1
    assert tree(out) == tree(tmp_path / "whole")


def test_when_all_processes_die(
    videos: Path, tmp_path: Path, weights: Path, run_with_deaths: Callable[..., tuple[int, str, str]]
) -> None:
    code, stdout, stderr = run_with_deaths(words(weights, videos, tmp_path / "out"), dead=(0, 1))
    assert (code, stdout) == (1, "")
    killed = "the process on cpu was killed by SIGKILL"
    assert stderr.splitlines()[-1] == (
        f"c3dvideo: {killed}; {killed}; what was finished is kept, and the same command does the rest"
    )


def test_ctrl_c_ends_all_processes_and_the_next_run_goes_on(videos: Path, tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "out"
    run = command(weights, videos, out)
    wait_for(lambda: len(list(out.rglob("*.npz"))) >= 1)
    run.send_signal(signal.SIGINT)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 130
    assert stderr.endswith("c3dvideo: stopped; what was finished is kept\n")
    assert "Traceback" not in stderr
    assert not list(out.rglob(".*"))
    pids = [int(path.name.removeprefix("here-")) for path in (tmp_path / "script").glob("here-*")]
    assert len(pids) == 2
    assert not any(map(is_running, pids))
    n_kept = len(list_features(out))
    assert 1 <= n_kept < 5
    assert alone(weights, videos, out).n_skipped == n_kept
    alone(weights, videos, tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_processes_end_when_their_parent_is_killed(videos: Path, tmp_path: Path, weights: Path) -> None:
    run = command(weights, videos, tmp_path / "out", hold=True)
    here = tmp_path / "script"
    wait_for(lambda: len(list(here.glob("here-*"))) == 2)
    run.kill()
    run.communicate(timeout=60)
    pids = [int(path.name.removeprefix("here-")) for path in here.glob("here-*")]
    wait_for(lambda: not any(map(is_running, pids)))
    assert {failure.name for failure in read_failures(tmp_path / "out")} <= {"bad.mp4"}
    assert not list((tmp_path / "out").rglob(".*"))


def test_errors_of_a_process_are_those_of_the_run(videos: Path, tmp_path: Path, tiny_network: C3D) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="unknown layer: fc9"):
        extract([videos], out, weights=tiny_network, layers=["fc9"], device="cpu,cpu")
    assert not out.exists()
    extract([videos], out, weights=tiny_network, plan=PLAN)
    with pytest.raises(StoreError, match=r"plan\.stride_frames is 4 there and 8 here"):
        extract([videos], out, weights=tiny_network, device="cpu,cpu", plan=ClipPlan(clip_length=8, stride_frames=8))
    with pytest.raises(UsageError, match="device 'tpu' is not"):
        extract([videos], out, device="cpu,tpu")


class HangsUp:
    """The end of a line whose other end sends one video of one clip and is gone when it hears of it."""

    def __init__(self, source: Source) -> None:
        self._messages = [End(None, 8), Filled(0, 0, 0.0), Begun(Checked(content_sha256="0"))]
        self._source = source

    def send(self, message: object) -> None:
        if isinstance(message, Settled):
            raise BrokenPipeError

    def recv(self) -> object:
        if not self._messages:
            raise EOFError
        return self._source, self._messages.pop()


def test_a_process_whose_parent_is_gone_blames_no_video(tmp_path: Path, tiny_network: C3D) -> None:
    extractor, timings = Extractor(tiny_network, plan=PLAN), Timings()
    slots = ClipSlots.create()
    slots.use(SlotLayout(n_slots=1, clip_shape=(1, 3, 8, 32, 32), n_decoders=1))
    line = device_process._Line(HangsUp(Source("a.mp4", "a.mp4")))  # type: ignore[arg-type]
    clips = device_process._SentClips(line, slots, timings)
    with (
        pytest.raises(device_process._ParentGone),
        Writer(lambda outcome: line.send(store(outcome, tmp_path, extractor.features)), timings) as writer,
    ):
        for outcome in compute(clips, extractor.engine, timings=timings):
            writer.put(outcome)
    slots.close()
    assert read_failures(tmp_path) == []
    assert not list(tmp_path.rglob(".*"))
