"""Uploads: classified and searched like any other video; limits of size, length and time; what is refused."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from c3dvideo.web.site_parts import Site
from c3dvideo.web.uploads import UploadLimits
from c3dvideo.web.video_names import video_id
from c3dvideo.web.web_app import make_app

BYTES = {"content-type": "application/octet-stream"}


def send(client: TestClient, content: bytes, name: str = "a.mp4", status: int = 202) -> Any:
    answer = client.post("/api/uploads", params={"name": name}, content=content, headers=BYTES)
    assert answer.status_code == status, answer.text
    return answer.json()


def outcome(client: TestClient, upload: Any, eventually: Any) -> Any:
    return eventually(
        lambda: client.get(f"/api/uploads/{upload['id']}").json(),
        lambda found: found["state"] not in ("receiving", "analysing"),
    )


def test_an_upload_is_classified_played_and_searched(
    make_site: Callable[..., Site], library: Any, eventually: Any
) -> None:
    client = TestClient(make_app(make_site()), base_url="http://127.0.0.1")
    for name in ("right/a.mp4", "right/b.avi", "left/a.mp4", "left/b.avi"):
        parts = [{"id": video_id(name), "seconds": None}]
        assert client.post("/api/labels", json={"parts": parts, "label": name.split("/")[0]}).status_code == 200
    name = "../../<b>my & video</b>.avi"
    upload = send(client, (library.videos / "right/b.avi").read_bytes(), name)
    found = outcome(client, upload, eventually)
    assert (found["state"], found["n_clips"], found["name"]) == ("done", 3, name), found["message"]
    assert [each[0] for each in found["top"]] in (["right", "left"], ["left", "right"])
    detail = client.get(f"/api/videos/{upload['id']}").json()
    assert len(detail["timeline"]["shares"]) == len(detail["clips"]) == 3
    assert detail["playback"]["type"] is None
    assert client.get(f"/api/videos/{upload['id']}/pieces/0.mp4").status_code == 200
    assert client.get(f"/api/videos/{upload['id']}/strip.jpg?at=0").status_code == 200
    near = client.get(f"/api/videos/{upload['id']}/neighbours?at=2&top=2").json()["results"]
    assert near[0]["id"] == video_id("right/b.avi")  # the same video in the index
    assert near[0]["score"] > 0.99
    against = client.get(f"/api/compare?a={upload['id']}&b={video_id('right/b.avi')}").json()
    assert against["score"] > 0.99
    assert client.delete(f"/api/uploads/{upload['id']}").status_code == 200
    assert client.get(f"/api/videos/{upload['id']}/strip.jpg?at=0").status_code == 404


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no video at all" * 50, "it holds text"),
        (bytes(range(256)) * 40, "cannot read it as a video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "read it as a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "read it as a video"),
        (b"path,label\n/etc/passwd,x\n", "read it as a video"),
    ],
)
def test_what_is_no_video_fails_with_a_reason(client: TestClient, content: bytes, reason: str, eventually: Any) -> None:
    found = outcome(client, send(client, content), eventually)
    assert found["state"] == "failed"
    assert reason in found["message"]
    assert "/tmp" not in found["message"]


def test_a_corrupt_video_is_read_up_to_the_damage_or_fails(client: TestClient, library: Any, eventually: Any) -> None:
    content = (library.videos / "right/a.mp4").read_bytes()
    for broken in (content[: len(content) // 2], content[:300] + bytes(2000) + content[2300:]):
        found = outcome(client, send(client, broken), eventually)
        assert found["message"]
        assert found["state"] in ("failed", "done")


def test_files_that_are_too_large_are_refused_while_they_arrive(client: TestClient, site: Site) -> None:
    content = bytes(site.uploads.limits.max_bytes + 1)
    assert "limit" in send(client, content, status=413)["detail"]

    def pieces() -> Any:
        for _ in range(100):
            yield bytes(20_000)

    answer = client.post("/api/uploads", content=pieces(), headers=BYTES)  # without a length
    assert answer.status_code == 413
    assert "empty" in send(client, b"", status=422)["detail"]


def test_a_video_that_is_too_long_is_refused(
    client: TestClient, moving: Callable[..., None], tmp_path: Path, eventually: Any
) -> None:
    moving(tmp_path / "long.mp4", 0, speed=1, n_frames=8 * 30)
    found = outcome(client, send(client, (tmp_path / "long.mp4").read_bytes()), eventually)
    assert found["state"] == "failed"
    assert "30 seconds long" in found["message"]


def test_a_stream_that_states_no_length_is_cut_off_by_its_frames(
    client: TestClient, tmp_path: Path, eventually: Any
) -> None:
    import av
    import numpy as np

    with av.open(str(tmp_path / "long.h264"), "w", format="h264") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(25 * 25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    found = outcome(client, send(client, (tmp_path / "long.h264").read_bytes()), eventually)
    assert found["state"] == "failed"
    assert "longer than 20 seconds" in found["message"]


def test_an_analysis_that_takes_too_long_is_stopped(
    make_site: Callable[..., Site], library: Any, eventually: Any
) -> None:
    limits = UploadLimits(max_bytes=1_000_000, max_seconds=20, time_limit_seconds=0.2)
    client = TestClient(make_app(make_site(uploads=limits)), base_url="http://127.0.0.1")
    started = time.monotonic()
    found = outcome(client, send(client, (library.videos / "right/a.mp4").read_bytes()), eventually)
    assert found["state"] == "failed"
    assert "more than 0.2 seconds" in found["message"]
    assert time.monotonic() - started < 60


def test_old_uploads_are_forgotten(client: TestClient, site: Site) -> None:
    sent = [send(client, b"no video" * 10) for _ in range(5)]
    listed = [each["id"] for each in client.get("/api/uploads").json()]
    assert listed == [each["id"] for each in reversed(sent[-site.uploads.limits.n_kept :])]
    assert client.get(f"/api/uploads/{sent[0]['id']}").status_code == 404


def test_weights_that_are_not_those_of_the_index_are_named(
    make_site: Callable[..., Site], library: Any, eventually: Any
) -> None:
    client = TestClient(make_app(make_site(weights=None)), base_url="http://127.0.0.1")
    found = outcome(client, send(client, (library.videos / "right/a.mp4").read_bytes()), eventually)
    assert found["state"] == "failed"
    assert "weights" in found["message"]


def test_a_clip_is_explained_for_its_class(make_site: Callable[..., Site], library: Any, eventually: Any) -> None:
    from io import BytesIO

    import numpy as np
    from PIL import Image

    pytest.importorskip("captum")
    client = TestClient(make_app(make_site()), base_url="http://127.0.0.1")
    for name in ("right/b.avi", "still/frames"):
        answer = client.get(f"/api/videos/{video_id(name)}/explanation.jpg", params={"at": 0.64})
        assert answer.status_code == 200, answer.text
        with Image.open(BytesIO(answer.content)) as picture:
            sheet = np.asarray(picture)
        assert sheet.shape == (8 * 160, 2 * 160, 3)
        assert np.abs(sheet[:, :160].astype(int) - sheet[:, 160:]).mean() > 5  # the map is no copy of the clip
    wrong = client.get(f"/api/videos/{video_id('right/b.avi')}/explanation.jpg", params={"at": 0, "label": "no class"})
    assert (wrong.status_code, "no class" in wrong.json()["detail"]) == (422, True)
    assert client.get(f"/api/videos/{video_id('right/b.avi')}/explanation.jpg?at=99").status_code == 422
    assert client.get(f"/api/videos/{video_id(library.missing)}/explanation.jpg?at=0").status_code == 404
