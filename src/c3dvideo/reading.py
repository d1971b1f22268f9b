"""Files that somebody else wrote, read with limits: bytes, text, lines, JSON, bz2 and gzip.

    config = read_json(ForeignFile(path, error=WeightsError, expected="the config of a weights folder"))

    labels = ForeignFile(path, error=DatasetError, expected="a list of videos", advice="see docs/datasets.md")
    for line in read_lines(labels): ...

Every file that this run did not write itself is read through this module, tables through `c3dvideo.reading_tables` and
arrays through `c3dvideo.reading_arrays`. A `ForeignFile` names the C3DVideoError subclass to raise and what was
expected; nothing else is raised, whatever the bytes are. Sizes are checked before memory is allocated: no function
holds more than its stated limit. A library that parses foreign bytes itself (ONNX, safetensors, HDF5) is called inside
`with parsing(file):`.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from c3dvideo.errors import C3DVideoError
from c3dvideo.files import os_reason
from c3dvideo.storage import Location, ObjectPath, location

MEBIBYTE = 1 << 20
TEXT_BYTES = 64 * MEBIBYTE
"""Largest text or JSON file that is read at once."""
JSON_DEPTH = 100
"""Deepest nesting of JSON; Python's own limit depends on how deep the caller is."""

# What parsers raise on bytes that were not made for them. RuntimeError covers encrypted archives, RecursionError and
# NotImplementedError (compression methods); SystemError comes from pickles.
_DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError),
    *(MemoryError, SystemError, SyntaxError, AssertionError, BufferError, struct.error, tokenize.TokenError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, csv.Error),
)


@dataclass(frozen=True)
class ForeignFile:
    """A file of foreign bytes and how to report that it is wrong: `raise file.wrong("it is empty")`.

    error: the exception to raise. expected: what the file should be, with its article ("a probe"). advice: what to do
    next ("make one with `c3dvideo probe fit`").
    """

    path: str | Location
    error: type[C3DVideoError]
    expected: str
    advice: str = ""

    def wrong(self, reason: str, *, line: int | None = None) -> C3DVideoError:
        """The error to raise: "labels.csv, line 2, is not a table of labels: it contains a NUL byte; <advice>"."""
        place = "" if line is None else f", line {line},"
        return self.error(f"{self.path}{place} is not {self.expected}: {reason}{self._next}")

    def unreadable(self, cause: OSError | ValueError) -> C3DVideoError:
        """The error to raise when the file system refuses: "labels.csv could not be read: it does not exist"."""
        return self.error(f"{self.path} could not be read: {os_reason(cause)}; expected {self.expected}{self._next}")

    @property
    def _next(self) -> str:
        return f"; {self.advice}" if self.advice else ""


@contextmanager
def parsing(file: ForeignFile) -> Iterator[None]:
    """Turn what a parser raises on damaged bytes into the file's error, the cause kept; C3DVideoError passes unchanged.

    Keep the block to the call of the parser and to look-ups in what it returns: a fault of our own inside the block
    would be reported as a damaged file.
    """
    try:
        yield
    except _DAMAGE as cause:
        raise file.wrong(_reason(cause)) from cause


def _reason(cause: BaseException) -> str:
    """One line about an exception."""
    if isinstance(cause, OSError) and cause.errno:
        return os_reason(cause)
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    if isinstance(cause, KeyError) and cause.args:
        return f"it has no {str(cause.args[0])[:60]!r}"
    if isinstance(cause, TypeError | AttributeError):
        return "a value in it is of another type than expected"
    lines = str(cause).splitlines()
    return f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__


@contextmanager
def opened(file: ForeignFile) -> Iterator[IO[bytes]]:
    """The file open for reading bytes, its block as in `parsing`; raises the file's error when it cannot be opened.

    Folders and named pipes are refused: a pipe that nobody writes to blocks for ever. The pipes that a shell makes
    (`/dev/stdin`, `/dev/fd/63`) are read.
    """
    with ExitStack() as stack:
        try:
            path = location(file.path)
            if isinstance(path, ObjectPath):
                stream = stack.enter_context(path.open())
            else:
                stream = stack.enter_context(_opened_file(path, file))
        except (OSError, ValueError) as cause:  # ValueError: a NUL or a lone surrogate in the path
            raise file.unreadable(cause) from cause
        with parsing(file):
            yield stream


def _opened_file(path: Path, file: ForeignFile) -> IO[bytes]:
    """A file of the file system; raises the file's error for a folder or a named pipe."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise file.wrong("it is a folder")
    if stat.S_ISFIFO(mode) and not str(path).startswith(("/dev/", "/proc/")):
        raise file.wrong("it is a named pipe")
    return path.open("rb")


def read_bytes(file: ForeignFile, *, max_bytes: int = TEXT_BYTES) -> bytes:
    """The whole file; raises its error when it is unreadable or larger than `max_bytes`."""
    with opened(file) as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise file.wrong(f"it is larger than {_size(max_bytes)}")
    return content


def read_text(file: ForeignFile, *, max_bytes: int = TEXT_BYTES) -> str:
    """The whole file as UTF-8 text without a byte order mark; raises its error as `read_bytes` does, and for NUL bytes.

    For text that is not UTF-8 the message names the line and how to convert Latin-1.
    """
    content = read_bytes(file, max_bytes=max_bytes)
    nul = content.find(b"\0")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise file.wrong("it is UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = content.count(b"\n", 0, cause.start) + 1
        raise file.wrong(not_utf8(content[cause.start], file), line=line) from cause
    if nul >= 0:
        raise file.wrong("it contains a NUL byte", line=content.count(b"\n", 0, nul) + 1)
    return text


def read_lines(file: ForeignFile, *, max_bytes: int = TEXT_BYTES) -> list[str]:
    r"""The lines of a UTF-8 text file without their ends (\n, \r\n or \r); raises its error as `read_text` does.

    `str.splitlines` would also split at characters that a file name may hold, such as U+2028.
    """
    lines = read_text(file, max_bytes=max_bytes).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_json(file: ForeignFile, *, max_bytes: int = TEXT_BYTES) -> dict[str, Any]:
    """The JSON object in a file; raises its error for other content and for nesting deeper than `JSON_DEPTH`."""
    return parse_json(read_text(file, max_bytes=max_bytes), file)


def parse_json(text: str, file: ForeignFile) -> dict[str, Any]:
    """The JSON object in a text that came out of `file`; raises its error as `read_json` does."""
    with parsing(file):
        try:
            content = json.loads(text)
        except json.JSONDecodeError as cause:
            raise file.wrong(f"it is not JSON ({cause.msg})", line=cause.lineno) from cause
        if not isinstance(content, dict):
            kinds = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}
            raise file.wrong(f"it holds {kinds.get(type(content), 'a number')}, expected an object {{...}}")
        if _deeper_than(content, JSON_DEPTH):
            raise file.wrong("it is nested too deeply")
    return content


def read_json_lines(file: ForeignFile, *, max_bytes: int = TEXT_BYTES) -> tuple[list[dict[str, Any]], list[int]]:
    """The JSON objects of a file with one per line, and the numbers, from 1, of the lines that hold none.

    Damaged lines are returned, not raised: a killed writer leaves its last line cut short, and the others still count.
    Empty lines are skipped. Raises the file's error when it is unreadable or larger than `max_bytes`.
    """
    objects, damaged = [], []
    for number, line in enumerate(read_bytes(file, max_bytes=max_bytes).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            objects.append(parse_json(line.decode(), file))
        except (C3DVideoError, UnicodeDecodeError):
            damaged.append(number)
    return objects, damaged


def _deeper_than(value: Any, limit: int) -> bool:
    """Whether lists and dicts are nested deeper than `limit`, found without recursion."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, dict | list) for one in level)


def decompressed(content: bytes, file: ForeignFile, *, max_bytes: int) -> bytes:
    """What bz2 or gzip bytes hold, and other bytes as they are.

    Raises the file's error for damage and for more than `max_bytes`, where unpacking stops: 3 KB of bz2 can stand for
    many gigabytes.
    """
    if not content.startswith((b"BZh", b"\x1f\x8b")):
        return content
    unpack = bz2.open if content.startswith(b"BZh") else gzip.open
    pieces, left = [], max_bytes
    with parsing(file), unpack(io.BytesIO(content)) as stream:
        while piece := stream.read(min(MEBIBYTE, left + 1)):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise file.wrong(f"it unpacks to more than {_size(max_bytes)}")
    return b"".join(pieces)


def not_utf8(byte: int, file: ForeignFile) -> str:
    if file.advice.startswith("it is damaged"):  # a file that this program wrote, always in UTF-8
        return f"byte 0x{byte:02x} is not UTF-8 text"
    return (
        f"byte 0x{byte:02x} is not UTF-8 text; if the file is Latin-1 (Windows-1252), convert it with "
        f"`iconv -f latin1 -t utf-8 {file.path} > NEW`"
    )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / MEBIBYTE:g} MiB" if n_bytes >= MEBIBYTE else f"{n_bytes:,} bytes"
