"""Foreign bytes, text, JSON and compressed data: what is accepted, and one named error for everything else."""

import bz2
import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.errors import DatasetError, StoreError
from c3dvideo.reading import (
    JSON_DEPTH,
    ForeignFile,
    decompressed,
    opened,
    parse_json,
    parsing,
    read_bytes,
    read_json,
    read_json_lines,
    read_lines,
    read_text,
)


def foreign(path: str | Path) -> ForeignFile:
    return ForeignFile(path, error=StoreError, expected="a thing", advice="make one")


def written(folder: Path, content: bytes) -> ForeignFile:
    path = folder / "file"
    path.write_bytes(content)
    return foreign(path)


def test_bytes_up_to_the_limit_are_read(tmp_path: Path) -> None:
    file = written(tmp_path, b"abc")
    assert read_bytes(file, max_bytes=3) == b"abc"
    with pytest.raises(StoreError, match=r"file is not a thing: it is larger than 2 bytes; make one$"):
        read_bytes(file, max_bytes=2)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("absent", "could not be read: it does not exist; expected a thing; make one"),
        ("", "is not a thing: it is a folder; make one"),
        ("a\0b", "could not be read: its path holds a NUL"),
        ("\ud800", "could not be read: its path holds a NUL or another character that no file name can hold"),
        ("x" * 300, "could not be read: a name in its path is too long"),
        ("text/below", "could not be read: a part of its path is a file"),
        ("loop", "could not be read: its symbolic links lead in a circle"),
    ],
)
def test_what_the_file_system_refuses_is_said_in_words(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "text").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StoreError) as raised:
        read_bytes(foreign(f"{tmp_path}/{path}"))
    assert reason in str(raised.value)


def test_a_named_pipe_is_refused_before_it_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="it is a named pipe"):
        read_bytes(foreign(tmp_path / "pipe"))


def test_a_pipe_of_the_shell_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a.mp4\n")
    os.close(writing)
    assert read_lines(foreign(f"/dev/fd/{reading}")) == ["a.mp4"]
    os.close(reading)


def test_a_device_without_end_stops_at_the_limit() -> None:
    with pytest.raises(StoreError, match="larger than 1 MiB"):
        read_bytes(foreign("/dev/zero"), max_bytes=1 << 20)


def test_text_is_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    assert read_text(written(tmp_path, "\ufeffé".encode())) == "é"
    assert read_text(written(tmp_path, "é".encode())) == "é"


def test_latin1_is_named_with_its_line_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as raised:
        read_text(written(tmp_path, b"a\nM\xe9i\n"))
    assert "file, line 2, is not a thing: byte 0xe9 is not UTF-8 text" in str(raised.value)
    assert f"`iconv -f latin1 -t utf-8 {tmp_path}/file > NEW`" in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(StoreError, match=r"it is UTF-16|it contains a NUL byte"):
        read_text(written(tmp_path, "path\n".encode(encoding)))


def test_a_nul_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="line 3, is not a thing: it contains a NUL byte"):
        read_text(written(tmp_path, b"a\nb\nc\0d\n"))


def test_lines_end_as_on_any_system_and_only_there(tmp_path: Path) -> None:
    assert read_lines(written(tmp_path, b"a b\r\nc\rd\n\ne")) == ["a b", "c", "d", "", "e"]
    assert read_lines(written(tmp_path, "a\u2028b\x0bc\n".encode())) == ["a\u2028b\x0bc"]
    assert read_lines(written(tmp_path, b"")) == []


def test_json_gives_an_object(tmp_path: Path) -> None:
    assert read_json(written(tmp_path, b'\xef\xbb\xbf{"a": [1, {"b": null}]}')) == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON"),
        (b'{"a": 1', "it is not JSON"),
        (b'{\n"a": }', "line 2, is not a thing: it is not JSON"),
        (b"[1]", "it holds a list, expected an object"),
        (b"null", "it holds null"),
        (b"true", "it holds true or false"),
        (b"12", "it holds a number"),
        (b'"a"', "it holds a text"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":' + b"[" * JSON_DEPTH + b"]" * JSON_DEPTH + b"}", "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "is not a thing: "),
        (b'{"a": "\xff"}', "is not UTF-8"),
    ],
)
def test_json_that_holds_no_object_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(StoreError) as raised:
        read_json(written(tmp_path, content))
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_json_may_be_as_deep_as_stated(tmp_path: Path) -> None:
    deepest = '{"a":' + "[" * (JSON_DEPTH - 1) + "]" * (JSON_DEPTH - 1) + "}"
    assert parse_json(deepest, foreign(tmp_path)) == json.loads(deepest)


def test_json_lines_skip_what_is_damaged_and_name_the_lines(tmp_path: Path) -> None:
    content = b'{"a": 1}\n\n{"a": 2\n[3]\n{"a": "\xff"}\n{"a": 6}\n{"a":' + b"[" * 9999
    assert read_json_lines(written(tmp_path, content)) == ([{"a": 1}, {"a": 6}], [3, 4, 5, 7])


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress])
def test_compressed_data_is_unpacked_up_to_the_limit(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    two_streams = pack(b"abc" * 1000) + pack(b"d")
    file = foreign(tmp_path)
    assert decompressed(two_streams, file, max_bytes=3001) == b"abc" * 1000 + b"d"
    with pytest.raises(StoreError, match="it unpacks to more than 3,000 bytes"):
        decompressed(two_streams, file, max_bytes=3000)
    for damaged in (two_streams[:-4], two_streams[:10] + b"\xff" + two_streams[11:]):
        with pytest.raises(StoreError, match="is not a thing"):
            decompressed(damaged, file, max_bytes=1 << 20)


def test_data_that_is_not_compressed_stays(tmp_path: Path) -> None:
    assert decompressed(b"\x93NUMPY", foreign(tmp_path), max_bytes=1) == b"\x93NUMPY"


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress])
def test_a_bomb_takes_no_more_than_the_limit(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    bomb = pack(b"\0" * (64 << 20))
    assert len(bomb) < 1 << 17
    tracemalloc.start()
    with pytest.raises(StoreError, match="it unpacks to more than 4 MiB"):
        decompressed(bomb, foreign(tmp_path), max_bytes=4 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_faults_of_a_parser_become_the_named_error_and_our_own_errors_pass(tmp_path: Path) -> None:
    for fault in (KeyError("fc6"), IndexError("x"), SystemError("bad pickle"), RecursionError("deep"), ValueError()):
        with pytest.raises(StoreError, match="is not a thing") as raised, parsing(foreign(tmp_path)):
            raise fault
        assert raised.value.__cause__ is fault
    with pytest.raises(DatasetError, match="as it is"), parsing(foreign(tmp_path)):
        raise DatasetError("as it is")
    with pytest.raises(KeyboardInterrupt), parsing(foreign(tmp_path)):
        raise KeyboardInterrupt


def test_a_file_that_fails_while_it_is_read_raises_the_named_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the disk reports an input/output error"), opened(written(tmp_path, b"")):
        raise OSError(5, "Input/output error")


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_the_named_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = written(tmp_path_factory.getbasetemp(), content)
    for read in (read_json, read_text, read_lines, read_json_lines):
        try:
            read(file)
        except StoreError as error:
            assert "\n" not in str(error)
