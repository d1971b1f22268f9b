"""LanceDB as an index uses it: connections, tables, and their errors. No other module imports LanceDB.

with database("my.db"):
    table = open_about(connect("my.db"))
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import StoreError
from c3dvideo.files import writing
from c3dvideo.probing.descriptors import Array
from c3dvideo.search.vector_space import VectorSpace, unpack_space
from c3dvideo.storage import refuse_key

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What Lance reports of a whole database: of two writers at once, and of the system, except that a file is missing.
_NO_DAMAGE = re.compile(r"conflict|os error (?!2\b)", re.IGNORECASE)
FORMAT = 1
ABOUT = "about"
# How many partitions of an approximate index are searched, and how many candidates are then compared exactly.
N_PROBES = 32
REFINE = 10


def is_local(db: str | Path) -> bool:
    """Whether a database is a folder of this machine rather than a URI."""
    return "://" not in str(db)


def connect(db: str | Path) -> Any:
    """A LanceDB connection that always shows the newest state; options of object storage come from the environment."""
    refuse_key(str(db))
    import lancedb

    return lancedb.connect(str(db), read_consistency_interval=timedelta(0))


def nearest_query(clip_rows: Any, direction: Array, *, exact: bool) -> Any:
    """A LanceDB query for the clips near a direction."""
    query = clip_rows.search(direction, vector_column_name="direction").distance_type("l2")
    return query.bypass_vector_index() if exact else query.nprobes(N_PROBES).refine_factor(REFINE)


def index_configs() -> dict[str, Any]:
    """What a large table of clips is indexed by: directions, approximately, in partitions of 8-bit vectors; and parts.

    Of LanceDB's approximate kinds this one is made fastest (at 100,000 clips 4 s; product quantisation 206 s, graphs
    177 s), and with the exact comparison of the best candidates it finds the same clips.
    """
    from lancedb.index import BTree, IvfSq

    return {"direction": IvfSq(distance_type="l2"), "part": BTree()}


def table_names(connection: Any) -> list[str]:
    """The names of all tables of a database."""
    names: list[str] = []
    token = None
    while True:
        page = connection.list_tables(page_token=token)
        names += page.tables
        token = page.page_token
        if not token:
            return names


@contextmanager
def database(db: str | Path) -> Iterator[None]:
    """Raise what LanceDB raises in the block as StoreError: a full disk, damage, and all else by its own words."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as cause:
        if found := re.search(r"os error (\d+)", str(cause)):
            number = int(found[1])
            if number in _CANNOT_WRITE:
                with writing(Path(db)):
                    raise OSError(number, os.strerror(number)) from cause
        # Lance appends the place in its own source and, on the next lines, a trace.
        reason = re.split(r", /(?:root|rustc)/", str(cause))[0].splitlines()[0][:300] if str(cause) else ""
        reason = reason or type(cause).__name__
        if is_local(db) and "LanceError" in reason and not _NO_DAMAGE.search(reason):
            raise StoreError(
                f"the index {db} is damaged ({reason}){_full_disk(db)} delete it and make it again from the features "
                f"with `c3dvideo index FEATURES --db {db}`, or choose another `db=`"
            ) from cause
        raise StoreError(f"the database {db} could not be used: {reason}") from cause


def _full_disk(db: str | Path) -> str:
    """What to do first: Lance may leave a file cut short on a full disk without reporting it."""
    try:
        full = shutil.disk_usage(db).free < 1 << 20
    except OSError:
        full = False
    return ", and its disk is full; free some space, then" if full else ";"


def foreign(db: str | Path, reason: str) -> StoreError:
    """The error for a database that is something else than an index."""
    return StoreError(f"{db} is no index of c3dvideo: {reason}; make one with `c3dvideo index FEATURES --db NEW`")


def open_about(connection: Any) -> Any:
    """The table `about`, None where there is none, or only what a writer left that was killed while making it."""
    if ABOUT not in table_names(connection):
        return None
    try:
        return connection.open_table(ABOUT)
    except ValueError as error:
        if "not found" in str(error):
            return None
        raise


def read_about(db: str | Path, table: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an index is about, and the row of its generation; raises StoreError for another format."""
    rows = table.search().limit(None).to_arrow().to_pylist()
    try:
        records = {row["key"]: row for row in rows}
        about, generation = json.loads(records["index"]["record"]), records["generation"]
        found = about["format"]
        known = {"settings", "layer", "fingerprint", "width", "features", "pca"} <= about.keys()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise foreign(db, f"its table {ABOUT!r} holds something else") from error
    if found != FORMAT or not known:
        raise StoreError(
            f"{db} is an index of format {found}, and this version reads format {FORMAT}: delete it and make it again "
            "with `c3dvideo index`, or use the version of c3dvideo that made it"
        )
    return about, generation


def unpack_record(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], VectorSpace]:
    """The record and the statistics in a row of the table `about`."""
    record = json.loads(row["record"])
    return record, unpack_space(record["space"], np.asarray(row["numbers"], dtype=np.float32))


def among(column: str, values: Collection[str]) -> str:
    """An SQL condition; the values are our own hexadecimal names, so nothing needs to be quoted."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def matrix_of(column: Any) -> Array:
    """A column of a table or of a batch, of lists of one fixed size, as float32 (n, D)."""
    width = column.type.list_size
    chunks = column.chunks if hasattr(column, "chunks") else [column]
    flat = [np.asarray(chunk.flatten()) for chunk in chunks]
    matrix: Array = np.concatenate([*flat, np.zeros(0, np.float32)]).reshape(-1, width)
    return matrix
