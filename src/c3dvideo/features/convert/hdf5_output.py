"""One HDF5 file with many data sets, written so that a full disk is an error and not a crash.

with hdf5_file(Path("all.hdf5"), overwrite=False) as put:
    put("sub/a", matrix)                                     # reads back as file["sub/a"]
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from c3dvideo.errors import MissingExtraError, StoreError
from c3dvideo.features.convert.common import Floats
from c3dvideo.features.convert.outputs import new_file, utf8_name
from c3dvideo.files import path_inside
from c3dvideo.reading import ForeignFile, parsing

Put = Callable[[str, Floats], None]
"""Adds an array as a data set; slashes in its name make groups."""


@contextmanager
def hdf5_file(out: Path, *, overwrite: bool) -> Iterator[Put]:
    """A function that adds gzip-compressed data sets to an HDF5 file, which appears at `out` at the end.

    An older file at `out` is replaced when the new one has all of its data sets, or with `overwrite`. Raises
    MissingExtraError without h5py, and StoreError when the file cannot be written.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "hdf5") from error
    with (
        new_file(out, overwrite=overwrite, may_replace=_has_all_data_sets) as temporary,
        temporary.open("w+b", buffering=0) as raw,
    ):
        sink = _Sink(raw)
        with h5py.File(sink, "w") as file:

            def put(name: str, matrix: Floats) -> None:
                path_inside(Path(), utf8_name(name, "HDF5"))
                try:
                    file.create_dataset(name, data=matrix, compression="gzip")
                except (ValueError, TypeError) as error:
                    raise StoreError(
                        f"{name} cannot be a data set: another video has this name, or is a folder of it"
                    ) from error
                sink.check()

            yield put
        sink.check()


class _Sink:
    """An open file that never fails towards HDF5, which ends the whole process when a write fails.

    After the first failure nothing more is written; `check` raises it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._failure: BaseException | None = None
        self._size = 0
        self._position = 0

    def check(self) -> None:
        """Raise what went wrong, if anything did: an OSError, or KeyboardInterrupt during a write."""
        if self._failure is not None:
            raise self._failure

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._failure is None:
            try:
                self._file.seek(self._position)
                written = 0
                while written < len(view):  # the last write before a disk is full may be a short one
                    written += self._file.write(view[written:])
            except BaseException as failure:  # KeyboardInterrupt must not pass through HDF5 either
                self._failure = failure
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        if self._failure is None:
            try:
                self._file.seek(self._position)
                self._file.readinto(view)  # type: ignore[attr-defined]
            except BaseException as failure:
                self._failure = failure
        self._position += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        content = bytearray(size)
        self.readinto(content)
        return bytes(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int) -> int:
        if self._failure is None:
            try:
                self._file.truncate(size)
            except BaseException as failure:
                self._failure = failure
        self._size = size
        return size

    def flush(self) -> None:
        """Nothing waits in this object: the file is unbuffered."""


def _has_all_data_sets(older: Path, newer: Path) -> bool:
    """Whether every data set of the older file is in the newer one, with the same values."""
    import h5py

    lost: list[str] = []
    try:
        with (
            parsing(ForeignFile(older, error=StoreError, expected="an HDF5 file")),
            h5py.File(older) as old,
            h5py.File(newer) as new,
        ):

            def compare(name: str, item: Any) -> bool | None:
                if not isinstance(item, h5py.Dataset):
                    return None
                same = name in new and isinstance(new[name], h5py.Dataset) and _equal(item, new[name])
                if not same:
                    lost.append(name)
                return None if same else True  # anything but None ends the visit

            old.visititems(compare)
    except StoreError:
        return False
    return not lost


def _equal(one: Any, other: Any) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and bool(np.array_equal(one[()], other[()]))
