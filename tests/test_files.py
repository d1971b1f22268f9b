"""Files that appear complete or not at all, and what is said when a disk is full or a folder cannot be written."""

import errno
import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from c3dvideo.errors import StoreError, TrainingError, UsageError
from c3dvideo.files import (
    atomic_file,
    atomic_path,
    atomic_text,
    cache_folder,
    file_sha256,
    os_reason,
    path_inside,
    sweep_leftovers,
    writing,
)


@contextmanager
def at_most_4096_bytes_per_file() -> Iterator[None]:
    """A limit of the system on the size of a file that is written; it works for any user, as a full disk would.

    It must end before pytest prints: the limit also holds for a log that stdout goes to.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    with atomic_file(path) as file:
        file.write(b"ab")
        assert not path.exists()
    assert path.read_bytes() == b"ab"
    with atomic_text(path) as text:
        text.write("é\r\n" + os.fsdecode(b"\xff") + "\n")
    assert path.read_bytes() == "é\r\n".encode() + b"\xff\n"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"c")
    assert path.read_bytes() == b"c"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("write", [atomic_file, atomic_path, atomic_text])
def test_a_disk_that_takes_no_more_is_one_sentence_and_nothing_is_left(tmp_path: Path, write: object) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(TrainingError) as raised, at_most_4096_bytes_per_file():
        if write is atomic_path:
            with atomic_path(path, error=TrainingError) as temporary:
                temporary.write_bytes(b"x" * 10_000)
        elif write is atomic_text:
            with atomic_text(path, error=TrainingError) as text:
                text.write("x" * 10_000)
        else:
            with atomic_file(path, error=TrainingError) as file:
                file.write(b"x" * 10_000)
    assert str(raised.value) == (
        f"{path} could not be written: the file would be larger than is allowed here; "
        "raise the limit (ulimit -f) or choose another place"
    )
    assert isinstance(raised.value.__cause__, OSError)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, r"the disk is full \([\d.]+ MB free\); free some space and run the same command again$"),
        (errno.EDQUOT, r"the disk quota is used up; free some space and run the same command again$"),
        (errno.EROFS, r"the file system is read-only; choose a place where you may write$"),
        (errno.EACCES, r"permission is denied; choose a place where you may write$"),
        (errno.EIO, r"the disk reports an input/output error$"),
    ],
)
def test_what_the_system_refuses_is_said_in_words(tmp_path: Path, code: int, message: str) -> None:
    with pytest.raises(StoreError, match=f"a could not be written: {message}"), writing(tmp_path / "a"):
        raise OSError(code, os.strerror(code))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 300, "a name in its path is too long .*; choose a shorter name"),
        ("file/below", "a part of its path is a file, not a folder"),
        ("folder", "it is a folder"),
        ("a\0b", "its path holds a NUL or another character that no file name can hold"),
        ("\ud800", "its path holds a NUL or another character that no file name can hold"),
    ],
)
def test_places_where_no_file_can_be(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=f"could not be written: {message}"), atomic_file(tmp_path / name) as file:
        file.write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_other_faults_in_the_block_pass_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not about files"), atomic_file(tmp_path / "a"):
        raise ValueError("not about files")
    with pytest.raises(UsageError, match="ours"), atomic_file(tmp_path / "a"):
        raise UsageError("ours")
    assert not list(tmp_path.iterdir())


def test_an_unknown_reason_keeps_the_words_of_the_system() -> None:
    assert os_reason(OSError(errno.ENXIO, "No such device or address")) == "no such device or address"
    assert os_reason(OSError("odd")) == "odd"
    assert os_reason(OSError()) == "OSError".lower()


def test_names_stay_below_a_folder(tmp_path: Path) -> None:
    assert path_inside(tmp_path, "sub/v1.2", "_C.txt") == tmp_path / "sub" / "v1.2_C.txt"
    assert path_inside(tmp_path, "a..b", ".npy") == tmp_path / "a..b.npy"
    for name in ("", ".", "..", "/a", "../a", "a/../../b", "..\\a", "a\\..\\b", "a\0b"):
        with pytest.raises(UsageError, match="is no name below a folder"):
            path_inside(tmp_path, name, ".npy")


def test_the_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("C3DVIDEO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "c3dvideo"
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(UsageError, match="C3DVIDEO_CACHE"):
        cache_folder()


def test_sweeping_leaves_what_cannot_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / f".{'a1' * 8}.tmp"
    left.touch()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        sweep_leftovers(tmp_path)
    assert left.exists()
    sweep_leftovers(tmp_path)
    assert not left.exists()
