"""Run by test_index_faults: kill writers of an index at every call that changes the database, and complete their work.

python index_kills.py FEATURES FOLDER [OLDER_DB]

Prints, as JSON, one line per kill: the call, what a reader then sees, and what the next run did. Each writer is a fork
of this process, so that LanceDB is imported once.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lancedb.db import LanceDBConnection
from lancedb.merge import LanceMergeInsertBuilder
from lancedb.table import LanceTable

from c3dvideo.errors import StoreError
from c3dvideo.search.build_index import build_index
from c3dvideo.search.index import Index

CHANGES = (
    (LanceDBConnection, "create_table"),
    (LanceDBConnection, "drop_table"),
    (LanceTable, "add"),
    (LanceTable, "delete"),
    (LanceMergeInsertBuilder, "execute"),
)


def die_at(wanted: int, log: int) -> None:
    """Kill this process before its n-th change of a database."""
    calls = 0

    def dying(change: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == wanted:
                os.write(log, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return call

    for owner, name in CHANGES:
        setattr(owner, name, dying(getattr(owner, name), name))


def in_child(work: Callable[[int], None]) -> str:
    """Run `work` in a fork of this process, which itself never uses LanceDB: its threads would not survive.

    Returns what the child wrote to the handle that `work` gets, and the error that ended it, if any.
    """
    reading, log = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work(log)
        except BaseException as error:  # whatever it is, the parent must see it
            os.write(log, repr(error).encode())
        os._exit(0)
    os.close(log)
    os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        return stream.read()


def killed(features: Path, db: Path, wanted: int) -> str:
    """Build the index in a child that dies before its n-th change; returns which one, "" when it did not die."""

    def build(log: int) -> None:
        die_at(wanted, log)
        build_index(features, db)

    return in_child(build)


def readable(db: Path) -> list[str] | None:
    """The videos that a reader sees, each with all of its clips; None where there is no index yet."""
    try:
        index = Index.open(db)
    except StoreError as error:
        assert "no index" in str(error), error
        return None
    for video in index.videos():
        assert len(index.clips(video.video)) == video.n_clips, video
    return [video.video for video in index.videos()]


def completed(features: Path, db: Path, change: str) -> str:
    """What a reader sees after the kill, and what the next runs do, as one line of JSON."""

    def complete(log: int) -> None:
        seen = readable(db)
        report = build_index(features, db)
        again = build_index(features, db)
        index = Index.open(db)
        line = {
            "change": change,
            "seen": seen,
            "n_written": report.n_added + report.n_changed,
            "n_written_again": again.n_added + again.n_changed + again.n_removed,
            "vectors": index.clips().vectors.sum(axis=1).round(3).tolist(),
            "n_rows": [index.clip_rows.count_rows(), index.video_rows.count_rows()],
            "n_tables": len(list(db.glob("*.lance"))),
        }
        os.write(log, json.dumps(line).encode())

    return in_child(complete)


def main(features: Path, folder: Path, older: Path | None = None) -> None:
    for number in range(1, 100):
        db = folder / f"{number}.db"
        if older is not None:
            shutil.copytree(older, db)
        change = killed(features, db, number)
        if not change:
            break
        print(completed(features, db, change), flush=True)
        shutil.rmtree(db)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
