"""Labels and the classifier: one file, several writers, a fit in the background, predictions with confidence."""

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from c3dvideo.datasets.lists import read_csv
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.probing.probe import Probe
from c3dvideo.web.labels_file import LabelsFile, Part
from c3dvideo.web.site_parts import Site
from c3dvideo.web.video_names import video_id
from c3dvideo.web.web_app import make_app


def label(client: TestClient, text: str, *parts: tuple[str, float | None], status: int = 200) -> Any:
    body = {"parts": [{"id": video_id(name), "seconds": at} for name, at in parts], "label": text}
    answer = client.post("/api/labels", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def rows(path: Path) -> list[tuple[str, str, str]]:
    with path.open(newline="") as file:
        return [(row["path"], row["label"], row.get("start_seconds", "")) for row in csv.DictReader(file)]


def page(site: Site) -> TestClient:
    return TestClient(make_app(site), base_url="http://127.0.0.1")


@pytest.fixture
def own(make_site: Callable[..., Site]) -> Site:
    return make_site()


def test_clips_and_videos_are_labelled_and_saved_at_once(own: Site) -> None:
    client = page(own)
    label(client, "right", ("right/a.mp4", None), ("right/b.avi", 2.1))
    assert rows(own.settings.labels) == [("right/a.mp4", "right", ""), ("right/b.avi", "right", "2.0")]
    clips, videos = client.get("/api/clips").json(), client.get("/api/videos").json()["videos"]
    row = {video["id"]: video["first"] for video in videos}
    names = [clips["labels"][number] if number >= 0 else "" for number in clips["label"]]
    first = row[video_id("right/a.mp4")]
    assert names[first : first + 3] == ["right"] * 3
    assert names.count("right") == 4
    assert len(read_csv(own.settings.labels).examples) == 2  # as `probe fit` and `train` read it
    assert client.get("/api/labels.csv").content == own.settings.labels.read_bytes()


def test_a_clip_overrides_its_video_and_can_be_taken_out(own: Site) -> None:
    client = page(own)
    label(client, "still", ("still/a.mpg", None))
    label(client, "odd", ("still/a.mpg", 0.7))
    assert [each["label"] for each in client.get(f"/api/videos/{video_id('still/a.mpg')}").json()["clips"]] == [
        "still",
        "odd",
        "still",
    ]
    label(client, "", ("still/a.mpg", 0.0))
    assert [each["label"] for each in client.get(f"/api/videos/{video_id('still/a.mpg')}").json()["clips"]] == [
        "",
        "odd",
        "still",
    ]
    label(client, "", ("still/a.mpg", None))
    assert rows(own.settings.labels) == []


def test_of_overlapping_labels_the_shortest_part_counts(own: Site) -> None:
    own.settings.labels.write_text(
        "path,label,start_seconds,end_seconds\nstill/a.mpg,short,0.64,1.28\nstill/a.mpg,long,0,1.92\n"
    )
    clips = page(own).get(f"/api/videos/{video_id('still/a.mpg')}").json()["clips"]
    assert [each["label"] for each in clips] == ["long", "short", "long"]


def test_two_browsers_lose_nothing_of_each_other(own: Site, make_site: Callable[..., Site], library: Any) -> None:
    """Two servers over one file, as two machines would have, with eight writers."""
    other = make_site(labels=own.settings.labels)
    names = [name for name in library.names if name != library.not_utf8]

    def write(site: Site, number: int) -> None:
        for name in names:
            start = float(16 * (number % 3))
            site.labels.change([Part(name, start, start + 1)], f"class {number}", site.collection.now())

    threads = [threading.Thread(target=write, args=(site, number)) for number, site in enumerate((own, other, own))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(own.settings.labels)) == 3 * len(names)
    assert own.labels.rows() == other.labels.rows()


def test_another_browser_notices(own: Site) -> None:
    client = page(own)
    before = client.get("/api/state").json()["labels_version"]
    label(client, "x", ("left/a.mp4", None))
    assert client.get("/api/state").json()["labels_version"] > before


def test_what_a_table_cannot_hold_is_refused(own: Site, library: Any) -> None:
    client = page(own)
    assert "not UTF-8" in label(client, "x", (library.not_utf8, None), status=422)["detail"]
    assert "caf\\xe9" in label(client, "x", (library.not_utf8, None), status=422)["detail"]
    label(client, "x" * 201, ("left/a.mp4", None), status=422)
    label(client, "two\nlines", ("left/a.mp4", None), status=422)
    label(client, "x", ("no such video", None), status=404)
    assert not own.settings.labels.exists()
    label(client, '  "quoted", <b>é  ', (library.strange, None))
    assert rows(own.settings.labels) == [(library.strange, '"quoted", <b>é', "")]


def test_names_that_differ_by_a_blank_keep_their_own_labels(tmp_path: Path, own: Site) -> None:
    names = (" lead.mp4", "lead.mp4", "lead.mp4 ", "\tlead.mp4", "two\nlines.mp4", "=cmd().mp4")
    for number, name in enumerate(names):
        LabelsFile(tmp_path / "labels.csv").change([Part(name)], f"class {number}", own.collection.now())
    found = {row.path: row.label for row in LabelsFile(tmp_path / "labels.csv").rows()}
    assert found == {name: f"class {number}" for number, name in enumerate(names)}


def test_columns_of_other_programs_are_kept_or_refused(tmp_path: Path, own: Site) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label,split,group\nright/a.mp4,right,train,g1\n")
    labels = LabelsFile(table)
    labels.change([Part("left/a.mp4")], "left", own.collection.now())
    assert table.read_text().splitlines() == [
        "path,label,split,group",
        "left/a.mp4,left,,",
        "right/a.mp4,right,train,g1",
    ]
    table.write_text("path,label,rating\na.mp4,x,5\n")
    with pytest.raises(UsageError, match="rating"):
        LabelsFile(table)
    table.write_text("no table")
    with pytest.raises(DatasetError):
        LabelsFile(table)


def test_a_labels_file_that_is_damaged_later_is_an_error_and_not_overwritten(own: Site) -> None:
    client = page(own)
    label(client, "x", ("left/a.mp4", None))
    own.settings.labels.write_text("damaged")
    assert client.get("/api/state").status_code == 422
    label(client, "y", ("left/a.mp4", None), status=422)
    assert own.settings.labels.read_text() == "damaged"


def test_label_fit_look_again(own: Site, library: Any, eventually: Any) -> None:
    client = page(own)
    assert client.get("/api/predictions").json()["best"] == []
    assert "two" in client.post("/api/probe", json={}).json()["detail"]
    for name in library.names:
        if name.startswith(("right", "still")) and name != "right/c.mp4":
            label(client, name.split("/")[0], (name, None))
    assert client.post("/api/probe", json={}).json()["state"] == "fitting"
    state = eventually(lambda: client.get("/api/probe").json(), lambda found: found["state"] != "fitting")
    assert (state["state"], state["classes"], state["is_outdated"]) == ("ready", ["right", "still"], False)
    assert 0 <= state["interval"][0] <= state["accuracy"] <= state["interval"][1] <= 1
    assert state["chance"] == pytest.approx(0.5, abs=0.1)
    found = client.get("/api/predictions").json()
    assert len(found["best"]) == len(found["confidence"]) == client.get("/api/state").json()["n_clips"]
    assert all(0.5 <= share <= 1 for share in found["confidence"])
    timeline = client.get(f"/api/videos/{video_id('right/c.mp4')}").json()["timeline"]
    assert np.allclose(np.sum(timeline["shares"], axis=1), 1, atol=1e-3)
    probe = own.settings.labels.with_suffix(".npz")
    probe.write_bytes(client.get("/api/probe.npz").content)
    assert Probe.load(probe).classes == ("right", "still")
    label(client, "still", ("right/c.mp4", None))
    assert client.get("/api/probe").json()["is_outdated"] is True


def test_a_fitted_probe_predicts_from_the_start(
    own: Site, make_site: Callable[..., Site], library: Any, eventually: Any, tmp_path: Path
) -> None:
    from c3dvideo.probing.labelled import read_labelled
    from c3dvideo.probing.probe import fit_probe

    fit_probe(read_labelled([library.features], labels=None), penalty=1.0).save(tmp_path / "probe.npz")
    client = page(make_site(probe=tmp_path / "probe.npz"))
    found = eventually(lambda: client.get("/api/predictions").json(), lambda found: found["best"])
    assert found["classes"] == ["left", "right", "still", "strange"]


def test_a_probe_of_other_features_fails_with_the_reason(
    make_site: Callable[..., Site], library: Any, eventually: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    from c3dvideo.probing.labelled import read_labelled
    from c3dvideo.probing.probe import fit_probe

    probe = fit_probe(read_labelled([library.features], labels=None), penalty=1.0)
    settings = {**probe.parts[0].settings, "weights": "others"}
    replace(probe, parts=(replace(probe.parts[0], settings=settings),)).save(tmp_path / "probe.npz")
    client = page(make_site(probe=tmp_path / "probe.npz"))
    client.get("/api/predictions")
    state = eventually(lambda: client.get("/api/probe").json(), lambda found: found["state"] != "fitting")
    assert state["state"] == "failed"
    assert "others" in state["message"]
