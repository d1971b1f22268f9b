"""Locks: one claim a video, none of them stale, and nothing left when the last run leaves."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from c3dvideo.errors import StoreError
from c3dvideo.features.claims import FolderLocks


def test_a_video_is_claimed_once_until_it_is_released(tmp_path: Path) -> None:
    with FolderLocks(tmp_path) as one, FolderLocks(tmp_path) as two:
        claim = one.claim("sub/a\n.mp4")
        assert claim is not None
        assert two.claim("sub/a\n.mp4") is None
        other = two.claim("b.mp4")
        assert other is not None
        claim.release()
        again = two.claim("sub/a\n.mp4")
        assert again is not None
        again.release()
        other.release()
    assert list(tmp_path.iterdir()) == []


def test_the_claims_of_a_killed_run_are_free(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom c3dvideo.features.claims import FolderLocks\n"
        "locks = FolderLocks(sys.argv[1]).__enter__()\nassert locks.claim('a')\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    leftover = tmp_path / f".{'ab' * 8}.tmp"
    leftover.write_bytes(b"half")
    with FolderLocks(tmp_path) as here:
        assert not leftover.exists()
        claim = here.claim("a")
        assert claim is not None
        claim.release()
    assert list(tmp_path.iterdir()) == []


def test_only_a_run_that_is_alone_sweeps(tmp_path: Path) -> None:
    with FolderLocks(tmp_path):
        being_written = tmp_path / f".{'ab' * 8}.tmp"
        being_written.write_bytes(b"half")
        with FolderLocks(tmp_path):
            assert being_written.exists()


def test_updates_exclude_each_other_while_runs_come_and_go(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def come_and_go() -> None:
        for _ in range(25):
            with FolderLocks(tmp_path) as here:
                claim = here.claim("a")
                with here.updating():
                    counter.write_text(str(int(counter.read_text()) + 1))
                if claim is not None:
                    claim.release()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "100"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_every_claim_is_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with FolderLocks(tmp_path) as one, FolderLocks(tmp_path) as two, two.updating():
        assert not one.supported
        for claim in (one.claim("a"), two.claim("a")):
            assert claim is not None
            claim.release()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StoreError, match=r"file.out cannot be written: .*choose another folder"),
        FolderLocks(tmp_path / "file" / "out"),
    ):
        pass


def test_an_unexpected_lock_error_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", broken)
    with pytest.raises(StoreError, match="input/output error"), FolderLocks(tmp_path):
        pass
