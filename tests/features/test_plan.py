"""The plan of a run: the simulation against courses that can be counted by hand, stated lengths, and the command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from c3dvideo.errors import UsageError
from c3dvideo.features import plan, plan_scale
from c3dvideo.features.simulation import Load, Machine, Rates, simulate
from c3dvideo.network.c3d import C3D
from c3dvideo.video.length import stated_length

NOTHING = Rates(video=0, frame=0, batch=0, clip=0, write=0, start=0)


def rates(**changes: float) -> Rates:
    return Rates(**{**vars(NOTHING), **changes})


def machine(**changes: int) -> Machine:
    given = {"cores": 8, "n_decoders": 1, "n_slots": 16, "batch_clips": 4, "network_threads": 0, **changes}
    return Machine(**given)


def test_decoders_alone_take_their_frames() -> None:
    loads = [Load(160, 10)] * 8
    one = simulate(loads, rates(frame=0.01, start=0.5), machine())
    assert one.seconds == pytest.approx(0.5 + 8 * 1.6)
    assert one.bottleneck == "decoders"
    four = simulate(loads, rates(frame=0.01), machine(n_decoders=4))
    assert four.seconds == pytest.approx(2 * 1.6)
    crowded = simulate(loads, rates(frame=0.01), machine(n_decoders=4, cores=2))
    assert crowded.seconds == pytest.approx(4 * 1.6)


def test_a_network_on_a_gpu_is_the_limit_when_it_is_slower() -> None:
    found = simulate([Load(160, 10)] * 8, rates(frame=1e-6, batch=0.25), machine(n_decoders=4))
    assert found.seconds == pytest.approx(80 / 4 * 0.25, rel=0.01)
    assert found.bottleneck == "network" and found.network_busy > 0.95


def test_a_network_on_all_cores_and_decoders_share_them() -> None:
    """80 core-seconds of decoding and 80 x 2 of the network on two cores: nothing is faster than their sum."""
    loads = [Load(16, 1)] * 80
    given = rates(frame=1 / 16, batch=4.0)
    found = simulate(loads, given, machine(cores=2, n_decoders=1, network_threads=2))
    work = (80 * 1.0 + 20 * 4.0 * 2) / 2
    assert work <= found.seconds < 1.15 * work


def test_a_slow_writer_holds_up_the_run() -> None:
    found = simulate([Load(16, 1)] * 50, rates(frame=1e-5, batch=1e-4, write=0.1), machine(n_decoders=2))
    assert found.seconds == pytest.approx(5.0, rel=0.02)
    assert found.bottleneck == "writer"


def test_full_slots_hold_up_decoders() -> None:
    """Two slots and batches of two: while the network computes, at most two clips are decoded ahead."""
    found = simulate([Load(16, 1)] * 20, rates(frame=0.1 / 16, batch=1.0), machine(n_slots=2, batch_clips=2))
    assert found.seconds == pytest.approx(0.2 + 10 * 1.0, rel=0.05)


def test_without_decoder_processes_everything_is_added_up() -> None:
    found = simulate([Load(32, 2)] * 10, rates(frame=0.01, batch=0.1, clip=0.05), machine(n_decoders=0))
    assert found.seconds == pytest.approx(10 * 0.32 + 5 * 0.1 + 20 * 0.05)


def test_videos_without_a_clip_are_decoded_and_not_written() -> None:
    found = simulate([Load(10, 0), Load(160, 10)], rates(frame=0.01, write=1.0), machine())
    assert found.seconds == pytest.approx(1.7 + 1.0)


def test_more_machines_move_the_bottleneck_to_the_shared_disk() -> None:
    loads = [Load(640, 40)] * 20
    rows = plan_scale.many_machines(
        loads,
        rates(frame=4e-4, batch=0.01, clip=0.06),
        machine(cores=2, network_threads=2),
        **dict.fromkeys(("bytes_per_video", "stored_per_video"), 2e6),
    )
    assert len(rows) == 4 * 2 * 4
    here = [row for row in rows if row.kind == "this machine" and row.n_videos == 100_000_000]
    assert [row.bottleneck for row in here] == ["network"] * 4
    assert here[0].hours > 9.5 * here[1].hours > 9 * 9.5 * here[2].hours
    gpu = {row.n_machines: row for row in rows if row.kind == "H100, 16 cores" and row.n_videos == 100_000_000}
    # 640 frames at 16 x 1,179.75 frames/s, the measured rate of the decoders of that machine
    assert gpu[1].hours == pytest.approx(1e8 * 640 / 18876 / 3600, rel=0.03)
    assert gpu[1].bottleneck == "decoders" and gpu[1].network_busy < 0.2
    assert gpu[1000].bottleneck == "shared disk"
    assert gpu[1000].read_gb_per_second == pytest.approx(10)
    more_cores = next(row for row in rows if row.kind == "H100, 128 cores" and row.n_videos == 100_000_000)
    assert more_cores.hours < gpu[1].hours / 5 and more_cores.bottleneck == "network"


def test_the_rates_of_the_h100_are_those_of_the_committed_benchmark() -> None:
    csv = Path(__file__).parents[2] / "benchmarks/results/2026-11-26-nvidia-h100-16-cores.csv"
    rows = dict(line.rsplit(",", 4)[0:2] for line in csv.read_text().splitlines() if line.count(",") == 5)
    assert float(rows["gpu from host,fp16"]) == plan_scale.H100_CLIPS_PER_SECOND
    assert float(rows["decoders alone,16 processes"]) / 16 == plan_scale.H100_DECODER_FRAMES_PER_SECOND


def test_lengths_are_those_that_files_and_folders_state(tmp_path: Path, moving_square: Callable[..., Path]) -> None:
    video = moving_square(tmp_path / "a.mp4", n_frames=50)
    found = stated_length(str(video))
    assert found is not None
    assert (found.n_frames, found.seconds, found.n_bytes) == (50, pytest.approx(2.0), video.stat().st_size)
    frames = tmp_path / "frames"
    frames.mkdir()
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (8, 8)).save(frames / f"{number:06d}.jpg")
    folder = stated_length(str(frames))
    assert folder is not None and folder.n_frames == 3
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    assert stated_length(str(tmp_path / "bad.mp4")) is None
    assert stated_length(str(tmp_path / "gone.mp4")) is None
    assert stated_length("https://example.org/a.mp4") is None


@pytest.fixture
def videos(tmp_path: Path, moving_square: Callable[..., Path]) -> Path:
    for number in range(5):
        moving_square(tmp_path / f"videos/{number}.mp4", n_frames=24 + 8 * number, height=48, width=64)
    (tmp_path / "videos/broken.mp4").write_bytes(b"nothing")
    return tmp_path / "videos"


def test_a_plan_of_real_videos(videos: Path, tiny_network: C3D) -> None:
    notes: list[str] = []
    found = plan.make_plan([videos], weights=tiny_network, plan=None, workers=1, sample_seconds=1.0, note=notes.append)
    assert (found.n_videos, found.n_unreadable) == (6, 1)
    assert found.n_frames == 6 / 5 * sum((24, 32, 40, 48, 56))
    assert found.n_clips == round(6 / 5 * sum((2, 2, 3, 3, 4)))  # 8 frames every 16, the tail dropped
    layer = found.storage["fc6"]
    assert layer.width == 16
    assert layer.fp32_bytes - layer.fp16_bytes == 2 * 16 * found.n_clips
    assert 0 < found.rates.frame < 0.1 and found.rates.start > 0 and found.seconds > found.rates.start
    assert notes and "measuring for about 1 seconds" in notes[0]
    json.dumps(found.to_dict())


def test_a_plan_of_nothing_is_refused(tmp_path: Path, tiny_network: C3D) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no video in .*empty"):
        plan.make_plan([tmp_path / "empty"], weights=tiny_network)
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="none of the first 1 videos gives a clip"):
        plan.make_plan([tmp_path / "bad.mp4"], weights=tiny_network, workers=1)
    with pytest.raises(UsageError, match=r"the first 1 videos gives a clip \(the first: .*cannot be reached"):
        plan.make_plan(["http://127.0.0.1:1/a.mp4"], weights=tiny_network, workers=1)


def test_the_command_prints_the_plan_or_json(videos: Path, tiny_network: C3D, tmp_path: Path) -> None:
    tiny_network.save_pretrained(tmp_path / "weights")
    command = [sys.executable, "-m", "c3dvideo", "plan", videos, "--weights", tmp_path / "weights"]
    options = ["--sample-seconds", "0.5", "--workers", "1", "--clip-length", "8"]
    done = subprocess.run([*command, *options, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["n_videos"] == 6 and found["bottleneck"] in ("decoders", "network", "writer")
    assert len(found["many"]) == 32 and {row["n_machines"] for row in found["many"]} == {1, 10, 100, 1000}
