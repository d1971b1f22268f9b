"""Decode whole videos in decoder processes, for what only decoding shows: frames, frame rate and size.

    for path, found in measure_videos(paths, MeasureSettings(), n_decoders=4, description="checking"):
        found                        # Measured(n_frames=75, fps=Fraction(25, 1), height=240, width=320), or Failed

A video that crashes its decoder, or makes no progress, fails alone: see `features.decoders`. This module is imported in
every decoder, so it must not import torch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import open_decoders, slots_needed
from c3dvideo.features.decoding import End, Failed, ReadSettings
from c3dvideo.features.timings import Timings
from c3dvideo.progress import progress
from c3dvideo.video.decode import open_video
from c3dvideo.video.reader import Clip
from c3dvideo.video.sources import Source


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One video. height and width are those of its last frame; fps is None where the file states none."""

    n_frames: int
    fps: Fraction | None
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(ReadSettings):
    """Videos are decoded to their end; the one "clip" of each is the size of its frames."""

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Height and width, int32, as bytes: slots hold uint8."""
        return (8,)

    def reader(self, source: Source, step: Callable[[], None]) -> "Measurement":
        """The measurement of one video."""
        return Measurement(source.path)


class Measurement:
    """Iterates over the frames of one video and yields their size at the end. The attributes are those of a reader."""

    fps: Fraction | None = None
    damage: str | None = None

    def __init__(self, path: str) -> None:
        self.n_frames = 0
        self.decode_seconds = self.preprocess_seconds = 0.0
        self._path = path

    def __iter__(self) -> Iterator[Clip]:
        size = (0, 0)
        with open_video(Path(self._path)) as video:
            for frame in video.frames():
                self.n_frames += 1
                size = frame.pixels.shape[:2]
            self.fps = video.fps
        yield Clip(0, 0.0, np.array(size, np.int32).view(np.uint8))


def measure_videos(
    paths: Sequence[Path], settings: MeasureSettings, *, n_decoders: int, description: str
) -> Iterator[tuple[Path, Measured | Failed]]:
    """Every path once, as its video ends, with what was measured or why it failed.

    n_decoders: processes; 0 decodes in this process. Several videos are decoded at a time, in the order of `paths`.
    """
    sources = [Source(str(path), str(path)) for path in dict.fromkeys(paths)]
    sizes: dict[str, tuple[int, int]] = {}
    with (
        progress(description, total=len(sources), unit="videos") as bar,
        open_decoders(
            sources, settings, n_decoders=n_decoders, n_slots=slots_needed([], 1, n_decoders), timings=Timings()
        ) as decoders,
    ):
        for message in decoders.messages():
            assert message is not None  # a list always has a next video to give
            source, content = message
            if isinstance(content, Filled):
                height, width = decoders.clips[content.slot].view(np.int32).tolist()
                sizes[source.name] = height, width
                decoders.release([content.slot])
            elif isinstance(content, End):
                height, width = sizes.pop(source.name)
                yield (
                    Path(source.path),
                    Measured(n_frames=content.n_frames, fps=content.fps, height=height, width=width),
                )
                bar.advance()
            elif isinstance(content, Failed):
                yield Path(source.path), content
                bar.advance()
