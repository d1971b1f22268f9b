"""Ways to damage a file: bytes, numbers in text, JSON values, and the members of zip archives with right checksums."""

import bz2
import io
import json
import random
import warnings
import zipfile
from typing import Any

TEXTS = (
    *("", "inf", "-inf", "nan", "1e999", "-1", "0", "99999999999999999999", "1" * 5000, "0x10", "1.5", "None"),
    *("../../up", "/etc/passwd", "a\\..\\b", "\0", "\n", "\r\n", ",", '"', "é", "\ud800", "\udcff", "\u2028"),
    *("x" * 300, "x" * 200_000),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1e308, float("inf"), float("nan"), 0.5, [], {}, [1], {"a": 1}),
    *TEXTS,
)
DTYPES = ("<f4", ">f8", "|O", "<U7", "|S3", "<i8", "<f2", "<c8", "<M8[s]", ",f4", "", "<f0", "V8", "<f16", "(2,)<f4")
SHAPES = (
    *("()", "(0,)", "(-1,)", f"({10**12},)", f"({10**18},)", "(3, 1000000000)", f"(0, {10**30})", "(1,)*99", "[3]"),
    *("(1.5,)", "(" + "1, " * 40 + ")"),
)
NAMES = ("../up.npy", "/up.npy", "x" * 300 + ".npy", "no suffix", "\\..\\up.npy")
BYTES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\r", b"\n", b'"', b",", b"{", b"[", b"(", b"PK\x03\x04", b"\x93NUMPY")


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with one or a few changes of one kind."""
    ways = [_bytes] * 4
    if content[:4] == b"PK\x03\x04":
        ways += [_archive] * 8
    if content[:1] in b"{[" or b'{"' in content[:200]:
        ways += [_json] * 6
    if _is_text(content):
        ways += [_words] * 6
    if content[:6] == b"\x93NUMPY":
        ways += [_npy] * 6
    if content[:3] == b"BZh":
        ways += [_bz2] * 8
    way = draw.choice(ways)
    try:
        return way(content, draw)
    except (ValueError, UnicodeError, zipfile.BadZipFile, NotImplementedError):
        return _bytes(content, draw)


def _bytes(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5, 30))):
        place = draw.randrange(len(changed) + 1)
        length = draw.choice((1, 1, 2, 4, 8, 64, 1000))
        match draw.randrange(8):
            case 0:
                del changed[place:]
            case 1:
                del changed[place : place + length]
            case 2:
                changed[place:place] = changed[place : place + length]
            case 3:
                changed[place : place + length] = draw.randbytes(len(changed[place : place + length]))
            case 4:
                changed[place : place + 1] = draw.choice(BYTES)
            case 5:
                size = draw.choice((1, 2, 4, 8))
                number = draw.choice((0, 1, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)) % 256**size
                changed[place : place + size] = number.to_bytes(size, draw.choice(("little", "big")))
            case 6 if place < len(changed):
                changed[place] ^= 1 << draw.randrange(8)
            case _:
                changed[place : place + length] = draw.choice((b"\x00", b"\xff")) * length
    return bytes(changed)


def _is_text(content: bytes) -> bool:
    return b"\0" not in content[:1000] and content[:1000].isascii()


def _words(content: bytes, draw: random.Random) -> bytes:
    """One field of a line replaced, or a line doubled, dropped or made deep."""
    lines = content.split(b"\n")
    place = draw.randrange(len(lines))
    separator = b"," if b"," in lines[place] else b" "
    fields = lines[place].split(separator)
    match draw.randrange(5):
        case 0 | 1 | 2:
            fields[draw.randrange(len(fields))] = draw.choice(TEXTS).encode("utf-8", "surrogatepass")
        case 3:
            fields = fields * 2 if draw.random() < 0.5 else fields[:-1]
        case _:
            fields[0] = draw.choice((b"[", b'{"a":', b"(")) * 100_000
    lines[place] = separator.join(fields)
    return b"\n".join(lines)


def _json(content: bytes, draw: random.Random) -> bytes:
    """One value of a JSON document (or of one line of JSON lines) replaced by another kind of value."""
    lines = content.split(b"\n") if content.count(b"\n{") else [content]
    place = draw.randrange(len(lines))
    document = json.loads(lines[place])
    if draw.random() < 0.05:
        lines[place] = b'{"a":' * 50_000
    else:
        lines[place] = json.dumps(_with_one_changed(document, draw)).encode()
    return b"\n".join(lines)


def _with_one_changed(value: Any, draw: random.Random) -> Any:
    """A copy with one value, at any depth, replaced, removed or added."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        if draw.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _with_one_changed(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], _with_one_changed(value[place], draw), *value[place + 1 :]]
    return draw.choice(VALUES)


def _npy(content: bytes, draw: random.Random) -> bytes:
    """A .npy file whose header states another dtype or shape, or whose data is changed."""
    length = int.from_bytes(content[8:10], "little")
    header, data = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    if draw.random() < 0.3:
        return content[: 10 + length] + _bytes(data, draw)
    other = f"{{'descr': '{draw.choice(DTYPES)}', 'fortran_order': {draw.choice(('True', 'False', '7'))}, 'shape': "
    kept = header[header.find("'shape': ") + 9 :]
    changed = (other + (kept if draw.random() < 0.3 else f"{draw.choice(SHAPES)}, }}")).encode("latin-1")
    if draw.random() < 0.1:
        changed = b"(" * 9000
    return b"\x93NUMPY\x01\x00" + len(changed).to_bytes(2, "little") + changed + data


def _bz2(content: bytes, draw: random.Random) -> bytes:
    """A compressed file whose content is changed, or followed by a gigabyte of zeros in 50 KB."""
    inside = bz2.decompress(content)
    if draw.random() < 0.1:
        return content + bz2.compress(bytes(16 << 20)) * 64
    return bz2.compress(mutated(inside, draw))


def _archive(content: bytes, draw: random.Random) -> bytes:
    """A zip with one member changed inside, renamed, doubled or packed in another way; its checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = draw.randrange(len(members))
    name, inside = members[place]
    match draw.randrange(8):
        case 0:
            members.append((name, inside))
        case 1:
            members[place] = (
                draw.choice(NAMES),
                inside,
            )
        case 2:
            del members[place]
        case 3:
            members[place] = (name, inside + b"\0" * draw.choice((1, 1000, 10_000_000)))
        case _:
            members[place] = (
                name,
                mutated(inside, draw) if b"{" not in inside[200:300] else _text_member(inside, draw),
            )
    result = io.BytesIO()
    method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(result, "w", method) as archive:
        warnings.simplefilter("ignore", UserWarning)  # two members of one name
        for name, inside in members:
            archive.writestr(zipfile.ZipInfo(name), inside, compress_type=method)
    return result.getvalue()


def _text_member(inside: bytes, draw: random.Random) -> bytes:
    """A .npy member that holds JSON as UTF-32 text, with one JSON value changed."""
    length = int.from_bytes(inside[8:10], "little")
    text = inside[10 + length :].decode("utf-32-le")
    changed = json.dumps(_with_one_changed(json.loads(text), draw)) if draw.random() < 0.9 else "[" * 50_000
    header = f"{{'descr': '<U{len(changed)}', 'fortran_order': False, 'shape': (), }}".encode()
    return (
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + changed.encode("utf-32-le", "surrogatepass")
    )
