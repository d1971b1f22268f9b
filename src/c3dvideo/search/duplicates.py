"""Find duplicates in an index: exact copies, and the same recording encoded, scaled, cropped or cut anew.

    for pair in find_duplicates(index):
        print(pair.a, pair.b, pair.kind, pair.score, pair.a_seconds, pair.b_seconds)

Two videos of one recording have clips that are alike along one diagonal: clip i of one with clip i + d of the other.
Pairs of similar clips vote for their difference in time, by number and by score, and the mean score along the best
diagonal decides. Videos are aligned only when the score of some pair of their clips reaches the threshold.
docs/search.md states precision and recall on real videos, and time and memory for a million clips.
"""

import hashlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from c3dvideo.errors import UsageError
from c3dvideo.probing.descriptors import Array
from c3dvideo.search.index import Index
from c3dvideo.search.similar_pairs import ClipPairs, all_pairs, pairs_in_cells
from c3dvideo.search.spooled_clips import SpooledClips

THRESHOLD = 0.7
"""Smallest mean score of aligned clips: no false pair in the half of the measured videos that it was chosen on."""
EXACT_UP_TO = 100_000
"""Clips up to which all pairs are compared: a minute on one core."""
# Clips of less than the threshold vote too, because single clips of a duplicate may differ more than most.
_VOTE_MARGIN = 0.15
_MOST_OFFSETS = 3
_ROUNDING = 1e-4  # of scores, which are summed in another order in larger products

DuplicateKind = Literal["exact", "near"]


@dataclass(frozen=True)
class DuplicatePair:
    """Two videos that show the same recording, a before b by name.

    kind: "exact" for the same file content or the same vectors, else "near". score: the mean score of the aligned
    clips; 1 for exact. a_seconds, b_seconds: the aligned spans (start, end), accurate to half a stride.
    """

    a: str
    b: str
    kind: DuplicateKind
    score: float
    a_seconds: tuple[float, float]
    b_seconds: tuple[float, float]


@dataclass(frozen=True, eq=False)
class _Video:
    """The clips of one video: their spans in seconds, when they start for a comparison, and their directions."""

    name: str
    starts: Array
    ends: Array
    times: Array
    directions: Array

    @property
    def span(self) -> tuple[float, float]:
        return float(self.starts[0]), float(self.ends[-1])

    @property
    def step(self) -> float:
        """Seconds from one clip to the next."""
        return _step(self.times)


def find_duplicates(
    index: Index,
    *,
    threshold: float = THRESHOLD,
    min_clips: int = 2,
    exact: bool | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[DuplicatePair]:
    """All pairs of duplicates in an index: exact ones first, then near ones, the best first.

    threshold: smallest mean score of the aligned clips of near duplicates, -1 to 1. min_clips: how many clips must be
    aligned, or all clips of the shorter video where it has fewer. exact: compare every clip with every other one, in a
        time that grows with the square of their number; False compares each with the clips of the nearest cells only,
        which may miss near duplicates; None is exact up to 100,000 clips.
    The directions of all clips are copied to the folder for temporary files, 1 KB per clip, twice with cells.
    Raises UsageError for values outside these ranges, StoreError for a full disk.
    """
    if not -1 <= threshold <= 1:
        raise UsageError(f"`threshold={threshold}` is no score; expected -1 to 1")
    if min_clips < 1:
        raise UsageError(f"`min_clips={min_clips}` clips were wanted; expected 1 or more")
    with tempfile.TemporaryDirectory(prefix="c3dvideo") as folder:
        clips = index.spool(Path(folder))
        if not len(clips):
            return []
        if exact is None and not (exact := len(clips) <= EXACT_UP_TO):
            note(
                f"{len(clips):,} clips: each is compared with those of the nearest cells, which may miss near "
                "duplicates; `exact=True` compares all"
            )
        lowest = threshold - _VOTE_MARGIN
        pairs = all_pairs(clips, lowest=lowest) if exact else pairs_in_cells(clips, Path(folder), lowest=lowest)
        same = sorted(_exact(index, clips), key=lambda pair: (pair.a, pair.b))
        known = {(pair.a, pair.b) for pair in same}
        near = [pair for pair in _near(clips, pairs, threshold, min_clips) if (pair.a, pair.b) not in known]
    return same + sorted(near, key=lambda pair: (-pair.score, pair.a, pair.b))


def _video(clips: SpooledClips, number: int) -> _Video:
    rows = clips.rows(number)
    starts = clips.start_seconds[rows]
    return _Video(clips.names[number], starts, clips.end_seconds[rows], _times(starts), clips.directions[rows])


def _times(starts: Array) -> Array:
    """When clips start; by position in a frame folder without a frame rate."""
    return starts if np.isfinite(starts).all() else np.arange(len(starts), dtype=np.float64)


def _step(times: Array) -> float:
    gaps = np.diff(times)
    return float(np.median(gaps)) if len(gaps) else 0.0


def _exact(index: Index, clips: SpooledClips) -> Iterator[DuplicatePair]:
    """Pairs of the same file content, or of the same vectors."""
    contents = index.contents()
    groups: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(clips.names):
        hashes = clips.vector_hashes[clips.rows(number)]
        groups[hashlib.sha256(hashes.tobytes()).hexdigest()].append(number)
        if (content := contents.get(name)) is not None:
            groups[f"content {content}"].append(number)
    for first, second in {pair for group in groups.values() for pair in combinations(group, 2)}:
        a, b = _video(clips, first), _video(clips, second)
        yield DuplicatePair(a.name, b.name, "exact", 1.0, a.span, b.span)


def _near(clips: SpooledClips, pairs: Iterator[ClipPairs], threshold: float, min_clips: int) -> Iterator[DuplicatePair]:
    """The near duplicates among the videos that have similar clips."""
    times = np.concatenate([_times(clips.start_seconds[clips.rows(number)]) for number in range(len(clips.names))])
    half_step = _half_step(clips)
    for some in pairs:
        for (first, second), offsets, scores in _candidates(clips, some, times, half_step, threshold):
            best = [half_step * offset for offset in _best_offsets(offsets, scores - (threshold - _VOTE_MARGIN))]
            pair = _aligned(_video(clips, first), _video(clips, second), best, threshold, min_clips)
            if pair is not None:
                yield pair


def _candidates(
    clips: SpooledClips, pairs: ClipPairs, times: Array, half_step: float, threshold: float
) -> Iterator[tuple[tuple[int, int], Array, Array]]:
    """Pairs of videos, the differences in time, in half steps, between their similar clips, and the scores of these.

    Only with a pair of clips of the threshold or more: without one, no mean can reach it.
    """
    n_videos = len(clips.names)
    keys = clips.video_of_row[pairs.first] * n_videos + clips.video_of_row[pairs.second]
    strong = np.unique(keys[pairs.scores >= threshold - _ROUNDING])
    kept = np.flatnonzero(np.isin(keys, strong))
    kept = kept[np.argsort(keys[kept], kind="stable")]
    offsets = np.round((times[pairs.second[kept]] - times[pairs.first[kept]]) / half_step).astype(np.int64)
    if len(strong):
        bounds = np.searchsorted(keys[kept], strong)[1:]
        parts = np.split(offsets, bounds), np.split(pairs.scores[kept], bounds)
        for key, these, scores in zip(strong.tolist(), *parts, strict=True):
            yield divmod(key, n_videos), these, scores


def _best_offsets(offsets: Array, gains: Array) -> list[int]:
    """The differences in time to align with: those of the most pairs of clips, and those of the most similar ones.

    In a video of one steady picture all clips are alike, so that the longest diagonals have the most pairs.
    """
    counts = Counter(offsets.tolist())
    sums: Counter[int] = Counter()
    for offset, gain in zip(offsets.tolist(), gains.tolist(), strict=True):
        sums[offset] += gain
    best = [*counts.most_common(_MOST_OFFSETS), *sums.most_common(_MOST_OFFSETS)]
    return list(dict.fromkeys(offset for offset, _ in best))


def _half_step(clips: SpooledClips) -> float:
    """Half of the usual time from one clip to the next."""
    steps = [_step(_times(clips.start_seconds[clips.rows(number)])) for number in range(len(clips.names))]
    positive = [step for step in steps if step > 0]
    return float(np.median(positive)) / 2 if positive else 1.0


def _aligned(a: _Video, b: _Video, offsets: list[float], threshold: float, min_clips: int) -> DuplicatePair | None:
    """The best alignment of two videos by differences in time, in seconds; None when none is good enough."""
    needed = min(min_clips, len(a.starts), len(b.starts))
    best: tuple[float, DuplicatePair] | None = None
    for first, second in _diagonals(a, b, offsets):
        along = np.einsum("nd,nd->n", a.directions[first], b.directions[second])
        start, end = _best_run(along - (threshold - _VOTE_MARGIN))
        run = along[start:end]
        if len(run) >= needed and run.mean() >= threshold and (best is None or run.sum() > best[0]):
            i, j = first[start:end], second[start:end]
            spans = [(float(v.starts[k[0]]), float(v.ends[k[-1]])) for v, k in ((a, i), (b, j))]
            best = run.sum(), DuplicatePair(a.name, b.name, "near", float(run.mean()), spans[0], spans[1])
    return None if best is None else best[1]


def _diagonals(a: _Video, b: _Video, offsets: list[float]) -> Iterator[tuple[Array, Array]]:
    """The clips of `a` and of `b` that are aligned, for each difference in time in seconds."""
    reach = max(a.step, b.step) / 2 + 1e-6
    for offset in offsets:
        # The clip of b nearest to the wanted time; a clip without one within half a step has no partner.
        wanted = a.times + offset
        after = np.clip(np.searchsorted(b.times, wanted), 0, len(b.times) - 1)
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(b.times[before] - wanted) <= np.abs(b.times[after] - wanted), before, after)
        kept = np.flatnonzero(np.abs(b.times[nearest] - wanted) <= reach)
        if len(kept):
            yield kept, nearest[kept]


def _best_run(gains: Array) -> tuple[int, int]:
    """The half-open range whose sum is largest (Kadane)."""
    best, here, start, found = -np.inf, 0.0, 0, (0, 0)
    for position, gain in enumerate(gains.tolist()):
        if here <= 0:
            here, start = 0.0, position
        here += gain
        if here > best:
            best, found = here, (start, position + 1)
    return found
