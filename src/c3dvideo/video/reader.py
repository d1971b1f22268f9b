"""The clips of one video as network input: decode, plan and preprocess in one bounded stream.

reader = read_clips("a.mp4", plan=ClipPlan(), profile=CAFFE, views=CAFFE.views("centre"))
for clip in reader:
    clip.pixels                                   # uint8 (V, 3, 16, 112, 112)
reader.n_frames, reader.fps                       # of the whole video, after the last clip
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from c3dvideo.choices import Damaged
from c3dvideo.errors import DecodeError, ShortVideoError
from c3dvideo.video.clips import ClipPlan, stream_clips
from c3dvideo.video.damage import without_advice
from c3dvideo.video.decode import Frame, Video, open_video
from c3dvideo.video.preprocess import CAFFE, Profile, View, prepare_frame
from c3dvideo.video.resize import Pixels, Yuv420


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

    fps: average frames per second, None for a frame folder. n_frames: frames decoded so far, in the end all.
    damage: after the last clip, the message about the damage at which reading ended; None for a whole video.
    decode_seconds, preprocess_seconds: time spent so far on either; opening counts as decoding.
    """

    def __init__(
        self,
        video: Video,
        plan: ClipPlan,
        profile: Profile,
        views: Sequence[View],
        *,
        damaged: Damaged = "error",
        decode_seconds: float = 0.0,
    ) -> None:
        self.fps: Fraction | None = video.fps
        self.n_frames = 0
        self.damage: str | None = None
        self.decode_seconds = decode_seconds
        self.preprocess_seconds = 0.0
        self._video = video
        self._plan = plan
        self._profile = profile
        self._views = tuple(views)
        self._damaged = damaged

    def __iter__(self) -> Iterator[Clip]:
        n_clips = 0
        padded = self._plan.tail != "drop" or (self._plan.short != "error" and self._plan.sampling_rate > 1)
        with self._video:
            try:
                for clip in self._padded_clips() if padded else self._whole_clips():
                    n_clips += 1
                    yield clip
            except ShortVideoError as error:
                raise ShortVideoError(f"{self._video.source!r}: {error}") from None
            except DecodeError as error:
                # The tail is not padded here: where the damage begins is not where the video ends.
                if self._damaged == "error" or n_clips == 0:
                    raise
                self.damage = without_advice(error)

    def _whole_clips(self) -> Iterator[Clip]:
        """Clips that begin every stride and are whole: each frame is resized straight into the clip that shows it.

        A crop of its own for each frame, stacked later, would have to travel through memory twice more.
        """
        plan, size = self._plan, self._profile.crop_size
        clips: dict[int, Clip] = {}
        for frame, pixels, started in self._frames():
            places = plan.places(frame.index)
            for start, _ in places:
                if start not in clips:
                    shape = (len(self._views), 3, plan.clip_length, size, size)
                    clips[start] = Clip(start, frame.seconds, np.empty(shape, np.uint8))
            targets = [clips[start].pixels[:, :, position] for start, position in places]
            if targets:
                prepare_frame(pixels, self._profile, self._views, targets[0])
            for target in targets[1:]:
                target[:] = targets[0]
            self.preprocess_seconds += time.perf_counter() - started
            finished = frame.index + 1 - plan.span_frames
            if finished in clips:
                yield clips.pop(finished)
        if self.n_frames < plan.span_frames:
            (indices,) = plan.indices(self.n_frames)
            short = clips[0]  # clips that would start later have begun too when the stride is small
            yield replace(short, pixels=short.pixels[:, :, indices])

    def _padded_clips(self) -> Iterator[Clip]:
        """Clips of any plan, of which the last may repeat frames: which, is known when the video has ended."""
        for start_frame, prepared in stream_clips(self._prepared(), self._plan):
            started = time.perf_counter()
            pixels = np.stack([crops for _, crops in prepared], axis=2)
            self.preprocess_seconds += time.perf_counter() - started
            yield Clip(start_frame, prepared[0][0], pixels)

    def _prepared(self) -> Iterator[tuple[float, Pixels]]:
        nothing = np.zeros(0, np.uint8)
        for frame, pixels, started in self._frames():
            used = self._plan.may_use(frame.index)
            crops = prepare_frame(pixels, self._profile, self._views) if used else nothing
            self.preprocess_seconds += time.perf_counter() - started
            yield frame.seconds, crops

    def _frames(self) -> Iterator[tuple[Frame, Pixels | Yuv420, float]]:
        """Every frame, its picture if a clip may use it, and when preprocessing it begins."""
        nothing = np.zeros(0, np.uint8)
        started = time.perf_counter()
        for frame in self._video.frames():
            pixels = frame.picture if self._plan.may_use(frame.index) else nothing
            self.n_frames += 1
            decoded = time.perf_counter()
            self.decode_seconds += decoded - started
            yield frame, pixels, decoded
            started = time.perf_counter()


def read_clips(
    source: str | Path,
    *,
    plan: ClipPlan | None = None,
    profile: Profile = CAFFE,
    views: Sequence[View] | None = None,
    damaged: Damaged = "error",
    stall_seconds: float = 60.0,
) -> ClipReader:
    """The clips of a file, frame folder or address, to be iterated once; the default is the release's plan and crop.

    damaged: "error" raises DecodeError where a video is damaged; "keep" ends after the last clip that is complete
        before the damage and sets `damage` on the reader. A video without such a clip raises in both cases.
    stall_seconds: how long a server may send nothing before DecodeError is raised.
    Raises DecodeError (unreadable, damaged) and ShortVideoError (shorter than one clip, unless plan.short says what to
    do), here or while iterating.

    >>> reader = read_clips("my_videos/waving_flag/waving_flag_000.mp4")
    >>> [(clip.start_frame, round(clip.start_seconds, 2), clip.pixels.shape) for clip in reader]
    [(0, 0.0, (1, 3, 16, 112, 112)), (16, 0.64, (1, 3, 16, 112, 112)), (32, 1.28, (1, 3, 16, 112, 112))]
    >>> reader.n_frames, str(reader.fps)
    (50, '25')
    """
    started = time.perf_counter()
    video = open_video(source, channel_order=profile.channel_order, damaged=damaged, stall_seconds=stall_seconds)
    return ClipReader(
        video,
        plan or ClipPlan(),
        profile,
        views or profile.views("centre"),
        damaged=damaged,
        decode_seconds=time.perf_counter() - started,
    )
