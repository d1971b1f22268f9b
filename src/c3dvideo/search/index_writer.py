"""Changes to an index: tables are made, videos are added and removed, and the statistics are replaced.

    writer = create_index(db, about, space)             # or IndexWriter(db, connection)
    writer.add([VideoRows("a.mp4", ...)])
    writer.remove(["b.mp4"])

No reader ever sees half a video. The clips of a video are written first, under a fresh name, their `part`. The row of
the video, which names the part, follows and makes them visible. Clips whose part no video names are left over from a
killed writer; readers pass over them and `sweep` deletes them. A new set of statistics comes with new tables: the row
"generation" of the table `about` says which ones are in use, and changes in one step.
"""

import hashlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from c3dvideo.features.store import descriptor
from c3dvideo.probing.descriptors import Array
from c3dvideo.search.index import ABOUT, connect, database, is_local, matrix_of, read_about, table_names, unpack_record
from c3dvideo.search.vector_space import VectorSpace

# In object storage nothing says whether a writer is alive: what is younger than this may be its work.
_UNTOUCHED_SECONDS = 3600
# A reader needs a replaced version only while its query runs.
_KEEP_VERSIONS = timedelta(minutes=10)
_MANY_FRAGMENTS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoRows:
    """What is written of one video.

    state: changes when the features or the labels do. label: of the whole video. clip_labels: one per clip, or None.
    vectors: float32 (n_clips, D).
    """

    video: str
    state: str
    content_sha256: str | None
    start_seconds: Array
    end_seconds: Array
    label: str | None
    clip_labels: Sequence[str | None]
    vectors: Array


@dataclass(frozen=True)
class StoredVideo:
    """What is known of a video whose clips are all there."""

    part: str
    state: str
    n_clips: int


class IndexWriter:
    """The tables of one generation of an index, open for writing."""

    def __init__(self, db: str, connection: Any, generation: Mapping[str, Any], space: VectorSpace) -> None:
        self.db = db
        self._connection = connection
        self.generation = dict(generation)
        self.space = space
        self.clip_rows, self.video_rows = (
            connection.open_table(f"{kind}_{self.generation['id']}") for kind in ("clips", "videos")
        )

    def stored(self) -> tuple[dict[str, StoredVideo], list[str]]:
        """Every video whose clips are all there, by name, and the rows of others, which are to be written again."""
        with database(self.db):
            counts = Counter(self.clip_rows.search().select(["part"]).limit(None).to_arrow()["part"].to_pylist())
            columns = ["name", "part", "state", "n_clips"]
            rows = self.video_rows.search().select(columns).limit(None).to_arrow().to_pylist()
        whole: dict[str, StoredVideo] = {}
        superseded = []
        for row in sorted(rows, key=lambda row: str(row["part"])):
            name = os.fsdecode(row["name"])
            if name in whole or counts[row["part"]] != row["n_clips"]:
                superseded.append(row["part"])
            else:
                whole[name] = StoredVideo(row["part"], row["state"], row["n_clips"])
        return whole, superseded

    def add(self, videos: Sequence[VideoRows]) -> None:
        """Write videos, each in place of its older row."""
        import pyarrow

        parts = [f"{int(time.time()):x}-{secrets.token_hex(8)}" for _ in videos]
        with database(self.db):
            self.clip_rows.add(
                pyarrow.Table.from_batches(
                    [_clip_batch(rows, part, self.space) for rows, part in zip(videos, parts, strict=True)]
                )
            )
            self._put_videos(
                pyarrow.Table.from_batches(
                    [_video_batch(rows, part, self.space) for rows, part in zip(videos, parts, strict=True)]
                )
            )

    def remove(self, names: Sequence[str]) -> None:
        """Delete the rows of videos; their clips are left for `sweep`."""
        with database(self.db):
            for some in _chunks([name_key(name) for name in names]):
                self.video_rows.delete(_among("key", some))

    def sweep(self, superseded: Sequence[str] = ()) -> int:
        """Delete rows of superseded parts, and clips that no video refers to; returns how many clips."""
        with database(self.db):
            for some in _chunks(list(superseded)):
                self.video_rows.delete(_among("part", some))
            named = set(self.video_rows.search().select(["part"]).limit(None).to_arrow()["part"].to_pylist())
            counts = Counter(self.clip_rows.search().select(["part"]).limit(None).to_arrow()["part"].to_pylist())
            stale = [part for part in counts if part not in named and self._is_abandoned(part)]
            for some in _chunks(stale):
                self.clip_rows.delete(_among("part", some))
        return sum(counts[part] for part in stale)

    def sample(self, n_clips: int) -> tuple[Array, Array, int]:
        """Up to `n_clips` random directions float32 (n, K), the part of each (n,), and how many clips there are."""
        with database(self.db):
            total = self.clip_rows.count_rows()
            chosen = np.random.default_rng(0).permutation(total)[:n_clips]
            table = self.clip_rows.take_offsets(chosen.tolist()).select(["part", "direction"]).to_arrow()
        return matrix_of(table["direction"]), table["part"].to_numpy(), total

    def video_directions(self) -> Array:
        """The direction of every video, float32 (n, K)."""
        with database(self.db):
            return matrix_of(self.video_rows.search().select(["direction"]).limit(None).to_arrow()["direction"])

    def record(self, space: VectorSpace, n_clips: int) -> None:
        """Store statistics, which were taken from `n_clips`, and make this generation the one that readers use."""
        self.space = space
        self.generation |= {"n_clips": n_clips}
        packed, numbers = space.pack()
        with database(self.db):
            _put_about(
                self._connection.open_table(ABOUT),
                _about_table("generation", self.generation | {"space": packed}, numbers),
            )

    def tidy(self) -> None:
        """Merge many small files into few, and add new rows to an approximate index."""
        with database(self.db):
            for table in (self.clip_rows, self.video_rows):
                if table.stats()["fragment_stats"]["num_small_fragments"] > _MANY_FRAGMENTS or self._n_unindexed(table):
                    table.optimize(cleanup_older_than=_KEEP_VERSIONS)

    def drop_other_generations(self) -> None:
        """Delete the tables of generations that no reader uses."""
        with database(self.db):
            for name in table_names(self._connection):
                kind, _, token = name.partition("_")
                other = kind in ("clips", "videos") and token != self.generation["id"]
                if other and (is_local(self.db) or time.time() - int(token.split("x")[0]) > _UNTOUCHED_SECONDS):
                    with suppress(OSError, RuntimeError, ValueError):  # another writer has dropped it
                        self._connection.drop_table(name)

    def _n_unindexed(self, table: Any) -> int:
        indices = table.list_indices()
        return sum(table.index_stats(index.name).num_unindexed_rows for index in indices)

    def _is_abandoned(self, part: str) -> bool:
        return is_local(self.db) or time.time() - int(part.split("-", maxsplit=1)[0], 16) > _UNTOUCHED_SECONDS

    def _put_videos(self, table: Any) -> None:
        builder = self.video_rows.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
        builder.execute(table)


def open_writer(db: str) -> tuple[IndexWriter, dict[str, Any]] | None:
    """The index at `db` open for writing, and what it is about; None where there is none yet."""
    with database(db):
        connection = connect(db)
        if ABOUT not in table_names(connection):
            return None
        about, row = read_about(db, connection)
        return IndexWriter(db, connection, *unpack_record(row)), about


def new_generation(db: str, space: VectorSpace, *, n_videos: int) -> IndexWriter:
    """Empty tables for new statistics of a collection of `n_videos`; no reader uses them before `record`."""
    # The time says how old leftovers are.
    token = f"{int(time.time())}x{secrets.token_hex(4)}"
    with database(db):
        connection = connect(db)
        connection.create_table(f"clips_{token}", schema=_clip_schema(space))
        connection.create_table(f"videos_{token}", schema=_video_schema(space))
        return IndexWriter(db, connection, {"id": token, "n_videos": n_videos}, space)


def publish(writer: IndexWriter, about: Mapping[str, Any]) -> bool:
    """Make a new index of a first generation; False when another writer was faster."""
    import pyarrow

    packed, numbers = writer.space.pack()
    rows = pyarrow.concat_tables(
        [
            _about_table("index", about, np.zeros(0, np.float32)),
            _about_table("generation", writer.generation | {"space": packed}, numbers),
        ]
    )
    connection = connect(writer.db)
    try:
        connection.create_table(ABOUT, rows)
    except (ValueError, RuntimeError, OSError):
        with database(writer.db):
            if ABOUT in table_names(connection):
                return False
            connection.create_table(ABOUT, rows)
    return True


def name_key(name: str) -> str:
    """A video's key: hexadecimal, so that no file name ever stands in a query."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def _put_about(table: Any, rows: Any) -> None:
    table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(rows)


def _about_table(key: str, record: Mapping[str, Any], numbers: Array) -> Any:
    import pyarrow

    schema = pyarrow.schema(
        [("key", pyarrow.string()), ("record", pyarrow.string()), ("numbers", pyarrow.large_list(pyarrow.float32()))]
    )
    text = json.dumps(record, sort_keys=True)
    return pyarrow.table({"key": [key], "record": [text], "numbers": [numbers.astype(np.float32)]}, schema=schema)


def _clip_schema(space: VectorSpace) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("part", pa.string()),
            ("position", pa.int32()),
            ("video", pa.string()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            ("label", pa.string()),
            ("vector", pa.list_(pa.float32(), space.dimensions)),
            ("direction", pa.list_(pa.float32(), space.n_direction)),
        ]
    )


def _video_schema(space: VectorSpace) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("key", pa.string()),
            ("part", pa.string()),
            ("name", pa.binary()),
            ("video", pa.string()),
            ("state", pa.string()),
            ("content_sha256", pa.string()),
            ("n_clips", pa.int32()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            ("label", pa.string()),
            ("vector", pa.list_(pa.float32(), space.dimensions)),
            ("direction", pa.list_(pa.float32(), space.n_direction)),
        ]
    )


def _clip_batch(rows: VideoRows, part: str, space: VectorSpace) -> Any:
    import pyarrow as pa

    n_clips = len(rows.vectors)
    columns = {
        "part": [part] * n_clips,
        "position": np.arange(n_clips, dtype=np.int32),
        "video": [_readable(rows.video)] * n_clips,
        "start_seconds": rows.start_seconds,
        "end_seconds": rows.end_seconds,
        "label": list(rows.clip_labels),
        "vector": _lists(rows.vectors),
        "direction": _lists(space.directions(rows.vectors)),
    }
    return pa.record_batch(columns, schema=_clip_schema(space))


def _video_batch(rows: VideoRows, part: str, space: VectorSpace) -> Any:
    import pyarrow as pa

    vector = descriptor(rows.vectors)[None]
    columns = {
        "key": [name_key(rows.video)],
        "part": [part],
        "name": [os.fsencode(rows.video)],
        "video": [_readable(rows.video)],
        "state": [rows.state],
        "content_sha256": [rows.content_sha256],
        "n_clips": np.array([len(rows.vectors)], np.int32),
        "start_seconds": rows.start_seconds[:1],
        "end_seconds": rows.end_seconds[-1:],
        "label": [rows.label],
        "vector": _lists(vector),
        "direction": _lists(space.directions(vector)),
    }
    return pa.record_batch(columns, schema=_video_schema(space))


def _lists(matrix: Array) -> Any:
    """Rows (n, D) as an Arrow array of lists of one size."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(matrix, np.float32).ravel()), matrix.shape[1]
    )


def _readable(name: str) -> str:
    r"""A name for people who read the tables: a byte that is not UTF-8 becomes \xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _among(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def _chunks(values: list[str], size: int = 1000) -> list[list[str]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
