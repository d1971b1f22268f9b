"""Moving pictures for the page: files as they are, in ranges, or converted piece by piece where no browser plays them.

    media = Media(workers, MediaCache(folder, max_bytes=2 << 30))
    media.info(path)                               # ViewInfo
    media.piece(path, 3, "mp4")                    # the file of seconds [12, 16), converted when it is first wanted
    media.sprite(path, [0.0, 4.0])                 # a JPEG of moving frames

A page requests the piece at the second that a person wants to see before any other, so that it plays at once.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from c3dvideo.choices import PieceFormat
from c3dvideo.errors import C3DVideoError, DecodeError
from c3dvideo.video.viewing import ViewInfo
from c3dvideo.web.media_cache import MediaCache
from c3dvideo.web.workers import JobError, Workers

PIECE_SECONDS = 4
_INFO_SECONDS, _SPRITE_SECONDS, _CONVERT_SECONDS = 20.0, 30.0, 60.0
_MOST_KNOWN = 10_000


class Media:
    """Everything that is shown of videos. Its methods wait for worker processes and raise C3DVideoError."""

    def __init__(self, workers: Workers, cache: MediaCache) -> None:
        self._workers = workers
        self._cache = cache
        self._known: OrderedDict[str, ViewInfo | C3DVideoError] = OrderedDict()
        self._lock = threading.Lock()

    def info(self, path: Path) -> ViewInfo:
        """What the video is; raises DecodeError or JobError, which are remembered until the file changes."""
        key = _key(path)
        with self._lock:
            found = self._known.get(key)
        if found is None:
            try:
                found = self._run("view_info", {"path": str(path)}, seconds=_INFO_SECONDS, urgent=True)
            except JobError:
                raise
            except C3DVideoError as error:
                found = error
            with self._lock:
                self._known[key] = found
                while len(self._known) > _MOST_KNOWN:
                    self._known.popitem(last=False)
        if isinstance(found, C3DVideoError):
            raise found
        return found

    def piece(self, path: Path, number: int, format: PieceFormat) -> Path:
        """The converted piece `number` (from 0, each of PIECE_SECONDS); an empty file where the video has no frame."""

        def make(temporary: Path) -> None:
            arguments = {
                "path": str(path),
                "out": str(temporary),
                "start_seconds": number * PIECE_SECONDS,
                "seconds": PIECE_SECONDS,
                "format": format,
            }
            self._run("write_piece", arguments, seconds=_CONVERT_SECONDS, urgent=True)

        return self._cache.get(f"{_key(path)}-{number}.{format}", make)

    def sprite(self, path: Path, moments: list[float]) -> Path:
        """The JPEG of `c3dvideo.video.viewing.sprite` at these moments."""

        def make(temporary: Path) -> None:
            arguments = {"path": str(path), "moments": moments}
            temporary.write_bytes(self._run("sprite", arguments, seconds=_SPRITE_SECONDS))

        when = sha256(repr(moments).encode()).hexdigest()[:12]
        return self._cache.get(f"{_key(path)}-{when}.jpg", make)

    def derived(self, path: Path, what: str, make: Callable[[], bytes]) -> Path:
        """The cached file of other bytes that are made from a video; what: tells them apart."""

        def write(temporary: Path) -> None:
            temporary.write_bytes(make())

        return self._cache.get(f"{_key(path)}-{sha256(what.encode()).hexdigest()[:16]}.jpg", write)

    def _run(self, function: str, arguments: dict[str, Any], *, seconds: float, urgent: bool = False) -> Any:
        return self._workers.run(f"c3dvideo.video.viewing:{function}", arguments, seconds=seconds, urgent=urgent)


def _key(path: Path) -> str:
    """A file name for what is derived from this content of the file: another one when the file changes."""
    try:
        found = path.stat()
    except OSError as error:
        raise DecodeError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    text = f"{path}\0{found.st_mtime_ns}\0{found.st_size}"
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:24]
