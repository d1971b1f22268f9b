"""Whole videos are measured in decoder processes, and one that crashes its process costs no other."""

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from c3dvideo.datasets import check_dataset as checks
from c3dvideo.datasets.check_dataset import check_dataset
from c3dvideo.datasets.lists import read_folders
from c3dvideo.datasets.measure_videos import Measured, MeasureSettings, measure_videos


@pytest.fixture
def videos(tmp_path: Path, moving_square: Callable[..., Path]) -> Path:
    for name, n_frames in (("a/one", 20), ("a/crash", 17), ("b/two", 33)):
        moving_square(tmp_path / f"videos/{name}.mp4", n_frames=n_frames, height=48, width=64)
    return tmp_path / "videos"


@pytest.mark.parametrize("n_decoders", [0, 2])
def test_frames_rate_and_size(videos: Path, n_decoders: int) -> None:
    paths = [videos / "a/one.mp4", videos / "b/two.mp4", videos / "a/one.mp4"]
    found = list(measure_videos(paths, MeasureSettings(), n_decoders=n_decoders, description="checking"))
    assert len(found) == 2
    assert dict(found) == {
        path: Measured(n_frames=n_frames, fps=Fraction(25), height=48, width=64)
        for path, n_frames in ((paths[0], 20), (paths[1], 33))
    }


def test_a_video_that_crashes_its_decoder_is_one_problem(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The decoder processes get this path with the rest of sys.path.
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from measure_faults import Crashing

    monkeypatch.setattr(checks, "MeasureSettings", Crashing)
    summary = check_dataset(read_folders(videos), videos.parent / "report", workers=2)
    assert (summary.n_videos, summary.n_good, summary.n_frames, summary.n_clips) == (3, 2, 53, 3)
    (problem,) = summary.problems
    assert problem["path"] == "a/crash.mp4"
    assert "the decoder crashed (SIGSEGV)" in problem["problem"]
    del sys.modules["measure_faults"]
