"""When clips end, in frames and seconds: one rule for predictions, segments, explanations, the index and the page.

    end_frame, end_seconds = clip_spans([0, 16], [0.0, 0.64], span_frames=plan.span_frames, n_frames=40, fps=25)

A clip spans [start, end): from its first frame to the frame behind its span of `ClipPlan.span_frames`, or to the end of
the video where that is earlier. Also with a sampling rate above 1, whose last frame then stands for the frames up to
the next one that is sampled: clips that follow each other without a gap in frames have none in seconds.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_STEADY = 0.02  # of the duration: how far the starts of a constant rate may be off, for averages are often rounded


def clip_spans(
    start_frame: Sequence[int] | Integers,
    start_seconds: Sequence[float] | Floats,
    *,
    span_frames: int,
    n_frames: int | None,
    fps: Fraction | float | None,
) -> tuple[Integers, Floats]:
    """The frame behind each clip, int64 (n,), and its time, float64 (n,), of the clips of one video in order.

    n_frames: of the video, None where it is not known. fps: the average of the
    video, None where it is not known. A clip never ends before it
    starts, also where time stamps repeat. The seconds are NaN where they are not known.

    >>> clip_spans([0, 8, 16], [0.0, 1.0, 5.0], span_frames=16, n_frames=24, fps=16)
    (array([16, 24, 24]), array([5. , 5.5, 5.5]))
    """
    starts, seconds = np.asarray(start_frame, np.int64), np.asarray(start_seconds, np.float64)
    ends = clip_end_frames(starts, span_frames=span_frames, n_frames=n_frames)
    shown = seconds_at(ends, start_frame=starts, start_seconds=seconds, n_frames=n_frames, fps=fps)
    return ends, np.maximum(shown, seconds)


def clip_end_frames(start_frame: Integers, *, span_frames: int, n_frames: int | None) -> Integers:
    """The frame behind each clip, int64 (n,): behind its span, or behind the last frame of the video."""
    ends: Integers = start_frame + span_frames
    return ends if n_frames is None else np.minimum(ends, n_frames)


def seconds_at(
    frames: Integers,
    *,
    start_frame: Integers,
    start_seconds: Floats,
    n_frames: int | None,
    fps: Fraction | float | None,
) -> Floats:
    """When frames of a video are shown, float64 (n,), from the time stamps of its clips' first frames.

    Interpolated between them, which is exact at the start of a clip and follows a variable rate; after the last start
    by a constant rate. fps: the average of the video, None where it is not known. NaN where no rate is known.
    """
    if not len(start_frame):
        return np.full(len(frames), np.nan)
    known = np.interp(frames, start_frame, start_seconds)
    rate = _rate_at_the_end(start_frame, start_seconds, n_frames, float(fps) if fps else None)
    after = start_seconds[-1] + (frames - start_frame[-1]) / rate
    seconds: Floats = np.where(frames <= start_frame[-1], known, after)
    return seconds


def _rate_at_the_end(start_frame: Integers, start_seconds: Floats, n_frames: int | None, fps: float | None) -> float:
    """Frames per second after the last clip has started.

    The average, where the starts follow it. If they follow another constant rate, that one: some containers state a
    wrong average. Of a variable rate, what is left of the duration that the average implies.
    """
    first, last = start_seconds[0], start_seconds[-1]
    of_starts = (start_frame[-1] - start_frame[0]) / (last - first) if last > first else np.nan
    if fps is None:
        return float(of_starts)
    since = start_frame - start_frame[0]
    duration = (n_frames or int(start_frame[-1])) / fps
    if not np.abs(start_seconds - first - since / fps).max() > _STEADY * duration:
        return fps
    # Two starts lie on a line in any case.
    if len(since) > 2 and np.abs(start_seconds - first - since / of_starts).max() <= _STEADY * duration:
        return float(of_starts)
    left = duration - last
    return (n_frames - int(start_frame[-1])) / left if n_frames is not None and left > 0 else fps
