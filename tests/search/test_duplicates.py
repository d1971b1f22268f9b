"""Duplicates: exact copies, near copies with aligned spans, and what is neither."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo.errors import UsageError
from c3dvideo.features.store import VideoFeatures, feature_path, write_features
from c3dvideo.search.build_index import build_index
from c3dvideo.search.duplicates import find_duplicates
from c3dvideo.search.index import Index

STEP = 0.64
Folder = Callable[..., Path]


def recording(seed: int, n_clips: int = 10) -> Any:
    return (10 + np.random.default_rng(seed).standard_normal((n_clips, 48))).astype(np.float32)


def noisy(clips: Any, amount: float = 0.3) -> Any:
    return clips + amount * np.random.default_rng(1).standard_normal(clips.shape).astype(np.float32)


@pytest.fixture
def others() -> dict[str, Any]:
    """Twelve recordings that have nothing in common."""
    return {f"other/{seed}.mp4": recording(seed) for seed in range(100, 112)}


def index_of(tmp_path: Path, folder: Path) -> Index:
    build_index(folder, tmp_path / "db")
    return Index.open(tmp_path / "db")


def test_copies_are_found_with_their_aligned_spans(
    tmp_path: Path, feature_folder: Folder, others: dict[str, Any]
) -> None:
    clips = recording(0)
    videos = {
        "a.mp4": clips,
        "encoded.mp4": noisy(clips),
        "excerpt.mp4": noisy(clips[3:8]),
        "inside.mp4": np.concatenate([recording(7, 4), noisy(clips[:6], 0.2), recording(8, 3)]),
        "single.mp4": noisy(clips[4:5]),
    }
    index = index_of(tmp_path, feature_folder(tmp_path / "features", videos | others))
    pairs = {(pair.a, pair.b): pair for pair in find_duplicates(index)}
    names = list(videos)
    expected = {(a, b) for position, a in enumerate(names) for b in names[position + 1 :]}
    assert set(pairs) == expected
    assert {pair.kind for pair in pairs.values()} == {"near"}

    def spans(b: str) -> list[float]:
        pair = pairs["a.mp4", b]
        return [round(value / STEP) for value in (*pair.a_seconds, *pair.b_seconds)]

    assert spans("encoded.mp4") == [0, 10, 0, 10]
    assert spans("excerpt.mp4") == [3, 8, 0, 5]
    assert spans("inside.mp4") == [0, 6, 4, 10]
    assert spans("single.mp4")[:3] == [4, 5, 0]  # the end of a single clip is not known without a clip plan
    scores = [pair.score for pair in find_duplicates(index)]
    assert scores == sorted(scores, reverse=True) and 0.6 <= scores[-1] < scores[0] < 1


def test_unrelated_videos_are_no_duplicates(tmp_path: Path, feature_folder: Folder, others: dict[str, Any]) -> None:
    index = index_of(tmp_path, feature_folder(tmp_path / "features", others))
    assert find_duplicates(index) == []


def test_one_equal_clip_makes_no_duplicate_of_long_videos(
    tmp_path: Path, feature_folder: Folder, others: dict[str, Any]
) -> None:
    """A title or a black screen is in many videos."""
    title = recording(55, 1)
    videos = {f"{seed}.mp4": np.concatenate([title, recording(seed, 9)]) for seed in (60, 61)}
    index = index_of(tmp_path, feature_folder(tmp_path / "features", videos | others))
    assert find_duplicates(index) == []
    (pair,) = find_duplicates(index, min_clips=1)
    assert (pair.a, pair.b) == ("60.mp4", "61.mp4")
    assert pair.a_seconds == pytest.approx((0, STEP))


def test_exact_copies_come_first(tmp_path: Path, feature_folder: Folder, others: dict[str, Any]) -> None:
    clips = recording(0)
    videos = {"a.mp4": clips, "b.mp4": clips, "c.mp4": noisy(clips, 0.1)}
    folder = feature_folder(tmp_path / "features", videos | others)
    for name, content in (("x.mp4", "12ab"), ("y.mp4", "12ab"), ("z.mp4", None)):
        features = VideoFeatures(
            name=name,
            layers={"fc6": recording(ord(name[0]), 2)},
            start_frame=np.array([0, 16]),
            start_seconds=np.array([0, STEP]),
            metadata={"settings": {"weights": "w1"}, "content_sha256": content},
        )
        write_features(feature_path(folder, name), features)
    found = [(pair.kind, pair.a, pair.b) for pair in find_duplicates(index_of(tmp_path, folder))]
    assert found == [
        ("exact", "a.mp4", "b.mp4"),
        ("exact", "x.mp4", "y.mp4"),
        *(("near", name, "c.mp4") for name in ("a.mp4", "b.mp4")),
    ]


def test_videos_without_times_are_compared_by_position(tmp_path: Path, others: dict[str, Any]) -> None:
    clips = recording(0)
    for name, array in ({"a": clips, "b": noisy(clips[2:])} | others).items():
        features = VideoFeatures(
            name=name,
            layers={"fc6": array},
            start_frame=16 * np.arange(len(array)),
            start_seconds=np.full(len(array), np.nan),
            metadata={"settings": {"weights": "w1"}},
        )
        write_features(feature_path(tmp_path / "features", name), features)
    (pair,) = find_duplicates(index_of(tmp_path, tmp_path / "features"))
    assert (pair.a, pair.b) == ("a", "b")
    assert np.isnan([*pair.a_seconds, *pair.b_seconds]).all()


def test_a_collection_of_equal_clips_ends(tmp_path: Path, feature_folder: Folder) -> None:
    still = np.ones((30, 48), np.float32)
    index = index_of(tmp_path, feature_folder(tmp_path / "features", {f"{n}.mp4": still for n in range(5)}))
    assert [pair.kind for pair in find_duplicates(index)] == ["exact"] * 10


def test_wrong_arguments(tmp_path: Path, feature_folder: Folder) -> None:
    index = index_of(tmp_path, feature_folder(tmp_path / "features", {"a.mp4": recording(0)}))
    assert find_duplicates(index) == []
    with pytest.raises(UsageError, match=r"`threshold=1\.5` is no score"):
        find_duplicates(index, threshold=1.5)
    with pytest.raises(UsageError, match="expected 1 or more"):
        find_duplicates(index, min_clips=0)
