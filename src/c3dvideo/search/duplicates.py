"""Find duplicates in an index: exact copies, and the same recording encoded, scaled, cropped or cut anew.

    for pair in find_duplicates(index):
        print(pair.a, pair.b, pair.kind, pair.score, pair.a_seconds, pair.b_seconds)

Two videos of one recording have clips that are alike along one diagonal: clip i of one with clip i + d of the other.
Pairs of similar clips vote for their difference in time, and the mean score along the best diagonal decides.
docs/search.md states precision and recall on real videos.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np

from c3dvideo.errors import UsageError
from c3dvideo.probing.descriptors import Array
from c3dvideo.progress import progress
from c3dvideo.search.index import Index

THRESHOLD = 0.7
"""Smallest mean score of aligned clips: no false pair in the half of the measured videos that it was chosen on."""
# Clips of less than the threshold vote too, because single clips of a duplicate may differ more than most.
_VOTE_MARGIN = 0.15
_MOST_VOTES = 50  # of one clip, so that a collection of equal clips needs no more memory than others
_MOST_OFFSETS = 3
_ROWS_AT_ONCE = 1024

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
    """The clips of one video: its rows of the table, their spans in seconds, and when they start for a comparison."""

    name: str
    rows: slice
    starts: Array
    ends: Array
    times: Array

    @property
    def span(self) -> tuple[float, float]:
        return float(self.starts[0]), float(self.ends[-1])

    @property
    def step(self) -> float:
        """Seconds from one clip to the next."""
        gaps = np.diff(self.times)
        return float(np.median(gaps)) if len(gaps) else 0.0


def find_duplicates(index: Index, *, threshold: float = THRESHOLD, min_clips: int = 2) -> list[DuplicatePair]:
    """All pairs of duplicates in an index: exact ones first, then near ones, the best first.

    threshold: smallest mean score of the aligned clips of near duplicates, -1 to 1. min_clips: how many clips must be
    aligned, or all clips of the shorter video where it has fewer. All pairs of clips are compared: the time grows with
    the square of their number. Raises UsageError for values outside these ranges.
    """
    if not -1 <= threshold <= 1:
        raise UsageError(f"`threshold={threshold}` is no score; expected -1 to 1")
    if min_clips < 1:
        raise UsageError(f"`min_clips={min_clips}` clips were wanted; expected 1 or more")
    table = index.clips(vectors="directions")
    videos = _videos(table.video, table.start_seconds, table.end_seconds)
    exact = list(_exact(index, videos))
    known = {(pair.a, pair.b) for pair in exact}
    near = []
    half_step = _half_step(videos)
    for (first, second), votes in _votes(table.vectors, videos, threshold - _VOTE_MARGIN, half_step).items():
        a, b = videos[first], videos[second]
        if (a.name, b.name) not in known:
            scores = table.vectors[a.rows] @ table.vectors[b.rows].T
            offsets = [offset * half_step for offset, _ in votes.most_common(_MOST_OFFSETS)]
            pair = _aligned(a, b, scores, offsets, threshold, min_clips)
            if pair is not None:
                near.append(pair)
    return exact + sorted(near, key=lambda pair: (-pair.score, pair.a, pair.b))


def _videos(names: Array, starts: Array, ends: Array) -> list[_Video]:
    """The videos of a table of clips, which is in the order of videos."""
    if not len(names):
        return []
    bounds = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    videos = []
    for start, end in pairwise(bounds):
        times = starts[start:end]
        if not np.isfinite(times).all():  # a frame folder without a frame rate
            times = np.arange(end - start, dtype=np.float64)
        videos.append(_Video(names[start], slice(start, end), starts[start:end], ends[start:end], times))
    return videos


def _exact(index: Index, videos: list[_Video]) -> Iterator[DuplicatePair]:
    """Pairs of the same file content, or of the same vectors."""
    vectors, contents = index.clips().vectors, index.contents()
    groups: dict[str, list[_Video]] = defaultdict(list)
    for video in videos:
        groups[hashlib.sha256(vectors[video.rows].tobytes()).hexdigest()].append(video)
        if (content := contents[video.name]) is not None:
            groups[f"content {content}"].append(video)
    pairs = {(a.name, b.name): (a, b) for group in groups.values() for a, b in combinations(group, 2)}
    for (first, second), (a, b) in sorted(pairs.items()):
        yield DuplicatePair(first, second, "exact", 1.0, a.span, b.span)


def _votes(
    directions: Array, videos: list[_Video], lowest: float, half_step: float
) -> dict[tuple[int, int], Counter[int]]:
    """How many pairs of similar clips each pair of videos has, by their difference in time in half steps."""
    video_of = np.repeat(np.arange(len(videos)), [video.rows.stop - video.rows.start for video in videos])
    times = np.concatenate([video.times for video in videos]) if videos else np.zeros(0)
    votes: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    with progress("comparing clips", total=len(directions), unit="clips") as bar:
        for start in range(0, len(directions), _ROWS_AT_ONCE):
            block = directions[start : start + _ROWS_AT_ONCE]
            # Each pair once: the rows of a block are compared with themselves and with what follows.
            scores = block @ directions[start:].T
            scores[video_of[start : start + len(block), None] >= video_of[None, start:]] = -np.inf
            for row, line in enumerate(scores):
                similar = np.flatnonzero(line >= lowest)
                if len(similar) > _MOST_VOTES:
                    similar = similar[np.argpartition(-line[similar], _MOST_VOTES)[:_MOST_VOTES]]
                offsets = np.round((times[start + similar] - times[start + row]) / half_step)
                for other, offset in zip(video_of[start + similar].tolist(), offsets.tolist(), strict=True):
                    votes[int(video_of[start + row]), other][int(offset)] += 1
            bar.advance(len(block))
    return votes


def _half_step(videos: list[_Video]) -> float:
    """Half of the usual time from one clip to the next."""
    steps = [video.step for video in videos if video.step > 0]
    return float(np.median(steps)) / 2 if steps else 1.0


def _aligned(
    a: _Video, b: _Video, scores: Array, offsets: list[float], threshold: float, min_clips: int
) -> DuplicatePair | None:
    """The best alignment of two videos by differences in time, in seconds; None when none is good enough."""
    needed = min(min_clips, len(a.starts), len(b.starts))
    best: tuple[float, DuplicatePair] | None = None
    for first, second in _diagonals(a, b, offsets):
        along = scores[first, second]
        start, end = _best_run(along - (threshold - _VOTE_MARGIN))
        run = along[start:end]
        if len(run) >= needed and run.mean() >= threshold and (best is None or run.sum() > best[0]):
            i, j = first[start:end], second[start:end]
            spans = [(float(v.starts[k[0]]), float(v.ends[k[-1]])) for v, k in ((a, i), (b, j))]
            best = run.sum(), DuplicatePair(a.name, b.name, "near", float(run.mean()), spans[0], spans[1])
    return None if best is None else best[1]


def _diagonals(a: _Video, b: _Video, offsets: list[float]) -> Iterator[tuple[Array, Array]]:
    """The clips of `a` and of `b` that are aligned, for each difference in time in seconds."""
    differences = b.times[None] - a.times[:, None]
    reach = max(a.step, b.step) / 2 + 1e-6
    for offset in offsets:
        # The clip of b nearest to the wanted time; a clip without one within half a step has no partner.
        distances = np.abs(differences - offset)
        nearest = distances.argmin(axis=1)
        kept = np.flatnonzero(distances[np.arange(len(nearest)), nearest] <= reach)
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
