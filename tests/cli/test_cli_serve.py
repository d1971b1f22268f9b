"""`c3dvideo serve`: it answers at the address that it prints, ends on Ctrl-C, and says in one line what is wrong."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from c3dvideo.search.build_index import build_index


@pytest.fixture
def index(tmp_path: Path, feature_folder: Callable[..., Path]) -> Path:
    generator = np.random.default_rng(0)
    videos = {f"{name}.mp4": generator.random((3, 8)) for name in "ab"}
    build_index(feature_folder(tmp_path / "features", videos), tmp_path / "db")
    return tmp_path / "db"


def test_it_answers_at_the_address_that_it_prints_and_ends_on_ctrl_c(index: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "c3dvideo", "serve", "--db", str(index), "--port", "0"]
    environment = {**os.environ, "C3DVIDEO_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as server:
        assert server.stderr is not None
        lines: list[str] = []
        while not (found := re.match(r"open (http://127\.0\.0\.1:\d+/)$", lines[-1] if lines else "")):
            lines.append(server.stderr.readline())
            assert lines[-1], lines
        assert httpx.get(found[1] + "api/state", timeout=60).json()["n_clips"] == 6
        for address in ("", "openapi.json"):
            assert httpx.get(found[1] + address, timeout=60).status_code == 200
        server.send_signal(signal.SIGINT)
        rest = server.stderr.read()
        assert server.wait(60) in (0, 130)
    assert "Traceback" not in rest
    assert lines[0].startswith(f"{index}: 2 videos, 6 clips")
    assert not list(tmp_path.glob("c3dvideo-*"))  # uploads and classifiers of the session


def test_what_cannot_be_served_is_one_line(run: Callable[..., Any], index: Path, tmp_path: Path) -> None:
    code, out, err = run("serve", "--db", tmp_path / "absent")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "c3dvideo index" in err
    assert run("serve", "--db", index, "--videos", tmp_path / "absent")[0] == 2
    assert run("serve", "--db", index, "--token", "short")[0] == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("serve", "--db", index, "--port", taken.getsockname()[1])
    assert code == 2
    assert "--port" in err
