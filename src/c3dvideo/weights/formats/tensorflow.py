"""Read TensorFlow checkpoints without TensorFlow: the single-file format of 2016 (V1) and the current one (V2).

arrays = read_checkpoint(Path("sports1m.model"))                 # {"var_name/wc1": ..., ...}
arrays = read_checkpoint(Path("model.ckpt.index"))               # with model.ckpt.data-00000-of-00001 beside it

Both are a sorted table of keys and protobuf values, in blocks. In V1 the values hold the numbers; in V2 they hold the
position of the numbers in the data files.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import WeightsError
from c3dvideo.weights.formats.protobuf import Malformed, fields, varint

MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
_FLOATS = {1: "<f4", 2: "<f8", 19: "<f2"}
_FLOAT_VALUES, _DOUBLE_VALUES = 5, 6

Array = np.ndarray[Any, np.dtype[Any]]


def read_checkpoint(path: Path) -> dict[str, Array]:
    """Floating point arrays of a checkpoint by variable name; other variables are skipped.

    path: the file of V1, or the `.index` file of V2. Raises WeightsError for a damaged file or missing V2 data.
    """
    try:
        entries = dict(_table(memoryview(path.read_bytes())))
        if path.suffix == ".index":
            return dict(_arrays_v2(path, entries))
        return dict(_arrays_v1(entries))
    except (Malformed, struct.error, LookupError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or cut short, or is no TensorFlow checkpoint: {error}") from error


def _arrays_v1(entries: dict[bytes, memoryview]) -> Iterator[tuple[str, Array]]:
    """Arrays of V1. The value of key "" describes all variables; each other value holds one variable."""
    shapes = {}
    for described in _messages(_one(entries.pop(b""), 1), 1):
        shapes[bytes(_one(described, 1))] = _shape(_one(described, 2))
    for value in entries.values():
        saved = _one(value, 2)
        name, tensor = bytes(_one(saved, 1)), _one(saved, 3)
        for number, dtype in ((_FLOAT_VALUES, "<f4"), (_DOUBLE_VALUES, "<f8")):
            if numbers := _one(tensor, number):
                yield name.decode(), np.frombuffer(numbers, dtype).reshape(shapes[name])


def _arrays_v2(path: Path, entries: dict[bytes, memoryview]) -> Iterator[tuple[str, Array]]:
    """Arrays of V2. The value of key "" has the number of data files; each other value locates a variable."""
    n_files = dict(fields(entries.pop(b""))).get(1, 1)
    for key, value in entries.items():
        entry = {number: part for number, part in fields(value) if isinstance(part, int)}
        dtype, file, offset, size = (entry.get(number, 0) for number in (1, 3, 4, 5))
        shape = _shape(_one(value, 2))
        if dtype not in _FLOATS:
            continue
        data = path.with_name(f"{path.stem}.data-{file:05d}-of-{n_files:05d}")
        if not data.is_file():
            raise WeightsError(f"{path} is the index of a checkpoint whose data file {data.name} is not beside it")
        with data.open("rb") as opened:
            opened.seek(offset)
            yield key.decode(), np.frombuffer(opened.read(size), _FLOATS[dtype]).reshape(shape)


def _table(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of a table file. The footer points to the index block, which points to the other blocks."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or footer[-8:] != MAGIC:
        raise Malformed("it does not end with the mark of a checkpoint table")
    at = varint(footer, varint(footer, 0)[1])[1]  # skips offset and size of the meta block
    for _, handle in _block(content, footer[at:]):
        yield from _block(content, handle)


def _block(content: memoryview, handle: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Entries of the block at `handle`. Each key is stored as a shared length with the key before, and the rest."""
    offset, at = varint(handle, 0)
    size = varint(handle, at)[0]
    block = content[offset : offset + size]
    if content[offset + size]:
        raise Malformed("its blocks are compressed, which TensorFlow's own writer never does")
    (n_restarts,) = struct.unpack("<I", block[-4:])
    at, end, key = 0, size - 4 * (n_restarts + 1), b""
    while at < end:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        key = key[:shared] + bytes(block[at : at + fresh])
        at += fresh
        yield key, block[at : at + length]
        at += length


def _messages(message: memoryview, number: int) -> list[memoryview]:
    return [value for field, value in fields(message) if field == number and isinstance(value, memoryview)]


def _one(message: memoryview, number: int) -> memoryview:
    found = _messages(message, number)
    return found[-1] if found else memoryview(b"")


def _shape(message: memoryview) -> tuple[int, ...]:
    """Sizes in a shape message. Protobuf omits a size of zero."""
    sizes = (dict(fields(dimension)).get(1, 0) for dimension in _messages(message, 2))
    return tuple(int(size) for size in sizes if isinstance(size, int))
