"""What the server refuses: other hosts and origins, requests without the token, and ways out of the library."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from c3dvideo.features.store import list_features, read_features, write_features
from c3dvideo.search.build_index import build_index
from c3dvideo.web.request_guard import is_loopback
from c3dvideo.web.site_parts import Site
from c3dvideo.web.video_names import video_id
from c3dvideo.web.web_app import make_app

EVERYWHERE = "0.0.0.0"  # noqa: S104
TOKEN = "0123456789abcdef-token"


def test_only_names_of_this_machine_are_answered(client: TestClient) -> None:
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "127.1.2.3"):
        assert client.get("/api/state", headers={"host": host}).status_code == 200, host
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "10.0.0.1", "[::1"):
        assert client.get("/api/state", headers={"host": host}).status_code == 421, host


def test_every_answer_forbids_foreign_scripts_and_frames(client: TestClient) -> None:
    for address in ("/", "/api/state", "/api/videos/unknown", "/nowhere", "/static/app.js"):
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in policy


def test_changes_come_from_the_page_itself(client: TestClient) -> None:
    change = {"parts": [], "label": "x"}
    assert client.post("/api/labels", json=change).status_code == 200
    assert client.post("/api/labels", json=change, headers={"origin": "http://127.0.0.1:8000"}).status_code == 200
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert client.post("/api/labels", json=change, headers=headers).status_code == 403, headers
        assert client.delete("/api/uploads/x", headers=headers).status_code == 403, headers
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = client.post("/api/labels", content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415, kind


def test_other_addresses_need_the_token(make_site: Callable[..., Site]) -> None:
    app = make_app(make_site(host=EVERYWHERE, token=TOKEN))
    client = TestClient(app, base_url="http://192.168.1.5:8000", follow_redirects=False)
    for address in ("/", "/api/state", "/static/app.js", "/openapi.json", "/?token=wrong-token-0000000"):
        assert client.get(address).status_code == 401, address
    for headers in ({"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN}, {"cookie": "c3dvideo_token="}):
        assert client.get("/api/state", headers=headers).status_code == 401, headers
    assert client.get("/api/state", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    login = client.get(f"/?token={TOKEN}")
    assert (login.status_code, login.headers["location"]) == (303, "/")
    assert "httponly" in login.headers["set-cookie"].lower()
    assert "samesite=strict" in login.headers["set-cookie"].lower()
    assert client.get("/api/state").status_code == 200  # the cookie
    assert client.post("/api/probe", json={}, headers={"origin": "http://evil.example"}).status_code == 403


def test_a_token_is_made_for_other_addresses_and_differs(make_site: Callable[..., Site]) -> None:
    first, second = make_site(host=EVERYWHERE), make_site(host="192.168.1.5")
    assert first.token and second.token and first.token != second.token
    assert len(first.token) >= 32
    assert make_site(host="::1").token is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), (EVERYWHERE, False), ("", False)],
)
def test_which_addresses_are_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.fixture(scope="module")
def hostile(library: Any, make_site: Callable[..., Site], tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """A page over videos among which symbolic links lead out of their folder."""
    root = tmp_path_factory.mktemp("hostile")
    videos = root / "videos"
    videos.mkdir()
    (root / "outside").mkdir()
    shutil.copy(library.videos / "right/a.mp4", root / "outside/secret.mp4")
    (videos / "link.mp4").symlink_to(root / "outside/secret.mp4")
    (videos / "folder").symlink_to(root / "outside")
    (videos / "inside.mp4").symlink_to(videos / "real.mp4")
    shutil.copy(library.videos / "right/a.mp4", videos / "real.mp4")
    os.mkfifo(videos / "pipe.mp4")
    features = read_features(list_features(library.features)[0][1])
    for name in ("link.mp4", "folder/secret.mp4", "inside.mp4", "real.mp4", "pipe.mp4"):
        write_features(root / "features" / f"{name}.npz", features)
    build_index(root / "features", root / "db")
    return TestClient(make_app(make_site(db=str(root / "db"), videos=videos)), base_url="http://127.0.0.1")


def test_links_and_pipes_do_not_lead_out_of_the_library(hostile: TestClient) -> None:
    status = {
        name: [
            hostile.get(f"/api/videos/{video_id(name)}{part}").status_code
            for part in ("/file", "/strip.jpg?at=0", "/pieces/0.mp4")
        ]
        for name in ("link.mp4", "folder/secret.mp4", "inside.mp4", "real.mp4", "pipe.mp4")
    }
    assert status == {
        "link.mp4": [404] * 3,
        "folder/secret.mp4": [404] * 3,
        "pipe.mp4": [404] * 3,
        "inside.mp4": [200] * 3,
        "real.mp4": [200] * 3,
    }


def test_addresses_cannot_name_files(client: TestClient, library: Any) -> None:
    for attempt in (
        "..%2f..%2fsecret.mp4",
        "%2e%2e%2fsecret.mp4",
        "%2fetc%2fpasswd",
        "file:%2f%2f%2fetc%2fpasswd",
        "http:%2f%2f127.0.0.1:9%2fa.mp4",
        "right%2fa.mp4",
        "upload-0",
        "upload-..%2f..%2fsecret.mp4",
        "%00",
    ):
        for part in ("", "/file", "/strip.jpg?at=0", "/pieces/0.mp4", "/neighbours"):
            assert client.get(f"/api/videos/{attempt}{part}").status_code == 404, attempt + part
    for attempt in ("/static/../page.html", "/static/..%2ftemplates%2fpage.html", "/static/%2fetc%2fpasswd"):
        assert client.get(attempt).status_code == 404
    assert client.get(f"/api/videos/{video_id('right/b.avi')}/pieces/-1.mp4").status_code == 404
    assert client.get(f"/api/videos/{video_id('right/b.avi')}/pieces/0.avi").status_code == 422


def test_names_in_an_index_that_lead_out_are_missing(library: Any, make_site: Callable[..., Site]) -> None:
    site = make_site()
    for name in (
        "../secret.mp4",
        "/etc/passwd",
        "right/../../secret.mp4",
        "file:///etc/passwd",
        "http://a/b.mp4",
        "\0",
    ):
        assert site.collection.is_missing(name), name
    assert Path(library.videos.parent / "secret.mp4").exists()
