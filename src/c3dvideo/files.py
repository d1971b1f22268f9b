"""Files that appear complete or not at all, what to say when they cannot, checksums, and the cache folder.

with atomic_file("features/manifest.json") as file:
    file.write(b"{}")

Every file that this program writes goes through `atomic_file`, `atomic_text` or `atomic_path`, and every line that it
appends through `writing`: a full disk or a read-only folder raises one error with the reason and what to do next.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path, PurePath
from typing import IO

from c3dvideo.errors import C3DVideoError, StoreError, UsageError
from c3dvideo.storage import Location, ObjectPath, location

_REASONS = {
    errno.ENOENT: "it does not exist",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EEXIST: "a part of its path is a file, not a folder",
    errno.ENOTEMPTY: "a folder of that name is in the way",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.ENAMETOOLONG: "a name in its path is too long (most file systems allow 255 bytes)",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EMFILE: "too many files are open",
    errno.EIO: "the disk reports an input/output error",
}
_ADVICE = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EFBIG: "raise the limit (ulimit -f) or choose another place",
    errno.EROFS: "choose a place where you may write",
    errno.EACCES: "choose a place where you may write",
    errno.EPERM: "choose a place where you may write",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def atomic_file(
    path: str | Location, *, error: type[C3DVideoError] = StoreError, sync: bool = True
) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path`, complete, when the block ends without an error.

    path: an object of a store, too: it is stored when the block ends, by one request or, where it is large, in parts.
    sync: also wait until it is on disk, so that it survives a power cut. An OSError in the block is raised as `error`,
    which has it as its cause; then nothing is left behind and an older file at `path` stays as it was.
    """
    path = location(path)
    with atomic_path(path, error=error) as temporary, temporary.open("wb") as file:
        yield file
        file.flush()
        if sync and isinstance(path, Path):
            os.fsync(file.fileno())
    if sync and isinstance(path, Path):
        with writing(path, error=error):
            _sync_folder(path.parent)


@contextmanager
def atomic_text(
    path: str | Location, *, error: type[C3DVideoError] = StoreError, sync: bool = True
) -> Iterator[IO[str]]:
    """`atomic_file` for UTF-8 text, whose line ends are written as they are.

    Bytes of file names that are not UTF-8 (surrogates in Python) come out as those bytes.
    """
    with atomic_file(path, error=error, sync=sync) as file:
        text = TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        yield text
        text.detach()  # writes what is buffered and leaves the file open, to be put on disk


@contextmanager
def atomic_path(path: str | Location, *, error: type[C3DVideoError] = StoreError) -> Iterator[Path]:
    """A temporary path beside `path`, for libraries that open a path; it takes the name `path` when the block ends.

    For an object, the path is in the folder for temporary files. Raises as `atomic_file` does. Nothing waits for the
    disk.
    """
    path = location(path)
    if isinstance(path, ObjectPath):
        with writing(path, error=error), tempfile.TemporaryDirectory(prefix="c3dvideo") as folder:
            yield Path(folder, "object")
            path.put(Path(folder, "object"))
        return
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with writing(path, error=error):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def writing(path: str | Location, *, error: type[C3DVideoError] = StoreError) -> Iterator[None]:
    """Raise an OSError of the block as `error`: "out/a.npy could not be written: the disk is full; free some space"."""
    try:
        yield
    except OSError as cause:
        advice = _ADVICE.get(cause.errno or 0)
        message = f"{path} could not be written: {os_reason(cause)}"
        if cause.errno == errno.ENOSPC:
            place = tempfile.gettempdir() if isinstance(path, ObjectPath) else path
            message += f" ({_free_bytes(Path(place)) / 1e6:.1f} MB free)"
        elif cause.errno is None:  # from numpy, which loses the reason
            message += "; the disk may be full"
        raise error(f"{message}; {advice}" if advice else message) from cause
    except ValueError as cause:  # a NUL or a lone surrogate in the path; other ValueErrors are not about files
        if not _is_possible(path):
            raise error(f"{str(path)!r} could not be written: {os_reason(cause)}") from cause
        raise


def path_inside(folder: str | Path, name: str, suffix: str = "") -> Path:
    """`folder`/`name` with `suffix` behind the whole name, for a name that came from a file or a list.

    Slashes in `name` are folders below `folder`. Raises UsageError for a name that would lead out of it: an absolute
    one, or one with a part `..`, also between backslashes.
    """
    pure = PurePath(name)
    if not pure.parts or pure.anchor or ".." in re.split(r"[/\\]", name) or "\0" in name:
        raise UsageError(f"{name!r} is no name below a folder: expected a relative path without '..'")
    return Path(folder, *pure.parts[:-1], pure.parts[-1] + suffix)


def os_reason(error: OSError | ValueError) -> str:
    """Why the file system refused, in words: "the disk is full".

    A ValueError is what `open` raises for a path with a NUL or with characters that no file name can hold.
    """
    if not isinstance(error, OSError):
        return "its path holds a NUL or another character that no file name can hold"
    return _REASONS.get(error.errno or 0, (error.strerror or str(error) or type(error).__name__).lower())


def file_sha256(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; raises OSError when it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep_leftovers(folder: str | Path, *, subfolders: bool = True) -> None:
    """Delete the temporary files that killed writers left in `folder`; only while nobody else writes there.

    subfolders: in everything below it, too.
    """
    for path in Path(folder).glob("**/.*.tmp" if subfolders else ".*.tmp"):
        if re.fullmatch(r"\.[0-9a-f]{16}\.tmp", path.name):
            with suppress(OSError):  # a read-only folder: leftovers do no harm
                path.unlink()


def cache_folder() -> Path:
    """Where libraries and fetched weights go: $C3DVIDEO_CACHE, else c3dvideo under $XDG_CACHE_HOME or ~/.cache.

    Raises UsageError when none of them is known.
    """
    own = os.environ.get("C3DVIDEO_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "c3dvideo"
    except RuntimeError as error:
        raise UsageError(
            "there is no home folder for the cache; set the environment variable C3DVIDEO_CACHE"
        ) from error


def _free_bytes(path: Path) -> int:
    """Free space where `path` would be; 0 when the system does not say."""
    for folder in path.absolute().parents:
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return 0


def _is_possible(path: str | Location) -> bool:
    """Whether any file could have this path."""
    try:
        return b"\0" not in os.fsencode(str(path))
    except UnicodeEncodeError:
        return False


def _sync_folder(folder: Path) -> None:
    """Put a rename inside `folder` on disk, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
