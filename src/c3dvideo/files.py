"""Files that appear complete or not at all, and the cache folder.

with atomic_file("features/manifest.json") as file:
    file.write(b"{}")
"""

import errno
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


_REASONS = {
    errno.ENOENT: "it does not exist",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.ENAMETOOLONG: "a name in its path is too long (most file systems allow 255 bytes)",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EMFILE: "too many files are open",
    errno.EIO: "the disk reports an input/output error",
}


def os_reason(error: OSError | ValueError) -> str:
    """Why the file system refused, in words: "the disk is full".

    A ValueError is what `open` raises for a path with a NUL or with characters that no file name can hold.
    """
    if not isinstance(error, OSError):
        return "its path holds a NUL or another character that no file name can hold"
    return _REASONS.get(error.errno or 0, (error.strerror or str(error) or type(error).__name__).lower())


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
