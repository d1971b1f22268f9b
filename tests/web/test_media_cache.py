"""The cache of converted video: made once, bounded, and the oldest goes first."""

import os
import threading
from pathlib import Path

import pytest

from c3dvideo.web.media_cache import MediaCache


def test_a_file_is_made_once_by_many_threads(tmp_path: Path) -> None:
    cache, calls = MediaCache(tmp_path, max_bytes=1000), []

    def make(path: Path) -> None:
        calls.append(path)
        path.write_bytes(b"x" * 10)

    threads = [threading.Thread(target=cache.get, args=("a", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert cache.get("a", make).read_bytes() == b"x" * 10


def test_it_stays_below_its_limit_and_forgets_what_was_not_used(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, max_bytes=100)
    for number, key in enumerate("abcdefghij"):
        path = cache.get(key, lambda path: path.write_bytes(b"x" * 10) and None)
        os.utime(path, (number, number))
    os.utime(tmp_path / "a", (99, 99))
    cache.get("new", lambda path: path.write_bytes(b"x" * 30) and None)
    left = {path.name for path in tmp_path.iterdir()}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 90
    assert {"a", "new", "j"} <= left
    assert not {"b", "c"} & left


def test_a_file_larger_than_the_limit_is_still_delivered(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, max_bytes=10)
    assert cache.get("large", lambda path: path.write_bytes(b"x" * 50) and None).stat().st_size == 50


def test_what_failed_leaves_nothing_behind_and_is_tried_again(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path / "cache", max_bytes=100)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("no video")

    with pytest.raises(ValueError, match="no video"):
        cache.get("a", fail)
    assert list((tmp_path / "cache").iterdir()) == []
    assert cache.get("a", lambda path: None).read_bytes() == b""
