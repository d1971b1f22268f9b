"""The clips of one video as network input: decode, plan and preprocess in one bounded stream.

reader = read_clips("a.mp4", plan=ClipPlan(), profile=CAFFE, views=CAFFE.views("centre"))
for clip in reader:
    clip.pixels                                   # uint8 (V, 3, 16, 112, 112)
reader.n_frames, reader.fps                       # of the whole video, now that it has been read
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from c3dvideo.errors import ShortVideoError
from c3dvideo.video.clips import ClipPlan, stream_clips
from c3dvideo.video.decode import Video, open_video
from c3dvideo.video.preprocess import CAFFE, Profile, View, prepare_frame
from c3dvideo.video.resize import Pixels


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip, cropped but without mean and scale.

    start_frame, start_seconds: of its first frame; the seconds are NaN for a frame folder.
    pixels: uint8 (V, 3, T, crop, crop) in the channel order of the profile.
    """

    start_frame: int
    start_seconds: float
    pixels: Pixels


class ClipReader:
    """Iterates over the clips of one video; holds the frames of one clip, whatever the length of the video.

    fps: average frames a second, None for a frame folder. n_frames: frames decoded so far, in the end all.
    decode_seconds, preprocess_seconds: time spent so far on either; opening counts as decoding.
    """

    def __init__(
        self, video: Video, plan: ClipPlan, profile: Profile, views: Sequence[View], *, decode_seconds: float = 0.0
    ) -> None:
        self.fps: Fraction | None = video.fps
        self.n_frames = 0
        self.decode_seconds = decode_seconds
        self.preprocess_seconds = 0.0
        self._video = video
        self._plan = plan
        self._profile = profile
        self._views = tuple(views)

    def __iter__(self) -> Iterator[Clip]:
        with self._video:
            try:
                for start_frame, prepared in stream_clips(self._prepared(), self._plan):
                    started = time.perf_counter()
                    pixels = np.stack([crops for _, crops in prepared], axis=2)
                    self.preprocess_seconds += time.perf_counter() - started
                    yield Clip(start_frame, prepared[0][0], pixels)
            except ShortVideoError as error:
                raise ShortVideoError(f"{self._video.source!r}: {error}") from None

    def _prepared(self) -> Iterator[tuple[float, Pixels]]:
        nothing = np.zeros(0, np.uint8)
        started = time.perf_counter()
        for frame in self._video.frames():
            used = self._plan.may_use(frame.index)
            pixels = frame.pixels if used else nothing
            decoded = time.perf_counter()
            crops = prepare_frame(pixels, self._profile, self._views) if used else nothing
            self.n_frames += 1
            self.decode_seconds += decoded - started
            self.preprocess_seconds += time.perf_counter() - decoded
            yield frame.seconds, crops
            started = time.perf_counter()


def read_clips(
    source: str | Path, *, plan: ClipPlan | None = None, profile: Profile = CAFFE, views: Sequence[View] | None = None
) -> ClipReader:
    """The clips of a file, frame folder or URL, to be iterated once; the default is the release's plan and crop.

    Raises DecodeError (unreadable, damaged) and ShortVideoError (shorter than one clip, unless plan.short says what to
    do), here or while iterating.
    """
    started = time.perf_counter()
    video = open_video(source, channel_order=profile.channel_order)
    views = views or profile.views("centre")
    opening = time.perf_counter() - started
    return ClipReader(video, plan or ClipPlan(), profile, views, decode_seconds=opening)
