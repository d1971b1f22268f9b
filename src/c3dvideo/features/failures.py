"""The failures that a folder of features records: failures.jsonl, with one line per video without features.

    append_failure("features/", Failure(name="a.mp4", path="videos/a.mp4", stage="decode", message="..."))
    settle_failures("features/", solved=["b.mp4"])            # at the end of a run
    read_failures("features/")

Nothing can be appended to an object. In object storage, each failure is an object of its own below `.failures/`, so
that no run overwrites what another has recorded, and failures.jsonl lists them at the end of each run.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256

from c3dvideo.errors import StoreError
from c3dvideo.files import atomic_file, os_reason, writing
from c3dvideo.reading import ForeignFile, read_json_lines
from c3dvideo.storage import Location, ObjectPath, location

FAILURES = "failures.jsonl"
_APART = ".failures"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One video without features: its name and path, the stage that failed, and why."""

    name: str
    path: str
    stage: str
    message: str


def read_failures(folder: str | Location) -> list[Failure]:
    """The latest failure of each video recorded in a folder, sorted by name; lines that record none are skipped.

    Such a line is what a crash cuts off. Raises StoreError when a file cannot be read.
    """
    place = location(folder)
    try:
        files: list[Location] = []
        if isinstance(place, ObjectPath):
            files.extend((place / _APART).rglob("*.json"))
        if not files and (place / FAILURES).exists():
            files = [place / FAILURES]
    except OSError as error:
        raise StoreError(f"{place} could not be listed: {os_reason(error)}") from error
    latest: dict[str, Failure] = {}
    for path in files:
        advice = "delete it: it only lists what failed"
        lines, _ = read_json_lines(ForeignFile(path, error=StoreError, expected="a list of failures", advice=advice))
        for line in lines:
            if line.keys() == Failure.__dataclass_fields__.keys() and all(
                isinstance(value, str) for value in line.values()
            ):
                latest[line["name"]] = Failure(**line)
    return [latest[name] for name in sorted(latest)]


def append_failure(folder: str | Location, failure: Failure) -> None:
    """Record one failure at once, so that a crash does not lose it. Hold `FolderLocks.updating`.

    Nothing can be appended to an object, so in object storage each failure is an object of its own.
    """
    path = location(folder) / FAILURES
    line = json.dumps(asdict(failure)).encode()
    if isinstance(path, ObjectPath):
        with writing(path):
            _failure_object(path.parent, failure.name).put(line)
        return
    with writing(path), path.open("ab") as file:
        # A line that a crash cut off must not swallow this one, so every line starts on its own.
        separator = b"" if file.tell() == 0 else b"\n"
        file.write(separator + line)


def settle_failures(
    folder: str | Location, solved: Iterable[str], *, failed: Iterable[Failure] = (), is_locked: bool = True
) -> list[Failure]:
    """Rewrite failures.jsonl, sorted and without `solved`; returns what stays. Hold `FolderLocks.updating`.

    is_locked: False where the folder has no locks, so that another run may write at the same time. A file without any
        of `solved` is then left as it is, and what the caller has recorded, `failed`, is written again if it is gone.
    """
    gone = set(solved)
    place = location(folder)
    recorded = {failure.name: failure for failure in read_failures(place)}
    if isinstance(place, ObjectPath):
        with writing(place):
            for name in recorded.keys() & gone:
                _failure_object(place, name).unlink()
        return _write_failures(place, [failure for name, failure in recorded.items() if name not in gone])
    lost = () if is_locked else failed
    missing = {failure.name: failure for failure in lost if failure.name not in recorded}
    if not is_locked and not missing and not gone & recorded.keys():
        return list(recorded.values())
    return _write_failures(
        place, [failure for name, failure in sorted((recorded | missing).items()) if name not in gone]
    )


def _write_failures(folder: Location, left: list[Failure]) -> list[Failure]:
    path = folder / FAILURES
    if left:
        with atomic_file(path) as file:
            file.writelines(json.dumps(asdict(failure)).encode() + b"\n" for failure in left)
    else:
        with writing(path):
            path.unlink(missing_ok=True)
    return left


def _failure_object(folder: ObjectPath, name: str) -> ObjectPath:
    return folder / _APART / f"{sha256(os.fsencode(name)).hexdigest()}.json"
