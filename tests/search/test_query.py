"""Search: by name, by time, by vector, and by examples and counter-examples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo.errors import UsageError
from c3dvideo.search.build_index import build_index
from c3dvideo.search.index import Index
from c3dvideo.search.query import search, split_seconds
from c3dvideo.search.vector_space import fit_space, random_pair_quantiles, unpack_space

WIDTH = 16
N_CLASSES = 5


def video(kind: int, seed: int, n_clips: int = 4) -> Any:
    """Clips of one kind. A large common part makes every raw cosine large."""
    generator = np.random.default_rng(seed)
    clips = 20 * np.ones(WIDTH) + 0.3 * generator.standard_normal((n_clips, WIDTH))
    clips[:, kind] += 4
    return clips.astype(np.float32)


@pytest.fixture
def index(tmp_path: Path, feature_folder: Callable[..., Path]) -> Index:
    videos = {
        f"{kind}/{number}.mp4": video(kind, 10 * kind + number) for kind in range(N_CLASSES) for number in range(4)
    }
    videos["3/odd@2.mp4"] = video(3, 99)
    build_index(feature_folder(tmp_path / "features", videos), tmp_path / "db")
    return Index.open(tmp_path / "db")


@pytest.mark.parametrize("kind", ["clips", "videos"])
def test_neighbours_are_of_the_same_kind_although_raw_cosines_are_all_alike(index: Index, kind: Any) -> None:
    raw = index.clips().vectors
    raw = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert (raw @ raw.T).min() > 0.9
    found = search(index, "2/1.mp4", top=3, kind=kind)
    assert {match.video.split("/")[0] for match in found} == {"2"}
    assert all(match.video != "2/1.mp4" for match in found)
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    assert found[0].percentile > 90 and found[0].score > 0.5
    assert search(index, "2/1.mp4@0.3", top=1, exclude_same_video=False)[0].video == "2/1.mp4"
    assert search(index, "2/1.mp4", top=1, kind="videos", exclude_same_video=False)[0].video == "2/1.mp4"


def test_scores_are_the_cosines_of_all_clips(index: Index) -> None:
    """The search equals a comparison with every clip in numpy."""
    table, directions = index.clips(), index.clips(vectors="directions").vectors
    query = table.vectors[5]
    scores = directions @ index.space.directions(query[None])[0]
    found = search(index, query, top=7, exclude_same_video=False)
    np.testing.assert_allclose([match.score for match in found], np.sort(scores)[::-1][:7], atol=1e-5)
    assert (found[0].video, found[0].score) == (table.video[5], pytest.approx(1, abs=1e-5))


def test_a_time_chooses_one_clip(index: Index) -> None:
    clip = index.clips("1/0.mp4")
    found = search(index, "1/0.mp4@1.5", top=1, exclude_same_video=False)[0]
    assert (found.video, found.start_seconds, found.end_seconds) == (
        "1/0.mp4",
        clip.start_seconds[2],
        clip.end_seconds[2],
    )
    with pytest.raises(UsageError, match=r"clips from 0\.00 to 2\.56 seconds, and none at 60"):
        search(index, "1/0.mp4@60")


def test_a_name_with_an_at_sign_is_found_before_a_time(index: Index) -> None:
    assert search(index, "3/odd@2.mp4", top=1)[0].video.startswith("3/")
    assert search(index, "3/odd@2.mp4@0.1", top=1, exclude_same_video=False)[0].video == "3/odd@2.mp4"
    assert split_seconds("a@-1") == ("a@-1", None) and split_seconds("@3") == ("@3", None)
    assert split_seconds("a@nan") == ("a@nan", None)


def test_like_and_unlike(index: Index) -> None:
    like = search(index, None, like=["0/0.mp4", "1/0.mp4"], top=6, kind="videos")
    assert {match.video.split("/")[0] for match in like} == {"0", "1"}
    without = search(index, None, like=["0/0.mp4", "1/0.mp4"], unlike=["1/1.mp4"], top=3, kind="videos")
    assert {match.video.split("/")[0] for match in without} == {"0"}
    assert "1/1.mp4" not in {
        match.video for match in search(index, "0/0.mp4", unlike=["1/1.mp4"], top=50, kind="videos")
    }


def test_wrong_queries(index: Index) -> None:
    with pytest.raises(UsageError, match=r"no video '2/1\.mp'; did you mean '2/1\.mp4'"):
        search(index, "2/1.mp")
    with pytest.raises(UsageError, match="nothing to search for"):
        search(index, None, unlike=["2/1.mp4"])
    with pytest.raises(UsageError, match=r"the query has the shape \(3,\)"):
        search(index, np.ones(3, np.float32))
    with pytest.raises(UsageError, match="expected 1 or more"):
        search(index, "2/1.mp4", top=0)


def test_more_matches_than_clips_are_all_clips(index: Index) -> None:
    assert len(search(index, "2/1.mp4", top=10_000)) == index.n_clips - 4


def test_percentiles_are_the_place_among_random_pairs() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((400, 8)).astype(np.float32)
    space = fit_space(vectors)
    directions = space.directions(vectors)
    quantiles = random_pair_quantiles(directions, np.arange(400) // 4)
    space = unpack_space(*_with(space, quantiles).pack())
    pairs = (directions @ directions.T)[np.triu_indices(400, 1)]
    for score in (-0.3, 0.0, 0.5):
        assert space.percentile(score) == pytest.approx(100 * (pairs < score).mean(), abs=1)
    assert (space.percentile(-2), space.percentile(2)) == (0, 100)
    assert np.isnan(space.percentile(0.5, "videos"))
    assert len(random_pair_quantiles(directions, ["one video"] * 400)) == 0


def _with(space: Any, quantiles: Any) -> Any:
    from dataclasses import replace

    return replace(space, quantiles={"clips": quantiles})


def test_whitening_needs_enough_clips_and_evens_out_variances() -> None:
    generator = np.random.default_rng(0)
    scales = np.array([3, 1, 1, 0.3, 0.3, 0.3])
    vectors = (5 + generator.standard_normal((2000, 6)) * scales).astype(np.float32)
    assert fit_space(vectors[:20]).whitening.shape == (0, 6)
    space = fit_space(vectors)
    assert space.whitening.shape == (6, 6)
    whitened, plain = (found.directions(vectors).var(axis=0) for found in (space, fit_space(vectors[:20])))
    assert plain.max() / plain.min() > 2 * whitened.max() / whitened.min()


def test_equal_clips_have_no_direction() -> None:
    space = fit_space(np.ones((100, 4), np.float32))
    assert np.abs(space.directions(np.ones((1, 4), np.float32))).max() == 0
