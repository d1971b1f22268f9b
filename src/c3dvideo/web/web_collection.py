"""The collection behind the page: what the index holds, as of its latest version, and the files of its videos.

collection = Collection("features.db", videos="my_videos")
now = collection.now()                         # looks into the index again only when its version has changed
now.clips_of(now.videos[0].id)                 # a slice of the arrays of all clips
collection.path("walking/a.mp4")               # inside my_videos, or raises MissingVideoError
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import C3DVideoError, UsageError
from c3dvideo.files import path_inside
from c3dvideo.search.index import Index
from c3dvideo.video.clip_times import clip_spans
from c3dvideo.video.viewing import FOLDER_FPS
from c3dvideo.web.video_names import video_id

Array = np.ndarray[Any, Any]


class MissingVideoError(C3DVideoError):
    """The file behind an indexed video is not there, or lies outside the folder of videos."""


@dataclass(frozen=True)
class IndexedClips:
    """One video of the index: its clips are rows `first` to `first + n_clips` of the table of all clips."""

    id: str
    name: str
    label: str
    first: int
    n_clips: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What the index holds at one version.

    start_seconds, end_seconds: float64, one per clip, in the order of the videos. labels: of the index, "" without one.
    """

    version: str
    videos: tuple[IndexedClips, ...]
    start_seconds: Array
    end_seconds: Array
    labels: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """A hash of the names and the times of all clips: two indexes may have one version after the other."""
        hashed = sha256(self.start_seconds.tobytes())
        for video in self.videos:
            hashed.update(f"{video.id} {video.n_clips}\n".encode())
        return hashed.hexdigest()

    @cached_property
    def by_id(self) -> dict[str, int]:
        """Row in `videos` by id."""
        return {video.id: row for row, video in enumerate(self.videos)}

    @cached_property
    def by_name(self) -> dict[str, int]:
        """Row in `videos` by name."""
        return {video.name: row for row, video in enumerate(self.videos)}

    @cached_property
    def video_of_clip(self) -> Array:
        """int32: the row in `videos` of every clip."""
        rows: Array = np.repeat(np.arange(len(self.videos), dtype=np.int32), [video.n_clips for video in self.videos])
        return rows

    def video(self, wanted: str) -> IndexedClips:
        """The video with this id; raises MissingVideoError when the index has none."""
        if wanted not in self.by_id:
            raise MissingVideoError("the index holds no video with this id; it may have been removed: reload the page")
        return self.videos[self.by_id[wanted]]

    def clips_of(self, wanted: str) -> slice:
        """The rows of a video's clips."""
        video = self.video(wanted)
        return slice(video.first, video.first + video.n_clips)

    def clip_at(self, wanted: str, seconds: float) -> int:
        """The row of the video's clip that begins nearest to `seconds`, of those that begin before it if any does."""
        rows = self.clips_of(wanted)
        starts = self.start_seconds[rows]
        first: int = rows.start
        return first + max(0, int(np.searchsorted(starts, seconds + 0.001, side="right")) - 1)


class Collection:
    """An index and the folder of its videos, for many threads; raises StoreError for what is no index."""

    def __init__(self, db: str | Path, *, videos: str | Path | None) -> None:
        self.db = str(db)
        self.index = Index.open(db)
        self.lock = threading.RLock()
        if videos is not None and not Path(videos).is_dir():
            raise UsageError(f"{str(videos)!r} is no folder; expected the folder that was extracted (`videos=`)")
        self.root = None if videos is None else Path(videos).resolve()
        self._snapshot: Snapshot | None = None

    def now(self) -> Snapshot:
        """The snapshot of the index's present version."""
        with self.lock:
            version = str(self.index.version)
            if self._snapshot is None or self._snapshot.version != version:
                self._snapshot = _snapshot(self.index, version)
            return self._snapshot

    def path(self, name: str) -> Path:
        """The file or frame folder of a video; raises MissingVideoError.

        A symbolic link that leads out of the folder of videos is refused, like a name that does.
        """
        if self.root is None:
            raise MissingVideoError("the server was started without a folder of videos (`--videos`)")
        try:
            path = path_inside(self.root, name).resolve(strict=True)
        except (UsageError, OSError, ValueError) as error:
            raise MissingVideoError("the file is not in the folder of videos") from error
        if not path.is_relative_to(self.root) or not (path.is_file() or path.is_dir()):
            raise MissingVideoError("the file lies outside the folder of videos")
        return path

    def is_missing(self, name: str) -> bool:
        """Whether `path` raises."""
        try:
            self.path(name)
        except MissingVideoError:
            return True
        return False


def _snapshot(index: Index, version: str) -> Snapshot:
    """The table of all clips without its vectors; the index sorts it by video and time."""
    table = index.clips(vectors=None)
    names = table.video.tolist()
    starts, ends = table.start_seconds.astype(np.float64), table.end_seconds.astype(np.float64)
    labels = tuple(label or "" for label in table.label.tolist())
    videos: list[IndexedClips] = []
    for name, rows in groupby(range(len(names)), key=names.__getitem__):
        clips = list(rows)
        starts[clips], ends[clips] = shown_times(starts[clips], ends[clips], index.settings)
        seconds = float(ends[clips].max())
        videos.append(IndexedClips(video_id(name), name, labels[clips[0]], clips[0], len(clips), seconds))
    return Snapshot(version, tuple(videos), starts, ends, labels)


def shown_times(starts: Array, ends: Array, settings: Mapping[str, Any]) -> tuple[Array, Array]:
    """Start and end seconds of the clips of one video; a frame folder, which has none, is shown at FOLDER_FPS."""
    if not np.isnan(starts).any():
        return starts, np.where(np.isnan(ends), starts, ends)
    plan = settings.get("plan")
    plan = plan if isinstance(plan, Mapping) else {}
    span = int(plan.get("clip_length", 16)) * int(plan.get("sampling_rate", 1))
    first = int(plan.get("stride_frames", 16)) * np.arange(len(starts))
    shown = first / FOLDER_FPS
    return shown, clip_spans(first, shown, span_frames=span, n_frames=None, fps=FOLDER_FPS)[1]
