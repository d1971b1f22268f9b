"""Decode whole resized frames: of one video here, or of many videos in decoder processes.

    for excerpt, content in decode_excerpts(excerpts, FrameSettings(profile=CAFFE), n_decoders=2, description="frames"):
        ...                      # blocks of frames, uint8 (16, 3, H, W), then End with their number; or Failed

The decoder processes are those of `features.decoders`: a video that crashes its decoder, or makes no progress, fails
alone, and pixels travel through shared memory. This module is imported in every decoder, so it must not import torch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import DecodeError
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import open_decoders
from c3dvideo.features.decoding import Begun, End, Failed, ReadSettings
from c3dvideo.features.timings import Timings
from c3dvideo.progress import progress
from c3dvideo.video.decode import open_video
from c3dvideo.video.preprocess import Profile, resize_frame
from c3dvideo.video.reader import Clip
from c3dvideo.video.sources import Source

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

BLOCK_FRAMES = 16
"""Frames per message of a decoder: about a megabyte, which makes a message per frame unnecessary."""
_BLOCKS_PER_DECODER = 4


@dataclass(frozen=True)
class Excerpt(Source):
    """The frames of a video that are shown from `start_seconds` to before `end_seconds`."""

    start_seconds: float = -np.inf
    end_seconds: float = np.inf


@dataclass(frozen=True, kw_only=True)
class FrameSettings(ReadSettings):
    """Videos are cut into blocks of whole resized frames. count_only: no blocks, only the number of frames."""

    profile: Profile
    count_only: bool = False

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """(frames, channels, height, width) of one block."""
        return 0 if self.count_only else BLOCK_FRAMES, 3, *stored_size(self.profile)

    def reader(self, source: Source, step: Callable[[], None]) -> "FrameBlocks":
        """The blocks of one excerpt."""
        assert isinstance(source, Excerpt)
        return FrameBlocks(source, self, step)


class FrameBlocks:
    """Iterates over the frames of one excerpt in blocks. The last block may be partly filled: see `n_frames`.

    The attributes are those of `ClipReader`; the times stay 0, because nothing reports them.
    """

    fps: Fraction | None = None
    damage: str | None = None

    def __init__(self, excerpt: Excerpt, settings: FrameSettings, step: Callable[[], None]) -> None:
        self.n_frames = 0
        self.decode_seconds = self.preprocess_seconds = 0.0
        self._excerpt, self._settings, self._step = excerpt, settings, step

    def __iter__(self) -> Iterator[Clip]:
        block = np.empty(self._settings.clip_shape, np.uint8)
        for frame in excerpt_frames(self._excerpt, self._settings.profile, skipped=self._step):
            self.n_frames += 1
            if not self._settings.count_only:
                place = (self.n_frames - 1) % BLOCK_FRAMES
                block[place] = frame
                if place == BLOCK_FRAMES - 1:
                    yield Clip(self.n_frames - BLOCK_FRAMES, np.nan, block)
        rest = self.n_frames % BLOCK_FRAMES
        if rest and not self._settings.count_only:
            yield Clip(self.n_frames - rest, np.nan, block)


def stored_size(profile: Profile) -> tuple[int, int]:
    """Height and width of the stored frames: resized, and cut to the centre if resizing keeps the aspect ratio."""
    return profile.resize_height, profile.resize_width


def excerpt_frames(
    excerpt: Excerpt, profile: Profile, *, skipped: Callable[[], None] = lambda: None
) -> Iterator[Pixels]:
    """Resized frames, uint8 (3, H, W), of an excerpt; `skipped` is called for every frame outside of it.

    The video is decoded to its end, so that damage anywhere in it is found. Raises DecodeError, also for an excerpt
    without a frame.
    """
    height, width = stored_size(profile)
    n_frames = 0
    with open_video(Path(excerpt.path), channel_order=profile.channel_order) as video:
        for frame in video.frames():
            if frame.seconds < excerpt.start_seconds or frame.seconds >= excerpt.end_seconds:  # NaN in frame folders
                skipped()
                continue
            picture = resize_frame(frame.picture, profile)
            top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
            n_frames += 1
            yield np.ascontiguousarray(picture[:, top : top + height, left : left + width])
    if not n_frames:
        raise DecodeError(
            f"no frame is shown from {excerpt.start_seconds} s to {excerpt.end_seconds} s; expected times inside the "
            "video"
        )


def decode_excerpts(
    excerpts: Sequence[Excerpt], settings: FrameSettings, *, n_decoders: int, description: str
) -> Iterator[tuple[Excerpt, Pixels | End | Failed]]:
    """Every block of every excerpt as it is decoded, and how each excerpt ended; n_decoders 0 decodes in this process.

    Blocks of one excerpt come in order. A block is valid until the next item is drawn; then its memory is reused.
    """
    n_slots = 1 + _BLOCKS_PER_DECODER * max(1, n_decoders)
    with (
        progress(description, total=len(excerpts), unit="videos") as bar,
        open_decoders(excerpts, settings, n_decoders=n_decoders, n_slots=n_slots, timings=Timings()) as decoders,
    ):
        for message in decoders.messages():
            assert message is not None  # a list has always a next video to give
            excerpt, content = message
            assert isinstance(excerpt, Excerpt)
            if isinstance(content, Filled):
                yield excerpt, decoders.clips[content.slot]
                decoders.release([content.slot])
            elif not isinstance(content, Begun):
                yield excerpt, content
                bar.advance()
