"""Which frames make which clip: integers only, no pictures.

    plan = ClipPlan(stride_frames=8)
    plan.indices(40)                       # int64 (4, 16): the frames of every clip of a 40-frame video
    stream_clips(frames, plan)             # the same clips, from frames that arrive one by one

The release takes a clip every 16 frames and drops the incomplete tail; the paper's features overlap by 8 frames.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeVar

import numpy as np

from c3dvideo.choices import Short, Tail, check_choice
from c3dvideo.errors import ShortVideoError, UsageError

Item = TypeVar("Item")
Indices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """How a video is cut into clips.

    A clip takes every sampling_rate-th frame of a span of clip_length * sampling_rate frames, and spans start at
    frames 0, stride_frames, 2 * stride_frames... As in the release, a span must fit as a whole, although no clip shows
    the last sampling_rate - 1 frames of it.

    tail: the treatment of frames after the last whole span: "drop" (the release) leaves them out, "repeat_last"
        adds a clip at the next start that ends in repetitions of the last frame, "shift_back" adds a clip of the last
        frames of the video, which overlaps the clip before.
    short: a video that is shorter than one span is an "error" (the release), one clip that ends in repetitions of
        the last frame ("repeat_last"), or one clip that starts over at frame 0 ("loop").
    Raises UsageError for numbers that are not whole or below 1, and for unknown choices.

    >>> ClipPlan(clip_length=4, stride_frames=4, tail="repeat_last").indices(6).tolist()
    [[0, 1, 2, 3], [4, 5, 5, 5]]
    """

    clip_length: int = 16
    stride_frames: int = 16
    sampling_rate: int = 1
    tail: Tail = "drop"
    short: Short = "error"

    def __post_init__(self) -> None:
        for field in ("clip_length", "stride_frames", "sampling_rate"):
            value = getattr(self, field)
            if not isinstance(value, Integral):
                raise UsageError(f"{field} is {value!r}, expected a whole number")
            if value < 1:
                raise UsageError(f"{field} is {value}, expected 1 or more")
        check_choice("tail", self.tail, Tail)
        check_choice("short", self.short, Short)

    @property
    def span_frames(self) -> int:
        """Consecutive frames that one clip is taken from."""
        return self.clip_length * self.sampling_rate

    def indices(self, n_frames: int) -> Indices:
        """The frames of every clip of a video of n_frames: int64 (n_clips, clip_length), at least one clip.

        Raises ShortVideoError when n_frames is below span_frames and `short` is "error", or when it is 0.
        """
        clips: Indices = self._starts(n_frames)[:, None] + self.sampling_rate * np.arange(self.clip_length)
        if n_frames < self.span_frames and self.short == "loop":
            return clips % n_frames
        return np.minimum(clips, n_frames - 1)

    def may_use(self, index: int) -> bool:
        """Whether a clip may show frame `index`; False only when none does, however long the video is.

        >>> [index for index in range(12) if ClipPlan(clip_length=2, sampling_rate=3, stride_frames=6).may_use(index)]
        [0, 3, 6, 9]
        """
        every_frame = self.sampling_rate == 1 and self.stride_frames <= self.clip_length
        return every_frame or self.tail != "drop" or self.short != "error" or bool(self.places(index))

    def places(self, index: int) -> list[tuple[int, int]]:
        """Start and position of frame `index` in every whole clip that shows it, earliest first.

        >>> ClipPlan(clip_length=4, stride_frames=2).places(5)
        [(2, 3), (4, 1)]
        """
        first = max(0, -(-(index - self.span_frames + 1) // self.stride_frames))
        starts = range(first * self.stride_frames, index + 1, self.stride_frames)
        return [
            (start, (index - start) // self.sampling_rate)
            for start in starts
            if (index - start) % self.sampling_rate == 0
        ]

    def _starts(self, n_frames: int) -> Indices:
        if n_frames < self.span_frames:
            if n_frames < 1 or self.short == "error":
                raise ShortVideoError(
                    f"the video has {n_frames} frames and one clip needs {self.span_frames}"
                    + ("; choose `short=repeat_last` or `short=loop` to keep it" if n_frames else "")
                )
            return np.zeros(1, np.int64)
        starts = np.arange(0, n_frames - self.span_frames + 1, self.stride_frames)
        next_start = int(starts[-1]) + self.stride_frames
        frames_left = min(n_frames - next_start, n_frames - self.span_frames - int(starts[-1]))
        if self.tail == "drop" or frames_left <= 0:
            return starts
        return np.append(starts, next_start if self.tail == "repeat_last" else n_frames - self.span_frames)


def stream_clips(frames: Iterable[Item], plan: ClipPlan) -> Iterator[tuple[int, list[Item]]]:
    """Start frame and items of every clip, in order, of frames that arrive one by one.

    Exactly the clips of `plan.indices(number of frames)`, each as soon as its span is complete. Never holds more than
    plan.span_frames items. Raises what `ClipPlan.indices` raises, once the frames have ended.
    """
    recent: deque[Item] = deque(maxlen=plan.span_frames)
    n_frames = n_clips = 0
    for item in frames:
        recent.append(item)
        n_frames += 1
        start = n_clips * plan.stride_frames
        if n_frames == start + plan.span_frames:
            yield start, list(recent)[:: plan.sampling_rate]
            n_clips += 1
    first = n_frames - len(recent)
    for clip in plan.indices(n_frames)[n_clips:].tolist():
        yield clip[0], [recent[index - first] for index in clip]
