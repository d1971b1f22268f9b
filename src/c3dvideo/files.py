"""Files that appear complete or not at all, and the cache folder.

with atomic_file("features/manifest.json") as file:
    file.write(b"{}")
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from c3dvideo.errors import StoreError


@contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path`, complete and on disk, when the block ends without an error."""
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror or error}; nothing was left behind, "
            "the same command goes on from here"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sweep_leftovers(folder: str | Path) -> None:
    """Delete the temporary files that killed writers left under `folder`; only while nobody else writes there."""
    for path in Path(folder).rglob(".*.tmp"):
        if re.fullmatch(r"\.[0-9a-f]{16}\.tmp", path.name):
            path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where libraries and fetched weights go: $C3DVIDEO_CACHE, else c3dvideo under $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("C3DVIDEO_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "c3dvideo"


def _sync_folder(folder: Path) -> None:
    """Put a rename inside `folder` on disk, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
