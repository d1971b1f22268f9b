"""The activations of one video, collected clip by clip until all have arrived.

    video = Video(source, checked, n_views=1, scratch=None)
    video.begin_clip(start_frame=0, start_seconds=0.0)
    video.add_rows({"fc6": rows})                    # float32 (n, D)
    video.end = End(fps, n_frames=16)
    list(video.outcome())                            # [VideoActivations], once all rows have arrived

Rows of a layer are held in memory up to SPILL_BYTES. More go to a file without a name, which the system deletes with
the process: conv1a of a two-hour video is 700 GB.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from c3dvideo.errors import StoreError
from c3dvideo.features.decoding import Checked, End, Failed
from c3dvideo.features.failures import Failure
from c3dvideo.features.store import Array
from c3dvideo.files import os_reason
from c3dvideo.storage import Location
from c3dvideo.video.access import shown
from c3dvideo.video.sources import Source

SPILL_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoActivations:
    """What the network computes for every clip of one video.

    layers: float32 by name, (n_clips, ...), with an axis of views after n_clips when there are several.
    start_frame: int64 (n_clips,). start_seconds: float64 (n_clips,). n_frames counts decoded frames. damage: why the
    clips end before the video does, None when they do not.
    """

    source: Source
    checked: Checked
    layers: dict[str, Array]
    start_frame: Array
    start_seconds: Array
    fps: Fraction | None
    n_frames: int
    damage: str | None


@dataclass(frozen=True)
class FailedVideo:
    """A video without activations. checked: None when not even its content could be read."""

    source: Source
    checked: Checked | None
    failure: Failure


@dataclass(frozen=True)
class StoredVideo:
    """A video whose features are stored already."""

    source: Source
    checked: Checked


Outcome = VideoActivations | FailedVideo | StoredVideo


class Video:
    """One video whose clips are being computed.

    end: set once no more clips will be added. checked: what is known of the video, which may be set later.
    """

    def __init__(self, source: Source, checked: Checked | None, *, n_views: int, scratch: Path | None) -> None:
        self.source = source
        self.end: End | Failed | None = None
        self.settled = False
        self.checked = checked
        self._n_views = n_views
        self._starts: list[tuple[int, float]] = []
        self._n_rows = 0
        self._layers: dict[str, Rows] = {}
        self._scratch = scratch

    def begin_clip(self, start_frame: int, start_seconds: float) -> None:
        """Expect the rows of one more clip."""
        self._starts.append((start_frame, start_seconds))

    def add_rows(self, layers: dict[str, Array]) -> None:
        """Take the activations of this video's next clips."""
        for name, rows in layers.items():
            self._layers.setdefault(name, Rows(self._scratch)).append(rows)
        self._n_rows += len(rows)

    def outcome(self) -> Iterator[VideoActivations | FailedVideo]:
        """The outcome, once: as soon as the video has failed, or has ended and all its rows have arrived."""
        if self.settled or self.end is None:
            return
        if isinstance(self.end, Failed):
            self.close()
            failure = Failure(
                name=self.source.name, path=shown(self.source.path), stage=self.end.stage, message=self.end.message
            )
            yield FailedVideo(self.source, self.checked, failure)
        elif self._n_rows == len(self._starts) * self._n_views:
            whole = self._whole(self.end)
            self.close()
            yield whole

    def close(self) -> None:
        """Let go of all rows; nothing follows."""
        self.settled = True
        for rows in self._layers.values():
            rows.close()
        self._layers.clear()

    def _whole(self, end: End) -> VideoActivations:
        shape = (len(self._starts),) if self._n_views == 1 else (len(self._starts), self._n_views)
        return VideoActivations(
            source=self.source,
            checked=self.checked or Checked(),
            layers={name: rows.array(shape) for name, rows in self._layers.items()},
            start_frame=np.array([frame for frame, _ in self._starts], np.int64),
            start_seconds=np.array([seconds for _, seconds in self._starts], np.float64),
            fps=end.fps,
            n_frames=end.n_frames,
            damage=end.damage,
        )


def scratch_folder(out: Location) -> Path:
    """Where the activations of long videos go: the folder of features, beside whose files they must fit anyway."""
    return out if isinstance(out, Path) else Path(tempfile.gettempdir())


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
                f"{scratch} has no room for the activations of a long video: {os_reason(error)}; make room, or store "
                "fewer `layers=`"
            ) from error
        self._parts.clear()

    def array(self, leading: tuple[int, ...]) -> Array:
        """All rows as one array (*leading, ...); a read-only memory map when they are in the file."""
        shape = (*leading, *self._row_shape)
        if self._file is None:
            return np.concatenate(self._parts).reshape(shape)
        return np.memmap(self._file, np.float32, "r", shape=shape)

    def close(self) -> None:
        """Close the file; a memory map of it stays valid."""
        if self._file is not None:
            self._file.close()
