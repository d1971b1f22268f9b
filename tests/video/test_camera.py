"""Live sources: the latest frames, dropped frames counted, reconnection, and real servers of RTSP and HTTP."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo.errors import DecodeError
from c3dvideo.video.camera import LiveFrames, Window, is_camera
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import Frame, Video, open_camera
from c3dvideo.video.preprocess import CAFFE, prepare_frame

PLAN = ClipPlan(stride_frames=8)
Write = Callable[..., Path]


@pytest.fixture
def live_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module beside this one, which tests cannot import by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import live_servers

    yield live_servers
    del sys.modules["live_servers"]


def numbered(n: int, *, gate: threading.Event | None = None, until: int = 0, fps: int = 1000) -> Video:
    """A source whose frame i is grey i; with a gate, it waits before frame `until`."""

    def frames() -> Iterator[Frame]:
        for index in range(n):
            if gate is not None and index == until:
                gate.wait(5)
            same = partial(np.full, (32, 48, 3), index % 256, np.uint8)
            yield Frame(index, index / fps, (32, 48), same, same)

    return Video("numbered", Fraction(fps), frames(), lambda: None)


def once(video: Video) -> Callable[[], Video]:
    """A source that can be opened once."""
    left = [video]

    def opens() -> Video:
        if not left:
            raise DecodeError("gone")
        return left.pop()

    return opens


def greys(window: Window) -> list[int]:
    return [int(frame.max()) for frame in window.pixels[0].transpose(1, 0, 2, 3)]


def test_a_slow_reader_gets_the_latest_frames_and_the_rest_is_counted() -> None:
    gate = threading.Event()
    with LiveFrames(once(numbered(200, gate=gate, until=40)), CAFFE, PLAN, first_wait_seconds=60) as live:
        while live.n_frames < 40:
            time.sleep(0.001)
        # 40 frames came before anybody looked: the clip shows the last 16 of them.
        window = live.next_window(timeout_seconds=5)
        assert window is not None
        assert greys(window) == list(range(24, 40))
        assert live.n_dropped == 24
        assert live.next_window(timeout_seconds=0.01) is None
        gate.set()
        while live.n_frames < 200:
            time.sleep(0.001)
        window = live.next_window(timeout_seconds=5)
        assert window is not None
        assert greys(window) == list(range(184, 200))
        assert live.n_dropped == 24 + (160 - 16)


def test_clips_of_a_file_follow_each_other_at_the_stride(tmp_path: Path, moving_square: Write) -> None:
    """A file that is slower than its reader loses nothing, and its clips are those of the file."""
    path = moving_square(tmp_path / "a.mp4", n_frames=48, fps=60)
    from c3dvideo.video.decode import open_video

    with open_video(path, channel_order="bgr") as video:
        views = CAFFE.views("centre")
        frames = [prepare_frame(frame.picture, CAFFE, views)[0] for frame in video.frames()]
    found = []
    began = time.monotonic()
    with LiveFrames(path, CAFFE, PLAN) as live:
        while not live.ended or found[-1].end_seconds < 47 / 60 - 1e-6:
            window = live.next_window(timeout_seconds=1)
            if window is None:
                break
            found.append(window)
    assert time.monotonic() - began > 0.6
    last = found[-1]
    first = round(last.start_seconds * 60)
    assert np.array_equal(last.pixels[0], np.stack(frames[first : first + 16], axis=1))
    assert live.n_frames == 48


def test_every_second_frame() -> None:
    plan = ClipPlan(sampling_rate=2, stride_frames=4)
    with LiveFrames(once(numbered(100)), CAFFE, plan, first_wait_seconds=60) as live:
        while live.n_frames < 100:
            time.sleep(0.001)
        window = live.next_window(timeout_seconds=5)
    assert window is not None
    assert greys(window) == list(range(68, 100, 2))


def test_a_source_that_fails_is_opened_again_after_growing_waits() -> None:
    notes: list[str] = []
    opened: list[float] = []

    def source() -> Video:
        opened.append(time.monotonic())
        if len(opened) < 4:
            raise DecodeError(f"attempt {len(opened)}")
        return numbered(40)

    with LiveFrames(source, CAFFE, PLAN, first_wait_seconds=0.02, longest_wait_seconds=0.05, note=notes.append) as live:
        window = live.next_window(timeout_seconds=5)
    assert window is not None
    assert [note.split(";")[0] for note in notes[:3]] == ["attempt 1", "attempt 2", "attempt 3"]
    assert [note.rpartition(" in ")[2] for note in notes[:3]] == ["0.02 s", "0.04 s", "0.05 s"]
    waits = np.diff(opened[:4])
    assert (waits >= [0.02, 0.04, 0.05]).all()


def test_a_broken_file_is_an_error_and_a_short_one_ends(tmp_path: Path, moving_square: Write) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with LiveFrames(tmp_path / "broken.mp4", CAFFE, PLAN) as live, pytest.raises(DecodeError, match=r"broken\.mp4"):
        live.next_window(timeout_seconds=5)
    short = moving_square(tmp_path / "short.mp4", n_frames=5, fps=100)
    with LiveFrames(short, CAFFE, PLAN) as live:
        assert live.next_window(timeout_seconds=5) is None
        assert live.ended


def test_passwords_of_cameras_are_not_shown() -> None:
    notes: list[str] = []
    address = "rtsp://admin:secret@127.0.0.1:9/live"
    with LiveFrames(address, CAFFE, PLAN, stall_seconds=1, first_wait_seconds=5, note=notes.append) as live:
        while not notes:
            assert live.next_window(timeout_seconds=0.01) is None
    assert "connecting again" in notes[0]
    assert "secret" not in notes[0]


def test_cameras_are_numbers_and_devices() -> None:
    assert [is_camera(name) for name in ("0", "12", "/dev/video3", "a.mp4", "12.mp4", "rtsp://x", "", "1234")] == [
        True,
        True,
        True,
        False,
        False,
        False,
        False,
        False,
    ]


def test_a_missing_camera_is_one_error_and_a_device_of_ffmpeg_is_read() -> None:
    with pytest.raises(DecodeError, match="/dev/video98"):
        open_camera("/dev/video98", "v4l2")
    with pytest.raises(DecodeError, match="reads no cameras of the kind nothing"):
        open_camera("0", "nothing")
    with open_camera("testsrc2=size=64x48:rate=25", "lavfi") as camera:
        frame = next(camera.frames())
    assert frame.pixels.shape == (48, 64, 3)


def windows_until(live: LiveFrames, done: Callable[[], bool], seconds: float = 15.0) -> list[Window]:
    found = []
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        if (window := live.next_window(timeout_seconds=0.2)) is not None:
            found.append(window)
    return found


def survives_a_restart(serve: Any, video: Path, scheme: str, suffix: str) -> None:
    """Frames come, the server is killed, and frames come again from a server on the same port."""
    notes: list[str] = []
    with serve(video) as server:
        port = server.port
        address = f"{scheme}://127.0.0.1:{port}/live{suffix}"
        with LiveFrames(
            address,
            CAFFE,
            PLAN,
            stall_seconds=1.5,
            first_wait_seconds=0.05,
            longest_wait_seconds=0.2,
            note=notes.append,
        ) as live:
            before = windows_until(live, lambda: live.n_frames >= 40)
            assert before, f"no clip came; {notes}"
            server.kill()
            read = live.n_frames
            windows_until(live, lambda: any("connecting again" in note for note in notes))
            assert any("connecting again" in note for note in notes)
            read, connections = live.n_frames, live.n_connections
            with serve(video, port) as again:
                after = windows_until(live, lambda: live.n_frames >= read + 40)
                assert again.port == port
            assert after, f"no clip came after the restart; {notes}"
            assert live.n_connections > connections
            assert after[-1].end_seconds > before[-1].end_seconds


@pytest.fixture
def transport_stream(tmp_path: Path, moving_square: Write) -> Path:
    return moving_square(tmp_path / "live.ts", n_frames=60, fps=25)


def test_http_survives_a_restart_of_its_server(transport_stream: Path, live_servers: Any) -> None:
    survives_a_restart(live_servers.serve_http, transport_stream, "http", ".ts")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the RTSP server of this test sends with the program ffmpeg")
def test_rtsp_survives_a_restart_of_its_server(tmp_path: Path, moving_square: Write, live_servers: Any) -> None:
    video = moving_square(tmp_path / "a.mp4", n_frames=75, fps=25)
    survives_a_restart(live_servers.serve_rtsp, video, "rtsp", "")
