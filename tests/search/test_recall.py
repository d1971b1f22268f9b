"""What is compared less or stored less, and the recall that is reported for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo.search import build_index as building
from c3dvideo.search.build_index import build_index
from c3dvideo.search.index import Index
from c3dvideo.search.query import search

Folder = Callable[..., Path]


def clips(seed: int, n_clips: int = 40) -> Any:
    generator = np.random.default_rng(seed)
    return (5 + generator.standard_normal(24) + 0.5 * generator.standard_normal((n_clips, 24))).astype(np.float32)


@pytest.fixture
def features(tmp_path: Path, feature_folder: Folder) -> Path:
    return feature_folder(tmp_path / "features", {f"{seed:02d}.mp4": clips(seed) for seed in range(30)})


def test_a_large_index_is_searched_approximately(
    tmp_path: Path, features: Path, feature_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "APPROXIMATE_FROM", 1000)
    report = build_index(features, tmp_path / "db")
    assert report.approximate_recall is not None and report.approximate_recall > 0.9
    assert "approximate index: recall@10 " in str(report)
    index = Index.open(tmp_path / "db")
    assert {index_of.columns[0] for index_of in index.clip_rows.list_indices()} == {"direction", "part"}
    vector = clips(7)[3]
    exact = index.search(vector, top=10, exact=True)
    near = index.search(vector, top=10)
    assert len({(found.video, found.start_seconds) for found in exact + near}) <= 12
    assert near[0].score == pytest.approx(1, abs=1e-4)
    # Clips that come later are found too, and those of excluded videos are not.
    feature_folder(features, {"late.mp4": clips(50)})
    assert build_index(features, tmp_path / "db").n_added == 1
    assert index.search(clips(50)[1], top=1)[0].video == "late.mp4"
    others = search(index, "07.mp4@1", top=20)
    assert len(others) == 20 and "07.mp4" not in {match.video for match in others}
    # Nothing has changed: the index is not made again.
    version = index.version
    assert build_index(features, tmp_path / "db").approximate_recall is not None
    assert index.version == version


def test_many_excluded_clips_are_filtered(tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(features, tmp_path / "db")
    index = Index.open(tmp_path / "db")
    names = [video.video for video in index.videos()][:28]
    few = index.search(clips(7)[3], top=30, exclude_videos=names)
    monkeypatch.setattr("c3dvideo.search.index._FEW_ROWS", 10)
    assert index.search(clips(7)[3], top=30, exclude_videos=names) == few
    assert {found.video for found in few} == {"28.mp4", "29.mp4"}


def test_the_recall_of_a_pca_grows_with_its_size(tmp_path: Path, features: Path) -> None:
    found = [build_index(features, tmp_path / f"{n}.db", pca=n).pca_recall for n in (2, 12, 24)]
    assert found == sorted(found)  # type: ignore[type-var]
    assert found[0] is not None and found[0] < 0.9
    assert found[-1] is not None and found[-1] > 0.8
    assert build_index(features, tmp_path / "2.db").pca_recall == found[0]
    assert build_index(features, tmp_path / "all.db").pca_recall is None


def test_what_a_writer_left_that_died_while_making_a_table(tmp_path: Path, features: Path) -> None:
    for name in ("about", "clips_1x2"):
        (tmp_path / "db" / f"{name}.lance" / "data").mkdir(parents=True)
        (tmp_path / "db" / f"{name}.lance" / "data" / "half.lance").write_bytes(b"half")
    assert build_index(features, tmp_path / "db").n_added == 30
    assert Index.open(tmp_path / "db").n_videos == 30
    assert not (tmp_path / "db" / "clips_1x2.lance").exists()
