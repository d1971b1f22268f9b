"""One video on its way through the network: clips go in, rows of activations come back, in the end it is whole.

Rows of a layer are held in memory up to SPILL_BYTES and in an unnamed file beyond, which the system deletes with the
process: conv1a of a two-hour video is 700 GB.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from c3dvideo.errors import StoreError
from c3dvideo.features.store import Array, Failure
from c3dvideo.video.reader import Clip
from c3dvideo.video.sources import Source

SPILL_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoActivations:
    """What the network says about every clip of one video.

    layers: float32 by name, (n_clips, ...), with an axis of views after n_clips when there are several.
    start_frame: int64 (n_clips,). start_seconds: float64 (n_clips,). n_frames counts decoded frames.
    """

    source: Source
    layers: dict[str, Array]
    start_frame: Array
    start_seconds: Array
    fps: Fraction | None
    n_frames: int


@dataclass(frozen=True)
class End:
    """A video was decoded to its end."""

    fps: Fraction | None
    n_frames: int


class Video:
    """One video on its way through the network."""

    def __init__(self, source: Source, *, n_views: int, scratch: Path | None) -> None:
        self.source = source
        self.end: End | Failure | None = None
        self.settled = False
        self._n_views = n_views
        self._starts: list[tuple[int, float]] = []
        self._n_rows = 0
        self._layers: dict[str, Rows] = {}
        self._scratch = scratch

    def begin_clip(self, clip: Clip) -> None:
        self._starts.append((clip.start_frame, clip.start_seconds))

    def add_rows(self, layers: dict[str, Array]) -> None:
        """Take the activations of this video's next clips."""
        for name, rows in layers.items():
            self._layers.setdefault(name, Rows(self._scratch)).append(rows)
        self._n_rows += len(rows)

    def failure(self, stage: str, message: str) -> Failure:
        return Failure(name=self.source.name, path=self.source.path, stage=stage, message=message)

    def outcome(self) -> Iterator[VideoActivations | Failure]:
        """The outcome, once: as soon as the video has failed, or has ended and all its rows are here."""
        if self.settled or self.end is None:
            return
        if isinstance(self.end, Failure):
            self._settle()
            yield self.end
        elif self._n_rows == len(self._starts) * self._n_views:
            whole = self._whole(self.end)
            self._settle()
            yield whole

    def _settle(self) -> None:
        self.settled = True
        for rows in self._layers.values():
            rows.close()
        self._layers.clear()

    def _whole(self, end: End) -> VideoActivations:
        shape = (len(self._starts),) if self._n_views == 1 else (len(self._starts), self._n_views)
        return VideoActivations(
            source=self.source,
            layers={name: rows.array(shape) for name, rows in self._layers.items()},
            start_frame=np.array([frame for frame, _ in self._starts], np.int64),
            start_seconds=np.array([seconds for _, seconds in self._starts], np.float64),
            fps=end.fps,
            n_frames=end.n_frames,
        )


class Rows:
    """Rows of one layer, in memory up to SPILL_BYTES and in an unnamed file beyond."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._parts: list[Array] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, rows: Array) -> None:
        self._row_shape = rows.shape[1:]
        self._bytes += rows.nbytes
        self._parts.append(rows)
        if self._scratch is not None and self._bytes > SPILL_BYTES:
            self._spill(self._scratch)

    def _spill(self, scratch: Path) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=scratch, buffering=0)  # noqa: SIM115
            for part in self._parts:
                unwritten = memoryview(part.tobytes())
                while unwritten:
                    unwritten = unwritten[self._file.write(unwritten) :]
        except OSError as error:
            raise StoreError(
                f"{scratch} has no room for activations on their way: {error.strerror}; free some, "
                "or store fewer layers"
            ) from error
        self._parts.clear()

    def array(self, leading: tuple[int, ...]) -> Array:
        """All rows as one array (*leading, ...); a read-only memory map when they are in the file."""
        shape = (*leading, *self._row_shape)
        if self._file is None:
            return np.concatenate(self._parts).reshape(shape)
        return np.memmap(self._file, np.float32, "r", shape=shape)

    def close(self) -> None:
        """Close the file; a memory map of it stays good."""
        if self._file is not None:
            self._file.close()
