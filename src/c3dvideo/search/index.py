"""An index: the clips of a folder of features as rows of a LanceDB database, in a folder or in object storage.

    index = Index.open("my.db")                     # or "s3://bucket/my.db"
    index.n_clips, index.layer, index.dimensions
    index.search(vector, top=5)                     # the nearest clips: video, start_seconds, end_seconds, score
    index.clips("sub/a.mp4").vectors                # float32 (n_clips, D)

`c3dvideo.search.build_index` makes an index; docs/search.md describes its tables. An open index always shows what is
stored now: every call first looks whether somebody has changed the database.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from c3dvideo.choices import SearchKind, VectorKind
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.extras import require_extra
from c3dvideo.probing.descriptors import Array, some
from c3dvideo.search.index_tables import (
    ABOUT,
    among,
    connect,
    database,
    foreign,
    is_local,
    matrix_of,
    nearest_query,
    open_about,
    read_about,
    unpack_record,
)
from c3dvideo.search.spooled_clips import SpooledClips, spool_clips
from c3dvideo.search.vector_space import VectorSpace

Result = TypeVar("Result")

_FEW_ROWS = 1000

_COLUMNS: Mapping[VectorKind, str] = {"features": "vector", "directions": "direction"}
_SPANS = ("part", "position", "start_seconds", "end_seconds", "label")


@dataclass(frozen=True)
class IndexedVideo:
    """One video of an index. start_seconds of its first clip, end_seconds of its last; label: None without one."""

    video: str
    n_clips: int
    start_seconds: float
    end_seconds: float
    label: str | None = None


@dataclass(frozen=True, eq=False)
class ClipTable:
    """Clips of an index as arrays of one length, in the order of videos and time.

    video: str (n,). start_seconds, end_seconds: float64 (n,). label: str or None (n,). vectors: float32 (n, D), or
    (n, 0) where they were not read.
    """

    video: Array
    start_seconds: Array
    end_seconds: Array
    label: Array
    vectors: Array

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True)
class Neighbour:
    """One clip or video near a vector. score: the cosine of the centred and whitened vectors, -1 to 1."""

    video: str
    start_seconds: float
    end_seconds: float
    score: float


def _again(method: Callable[..., Result]) -> Callable[..., Result]:
    """A method of an index that is called once more when the database was changed while it read."""

    @wraps(method)
    def call(self: "Index", *arguments: Any, **options: Any) -> Result:
        before = self._seen
        try:
            return method(self, *arguments, **options)
        except StoreError:
            self.forget()
            self._refresh_once()  # `refresh` itself is called again by this function
            if self._seen == before:
                raise
            return method(self, *arguments, **options)

    return call


class Index:
    """An open index.

    settings: of the features, from their manifest. layer: which of their layers is indexed. fingerprint: of the folder
    of features. width: how many numbers a clip of these features has. dimensions: how many are stored, fewer than
    `width` after a PCA.
    """

    def __init__(self, db: str | Path, connection: Any, about: Mapping[str, Any]) -> None:
        """Take an open connection; use `Index.open`."""
        self.db = str(db)
        self._connection = connection
        self.about = about
        self.settings: Mapping[str, Any] = about["settings"]
        self.layer: str = about["layer"]
        self.fingerprint: str = about["fingerprint"]
        self.width: int = about["width"]
        self._seen: tuple[int, int] | None = None
        self.generation: Mapping[str, Any] = {}
        self.space: VectorSpace
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._video_of_part: dict[str, str] = {}
        self._video_directions: Array | None = None

    @classmethod
    def open(cls, db: str | Path) -> "Index":
        """The index in a folder or at a URI; raises StoreError when there is none, or one of another format."""
        require_extra("search")
        if is_local(db) and not Path(str(db)).is_dir():
            raise StoreError(f"there is no index {db}; make one with `c3dvideo index FEATURES --db {db}`")
        with database(db):
            connection = connect(db)
            table = open_about(connection)
            if table is None:
                raise foreign(db, f"it has no table {ABOUT!r}")
            about = read_about(db, table)[0]
        index = cls(db, connection, about)
        index.refresh()
        return index

    @property
    def dimensions(self) -> int:
        """D, the number of values of a stored vector."""
        return self.space.dimensions

    @property
    def n_videos(self) -> int:
        """How many videos are in the index."""
        self.refresh()
        return len(self._rows)

    @property
    def n_clips(self) -> int:
        """How many clips are in the index."""
        self.refresh()
        return sum(row["n_clips"] for row in self._rows.values())

    @property
    def version(self) -> int:
        """A number that changes whenever somebody changes the index."""
        self.refresh()
        assert self._seen is not None
        # Below 2**53, so that JavaScript keeps every digit.
        return self._seen[0] * 100_000 + self._seen[1]

    @_again
    def refresh(self) -> None:
        """Read what has changed since the last call."""
        self._refresh_once()

    def _refresh_once(self) -> None:
        with database(self.db):
            about = self._connection.open_table(ABOUT)
            if self._seen is None or about.version != self._seen[0]:
                (row,) = about.search().where("key = 'generation'").limit(None).to_arrow().to_pylist()
                self.generation, self.space = unpack_record(row)
                self.clip_rows = self._connection.open_table(f"clips_{self.generation['id']}")
                self.video_rows = self._connection.open_table(f"videos_{self.generation['id']}")
            seen = (about.version, self.video_rows.version)
            if seen == self._seen:
                return
            self._rows = self._read_videos()
            self._video_of_part = {row["part"]: name for name, row in self._rows.items()}
            self._video_directions = None
            self._seen = seen

    def forget(self) -> None:
        """Read everything again at the next call."""
        self._seen = None

    def videos(self) -> list[IndexedVideo]:
        """Every video of the index, sorted by name."""
        self.refresh()
        return [
            IndexedVideo(name, row["n_clips"], row["start_seconds"], row["end_seconds"], row["label"])
            for name, row in self._rows.items()
        ]

    def stored(self, video: str) -> Mapping[str, Any]:
        """The stored row of one video; raises UsageError for a name that is not in the index."""
        self.refresh()
        if video not in self._rows:
            from difflib import get_close_matches

            near = get_close_matches(video, self._rows, n=3)
            hint = f"did you mean {', '.join(map(repr, near))}?" if near else f"it has {some(list(self._rows))}"
            raise UsageError(f"{self.db} has no video {video!r}; {hint}")
        return self._rows[video]

    def contents(self) -> dict[str, str | None]:
        """The sha256 of every video's file when it was extracted, None where none is recorded; sorted by name."""
        self.refresh()
        return {name: row["content_sha256"] for name, row in self._rows.items()}

    def __contains__(self, video: object) -> bool:
        self.refresh()
        return video in self._rows

    @_again
    def clips(self, video: str | None = None, *, vectors: VectorKind | None = "features") -> ClipTable:
        """The clips of one video, or of all.

        vectors: "features" as they are stored, float32 (n, D); "directions" as they are compared, float32 (n, K); None
        reads none. Raises UsageError for a video that is not in the index.
        """
        self.refresh()
        rows = self._rows if video is None else {video: self.stored(video)}
        parts = {row["part"]: name for name, row in rows.items()}
        columns = [] if vectors is None else [_COLUMNS[vectors]]
        with database(self.db):
            query = self.clip_rows.search().select([*_SPANS, *columns])
            if video is not None:
                query = query.where(among("part", parts))
            table = query.limit(None).to_arrow()
            part, position = table["part"].to_numpy(), table["position"].to_numpy()
            rank = {part: number for number, part in enumerate(parts)}
            ranks = np.fromiter((rank.get(name, -1) for name in part), np.int64, len(part))
            order = np.lexsort((position, ranks))
            order = order[ranks[order] >= 0]  # rows that no video refers to: a writer was killed, or is at work
            matrix = matrix_of(table[columns[0]])[order] if columns else np.zeros((len(order), 0), np.float32)
            starts, ends = (table[name].to_numpy()[order] for name in ("start_seconds", "end_seconds"))
            labels = table["label"].take(order).to_pylist()
        found = [parts[name] for name in part[order]]
        return ClipTable(_objects(found), starts, ends, _objects(labels), matrix)

    @_again
    def spool(self, folder: Path) -> SpooledClips:
        """All clips in the order of videos and time, with their directions in a file of `folder`."""
        self.refresh()
        with database(self.db):
            return spool_clips(self.clip_rows, self._rows, folder)

    @_again
    def video_vectors(self, *, vectors: VectorKind = "features") -> Array:
        """The descriptor of every video, in the order of `videos()`: float32 (n, D), or (n, K) as they are compared."""
        self.refresh()
        column = _COLUMNS[vectors]
        with database(self.db):
            table = self.video_rows.search().select(["part", column]).limit(None).to_arrow()
            row = {part: number for number, part in enumerate(table["part"].to_pylist())}
            matrix: Array = matrix_of(table[column])[[row[stored["part"]] for stored in self._rows.values()]]
        return matrix

    def search(
        self,
        vector: Array,
        *,
        top: int = 10,
        kind: SearchKind = "clips",
        exclude_videos: Collection[str] = (),
        exact: bool = False,
    ) -> list[Neighbour]:
        """The clips or videos nearest to a vector float32 (D,) of the index, best first.

        exact: compare with every clip, also where there is an approximate index. Raises UsageError for another D.
        """
        self.refresh()
        if np.shape(vector) != (self.dimensions,):
            raise UsageError(
                f"the query has the shape {np.shape(vector)}; {self.db} holds vectors ({self.dimensions},)"
            )
        direction = self.space.directions(np.asarray(vector, np.float32)[None])[0]
        return self.search_direction(direction, top=top, kind=kind, exclude_videos=exclude_videos, exact=exact)

    @_again
    def search_direction(
        self,
        direction: Array,
        *,
        top: int = 10,
        kind: SearchKind = "clips",
        exclude_videos: Collection[str] = (),
        exact: bool = False,
    ) -> list[Neighbour]:
        """`search` for a unit vector float32 (K,) that `index.space.directions` made."""
        self.refresh()
        if kind == "videos":
            return self._nearest_videos(direction, top, set(exclude_videos))
        excluded = {
            self._rows[name]["part"]: self._rows[name]["n_clips"] for name in exclude_videos if name in self._rows
        }
        # To read a few rows too many is faster than a condition, which LanceDB compares with every row.
        few = sum(excluded.values()) <= _FEW_ROWS
        wanted = top + sum(excluded.values()) * few
        while True:
            rows = self._nearest_rows(direction, wanted, [] if few else list(excluded), exact)
            found = [row for row in rows if row["part"] in self._video_of_part and row["part"] not in excluded]
            if len(found) >= top or len(rows) < wanted:
                break
            wanted *= 2  # rows that no video refers to stood in between
        # Of unit vectors, the squared distance is 2 - 2 cosines.
        return [
            Neighbour(
                self._video_of_part[row["part"]], row["start_seconds"], row["end_seconds"], 1 - row["_distance"] / 2
            )
            for row in found[:top]
        ]

    def _nearest_rows(self, direction: Array, top: int, excluded: list[str], exact: bool) -> list[dict[str, Any]]:
        with database(self.db):
            query = nearest_query(self.clip_rows, direction, exact=exact)
            query = query.select(["part", "start_seconds", "end_seconds", "_distance"]).limit(top)
            if excluded:
                query = query.where(f"NOT {among('part', excluded)}", prefilter=True)
            rows: list[dict[str, Any]] = query.to_arrow().to_pylist()
        return rows

    def _nearest_videos(self, direction: Array, top: int, excluded: set[str]) -> list[Neighbour]:
        if self._video_directions is None:
            self._video_directions = self.video_vectors(vectors="directions")
        scores = self._video_directions @ direction
        names = list(self._rows)
        kept = [number for number in np.argsort(-scores, kind="stable") if names[number] not in excluded][:top]
        rows = [(names[number], self._rows[names[number]], float(scores[number])) for number in kept]
        return [Neighbour(name, row["start_seconds"], row["end_seconds"], score) for name, row, score in rows]

    def _read_videos(self) -> dict[str, Mapping[str, Any]]:
        """The row of every video without its vectors, by name, sorted."""
        columns = [name for name in self.video_rows.schema.names if name not in ("vector", "direction")]
        rows = self.video_rows.search().select(columns).limit(None).to_arrow().to_pylist()
        chosen: dict[str, Mapping[str, Any]] = {}
        # Two writers in object storage may both have written a video; all readers choose the same row.
        for row in sorted(rows, key=lambda row: row["part"], reverse=True):
            chosen[os.fsdecode(row["name"])] = row
        return dict(sorted(chosen.items()))


def _objects(values: Sequence[Any]) -> Array:
    """A one-dimensional array of the values as they are."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
