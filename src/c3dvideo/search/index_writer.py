"""Changes to an index: tables are made, videos are added and removed, and the statistics are replaced.

    writer = create_index(db, about, space)             # or IndexWriter(db, connection)
    writer.add([VideoRows("a.mp4", ...)])
    writer.remove(["b.mp4"])

No reader ever sees half a video. The clips of a video are written first, under a fresh name, their `part`. The row of
the video, which names the part, follows and makes them visible. Clips whose part no video names are left over from a
killed writer; readers pass over them and `sweep` deletes them. A new set of statistics comes with new tables: the row
"generation" of the table `about` says which ones are in use, and changes in one step.
"""

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

from c3dvideo.probing.descriptors import Array
from c3dvideo.search.index_rows import VideoRows, clip_schema, clip_table, name_key, video_schema, video_table
from c3dvideo.search.index_tables import (
    ABOUT,
    among,
    connect,
    database,
    index_configs,
    is_local,
    matrix_of,
    nearest_query,
    open_about,
    read_about,
    table_names,
    unpack_record,
)
from c3dvideo.search.vector_space import VectorSpace

# In object storage nothing says whether a writer is alive: what is younger than this may be its work.
_UNTOUCHED_SECONDS = 3600
# A reader needs a replaced version only while its query runs, and repeats a query that lost its version.
_KEEP_VERSIONS = timedelta(minutes=1)
_MANY_FRAGMENTS = 16


@dataclass(frozen=True)
class StoredVideo:
    """What is known of a video whose clips are all there."""

    part: str
    state: str
    n_clips: int


class IndexWriter:
    """The tables of one generation of an index, open for writing."""

    def __init__(
        self, db: str, connection: Any, generation: Mapping[str, Any], space: VectorSpace, *, is_new: bool = False
    ) -> None:
        """Open the tables. is_new: this run has made them, so that nobody needs their older versions."""
        self.db = db
        self._keep_versions = timedelta(milliseconds=1) if is_new else _KEEP_VERSIONS
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
        parts = [f"{int(time.time()):x}-{secrets.token_hex(8)}" for _ in videos]
        with database(self.db):
            self.clip_rows.add(clip_table(videos, parts, self.space))
            self._put_videos(video_table(videos, parts, self.space))

    def remove(self, names: Sequence[str]) -> None:
        """Delete the rows of videos; their clips are left for `sweep`."""
        with database(self.db):
            for some in _chunks([name_key(name) for name in names]):
                self.video_rows.delete(among("key", some))

    def sweep(self, superseded: Sequence[str] = ()) -> int:
        """Delete rows of superseded parts, and clips that no video refers to; returns how many clips."""
        with database(self.db):
            for some in _chunks(list(superseded)):
                self.video_rows.delete(among("part", some))
            named = set(self.video_rows.search().select(["part"]).limit(None).to_arrow()["part"].to_pylist())
            counts = Counter(self.clip_rows.search().select(["part"]).limit(None).to_arrow()["part"].to_pylist())
            stale = [part for part in counts if part not in named and self._is_abandoned(part)]
            for some in _chunks(stale):
                self.clip_rows.delete(among("part", some))
        return sum(counts[part] for part in stale)

    def sample(self, n_clips: int) -> tuple[Array, Array]:
        """Up to `n_clips` random directions float32 (n, K), and the part of each (n,)."""
        with database(self.db):
            chosen = np.random.default_rng(0).permutation(self.clip_rows.count_rows())[:n_clips]
            table = self.clip_rows.take_offsets(chosen.tolist()).select(["part", "direction"]).to_arrow()
        return matrix_of(table["direction"]), table["part"].to_numpy()

    def video_directions(self) -> Array:
        """The direction of every video, float32 (n, K)."""
        with database(self.db):
            return matrix_of(self.video_rows.search().select(["direction"]).limit(None).to_arrow()["direction"])

    def nearest(self, direction: Array, top: int, *, exact: bool) -> list[tuple[str, int]]:
        """The part and the position of the clips nearest to a direction, in random order."""
        with database(self.db):
            query = nearest_query(self.clip_rows, direction, exact=exact).select(["part", "position", "_distance"])
            rows = query.limit(top).to_arrow().to_pylist()
        return [(row["part"], row["position"]) for row in rows]

    def make_approximate(self) -> None:
        """Make an approximate index of the directions, and an exact one of the parts, in place of older ones."""
        with database(self.db):
            self.clip_rows.optimize(cleanup_older_than=self._keep_versions)
            for column, config in index_configs().items():
                self.clip_rows.create_index(column, config=config, replace=True)

    def record(self, space: VectorSpace, **values: Any) -> None:
        """Store statistics and other values of this generation, and make it the one that readers use."""
        self.space = space
        self.generation |= values
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
                    table.optimize(cleanup_older_than=self._keep_versions)

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
        table = open_about(connection)
        if table is None:
            return None
        about, row = read_about(db, table)
        return IndexWriter(db, connection, *unpack_record(row)), about


def new_generation(db: str, space: VectorSpace, **values: Any) -> IndexWriter:
    """Empty tables for new statistics, and values to store with them; no reader uses them before `record`."""
    # The time says how old leftovers are.
    token = f"{int(time.time())}x{secrets.token_hex(4)}"
    with database(db):
        connection = connect(db)
        connection.create_table(f"clips_{token}", schema=clip_schema(space))
        connection.create_table(f"videos_{token}", schema=video_schema(space))
        return IndexWriter(db, connection, {"id": token, **values}, space, is_new=True)


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
            if open_about(connection) is not None:
                return False
            connection.create_table(ABOUT, rows)
    return True


def _put_about(table: Any, rows: Any) -> None:
    table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(rows)


def _about_table(key: str, record: Mapping[str, Any], numbers: Array) -> Any:
    import pyarrow

    schema = pyarrow.schema(
        [("key", pyarrow.string()), ("record", pyarrow.string()), ("numbers", pyarrow.large_list(pyarrow.float32()))]
    )
    text = json.dumps(record, sort_keys=True)
    return pyarrow.table({"key": [key], "record": [text], "numbers": [numbers.astype(np.float32)]}, schema=schema)


def _chunks(values: list[str], size: int = 1000) -> list[list[str]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
