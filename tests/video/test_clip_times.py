"""When clips end: the same for predictions, the index, segments, explanations and tables, with any sampling rate."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo.explain.explain_run import explain
from c3dvideo.features.extract import extract
from c3dvideo.features.store import feature_path, read_features
from c3dvideo.probing.change_points import segment
from c3dvideo.probing.other_libraries import read_rows
from c3dvideo.probing.predict import predict
from c3dvideo.search.feature_clips import clip_ends
from c3dvideo.video.clip_times import clip_spans, seconds_at
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video

Square = Callable[..., Path]


def test_a_span_ends_where_the_frame_behind_it_starts() -> None:
    frames, seconds = clip_spans([0, 16, 32], [0.0, 0.64, 1.28], span_frames=16, n_frames=50, fps=25)
    assert frames.tolist() == [16, 32, 48]
    assert seconds == pytest.approx([0.64, 1.28, 1.92])
    # Every second frame: the last one that is shown, 30, lasts until 32.
    frames, seconds = clip_spans([0, 32], [0.0, 1.28], span_frames=32, n_frames=70, fps=Fraction(25))
    assert frames.tolist() == [32, 64]
    assert seconds == pytest.approx([1.28, 2.56])


def test_a_span_ends_with_the_video() -> None:
    frames, seconds = clip_spans([0, 16], [0.0, 0.64], span_frames=16, n_frames=17, fps=25)
    assert frames.tolist() == [16, 17]
    assert seconds == pytest.approx([0.64, 0.68])


def test_a_variable_rate_counts_where_clips_start() -> None:
    frames, seconds = clip_spans([0, 8, 16], [0.0, 1.0, 5.0], span_frames=16, n_frames=None, fps=16)
    assert frames.tolist() == [16, 24, 32]
    assert seconds == pytest.approx([5.0, 5.5, 6.0])
    # A repeated time stamp: no clip ends before it starts.
    _, seconds = clip_spans([0, 8], [1.0, 1.0], span_frames=4, n_frames=None, fps=None)
    assert np.isnan(seconds[1]) or seconds[1] >= 1.0


def test_the_last_clip_of_a_variable_rate_ends_with_the_video() -> None:
    """Ten frames per second, then two: 40 frames last 12 seconds, of which the average rate is 40 / 12."""
    _, seconds = clip_spans([0, 8, 16, 24], [0.0, 0.8, 1.6, 4.0], span_frames=16, n_frames=40, fps=40 / 12)
    assert seconds == pytest.approx([1.6, 4.0, 4.0 + 8 / 2, 12.0])


def test_a_wrong_average_does_not_matter_where_clips_start_steadily() -> None:
    for wrong in (12.5, 50, 90000):
        _, seconds = clip_spans([0, 16, 32], [0.0, 0.64, 1.28], span_frames=16, n_frames=50, fps=wrong)
        assert seconds == pytest.approx([0.64, 1.28, 1.92])
    # A rounded average of a long recording counts as right.
    starts = 16 * np.arange(1000)
    _, seconds = clip_spans(starts, starts / 29.97, span_frames=16, n_frames=16000, fps=30)
    assert seconds[-1] == pytest.approx(starts[-1] / 29.97 + 16 / 30)


def test_unknown_times_are_nan() -> None:
    _, seconds = clip_spans([0, 16], [np.nan, np.nan], span_frames=16, n_frames=40, fps=None)
    assert np.isnan(seconds).all()
    _, seconds = clip_spans([0], [0.0], span_frames=16, n_frames=40, fps=None)
    assert np.isnan(seconds).all()
    _, seconds = clip_spans([0, 10], [0.0, 1.0], span_frames=16, n_frames=40, fps=None)
    assert seconds == pytest.approx([1.6, 2.6])  # ten frames per second between the starts
    frames, seconds = clip_spans([], [], span_frames=16, n_frames=0, fps=25)
    assert len(frames) == len(seconds) == 0
    none = np.zeros(0)
    assert np.isnan(seconds_at(np.array([3]), start_frame=none, start_seconds=none, n_frames=None, fps=25)).all()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, moving_square: Square) -> Path:
    """Two videos of 70 frames: one at 25 frames per second, one whose second half is shown at a third of the speed."""
    folder = tmp_path_factory.mktemp("videos")
    moving_square(folder / "steady.mp4", n_frames=70)
    with open_video(folder / "steady.mp4", channel_order="rgb") as video:
        frames = [frame.pixels.copy() for frame in video.frames()]
    steps = np.where(np.arange(70) < 32, 0.04, 0.12)
    write_video(folder / "variable.mp4", frames, seconds=(np.cumsum(steps) - steps[0]).tolist())
    return folder


@pytest.mark.parametrize("name", ["steady", "variable"])
@pytest.mark.parametrize("rate", [1, 2, 4])
def test_all_commands_agree(videos: Path, name: str, rate: int, tiny_network: C3D, tmp_path: Path) -> None:
    video = videos / f"{name}.mp4"
    plan = ClipPlan(clip_length=8, stride_frames=8 * rate, sampling_rate=rate, tail="shift_back")
    tiny_network.save_pretrained(tmp_path / "weights")
    weights = tmp_path / "weights"
    (prediction,) = predict([video], weights=weights, plan=plan).predictions
    timeline = prediction.timeline
    with open_video(video, channel_order="rgb") as opened:
        times = [frame.seconds for frame in opened.frames()]
        assert opened.fps is not None
        times.append(times[-1] + 1 / float(opened.fps))
    assert [clip.end_frame for clip in timeline] == [min(clip.start_frame + 8 * rate, 70) for clip in timeline]
    assert timeline[-1].end_frame == 70
    # The time of the frame behind the clip, exactly where that starts another clip.
    starts = {clip.start_frame for clip in timeline}
    for clip in timeline:
        assert clip.start_seconds is not None and clip.end_seconds is not None
        exact = clip.end_frame in starts or name == "steady"
        # How long the last frame lasts is not stated, and the average rate is one of decoding times.
        slack = 1e-3 if exact else 0.25 if clip.end_frame == 70 else 0.5
        assert clip.end_seconds == pytest.approx(times[clip.end_frame], abs=slack)

    extract([video], tmp_path / "features", weights=weights, plan=plan, layers=["fc6"])
    stored = feature_path(tmp_path / "features", f"{name}.mp4")
    ends = [clip.end_seconds for clip in timeline]
    assert clip_ends(read_features(stored)) == pytest.approx(ends)
    (segmented,) = segment([stored]).videos
    assert segmented.segments[-1].end_seconds == pytest.approx(ends[-1], abs=1e-6)
    table = next(read_rows(tmp_path / "features"))
    assert table.end_frame.tolist() == [clip.end_frame for clip in timeline]


def test_explanations_end_as_predictions_do(videos: Path, tiny_network: C3D, tmp_path: Path) -> None:
    for name in ("steady", "variable"):
        tiny_network.save_pretrained(tmp_path / "weights")
        (prediction,) = predict([videos / f"{name}.mp4"], weights=tmp_path / "weights").predictions
        explained = explain([videos / f"{name}.mp4"], tmp_path / "out", weights=tiny_network).videos[0].clips
        assert [(clip.start_frame, clip.end_frame) for clip in explained] == [
            (clip.start_frame, clip.end_frame) for clip in prediction.timeline
        ]
        assert [clip.end_seconds for clip in explained] == pytest.approx(
            [clip.end_seconds for clip in prediction.timeline]
        )
