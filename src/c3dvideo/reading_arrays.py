""".npy and .npz files that somebody else wrote: limits hold before memory is allocated, and pickles are never loaded.

    mean = read_npy(ForeignFile(path, error=WeightsError, expected="a mean volume"), shape=(3, None, None, None))

    with read_npz(ForeignFile(path, error=StoreError, expected="a probe")) as arrays:
        arrays.names                                                 # ("coefficients", "intercepts", "probe")
        arrays.array("coefficients", kinds="f", shape=(None, None))  # raises StoreError for any other array
        arrays.json("probe")                                         # a text array that holds a JSON object

Memory: an uncompressed array takes no more than its file. The compressed arrays of one file may unpack to `max_bytes`,
256 MiB unless the caller says otherwise, or to 32 times the size of the file where that is more.
"""

import ast
import io
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from c3dvideo.reading import MEBIBYTE, ForeignFile, opened, parse_json, parsing

UNPACKED_BYTES = 256 * MEBIBYTE
"""How much the compressed arrays of one file may hold together, unless the file itself is large."""
UNPACKED_FACTOR = 32
"""The compressed arrays of one file may always be this many times as large as the file."""
TEXT_CHARACTERS = 16 * MEBIBYTE
"""Longest text that an array may hold."""

_HEADER_BYTES = 10_000  # numpy's own limit
_PIECE_BYTES = MEBIBYTE
_KINDS = {"b": "booleans", "f": "floats", "i": "integers", "u": "unsigned integers", "U": "text", "S": "bytes"}
_DESCR = re.compile(r"[<>|=]?([biufUS])([1-9]\d{0,8})")

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]
"""Expected shape; None allows any size on that axis."""


def read_npy(
    file: ForeignFile,
    *,
    kinds: str = "fiu",
    shape: Shape | None = None,
    max_bytes: int | None = None,
    content: bytes | None = None,
) -> Array:
    """The array of a .npy file, in the byte order of this machine.

    kinds: the dtype kinds that are accepted, of "biufUS"; Python objects never are. max_bytes: the largest array; None:
    as large as the file. content: the bytes of the file, where they were read and unpacked before. Raises the file's
    error for anything else.
    """
    if content is not None:
        with parsing(file):
            array = _read_array(io.BytesIO(content), file, "it", len(content), max_bytes, kinds=kinds, shape=shape)
    else:
        with opened(file) as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            array = _read_array(stream, file, "it", size, max_bytes, kinds=kinds, shape=shape)
    return array


@contextmanager
def read_npz(file: ForeignFile, *, max_bytes: int = UNPACKED_BYTES) -> Iterator["Arrays"]:
    """The arrays of a .npz file, each read when it is called for.

    Raises the file's error for anything but a whole archive of .npy members with different names.
    """
    with opened(file) as stream:
        size = stream.seek(0, io.SEEK_END)
        try:
            archive = zipfile.ZipFile(stream)
        except zipfile.BadZipFile as cause:
            raise file.wrong("it is no whole .npz archive") from cause
        with archive:
            yield Arrays(archive, file, size=size, max_unpacked=max(max_bytes, UNPACKED_FACTOR * size))


class Arrays:
    """The arrays of an open .npz file; see `read_npz`. Every method raises the file's error for what is not there."""

    def __init__(self, archive: zipfile.ZipFile, file: ForeignFile, *, size: int, max_unpacked: int) -> None:
        self._archive = archive
        self._file = file
        self._size = size
        self._unpacked_left = max_unpacked
        members = archive.infolist()
        other = next((member.filename for member in members if not member.filename.endswith(".npy")), None)
        if other is not None:
            raise file.wrong(f"it contains {other[:60]!r}, which is no .npy array")
        self._members = {member.filename.removesuffix(".npy"): member for member in members}
        if len(self._members) < len(members):
            raise file.wrong("it contains two arrays of one name")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all arrays, in the order in which they stand in the file."""
        return tuple(self._members)

    def array(self, name: str, *, kinds: str = "fiu", shape: Shape | None = None) -> Array:
        """One array; `kinds` and `shape` are as in `read_npy`."""
        member = self._members.get(name)
        if member is None:
            raise self._file.wrong(f"it has no array {name!r}; it has {', '.join(self.names)[:200] or 'none'}")
        if member.flag_bits & 1:
            raise self._file.wrong(f"{name!r} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._file.wrong(f"{name!r} is compressed by method {member.compress_type}; expected deflate or none")
        # The sizes in an archive are claims; what bounds the array is the file itself or the limit for unpacking.
        stored = member.compress_type == zipfile.ZIP_STORED
        size = min(member.file_size, self._size) if stored else member.file_size
        allowed = None if stored else self._unpacked_left
        with parsing(self._file), self._archive.open(member) as stream:
            array = _read_array(stream, self._file, repr(name), size, allowed, kinds=kinds, shape=shape)
            if stream.read(1):  # reading to the end also checks the member's CRC
                raise self._file.wrong(f"{name!r} is longer than its shape {_as_text(array.shape)}")
        self._unpacked_left -= 0 if stored else array.nbytes
        return array

    def text(self, name: str) -> str:
        """The text that an array of shape () holds."""
        array = self.array(name, kinds="US", shape=())
        with parsing(self._file):
            return str(array) if array.dtype.kind == "U" else bytes(array[()]).decode()

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in a text array of shape ()."""
        return parse_json(self.text(name), self._file)

    def number(self, name: str) -> float:
        """The finite number in an array of shape ()."""
        value = float(self.array(name, shape=()))
        if not math.isfinite(value):
            raise self._file.wrong(f"{name!r} is {value}, expected a finite number")
        return value


def _read_array(
    stream: IO[bytes],
    file: ForeignFile,
    what: str,
    size: int,
    allowed: int | None,
    *,
    kinds: str,
    shape: Shape | None,
) -> Array:
    """The array in a stream of at most `size` bytes; it may have `allowed` bytes. `what` is for messages."""
    dtype, fortran_order, found, header_bytes = _header(stream, file, what)
    _check(dtype, found, file, what, kinds=kinds, shape=shape)
    n_bytes = dtype.itemsize * math.prod(found)
    needs = f"{what} has the shape {_as_text(found)}, {n_bytes:,} bytes"
    if n_bytes > size - header_bytes:
        raise file.wrong(f"{needs}, and is cut short")
    if allowed is not None and n_bytes > allowed:
        raise file.wrong(f"{needs}; at most {allowed:,} are allowed")
    content = np.empty(n_bytes, np.uint8)
    filled = 0
    while filled < n_bytes:
        # In pieces, so that the pages of an array that turns out to be cut short are never touched.
        piece = stream.read(min(_PIECE_BYTES, n_bytes - filled))
        if not piece:
            raise file.wrong(f"{what} is cut short: {filled:,} of {n_bytes:,} bytes are there")
        content[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
        filled += len(piece)
    array = content.view(dtype).reshape(found, order="F" if fortran_order else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _check(
    dtype: np.dtype[Any], found: tuple[int, ...], file: ForeignFile, what: str, *, kinds: str, shape: Shape | None
) -> None:
    """Raise the file's error for an array of another kind or shape than is expected."""
    if dtype.kind not in kinds:
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        raise file.wrong(f"{what} holds {_KINDS[dtype.kind]} ({dtype}), expected {wanted}")
    if shape is not None and (
        len(found) != len(shape) or any(n not in (None, size) for n, size in zip(shape, found, strict=True))
    ):
        raise file.wrong(f"{what} has the shape {_as_text(found)}, expected {_as_text(shape)}")
    if dtype.kind in "US" and dtype.itemsize * math.prod(found) > 4 * TEXT_CHARACTERS:
        raise file.wrong(f"{what} holds more than {TEXT_CHARACTERS:,} characters")
    # An empty axis makes the size 0 however absurd the others are, and numpy still refuses it.
    if dtype.itemsize * math.prod(max(n, 1) for n in found) >= 2**62:
        raise file.wrong(f"{what} has the shape {_as_text(found)}, which no array can have")


def _header(stream: IO[bytes], file: ForeignFile, what: str) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """The dtype, Fortran order and shape in a .npy header, and the header's length in bytes.

    numpy's own function lets exceptions of Python's tokenizer and parser escape, and warns about files of Python 2.
    """
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:7] not in (b"\x01", b"\x02"):
        raise file.wrong(f"{what} does not begin like a .npy array")
    length_bytes = 2 if magic[6] == 1 else 4
    length = int.from_bytes(stream.read(length_bytes), "little")
    text = stream.read(min(length, _HEADER_BYTES))
    if len(text) < length:
        raise file.wrong(f"{what} has a header of {length:,} bytes, or is cut short")
    with parsing(file):
        # Python 2 wrote long integers as 16L.
        fields = ast.literal_eval(re.sub(r"(?<=\d)L\b", "", text.decode("latin-1").strip()))
        descr, fortran_order, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        if not isinstance(descr, str) or _DESCR.fullmatch(descr) is None:
            raise file.wrong(f"{what} has the dtype {str(descr)[:60]!r}; expected numbers or text, not Python objects")
        dtype = np.dtype(descr)
    if not isinstance(shape, tuple) or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
        raise file.wrong(f"{what} has the shape {str(shape)[:60]}")
    return dtype, bool(fortran_order), shape, len(magic) + length_bytes + length


def _as_text(shape: Shape) -> str:
    """A shape as people write it: (3, any, any)."""
    sizes = ", ".join("any" if n is None else str(n) for n in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"
