"""Duplicates of larger collections: cells, blocks and files give what comparing everything gives."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from c3dvideo.errors import StoreError
from c3dvideo.features.extract import extract
from c3dvideo.search import duplicates, similar_pairs
from c3dvideo.search.build_index import build_index
from c3dvideo.search.duplicates import THRESHOLD, DuplicatePair, find_duplicates
from c3dvideo.search.index import Index
from c3dvideo.synthetic import EVERYDAY, everyday_scene, render
from c3dvideo.video.encode import write_video

Folder = Callable[..., Path]
Spans = dict[tuple[str, str], tuple[float, ...]]
KINDS = ("re-encoded", "rescaled", "cropped", "shifted", "again")


def write_copies(folder: Path, name: str, frames: np.ndarray[Any, Any]) -> None:
    """A generated video in mp4, and its copies: another codec, half the size, without its margins, cut at the start."""

    def small(frame: Any) -> Any:
        return np.asarray(Image.fromarray(frame).resize((88, 64), Image.Resampling.BICUBIC))

    changed: dict[str, tuple[Iterator[Any], dict[str, Any]]] = {
        "original": (iter(frames), {}),
        "re-encoded": (iter(frames), {"crf": 32}),
        "rescaled": (map(small, frames), {"codec": "mpeg4", "codec_options": {"b": "400k"}}),
        "cropped": (iter(frames[:, 4:-4, 6:-6]), {}),
        "shifted": (iter(frames[16:]), {"crf": 26}),
    }
    for kind, (pictures, options) in changed.items():
        (folder / kind).mkdir(exist_ok=True)
        write_video(folder / kind / f"{name}.mp4", pictures, **options)
    (folder / "again").mkdir(exist_ok=True)
    (folder / "again" / f"{name}.mp4").write_bytes((folder / "original" / f"{name}.mp4").read_bytes())


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Eight generated videos and five copies of each, as an index of the embedded weights' features."""
    folder = tmp_path_factory.mktemp("copied")
    (folder / "videos").mkdir()
    for name in EVERYDAY:
        scene = everyday_scene(name, seed=0, index=0, n_frames=64)
        pixels = render([scene], height=128, width=176).numpy()[0]
        write_copies(folder / "videos", name, pixels.transpose(1, 2, 3, 0))
    extract([folder / "videos"], folder / "features")
    build_index(folder / "features", folder / "db")
    return Index.open(folder / "db")


def by_brute_force(index: Index) -> Spans:
    """Every pair of videos along every diagonal, and on it every run of clips: the best sum of scores decides."""
    found: Spans = {}
    directions = {video.video: index.clips(video.video, vectors="directions").vectors for video in index.videos()}
    for a, b in combinations(directions, 2):
        scores = directions[a] @ directions[b].T
        best = -np.inf
        for shift in range(1 - len(scores), scores.shape[1]):
            along = np.diagonal(scores, shift)
            for start, stop in combinations(range(len(along) + 1), 2):
                run = along[start:stop] - (THRESHOLD - 0.15)
                if run.sum() > best:
                    best, first, kept = run.sum(), start + max(0, -shift), along[start:stop]
                    second = start + max(0, shift)
        if len(kept) >= min(2, *scores.shape) and kept.mean() >= THRESHOLD:
            found[a, b] = (float(kept.mean()), first, second, len(kept))
    return found


def as_spans(index: Index, pairs: list[DuplicatePair]) -> Spans:
    """Near pairs as their score, the numbers of the first aligned clips, and how many are aligned."""
    found: Spans = {}
    for pair in pairs:
        clips = {name: index.clips(name, vectors=None) for name in (pair.a, pair.b)}
        a = int(np.flatnonzero(clips[pair.a].start_seconds == pair.a_seconds[0])[0])
        b = int(np.flatnonzero(clips[pair.b].start_seconds == pair.b_seconds[0])[0])
        last = int(np.flatnonzero(clips[pair.a].end_seconds == pair.a_seconds[1])[0])
        found[pair.a, pair.b] = (pair.score, a, b, last - a + 1)
    return found


@pytest.mark.parametrize("exact", [True, False])
def test_every_kind_of_copy_is_found_as_by_brute_force(copied: Index, exact: bool) -> None:
    pairs = find_duplicates(copied, exact=exact)
    same = [pair for pair in pairs if pair.kind == "exact"]
    assert {(pair.a, pair.b) for pair in same} == {(f"again/{name}.mp4", f"original/{name}.mp4") for name in EVERYDAY}
    expected, found = by_brute_force(copied), as_spans(copied, pairs)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-5), key
    for kind in KINDS:
        hits = sum(
            (min(kind, "original") + f"/{name}.mp4", max(kind, "original") + f"/{name}.mp4") in found
            for name in EVERYDAY
        )
        assert hits == len(EVERYDAY), kind


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """400 recordings of 5 clips, of every tenth a copy whose first clips are missing; some copies are hard to find."""
    from c3dvideo.features.store import VideoFeatures, feature_path, write_features

    folder = tmp_path_factory.mktemp("many")
    generator = np.random.default_rng(0)
    recordings = 10 + generator.standard_normal((400, 5, 48))
    copies = recordings[::10, 1:] + np.linspace(0.1, 0.9, 40)[:, None, None] * generator.standard_normal((40, 4, 48))
    named = {f"{number:03d}.mp4": clips for number, clips in enumerate(recordings)}
    named |= {f"copy/{10 * number:03d}.mp4": clips for number, clips in enumerate(copies)}
    for name, clips in named.items():
        features = VideoFeatures(
            name=name,
            layers={"fc6": clips.astype(np.float32)},
            start_frame=16 * np.arange(len(clips)),
            start_seconds=0.64 * np.arange(len(clips)),
            metadata={"settings": {"weights": "w1"}},
        )
        write_features(feature_path(folder / "features", name), features)
    build_index(folder / "features", folder / "db")
    return Index.open(folder / "db")


def test_cells_and_small_blocks_find_what_all_pairs_give(many: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = find_duplicates(many, exact=True)
    assert 30 < len(expected) <= 40
    assert {(pair.a, pair.b) for pair in expected} <= {(f"{n:03d}.mp4", f"copy/{n:03d}.mp4") for n in range(400)}
    # Many blocks, tiles and prunings, whose borders fall anywhere.
    for name, size in (("_ROWS_AT_ONCE", 7), ("_COLUMNS_AT_ONCE", 11), ("_BLOCK_ROWS", 64), ("_MOST_HELD", 20)):
        monkeypatch.setattr(similar_pairs, name, size)
    for exact in (True, False):
        found = find_duplicates(many, exact=exact)
        assert [(pair.a, pair.b, pair.a_seconds, pair.b_seconds) for pair in found] == [
            (pair.a, pair.b, pair.a_seconds, pair.b_seconds) for pair in expected
        ]
        assert [pair.score for pair in found] == pytest.approx([pair.score for pair in expected], abs=1e-5)


def test_a_cut_copy_of_a_steady_recording_is_aligned(tmp_path: Path, feature_folder: Folder) -> None:
    """All clips are alike, so that many diagonals have as many similar pairs as the right one."""
    generator = np.random.default_rng(0)
    videos = {f"{seed}.mp4": 10 + generator.standard_normal((6, 48)) for seed in range(30)}
    steady = 10 + generator.standard_normal(48) + 0.4 * generator.standard_normal((12, 48))
    copy = steady[5:] + 0.2 * generator.standard_normal((7, 48))
    build_index(feature_folder(tmp_path / "features", videos | {"a.mp4": steady, "b.mp4": copy}), tmp_path / "db")
    (pair,) = find_duplicates(Index.open(tmp_path / "db"))
    assert [round(value / 0.64) for value in (*pair.a_seconds, *pair.b_seconds)] == [5, 12, 0, 7]


def test_large_collections_are_compared_in_cells_and_that_is_noted(
    many: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    exact = find_duplicates(many, note=notes.append)
    assert notes == []
    monkeypatch.setattr(duplicates, "EXACT_UP_TO", 2000)
    assert len(find_duplicates(many, note=notes.append)) == len(exact)
    assert len(notes) == 1
    assert "2,160 clips" in notes[0] and "may miss" in notes[0]


def test_only_the_best_pairs_of_a_clip_are_held(many: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clips = many.spool(tmp_path)
    whole = list(similar_pairs.all_pairs(clips, lowest=-1.0))
    monkeypatch.setattr(similar_pairs, "_MOST_HELD", 100)
    for pairs, pruned in zip(whole, similar_pairs.all_pairs(clips, lowest=-1.0), strict=True):
        counts = np.bincount(pairs.first)
        assert counts.max() == similar_pairs.MOST_PAIRS
        assert np.array_equal(pairs.first, pruned.first) and np.array_equal(pairs.second, pruned.second)
    row = int(whole[0].first[0])
    scores = clips.directions[row] @ clips.directions[clips.rows(0).stop :].T
    assert np.sort(whole[0].scores[whole[0].first == row]) == pytest.approx(np.sort(scores)[-50:], abs=1e-6)


def test_spooled_clips_are_those_of_the_index(many: Index, tmp_path: Path) -> None:
    clips, table = many.spool(tmp_path), many.clips(vectors="directions")
    assert np.array_equal(clips.directions, table.vectors)
    assert np.array_equal(clips.start_seconds, table.start_seconds)
    assert np.array_equal(clips.end_seconds, table.end_seconds)
    assert [clips.names[number] for number in clips.video_of_row] == table.video.tolist()
    assert len(np.unique(clips.vector_hashes, axis=0)) == len(clips)


def test_a_full_disk_is_one_error(many: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("c3dvideo.search.spooled_clips._write_rows", full)
    with pytest.raises(StoreError, match="could not be written: the disk is full"):
        find_duplicates(many)


def test_rows_in_any_order_reach_their_places(tmp_path: Path) -> None:
    from c3dvideo.search.spooled_clips import _write_rows

    matrix = np.arange(40, dtype=np.float32).reshape(10, 4)
    order = np.array([5, 6, 7, 2, 0, 1, 9, 8, 3, 4])
    with (tmp_path / "rows").open("wb", buffering=0) as file:
        _write_rows(file, order, matrix[order])
    assert np.array_equal(np.fromfile(tmp_path / "rows", np.float32).reshape(10, 4), matrix)
