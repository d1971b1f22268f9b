"""Extraction when servers, files and decoders misbehave: nothing good is lost, nothing bad is hidden, nothing hangs."""

import http.server
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo.errors import DecodeError, UsageError
from c3dvideo.features.extract import ExtractSummary, extract
from c3dvideo.features.failures import read_failures
from c3dvideo.features.folder_run import PARTIAL
from c3dvideo.features.shards import parse_shard, take_shard
from c3dvideo.features.store import list_features, read_features
from c3dvideo.features.url_state import url_state
from c3dvideo.network.folder import save_folder
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.sources import Source

Write = Callable[..., Path]
PLAN = ClipPlan(clip_length=8, stride_frames=8)


class Server:
    """Serves `files` under their names on this machine, with what a test changes about it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.head_code = 200
        self.cut = 1.0
        self.n_gets = 0
        self.authorization: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                outer.authorization.append(self.headers.get("Authorization"))
                self._begin(outer.head_code)

            def do_GET(self) -> None:
                outer.n_gets += 1
                content = self._begin(200)
                self.wfile.write(content[: int(outer.cut * len(content))])

            def _begin(self, code: int) -> bytes:
                content = outer.files.get(self.path.strip("/").partition("?")[0])
                self.send_response(404 if content is None else code)
                self.send_header("Content-Length", str(len(content or b"")))
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                return content or b""

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.block_on_close = False
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server(tmp_path: Path, moving_square: Write) -> Iterator[Server]:
    server = Server()
    server.files["a.mkv"] = moving_square(tmp_path / "a.mkv", n_frames=24, height=48, width=64).read_bytes()
    server.headers["ETag"] = '"one"'
    yield server
    server.close()


@pytest.fixture
def video(tmp_path: Path, moving_square: Write) -> Path:
    return moving_square(tmp_path / "videos" / "a.mkv", n_frames=40, height=48, width=64)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Servers


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}])
def test_an_unchanged_file_on_a_server_is_skipped(
    server: Server, tmp_path: Path, tiny_network: C3D, headers: dict[str, str]
) -> None:
    def run() -> tuple[int, int, int]:
        summary = extract([server.url("a.mkv")], tmp_path / "out", weights=tiny_network)
        return summary.n_done, summary.n_skipped, summary.n_failed

    server.headers = headers
    assert run() == (1, 0, 0)
    ((_, path),) = list_features(tmp_path / "out")
    metadata, n_gets = read_features(path).metadata, server.n_gets
    assert metadata["content_sha256"] is None
    assert metadata["url_state"]["length"] == str(len(server.files["a.mkv"]))
    assert run() == (0, 1, 0)
    assert server.n_gets == n_gets, "the file was not fetched again"
    server.headers = {name: value.replace("one", "two").replace("01 Jan", "02 Jan") for name, value in headers.items()}
    assert run() == (1, 0, 0)
    assert run() == (0, 1, 0)


@pytest.mark.parametrize("fault", ["down", "gone", "cut short", "garbage"])
def test_a_fault_of_the_server_costs_no_stored_features(
    server: Server, tmp_path: Path, tiny_network: C3D, fault: str
) -> None:
    url, out = server.url("a.mkv"), tmp_path / "out"
    extract([url], out, weights=tiny_network)
    before = {name: data for name, data in tree(out).items() if name.endswith(".npz")}
    server.headers["ETag"] = '"two"'
    if fault == "down":
        server.close()
    elif fault == "gone":
        server.files.clear()
    elif fault == "cut short":
        server.cut = 0.5
    else:
        server.files["a.mkv"] = bytes(1000)
    (failure,) = extract([url], out, weights=tiny_network, stall_seconds=5).failures
    assert {name: data for name, data in tree(out).items() if name.endswith(".npz")} == before
    expected = {
        "down": "the server cannot be reached",
        "gone": "the server does not have it (HTTP 404); check the address",
        "cut short": "fetch it again",
        "garbage": "FFmpeg cannot read it as a video",
    }
    assert expected[fault] in failure.message
    if fault == "down":
        server.__init__()  # type: ignore[misc]  # for the fixture to close


def test_addresses_are_sent_as_browsers_send_them(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["Fu%C3%9Fball%201.mkv"] = b"content"
    assert url_state(server.url("Fußball 1.mkv"), seconds=5) is not None
    for fragment, reason in (("", "HTTP 404"), ("#access_token=secret", "HTTP 404")):
        with pytest.raises(DecodeError, match=reason) as caught:
            url_state(server.url("b.mkv") + fragment, seconds=5)
        assert "secret" not in str(caught.value)
    with pytest.raises(DecodeError, match=r"cannot be reached \(connection refused\)"):
        url_state("http://127.0.0.1:1/a.mp4", seconds=5)
    handler: Any = server.server.RequestHandlerClass
    monkeypatch.setattr(handler, "do_GET", handler.do_HEAD)
    server.head_code, server.headers, server.files["loop"] = 302, {"Location": "/loop"}, b""
    with pytest.raises(DecodeError, match=r"redirects lead nowhere"):
        url_state(server.url("loop"), seconds=5)


@pytest.mark.parametrize(("code", "headers"), [(405, {"ETag": '"one"'}), (200, {})])
def test_a_server_that_says_nothing_about_the_file_has_it_done_again(
    server: Server, tmp_path: Path, tiny_network: C3D, code: int, headers: dict[str, str]
) -> None:
    server.head_code, server.headers = code, headers
    for _ in range(2):
        assert extract([server.url("a.mkv")], tmp_path / "out", weights=tiny_network).n_done == 1


def test_passwords_reach_the_server_and_nobody_else(server: Server, tmp_path: Path, tiny_network: C3D) -> None:
    url = server.url("none.mkv?token=secret").replace("://", "://user:pass%20word@")
    (failure,) = extract([url], tmp_path / "out", weights=tiny_network).failures
    assert server.authorization == ["Basic dXNlcjpwYXNzIHdvcmQ="]
    assert "secret" not in failure.message
    assert "pass" not in failure.message


# Stored features and the records beside them


def damage(path: Path, kind: str) -> None:
    """Spoil a file in one of the ways in which files spoil."""
    content = bytearray(path.read_bytes())
    if kind == "bits":
        for at in random.Random(3).sample(range(len(content) // 2), 40):
            content[at] ^= 0xFF
    elif kind == "cut":
        del content[len(content) // 3 :]
    elif kind == "empty":
        content.clear()
    elif kind == "text":
        content = bytearray(b"not features\n" * 100)
    elif kind == "deep":
        with zipfile.ZipFile(path, "w") as archive, archive.open("metadata.npy", "w") as member:
            np.lib.format.write_array(member, np.array('{"a":' * 100_000), allow_pickle=False)
        return
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["bits", "cut", "empty", "text", "deep"])
def test_a_damaged_feature_file_is_made_again(video: Path, tmp_path: Path, tiny_network: C3D, kind: str) -> None:
    out = tmp_path / "out"
    extract([video], out, weights=tiny_network, plan=PLAN)
    before = tree(out)
    damage(out / "a.mkv.npz", kind)
    summary = extract([video], out, weights=tiny_network, plan=PLAN)
    assert (summary.n_done, summary.n_failed) == (1, 0)
    assert tree(out) == before


def test_damaged_failures_are_listed_anew(video: Path, tmp_path: Path, tiny_network: C3D) -> None:
    (video.parent / "bad.mp4").write_text("not a video")
    out = tmp_path / "out"
    extract([video.parent], out, weights=tiny_network, plan=PLAN)
    before = tree(out)
    (out / "failures.jsonl").write_bytes(b'{"name": \xff\n[[[[\n{"name": 3}\n')
    extract([video.parent], out, weights=tiny_network, plan=PLAN)
    assert tree(out) == before


# Damaged videos


def test_the_clips_before_the_damage_can_be_kept(
    video: Path, tmp_path: Path, tiny_network: C3D, moving_square: Write
) -> None:
    broken = moving_square(video.parent / "broken.ts", n_frames=60, height=48, width=64, seed=5)
    out, options = tmp_path / "out", {"weights": tiny_network, "plan": PLAN}
    extract([broken], tmp_path / "whole", **options)
    whole = read_features(tmp_path / "whole" / "broken.ts.npz").layers["fc6"]
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) * 2 // 3 + 50])  # inside a packet

    failed = extract([video.parent], tmp_path / "error", **options)
    assert (failed.n_done, failed.n_failed, failed.n_partial) == (1, 1, 0)

    kept = extract([video.parent], out, damaged="keep", **options)
    assert (kept.n_done, kept.n_failed, kept.n_partial) == (2, 0, 1)
    assert str(kept).startswith(f"{out}: 2 videos done, 0 already there, 0 failed, 1 partial\n")
    (failure,) = kept.failures
    assert read_failures(out) == [failure]
    assert (failure.name, failure.stage) == ("broken.ts", PARTIAL)
    features = read_features(out / "broken.ts.npz")
    assert features.metadata["partial"] is True
    assert features.metadata["damage"] == failure.message
    assert 1 <= len(features.layers["fc6"]) < len(whole)
    np.testing.assert_array_equal(features.layers["fc6"], whole[: len(features.layers["fc6"])])
    assert "partial" not in read_features(out / "a.mkv.npz").metadata

    before = tree(out)
    for damaged in ("keep", "error"):  # what was kept stays, and stays listed
        again = extract([video.parent], out, damaged=damaged, **options)
        assert (again.n_done, again.n_skipped, again.n_failed, again.n_partial) == (0, 2, 0, 1)
        assert tree(out) == before
    broken.write_bytes(content)
    assert extract([video.parent], out, **options).failures == ()
    np.testing.assert_array_equal(read_features(out / "broken.ts.npz").layers["fc6"], whole)
    assert not (out / "failures.jsonl").exists()


# Parts of a list


def test_parts_of_a_list_are_disjoint_and_stable() -> None:
    sources = [Source(f"{n}.mp4", f"{n}.mp4") for n in range(400)]
    parts = [take_shard(sources, number, 16) for number in range(1, 17)]
    assert sorted(source.name for part in parts for source in part) == sorted(source.name for source in sources)
    assert min(map(len, parts)) > 10
    assert take_shard(sources[100:], 3, 16) == [source for source in parts[2] if source in sources[100:]]
    assert parse_shard("16/16") == (16, 16)
    for wrong in ("0/4", "5/4", "3", "a/b", "-1/4", "1/0", "1/2/3"):
        with pytest.raises(UsageError, match=rf"`shard=` is '{wrong}'; expected .* such as 3/16"):
            parse_shard(wrong)


def test_machines_with_a_part_each_fill_one_folder(
    video: Path, tmp_path: Path, tiny_network: C3D, moving_square: Write
) -> None:
    save_folder(tiny_network, tmp_path / "weights")
    for n in range(5):
        moving_square(video.parent / f"{n}.mp4", n_frames=8, height=48, width=64, seed=n)
    (video.parent / "bad.mp4").write_text("not a video")
    command = [sys.executable, "-m", "c3dvideo", "extract", str(video.parent), "--out", str(tmp_path / "out")]
    options = ["--weights", str(tmp_path / "weights"), "--clip-length", "8", "--stride-frames", "8", "--json"]
    runs = [
        subprocess.Popen([*command, *options, "--shard", f"{n}/2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for n in (1, 2)
    ]
    summaries = [json.loads(run.communicate(timeout=120)[0]) for run in runs]
    assert sum(summary["n_done"] for summary in summaries) == 6
    assert sum(summary["n_failed"] for summary in summaries) == 1
    extract([video.parent], tmp_path / "whole", weights=tiny_network, plan=PLAN)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_wrong_part_is_refused_before_anything_is_searched(tiny_network: C3D) -> None:
    with pytest.raises(UsageError, match="`shard=` is '3'"):
        extract(["nothing"], "out", weights=tiny_network, shard="3")


# Standstills


@pytest.fixture
def silence() -> Iterator[Any]:
    """A server that accepts connections and never answers; `connected` is set at the first."""

    class Silent:
        connected = threading.Event()

        def __init__(self) -> None:
            import socket

            self.socket = socket.create_server(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/a.mp4"
            self.open: list[Any] = []
            threading.Thread(target=self.accept, daemon=True).start()

        def accept(self) -> None:
            while True:
                try:
                    self.open.append(self.socket.accept()[0])
                except OSError:
                    return
                self.connected.set()

        def close(self) -> None:
            self.socket.close()
            for connection in self.open:
                connection.close()

    silent = Silent()
    yield silent
    silent.close()


def test_a_silent_server_costs_one_video(silence: Any, video: Path, tmp_path: Path, tiny_network: C3D) -> None:
    summary = extract([silence.url, video], tmp_path / "out", weights=tiny_network, plan=PLAN, stall_seconds=0.5)
    assert (summary.n_done, summary.n_failed) == (1, 1)
    assert "the server cannot be reached (timed out)" in summary.failures[0].message


def test_a_pipe_that_nobody_writes_to_costs_one_video(video: Path, tmp_path: Path, tiny_network: C3D) -> None:
    os.mkfifo(video.parent / "pipe.mp4")
    (tmp_path / "list.csv").write_text("path\nvideos/pipe.mp4\nvideos/a.mkv\n")
    summary: ExtractSummary = extract([tmp_path / "list.csv"], tmp_path / "out", weights=tiny_network, plan=PLAN)
    assert (summary.n_done, summary.n_failed) == (1, 1)
    assert "it is a named pipe" in summary.failures[0].message


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_ctrl_c_ends_at_once_whatever_hangs(
    silence: Any, video: Path, tmp_path: Path, tiny_network: C3D, device: str
) -> None:
    save_folder(tiny_network, tmp_path / "weights")
    silence.connected.clear()
    command = ["extract", silence.url, str(video), "--out", str(tmp_path / "out"), "--device", device]
    options = ["--weights", str(tmp_path / "weights"), "--clip-length", "8", "--stall-seconds", "600"]
    run = subprocess.Popen(
        [sys.executable, "-m", "c3dvideo", *command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert silence.connected.wait(60)
    started = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, stderr = run.communicate(timeout=60)
    assert time.monotonic() - started < 4  # two seconds on a machine that does nothing else
    assert run.returncode == 130
    assert stderr.endswith("c3dvideo: stopped; what was finished is kept\n")
    assert "Traceback" not in stderr
    assert not list((tmp_path / "out").rglob(".*"))
