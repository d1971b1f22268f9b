"""A folder of derived files (converted pieces, strips of frames) that never grows beyond a number of bytes.

    cache = MediaCache(folder, max_bytes=2 << 30)
    path = cache.get("piece-3f0a-12.mp4", make)      # make(temporary path) is called unless the file is there

The file that was used longest ago is deleted first. Several servers may share a folder.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from c3dvideo.files import atomic_path


class MediaCache:
    """Files by key in `folder`; each is made once even when it is wanted twice at the same time."""

    def __init__(self, folder: str | Path, *, max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._bytes: int | None = None

    def get(self, key: str, make: Callable[[Path], None]) -> Path:
        """The file of `key`, a plain file name. `make` writes it to the path that it is given; its errors pass on."""
        path = self.folder / key
        if self._use(path):
            return path
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        try:
            with making:
                if self._use(path):
                    return path
                with atomic_path(path) as temporary:
                    make(temporary)
                    if not temporary.exists():
                        temporary.touch()
                self._added(path)
                return path
        finally:
            with self._lock:
                self._making.pop(key, None)

    def _use(self, path: Path) -> bool:
        """Whether the file is there; if so, it counts as used now."""
        try:
            os.utime(path)
        except OSError:
            return path.exists()  # a read-only cache
        return True

    def _added(self, path: Path) -> None:
        with self._lock:
            with suppress(OSError):
                size = path.stat().st_size
                self._bytes = self._bytes + size if self._bytes is not None else None
            if self._bytes is None or self._bytes > self.max_bytes:
                self._shrink(keep=path)

    def _shrink(self, keep: Path) -> None:
        """Delete the oldest files until nine tenths of the limit are left, but never `keep`."""
        files = []
        for path in self.folder.iterdir():
            with suppress(OSError):
                if path.is_file() and not path.name.startswith("."):
                    found = path.stat()
                    files.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in files)
        if total > self.max_bytes:
            for _, size, path in sorted(files):
                if total <= 0.9 * self.max_bytes:
                    break
                if path != keep:
                    with suppress(OSError):
                        path.unlink()
                        total -= size
        self._bytes = total
