"""The identity of a video: a hash of its bytes.

content_sha256("my_videos/a.mp4")
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from c3dvideo.errors import DecodeError
from c3dvideo.files import os_reason
from c3dvideo.video.access import check_kind, is_url
from c3dvideo.video.frame_folder import pictures_in


def content_sha256(path: str, step: Callable[[], None] = lambda: None) -> str | None:
    """sha256 of a video file, or of the names and pictures of a frame folder; None for an address.

    step: called after every block that was read, so that a stalled read differs from a large file.
    Raises DecodeError, caused by the OSError, for what cannot be read.
    """
    if is_url(path):
        return None
    try:
        if not Path(path).is_dir():
            check_kind(Path(path))
            return _file_sha256(Path(path), step).hex()
        digest = hashlib.sha256()
        for picture in pictures_in(Path(path)):
            digest.update(os.fsencode(picture.name) + b"\0" + _file_sha256(picture, step))
        return digest.hexdigest()
    except OSError as error:
        raise DecodeError(f"{path!r}: cannot be read: {os_reason(error)}") from error
    except DecodeError as error:
        raise DecodeError(f"{path!r}: {error}") from error.__cause__


def _file_sha256(path: Path, step: Callable[[], None]) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(_Watched(file, step), "sha256").digest()  # type: ignore[arg-type]


class _Watched:
    """A file that reports every read."""

    def __init__(self, file: IO[bytes], step: Callable[[], None]) -> None:
        self._file: Any = file
        self._step = step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        self._step()
        n_bytes: int = self._file.readinto(buffer)
        return n_bytes
