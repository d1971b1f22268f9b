"""Locks that let several runs fill one folder of features together.

    with FolderLocks("features/") as locks:
        if claim := locks.claim("sub/a.mp4"):        # None while another run works on that video
            ...
            claim.release()

All are `filelock.FileLock`s in the hidden folder `.locks`. The system drops a lock together with the process that holds
it, however that ends: a lock is never stale. Object storage and some network file systems have no such locks, and every
claim is granted there. `filelock`'s substitute (a file that exists while the lock is held) would outlive a killed run
and block its videos for ever. Two runs that do the same video only lose time, because feature files appear atomically.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from c3dvideo.errors import StoreError
from c3dvideo.files import os_reason, sweep_leftovers
from c3dvideo.storage import Location, ObjectPath, location

_FOLDER = ".locks"
_UPDATE = "update"
_RUN = "run-"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_SECONDS_BETWEEN_TRIES = 0.01


class Claim:
    """The exclusive right to one video in a folder, until it is released."""

    def __init__(self, lock: FileLock | None) -> None:
        self._lock = lock

    def release(self) -> None:
        """Let others have the video."""
        if self._lock is not None:
            _remove(self._lock)


class FolderLocks:
    """The presence of one run in a folder of features, and the claims it makes there.

    The run that is alone when it starts deletes what killed runs left behind, and with `sweep_at_exit` also when it
    ends; the last one to leave deletes the locks. Raises StoreError when the folder cannot be written.
    """

    def __init__(self, folder: str | Location) -> None:
        place = location(folder)
        self._folder = Path() if isinstance(place, ObjectPath) else place
        self._locks = self._folder / _FOLDER
        self._presence: FileLock | None = None
        self.supported = place == self._folder
        self.sweep_at_exit = False

    def __enter__(self) -> Self:
        if not self.supported:
            return self
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self.updating():
                if self.supported:
                    self._enter()
        except OSError as error:
            raise StoreError(
                f"{self._folder} cannot be written: {os_reason(error)}; make room, or choose another folder"
            ) from error
        return self

    def _enter(self) -> None:
        if not self._others():  # else an unfinished file may be one that another run is writing
            sweep_leftovers(self._folder)
        self._presence = _acquire(self._locks / f"{_RUN}{secrets.token_hex(8)}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._presence is None:
            return
        with suppress(OSError), self.updating():
            _remove(self._presence)
            if not self._others():
                if self.sweep_at_exit:
                    sweep_leftovers(self._folder)
                for path in self._locks.iterdir():
                    path.unlink(missing_ok=True)
                self._locks.rmdir()

    def _others(self) -> bool:
        """Whether another run is in the folder; deletes the presence of runs that died. Hold `updating`."""
        for path in self._locks.glob(f"{_RUN}*"):
            if self._presence is not None and path == Path(self._presence.lock_file):
                continue
            lock = _acquire(path, wait=False)
            if lock is None:
                return True
            _remove(lock)
        return False

    def claim(self, name: str) -> Claim | None:
        """The claim on one video, or None while another run has it."""
        if not self.supported:
            return Claim(None)
        lock = _acquire(self._locks / sha256(os.fsencode(name)).hexdigest()[:32], wait=False)
        return None if lock is None else Claim(lock)

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Hold the files that describe the whole folder (manifest, failures) for a read, change and write."""
        lock = self._update_lock()
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _update_lock(self) -> FileLock | None:
        if not self.supported:
            return None
        try:
            return _acquire(self._locks / _UPDATE)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self.supported = False
            return None


def _acquire(path: Path, *, wait: bool = True) -> FileLock | None:
    """The held lock; None when another has it and `wait` is False.

    The last run to leave deletes the files and their folder, perhaps between the two steps here; then they are made
    again. A lock on a deleted file does not count: `FileLock` itself notices that.
    """
    while True:
        with suppress(FileExistsError):  # the folder was deleted while mkdir looked at it
            path.parent.mkdir(parents=True, exist_ok=True)
        # A claim is made by one thread and released by another.
        lock = FileLock(
            path,
            timeout=-1,
            blocking=wait,
            thread_local=False,
            poll_interval=_SECONDS_BETWEEN_TRIES,
            fallback_to_soft=False,
        )
        try:
            lock.acquire()
        except Timeout:
            return None
        except FileNotFoundError:
            continue
        except FileExistsError:
            if path.parent.exists():
                raise
            continue
        return lock


def _remove(lock: FileLock) -> None:
    """Delete the file of a held lock, then release it: whoever waits for it takes a new file."""
    with suppress(OSError):  # Windows does not delete a file that is open
        Path(lock.lock_file).unlink()
    lock.release()
