"""The page of a live source: pictures, events, states, the token, secrets, browsers that hang, and a clean end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.support.ui import WebDriverWait
from starlette.testclient import TestClient

from c3dvideo import C3D
from c3dvideo.errors import DecodeError
from c3dvideo.probing.watch import Seen, WatchSummary, watch
from c3dvideo.video.decode import Frame, Video, open_video
from c3dvideo.web import live_view
from c3dvideo.web.live_app import make_live_app
from c3dvideo.web.live_server import live_page
from c3dvideo.web.live_view import LiveView

SECRET = "rtsp://admin:hunter2@127.0.0.1:9/live?token=hunter2"
TOKEN = "0123456789abcdef-token"
Write = Callable[..., Path]


def seen(seconds: float, **values: float) -> Seen:
    return Seen(
        time="2026-01-01T00:00:00.000+00:00",
        start_seconds=seconds - 0.6,
        end_seconds=seconds,
        classes=tuple(values),
        probabilities=tuple(values.values()),
        latency_seconds=0.03,
        behind_seconds=0.0,
        frames=16,
        dropped_frames=0,
        connections=1,
    )


def grey(value: int) -> Callable[[], np.ndarray]:
    return lambda: np.full((96, 128, 3), value, np.uint8)


def summary() -> WatchSummary:
    return WatchSummary(latencies=[])


@contextmanager
def watched(source: str | Path | Callable[[], Video], network: C3D, **settings: Any) -> Iterator[str]:
    """A page whose source is classified in a thread, and its address."""
    counts, notes = summary(), []
    with live_page(str(source), counts, unit="probability", port=0, note=notes.append) as view:
        stop = threading.Event()

        def run() -> None:
            given = {"weights": network, "top": 5, "summary": counts, "show": view.picture.offer}
            for clip in watch(source, **(given | settings)):
                view.add(clip)
                if stop.is_set():
                    break
            view.end()

        thread = threading.Thread(target=run)
        thread.start()
        yield notes[-1].removeprefix("open ")
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def events(address: str) -> Iterator[dict[str, Any]]:
    with httpx.stream("GET", f"{address}api/live/events", timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def hanging(address: str) -> socket.socket:
    """A browser that asks for events and reads none of them."""
    place = urlsplit(address)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.connect((place.hostname, place.port))
    connection.sendall(f"GET /api/live/events HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    return connection


def test_a_file_as_if_live_is_followed_to_its_end(tmp_path: Path, moving_square: Write, tiny_network: C3D) -> None:
    path = moving_square(tmp_path / "<b>a.mp4", n_frames=60, fps=30)
    with watched(path, tiny_network, stride_frames=4) as address:
        hanging(address).close()
        with hanging(address):
            found = list(events(address))
        picture = httpx.get(f"{address}api/live/picture.jpg")
        assert httpx.get(f"{address}api/live/picture.jpg?after={picture.headers['x-picture']}").status_code == 204
        whole = httpx.get(f"{address}api/live").json()
    last = found[-1]
    assert (last["state"], last["reason"], last["frames"], last["connections"]) == ("ended", "", 60, 1)
    assert "watching" in {event["state"] for event in found}
    points = [point for event in found for point in event["points"]]
    assert len(points) == last["clips"] > 3
    assert whole["points"] == points  # each event had the points that were new
    assert sorted(point["seconds"] for point in points) == [point["seconds"] for point in points]
    assert all(sum(point["values"]) == pytest.approx(1, abs=1e-3) for point in points)
    assert 0 < last["latency_seconds"] < 5
    assert last["source"].endswith("<b>a.mp4")
    with Image.open(BytesIO(picture.content)) as image:
        assert (image.format, image.size) == ("JPEG", (128, 96))


def test_a_source_that_fails_is_shown_as_reconnecting_and_then_as_live(
    tmp_path: Path, moving_square: Write, tiny_network: C3D
) -> None:
    path = moving_square(tmp_path / "a.mp4", n_frames=30, fps=60)
    n_opened = 0
    was_seen = threading.Event()

    def frames(video: Video) -> Iterator[Frame]:
        yield from video.frames()
        was_seen.wait(60)

    def source() -> Video:
        nonlocal n_opened
        n_opened += 1
        if n_opened == 1:
            raise DecodeError("the camera is off")
        video = open_video(path, channel_order="bgr")
        return Video("camera", video.fps, frames(video), video.close)

    found = []
    with watched(source, tiny_network, max_seconds=30) as address:
        for event in events(address):
            found.append((event["state"], event["reason"], event["wait_seconds"], event["connections"]))
            if event["state"] == "watching":
                was_seen.set()
            if event["connections"] == 2:  # the source ended and was opened again
                break
    assert ("reconnecting", "the camera is off", 1.0, 0) in found
    assert ("watching", "", 0.0, 1) in found
    assert found.index(("reconnecting", "the camera is off", 1.0, 0)) < found.index(("watching", "", 0.0, 1))


def test_secrets_of_an_address_are_shown_nowhere(tiny_network: C3D) -> None:
    counts = summary()
    view = LiveView(SECRET, counts, unit="probability")
    assert not list(watch(SECRET, weights=tiny_network, max_seconds=0.5, summary=counts))
    client = TestClient(make_live_app(view, token=None), base_url="http://127.0.0.1:8000")
    status = client.get("/api/live").json()
    assert (status["source"], status["state"]) == ("rtsp://127.0.0.1:9/live?token=...", "reconnecting")
    assert "127.0.0.1:9" in status["reason"]
    for address in ("/", "/api/live"):
        assert "hunter2" not in client.get(address).text


def test_it_needs_the_token_and_states_its_interface() -> None:
    app = make_live_app(LiveView("0", summary(), unit="score"), token=TOKEN)
    client = TestClient(app, base_url="http://192.168.1.5:8000", follow_redirects=False)
    addresses = ("/", "/api/live", "/api/live/events", "/api/live/picture.jpg", "/static/live.js", "/openapi.json")
    for address in addresses:
        assert client.get(address).status_code == 401, address
    assert client.get("/?token=wrong-token-0000000").status_code == 401
    assert client.get(f"/?token={TOKEN}").status_code == 303
    assert list(client.cookies) == ["c3dvideo_token_8000"]  # a page at another port has its own
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert set(re.findall(r'(?:src|href)="(/static/[a-z.]+)', page.text)) == {
        *("/static/live.js", "/static/live.css", "/static/app.css", "/static/icon.svg")
    }
    for address in re.findall(r'(?:src|href)="(/[^"]+)', page.text):
        assert client.get(address).status_code == 200, address
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/api/live", "/api/live/events", "/api/live/picture.jpg"}
    assert "text/event-stream" in paths["/api/live/events"]["get"]["responses"]["200"]["content"]
    local = TestClient(
        make_live_app(LiveView("0", summary(), unit="score"), token=None), base_url="http://evil.example"
    )
    assert local.get("/api/live").status_code == 421


def test_a_view_holds_one_minute_and_the_first_reason() -> None:
    view = LiveView("0", summary(), unit="probability")
    for second in range(100):
        view.add(seen(float(second), a=0.75, b=0.25))
    points = view.status().points
    assert [points[0].seconds, points[-1].seconds] == [39.0, 99.0]
    number, status = view.news(after=-1)
    view.add(seen(100.0, b=0.5, a=0.5))
    assert [point.classes for point in view.news(after=number)[1].points] == [["b", "a"]]
    assert status.latency_seconds == 0.03
    view.end("the disk of caf\udce9 is full")
    view.end("later")
    assert (view.status().state, view.status().reason) == ("ended", "the disk of caf\\xe9 is full")


def test_pictures_are_made_for_those_who_look(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(live_view.time, "monotonic", lambda: now)
    picture = live_view.LivePicture()
    assert picture.jpeg() == (-1, b"")

    def numbers(n_frames: int) -> list[int]:
        nonlocal now
        found = []
        for _ in range(n_frames):
            picture.offer(grey(len(found)))
            found.append(picture.number)
            now += 1 / 50
        return found

    assert numbers(100)[-1] == 1  # nobody looks: frames 0 and 50
    picture.want()
    before = picture.number
    assert 8 <= numbers(50)[-1] - before <= 10
    assert picture.jpeg() is picture.jpeg()


def test_ctrl_c_ends_within_two_seconds_also_with_browsers(
    tmp_path: Path, moving_square: Write, tiny_network: C3D
) -> None:
    tiny_network.save_pretrained(tmp_path / "weights")
    path = moving_square(tmp_path / "a.mp4", n_frames=3000, fps=25)
    command = [sys.executable, "-m", "c3dvideo", "watch", str(path), "--weights", str(tmp_path / "weights")]
    command += ["--page", "--json", "--port", "0", "--top", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        address = process.stderr.readline().removeprefix("open ").strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        following = events(address)
        next(following)
        with hanging(address):
            assert [len(json.loads(process.stdout.readline())["classes"]) for _ in range(3)] == [2, 2, 2]
            began = time.monotonic()
            os.kill(process.pid, signal.SIGINT)
            last = list(following)[-1]
            err = ""
            while "frames dropped" not in err:  # the summary, after which nothing is left to do
                err += process.stderr.readline()
            took = time.monotonic() - began
            err += process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert (last["state"], last["reason"]) == ("ended", "the command was stopped")
    assert "Traceback" not in err and "Cancel" not in err
    assert took < 2


def test_browsers_that_no_longer_read_delay_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    notes: list[str] = []
    with live_page("0", summary(), unit="probability", port=0, note=notes.append) as view:
        address = notes[-1].removeprefix("open ")
        for number in range(6000):  # more than the buffers of a connection take
            view.add(seen(number / 100, **{f"a class with a long name {row}": 0.05 for row in range(20)}))
        stuck = [hanging(address) for _ in range(3)]
        assert len(next(events(address))["points"]) == 6000
        view.add(seen(61.0, a=1.0))
        assert httpx.get(f"{address}api/live").json()["points"][-1]["classes"] == ["a"]
        began = time.monotonic()
    assert time.monotonic() - began < 2
    for connection in stuck:
        connection.close()
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_in_a_browser(browser: Any) -> None:
    counts, notes = summary(), []

    def until(script: str) -> Any:
        return WebDriverWait(browser, 30, 0.05).until(lambda found: found.execute_script(f"return {script}"))

    bars = "[...document.querySelectorAll('#bars li')].map((e) => e.innerText.replace(/\\s+/g, ' ')).join()"
    state = "document.getElementById('state').textContent"
    with live_page("<script>camera</script>", counts, unit="probability", port=0, note=notes.append) as view:
        browser.get(notes[-1].removeprefix("open "))
        until(f"{state} === 'Loading the network…'")
        counts.state, counts.frames, counts.dropped_frames, counts.connections = "watching", 1234, 5, 3
        view.picture.offer(grey(200))
        view.add(seen(1.0, walking=0.9, running=0.1))
        until(f"{state} === 'Live' && {bars} === 'walking 90%,running 10%'")
        width = "parseFloat(document.querySelector('#bars li i').style.width)"
        assert until(width) == 90
        view.add(seen(1.5, running=0.6, walking=0.4))
        until(f"{bars} === 'running 60%,walking 40%' && {width} === 60")
        until("document.getElementById('picture').naturalWidth === 128")
        facts = until("[...document.querySelectorAll('.facts dd')].map((e) => e.textContent)")
        assert facts == ["1,234", "5", "30 ms", "0.0 s", "2 times"]
        assert until("document.getElementById('source').textContent") == "<script>camera</script>"
        assert until("document.getElementById('legend').textContent") == "walkingrunning"
        counts.state, counts.problem, counts.wait_seconds = "reconnecting", "'rtsp://camera': refused", 4.0
        until(f"{state} === \"Reconnecting: 'rtsp://camera': refused. The next attempt follows within 4 s.\"")
        browser.execute_script("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'p', bubbles: true}))")
        until("document.getElementById('pause').getAttribute('aria-pressed') === 'true'")
        browser.find_element("id", "pause").click()
        counts.state = "watching"
        until(f"{state} === 'Live'")
        view.end()
        until(f"{state} === 'Ended: the source has ended.'")
    assert until(bars) == "running 60%,walking 40%"  # it stays when the server is gone
    assert [each["message"] for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []
