"""The part of the protobuf wire format that weight files use: a message is a sequence of numbered fields.

for number, value in fields(memoryview(data)): ...
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Malformed(Exception):
    """The bytes violate the format or are truncated."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value of every field of one message: an int for a varint, else the payload."""
    at, end = 0, len(message)
    while at < end:
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise Malformed(f"wire type {wire} at byte {at}")
        if number == 0 or at + length > end:
            raise Malformed(f"field {number} at byte {at} needs {length} bytes and {end - at} are left")
        yield number, message[at : at + length]
        at += length


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at byte `at`, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise Malformed(f"the last number, at byte {at}, is incomplete")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed(f"a number before byte {at} is longer than 64 bits")


def number(field: int, value: int) -> bytes:
    """The bytes of a varint field."""
    return varint_bytes(field << 3 | _VARINT) + varint_bytes(value)


def packed(field: int, payload: bytes) -> bytes:
    """The bytes of a field that holds bytes, a string or a message."""
    return varint_bytes(field << 3 | _BYTES) + varint_bytes(len(payload)) + payload


def varint_bytes(value: int) -> bytes:
    """The varint encoding of `value`: seven bits per byte, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
