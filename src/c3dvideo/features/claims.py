"""Locks that let several runs fill one folder of features together.

    with FolderLocks("features/") as locks:
        if claim := locks.claim("sub/a.mp4"):        # None while another run works on that video
            ...
            claim.release()

All are flock(2) locks on files in the hidden folder `.locks`. The system drops them with the process that holds them,
however it ends, so a lock is never stale. Where the file system or the platform has none, every claim is granted: runs
may then do the same work twice, and still harm nothing, because files appear atomically.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from c3dvideo.errors import StoreError
from c3dvideo.files import sweep_leftovers

try:
    import fcntl
except ImportError:  # a platform without flock
    fcntl = None  # type: ignore[assignment]

_FOLDER = ".locks"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


class Claim:
    """The exclusive right to one video in a folder, until it is released."""

    def __init__(self, path: Path, file: IO[bytes] | None) -> None:
        self._path = path
        self._file = file

    def release(self) -> None:
        """Let others have the video."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()


class FolderLocks:
    """The presence of one run in a folder of features, and the claims it makes there.

    The run that is alone when it starts sweeps up what killed runs left behind; the last one to leave removes the
    locks. Raises StoreError when the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._locks = self._folder / _FOLDER
        self._presence: IO[bytes] | None = None
        self.supported = fcntl is not None

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self.supported:
                self._enter()
        except OSError as error:
            raise StoreError(
                f"{self._folder} cannot be written: {error.strerror or error}; choose another --out or make room"
            ) from error
        return self

    def _enter(self) -> None:
        try:
            alone = _lock(self._locks / "run", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self.supported = False
            return
        if alone is not None:
            sweep_leftovers(self._folder)
            alone.close()
        self._presence = _lock(self._locks / "run", fcntl.LOCK_SH)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._presence is None:
            return
        with suppress(OSError):
            fcntl.flock(self._presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in self._locks.iterdir():
                path.unlink(missing_ok=True)
            self._locks.rmdir()
        self._presence.close()

    def claim(self, name: str) -> Claim | None:
        """The claim on one video, or None while another run has it."""
        path = self._locks / sha256(os.fsencode(name)).hexdigest()[:32]
        if not self.supported:
            return Claim(path, None)
        file = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None if file is None else Claim(path, file)

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Hold the files that describe the whole folder (manifest, failures) for a read, change and write."""
        if not self.supported:
            yield
            return
        file = _lock(self._locks / "update", fcntl.LOCK_EX)
        try:
            yield
        finally:
            assert file is not None
            file.close()


def _lock(path: Path, operation: int) -> IO[bytes] | None:
    """The locked file, or None when LOCK_NB is asked for and another has it.

    The last holder deletes the file and its folder, so a lock counts only while what it is on still lies at `path`.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except FileNotFoundError:
            continue
        except FileExistsError:
            if path.parent.exists():
                raise
            continue  # the folder went away while mkdir looked at it
        try:
            fcntl.flock(file, operation)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()
