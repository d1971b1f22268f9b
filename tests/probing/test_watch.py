"""`watch`: probabilities of the latest clips, smoothed; JSON lines, a summary, and a clean end by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo.cli import main
from c3dvideo.errors import UsageError, VideoError
from c3dvideo.probing.descriptors import Part
from c3dvideo.probing.predict import predict
from c3dvideo.probing.probe import Probe
from c3dvideo.probing.watch import Smoother, WatchSummary, watch
from c3dvideo.video.clips import ClipPlan

Write = Callable[..., Path]


def test_a_file_as_if_live_has_the_probabilities_of_predict(
    tmp_path: Path, moving_square: Write, tiny_network: C3D
) -> None:
    path = moving_square(tmp_path / "a.mp4", n_frames=48, fps=40)
    summary = WatchSummary(latencies=[])
    seen = list(watch(path, weights=tiny_network, stride_frames=8, smooth_seconds=0, top=5, summary=summary))
    plan = ClipPlan(clip_length=8, stride_frames=1)
    (expected,) = predict([path], weights=tiny_network, plan=plan, workers=0).predictions
    by_start = {round(clip.start_seconds or 0, 3): clip for clip in expected.timeline}
    assert seen
    for clip in seen:
        assert sum(clip.probabilities) == pytest.approx(1, abs=1e-3)
        assert clip.classes[0] == by_start[clip.start_seconds].label
        assert clip.probabilities[0] == pytest.approx(by_start[clip.start_seconds].score, abs=2e-3)
        assert 0 <= clip.latency_seconds < 5
    assert summary.frames == 48
    assert summary.clips == len(seen)
    assert "latency" in summary.text()


def test_smoothing_is_an_exponential_mean_over_time() -> None:
    smooth = Smoother(2.0)
    assert smooth(np.array([1.0, 0.0]), 0.0).tolist() == [1.0, 0.0]
    assert smooth(np.array([0.0, 1.0]), 2.0) == pytest.approx([np.exp(-1), 1 - np.exp(-1)])
    assert smooth(np.array([0.0, 1.0]), 2.0) == pytest.approx([np.exp(-1), 1 - np.exp(-1)])
    assert smooth(np.array([0.0, 1.0]), 1000.0) == pytest.approx([0, 1])
    assert Smoother(0)(np.array([0.25]), 5.0).tolist() == [0.25]
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="smooth_seconds="):
            Smoother(seconds)


def test_a_probe_gives_its_own_classes(tmp_path: Path, moving_square: Write, tiny_network: C3D) -> None:
    generator = np.random.default_rng(0)
    probe = Probe(("one", "two"), generator.normal(size=(2, 16)), np.zeros(2), (Part("fc6", 16, {}),), 1.0)
    path = moving_square(tmp_path / "a.mp4", n_frames=20, fps=50)
    seen = list(watch(path, weights=tiny_network, probe=probe, smooth_seconds=0))
    assert {name for clip in seen for name in clip.classes} == {"one", "two"}
    line = seen[0].to_dict()
    assert line["scores"] == seen[0].probabilities
    assert not {"probabilities", "are_scores"} & set(line)


def test_a_broken_file_is_an_error(tmp_path: Path, tiny_network: C3D) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    for source in (tmp_path / "broken.mp4", f"file://{tmp_path}/broken.mp4"):
        with pytest.raises(VideoError, match=r"broken\.mp4"):
            list(watch(source, weights=tiny_network))
    with pytest.raises(VideoError, match="not opened"):
        list(watch("concat://a.mp4|b.mp4", weights=tiny_network))


def test_it_ends_after_a_time_although_nothing_comes(tiny_network: C3D) -> None:
    notes: list[str] = []
    assert not list(watch("rtsp://127.0.0.1:9/x", weights=tiny_network, max_seconds=0.2, note=notes.append))
    assert any("connecting again" in note for note in notes)


def test_the_command_prints_lines_and_ends_by_ctrl_c(tmp_path: Path, moving_square: Write) -> None:
    path = moving_square(tmp_path / "a.mp4", n_frames=3000, fps=25)
    command = [sys.executable, "-m", "c3dvideo", "watch", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        os.kill(process.pid, signal.SIGINT)
        rest, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert all(json.loads(line) for line in rest.splitlines())
    assert [len(line["probabilities"]) for line in lines] == [3, 3, 3]
    assert lines[0]["end_seconds"] < lines[1]["end_seconds"]
    assert {"latency_seconds", "dropped_frames", "time", "classes"} <= set(lines[0])
    assert "Traceback" not in err
    assert "frames dropped; latency" in err
    assert "8 classes of generated clips" in err


def test_a_missing_file_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["c3dvideo", "watch", "missing.mp4"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "missing.mp4" in capsys.readouterr().err
