"""An object of a store as the file that FFmpeg reads.

    file = ObjectFile(ObjectPath.of("s3://bucket/a.mp4"))
    file.read(1024)

FFmpeg opens nothing itself, so that credentials stay in this program.
"""

from c3dvideo.errors import DecodeError
from c3dvideo.files import os_reason
from c3dvideo.storage import ObjectPath


class ObjectFile:
    """An object as FFmpeg reads it. FFmpeg may take a failed read for the end, so the failure is kept.

    name: FFmpeg looks at its suffix.
    """

    def __init__(self, path: ObjectPath) -> None:
        self.name = path.name
        self._error: OSError | None = None
        self._file = path.open()

    def read(self, n_bytes: int) -> bytes:
        try:
            return self._file.read(n_bytes)
        except OSError as error:
            self._error = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def check(self) -> None:
        """Raises DecodeError when a read has failed."""
        if self._error is not None:
            raise DecodeError(f"it could not be read to its end: {os_reason(self._error)}") from self._error
