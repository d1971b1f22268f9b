"""Where the files of a conversion go: below one folder, complete or not at all, and never over something else.

    outputs = Outputs(Path("npy"))
    with outputs.video():                                   # what it made is deleted when the block fails
        with outputs.file("sub/a", ".npy") as file:
            write_npy(file, array)

Every writer opens its files here, so the rules hold for all: a name that came from a file is never a path out of the
folder, a full disk raises one StoreError, and an older file is replaced only by the same bytes, or with `overwrite`.
"""

import filecmp
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from c3dvideo.errors import StoreError
from c3dvideo.files import atomic_path, path_inside, writing

MayReplace = Callable[[Path, Path], bool]
"""Whether the older file (first) may be replaced by the newer one, because nothing that it holds is lost."""


class OutputConflictError(StoreError):
    """An output would replace a file that holds something else; the whole conversion stops."""


class Outputs:
    """The files that one writer makes below the folder `out`."""

    def __init__(self, out: Path, *, overwrite: bool = False) -> None:
        self._out = out
        self._overwrite = overwrite
        self._new: list[Path] = []

    @contextmanager
    def video(self) -> Iterator[None]:
        """The files of one video: when the block fails, those that it made are deleted, and folders left empty."""
        self._new = []
        try:
            yield
        except BaseException:
            for path in self._new:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            folders = {
                folder for path in self._new for folder in path.parents if self._out in (folder, *folder.parents)
            }
            for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
                with suppress(OSError):  # it is not empty
                    folder.rmdir()
            raise

    @contextmanager
    def file(self, name: str, suffix: str, *, may_replace: MayReplace | None = None) -> Iterator[IO[bytes]]:
        """A binary file that appears at `out`/`name` + `suffix` when the block ends; dots in `name` are part of it.

        may_replace: whether an older file of other bytes may be replaced by the new one; None: never. Raises
        OutputConflictError when it may not, and StoreError when the file cannot be written.
        """
        path = path_inside(self._out, name, suffix)
        with writing(path):
            if not path.exists():
                self._new.append(path)
        with (
            new_file(path, overwrite=self._overwrite, may_replace=may_replace) as temporary,
            temporary.open("wb") as file,
        ):
            yield file


def write_npy(file: IO[bytes], array: NDArray[Any]) -> None:
    """Write what `np.save` writes. Its own way into a file loses the reason when the disk is full."""
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.data)


@contextmanager
def new_file(path: Path, *, overwrite: bool, may_replace: MayReplace | None = None) -> Iterator[Path]:
    """A temporary path that takes the name `path` when the block ends, unless an older file there would be lost.

    Raises OutputConflictError then. Nothing waits for the disk: what a writer makes can be made again.
    """
    with atomic_path(path) as temporary:
        yield temporary
        keeps_all = (
            overwrite
            or not path.exists()
            or filecmp.cmp(path, temporary, shallow=False)
            or (may_replace is not None and may_replace(path, temporary))
        )
        if not keeps_all:
            raise OutputConflictError(
                f"{path} holds something else than this conversion would write: choose another `out=`, delete it, or "
                "give `overwrite=` to replace it"
            )


def has_all_lines(older: Path, newer: Path) -> bool:
    """Whether every line of the older list is also in the newer one, so that nothing is lost."""
    with older.open("rb") as old, newer.open("rb") as new:
        return not set(old).difference(new)


def utf8_name(name: str, what: str) -> str:
    """`name`; raises StoreError when it is not UTF-8 text, naming `what` cannot hold it.

    Python keeps the bytes of a file name that are not UTF-8 as surrogates, which no text format accepts.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise StoreError(
            f"the name {os.fsencode(name)!r} is not UTF-8, which {what} needs: rename the video and extract it again"
        ) from error
    return name
