"""The labels that people give to clips and videos: one labels.csv, shared by every browser and every server.

    labels = LabelsFile("labels.csv")
    labels.change([Part("a.mp4", 0.0, 0.64)], "walking")      # "" takes the label away
    labels.of_clips(snapshot)                                  # one label per clip, "" without one

The file is what `c3dvideo probe fit --labels` and `train` read: path,label[,split][,group][,start_seconds,end_seconds].
A change is merged into what the file holds at that moment, under a lock, so two writers lose nothing of each other.
"""

import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.datasets.labelled_parts import labels_at
from c3dvideo.datasets.lists import is_utf8, read_csv, write_csv
from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_tables import csv_columns
from c3dvideo.web.video_names import shown
from c3dvideo.web.web_collection import Snapshot

_COLUMNS = ("path", "label", "split", "group", "start_seconds", "end_seconds", "start_frame")
_LOCK_SECONDS = 10.0
_LONGEST_LABEL = 200


@dataclass(frozen=True)
class Part:
    """A clip, or with start_seconds None the whole video."""

    video: str
    start_seconds: float | None = None
    end_seconds: float | None = None


class LabelsFile:
    """The labels in one file, which need not exist yet; raises DatasetError or UsageError for a file of other kind."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int] | None, tuple[Example, ...]] = (None, ())
        self._version = 0
        self.rows()
        if self.path.exists():
            table = ForeignFile(self.path, error=DatasetError, expected="a table of labelled videos")
            unknown = [name for name in csv_columns(table) if name not in _COLUMNS]
            if unknown:
                raise UsageError(
                    f"{self.path} has the columns {', '.join(unknown)}, which labelling would lose; choose another "
                    "`labels=`"
                )

    @property
    def version(self) -> int:
        """A number that is higher whenever the file has changed."""
        self.rows()
        return self._version

    def rows(self) -> tuple[Example, ...]:
        """The rows of the file as it is now; () without a file."""
        with self._lock:
            return self._rows()

    def of_clips(self, snapshot: Snapshot) -> list[str]:
        """The label of every clip by `labels_at`, else that of the index."""
        labels = list(snapshot.labels)
        middles = (snapshot.start_seconds + snapshot.end_seconds) / 2
        by_name: dict[str, list[Example]] = {}
        for row in self.rows():
            by_name.setdefault(row.path, []).append(row)
        for name in by_name.keys() & snapshot.by_name.keys():
            rows = snapshot.clips_of(snapshot.videos[snapshot.by_name[name]].id)
            found = labels_at(by_name[name], middles[rows])
            labels[rows] = [new or old for new, old in zip(found, labels[rows], strict=True)]
        return labels

    def labelled_here(self, snapshot: Snapshot) -> int:
        """The number of rows about videos of the index."""
        return sum(row.path in snapshot.by_name for row in self.rows())

    def change(self, parts: Sequence[Part], label: str, snapshot: Snapshot) -> None:
        """Give these clips and videos a label, or with "" take theirs away, and write the file, complete or not at all.

        Raises UsageError for a label or a name that the file cannot hold, StoreError when it cannot be written.
        """
        label = label.strip()
        if len(label) > _LONGEST_LABEL or not label.isprintable():
            raise UsageError(f"a label has up to {_LONGEST_LABEL} printable characters")
        if label and not is_utf8(label):
            raise UsageError("the label is no valid text")
        for part in parts:
            if not is_utf8(part.video):
                raise UsageError(
                    f"the name {shown(part.video)} is not UTF-8, which a table of labels cannot hold; rename the video"
                )
        with self._writing():
            rows = {(row.path, row.start_seconds, row.start_frame): row for row in self._rows()}
            for part in parts:
                _apply(rows, part, label, snapshot)
            kept = sorted(rows.values(), key=lambda row: (row.path, row.start_seconds or -1.0, row.start_frame or -1))
            write_csv(Dataset(tuple(kept), tuple(sorted({row.label for row in kept}))), self.path)
            self._rows()

    @contextmanager
    def _writing(self) -> Any:
        """Keep out other threads and other processes."""
        with self._lock:
            try:
                with FileLock(f"{self.path}.lock", timeout=_LOCK_SECONDS):
                    yield
            except Timeout as error:
                raise StoreError(f"{self.path} is being written by another process; try again") from error
            except OSError as error:
                raise StoreError(f"{self.path} could not be locked: {error.strerror}") from error

    def _rows(self) -> tuple[Example, ...]:
        try:
            found = self.path.stat()
            state: tuple[int, int] | None = (found.st_mtime_ns, found.st_size)
        except OSError:
            state = None
        if state != self._read[0]:
            rows = () if state is None else read_csv(self.path).examples
            self._read = (state, rows)
            self._version += 1
        return self._read[1]


_Key = tuple[str, float | None, int | None]


def _apply(rows: dict[_Key, Example], part: Part, label: str, snapshot: Snapshot) -> None:
    """Change the rows of one video. A label that is taken from a clip of a labelled video stays on its other clips."""
    mine = [key for key in rows if key[0] == part.video]
    whole = (part.video, None, None)
    extra = next((rows[key] for key in mine), Example(part.video, label))
    if part.start_seconds is None:
        for key in mine:
            del rows[key]
        if label:
            rows[whole] = replace(extra, label=label, start_seconds=None, end_seconds=None, start_frame=None)
        return
    key = (part.video, part.start_seconds, None)
    if label:
        rows[key] = replace(
            extra, label=label, start_seconds=part.start_seconds, end_seconds=part.end_seconds, start_frame=None
        )
        return
    rows.pop(key, None)
    if whole in rows and part.video in snapshot.by_name:
        row = rows.pop(whole)
        video = snapshot.videos[snapshot.by_name[part.video]]
        for clip in range(video.first, video.first + video.n_clips):
            start, end = float(snapshot.start_seconds[clip]), float(snapshot.end_seconds[clip])
            if start != part.start_seconds:
                rows.setdefault((part.video, start, None), replace(row, start_seconds=start, end_seconds=end))
