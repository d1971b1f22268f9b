"""The interface of the page: what the index holds, media, searches, the map, and the index while it changes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.search.build_index import build_index
from c3dvideo.search.index import Index
from c3dvideo.web.site_parts import Site, SiteSettings
from c3dvideo.web.video_names import shown, video_id
from c3dvideo.web.web_app import make_app

Json = dict[str, Any]


def get(client: TestClient, address: str, status: int = 200) -> Json:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def test_the_state_counts_what_the_index_holds(client: TestClient, library: Any) -> None:
    state = get(client, "/api/state")
    assert (state["n_videos"], state["layer"], state["has_videos"]) == (len(library.names), "fc6", True)
    assert state["n_clips"] == sum(video["n_clips"] for video in get(client, "/api/videos")["videos"])
    assert {"pca", "tsne"} <= set(state["maps"])


def test_videos_have_ids_and_readable_names_whatever_they_are_called(client: TestClient, library: Any) -> None:
    videos = {video["id"]: video for video in get(client, "/api/videos")["videos"]}
    assert set(videos) == {video_id(name) for name in library.names}
    assert videos[video_id(library.strange)]["name"] == library.strange
    assert videos[video_id(library.not_utf8)]["name"] == "strange/caf\\xe9.mp4"
    for name in (library.strange, library.not_utf8):
        assert client.get(f"/api/videos/{video_id(name)}/file").status_code == 200


def test_a_missing_video_is_shown_as_missing(client: TestClient, library: Any) -> None:
    wanted = video_id(library.missing)
    rows = {video["id"]: video["missing"] for video in get(client, "/api/videos")["videos"]}
    assert [key for key, missing in rows.items() if missing] == [wanted]
    detail = get(client, f"/api/videos/{wanted}")
    assert (detail["missing"], detail["playback"], len(detail["clips"])) == (True, None, 3)
    assert "not in the folder" in detail["problem"]
    assert "not in the folder" in get(client, f"/api/videos/{wanted}/strip.jpg?at=0", 404)["detail"]
    assert len(get(client, f"/api/videos/{wanted}/neighbours?at=1&top=3")["results"]) == 3


def test_the_tables_of_clips_have_one_row_per_clip(client: TestClient) -> None:
    videos, clips = get(client, "/api/videos")["videos"], get(client, "/api/clips")
    assert clips["video"] == [row for row, video in enumerate(videos) for _ in range(video["n_clips"])]
    assert len(clips["start_seconds"]) == len(clips["end_seconds"]) == len(clips["label"]) == len(clips["video"])
    assert all(start < end for start, end in zip(clips["start_seconds"], clips["end_seconds"], strict=True))


def test_a_video_that_browsers_play_is_served_in_ranges(client: TestClient, library: Any) -> None:
    wanted = video_id("right/a.mp4")
    content = (library.videos / "right/a.mp4").read_bytes()
    assert get(client, f"/api/videos/{wanted}")["playback"]["type"] == "video/mp4"
    whole = client.get(f"/api/videos/{wanted}/file")
    assert (whole.content, whole.headers["accept-ranges"]) == (content, "bytes")
    part = client.get(f"/api/videos/{wanted}/file", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    assert client.get(f"/api/videos/{wanted}/file", headers={"range": f"bytes={len(content)}-"}).status_code == 416


@pytest.mark.parametrize("name", ["right/b.avi", "still/a.mpg", "still/frames"])
def test_other_videos_are_converted_piece_by_piece(client: TestClient, tmp_path: Path, name: str) -> None:
    wanted = video_id(name)
    detail = get(client, f"/api/videos/{wanted}")
    assert (detail["playback"]["type"], detail["playback"]["piece_seconds"]) == (None, 4)
    get(client, f"/api/videos/{wanted}/file", 415)
    seconds = detail["playback"]["seconds"]
    number = int(seconds // 4 - (seconds % 4 < 0.2))  # the last one, before any other has been converted
    for format, codec in (("mp4", "h264"), ("webm", "vp8")):
        answer = client.get(f"/api/videos/{wanted}/pieces/{number}.{format}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"video/{format}")
        (tmp_path / "piece").write_bytes(answer.content)
        with av.open(str(tmp_path / "piece")) as container:
            assert container.streams.video[0].codec_context.name == codec
    assert client.get(f"/api/videos/{wanted}/pieces/{number + 5}.mp4").status_code == 204


def test_a_strip_has_a_column_per_second(client: TestClient, tmp_path: Path) -> None:
    for name in ("right/b.avi", "still/frames"):
        answer = client.get(f"/api/videos/{video_id(name)}/strip.jpg?at=0&at=1.5&at=99")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        (tmp_path / "strip.jpg").write_bytes(answer.content)
        with Image.open(tmp_path / "strip.jpg") as picture:
            assert picture.size == (3 * 160, 8 * 120)
    get(client, f"/api/videos/{video_id('right/a.mp4')}/strip.jpg?at=0&at=1&at=2&at=3&at=4", 422)
    get(client, f"/api/videos/{video_id('right/a.mp4')}/strip.jpg?at=nan", 422)


def test_neighbours_are_of_other_videos_best_first(client: TestClient) -> None:
    wanted = video_id("right/a.mp4")
    found = get(client, f"/api/videos/{wanted}/neighbours?at=1.1&top=5")["results"]
    scores = [each["score"] for each in found]
    assert len(found) == 5
    assert scores == sorted(scores, reverse=True)
    assert all(each["id"] != wanted and 0 <= each["percentile"] <= 100 for each in found)
    videos = get(client, f"/api/videos/{wanted}/neighbours?kind=videos&top=3")["results"]
    assert len({each["id"] for each in videos}) == 3
    get(client, f"/api/videos/{wanted}/neighbours?top=0", 422)
    get(client, "/api/videos/0123456789abcdef/neighbours", 404)


def test_the_clips_of_a_frame_folder_have_times(client: TestClient) -> None:
    wanted = video_id("still/frames")
    assert [clip["start_seconds"] for clip in get(client, f"/api/videos/{wanted}")["clips"]] == [0, 16 / 25, 32 / 25]
    found = get(client, f"/api/videos/{video_id('right/a.mp4')}/neighbours?top=50")["results"]
    assert sorted(each["start_seconds"] for each in found if each["id"] == wanted) == [0, 0.64, 1.28]


def test_examples_and_counter_examples_change_what_is_found(client: TestClient) -> None:
    like, unlike = {"id": video_id("right/a.mp4")}, {"id": video_id("left/a.mp4"), "seconds": 0.5}
    plain = client.post("/api/search", json={"like": [like], "unlike": [], "kind": "videos"}).json()["results"]
    away = client.post("/api/search", json={"like": [like], "unlike": [unlike], "kind": "videos"}).json()["results"]
    rank = [[each["id"] for each in found].index(unlike["id"]) for found in (plain, away)]
    assert rank[1] >= rank[0]
    assert away[0]["score"] != plain[0]["score"]
    assert client.post("/api/search", json={"like": [], "unlike": []}).status_code == 422


def test_a_comparison_has_a_score_for_every_pair_of_clips(client: TestClient) -> None:
    a, b = video_id("right/a.mp4"), video_id("still/a.mpg")
    found = get(client, f"/api/compare?a={a}&b={b}")
    n_clips = {video["id"]: video["n_clips"] for video in get(client, "/api/videos")["videos"]}
    assert np.shape(found["scores"]) == (n_clips[a], n_clips[b])
    assert len(found["rows"]) == n_clips[a]
    same = get(client, f"/api/compare?a={a}&b={a}")
    assert np.allclose(np.diag(same["scores"]), 1, atol=1e-3)
    assert same["score"] == pytest.approx(1, abs=1e-3)
    get(client, f"/api/compare?a={a}&b=unknown", 404)


def test_maps_are_made_in_the_background_and_kept(client: TestClient, site: Site, eventually: Any) -> None:
    n_clips = get(client, "/api/state")["n_clips"]
    for method in ("pca", "tsne"):
        found = eventually(
            lambda method=method: get(client, f"/api/map?method={method}"), lambda found: found["state"] != "computing"
        )
        assert found["state"] == "ready", found["message"]
        assert (len(found["x"]), len(found["y"])) == (n_clips, n_clips)
        assert max(map(abs, found["x"] + found["y"])) == pytest.approx(1, abs=1e-3)
    clusters = get(client, "/api/clips")["cluster"]
    assert len(clusters) == n_clips
    assert set(clusters) == set(range(max(clusters) + 1))
    get(client, "/api/map?method=astrology", 422)


def test_the_interface_is_described(client: TestClient) -> None:
    document = get(client, "/openapi.json")
    paths = [path for path in document["paths"] if path.startswith("/api/")]
    assert len(paths) >= 18
    assert set(document["paths"]) == set(paths)
    for path in paths:
        for call in document["paths"][path].values():
            assert call["description"], path
            assert call["responses"]["404"]["content"]["application/json"]["schema"]["$ref"].endswith("Problem")
    assert client.get("/").status_code == 200
    for name in ("app.js", "app.css", "icon.svg"):
        assert client.get(f"/static/{name}").status_code == 200
    assert client.get("/static/page.html").status_code == 404


def test_videos_that_are_added_while_the_page_is_open_appear(
    library: Any, make_site: Callable[..., Site], tmp_path: Path
) -> None:
    shutil.copytree(library.features, tmp_path / "features")
    hidden = tmp_path / "features/right/c.mp4.npz"
    hidden.rename(tmp_path / "c.npz")
    build_index(tmp_path / "features", tmp_path / "db")
    client = TestClient(make_app(make_site(db=str(tmp_path / "db"))), base_url="http://127.0.0.1")
    before = get(client, "/api/state")
    assert before["n_videos"] == len(library.names) - 1
    (tmp_path / "c.npz").rename(hidden)
    build_index(tmp_path / "features", tmp_path / "db")
    after = get(client, "/api/state")
    assert after["n_videos"] == len(library.names)
    assert after["version"] != before["version"]
    assert video_id("right/c.mp4") in {video["id"] for video in get(client, "/api/videos")["videos"]}


def test_an_index_that_has_become_empty_is_shown_empty(
    library: Any, make_site: Callable[..., Site], tmp_path: Path
) -> None:
    shutil.copytree(library.db, tmp_path / "db")
    client = TestClient(make_app(make_site(db=str(tmp_path / "db"))), base_url="http://127.0.0.1")
    assert get(client, "/api/state")["n_videos"] > 0
    index = Index.open(tmp_path / "db")
    index.video_rows.delete("true")
    state = get(client, "/api/state")
    assert (state["n_videos"], state["n_clips"]) == (0, 0)
    assert get(client, "/api/videos")["videos"] == get(client, "/api/clips")["video"] == []
    assert get(client, "/api/predictions")["best"] == []
    found = get(client, "/api/map")
    assert (found["state"], "three clips" in found["message"]) == ("failed", True)
    get(client, f"/api/videos/{video_id('right/a.mp4')}", 404)


def test_an_index_that_is_deleted_while_it_is_served_is_an_error(
    library: Any, make_site: Callable[..., Site], tmp_path: Path
) -> None:
    shutil.copytree(library.db, tmp_path / "db")
    client = TestClient(make_app(make_site(db=str(tmp_path / "db"))), base_url="http://127.0.0.1")
    shutil.rmtree(tmp_path / "db")
    assert get(client, "/api/state", 503)["detail"]


def test_a_page_without_a_folder_of_videos_still_searches(make_site: Callable[..., Site]) -> None:
    client = TestClient(make_app(make_site(videos=None)), base_url="http://127.0.0.1")
    assert get(client, "/api/state")["has_videos"] is False
    assert all(video["missing"] for video in get(client, "/api/videos")["videos"])
    assert get(client, f"/api/videos/{video_id('right/a.mp4')}/neighbours")["results"]


def test_what_cannot_be_served_is_said_before_the_server_starts(library: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no index"):
        Site(SiteSettings(db=str(tmp_path / "absent")))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        Site(SiteSettings(db=str(tmp_path / "folder")))
    with pytest.raises(UsageError, match="is no folder"):
        Site(SiteSettings(db=str(library.db), videos=tmp_path / "absent"))
    with pytest.raises(UsageError, match="no probe"):
        Site(SiteSettings(db=str(library.db), probe=tmp_path / "absent.npz"))
    with pytest.raises(UsageError, match="16"):
        SiteSettings(db="db", token="short")


def test_names_are_shown_without_losing_a_byte() -> None:
    assert shown(os.fsdecode(b"a\xff b")) == "a\\xff b"
    assert shown("Fußball 東京.mp4") == "Fußball 東京.mp4"
    assert len({video_id(os.fsdecode(name)) for name in (b"a\xe9", b"a\xe8", b"a")}) == 3
