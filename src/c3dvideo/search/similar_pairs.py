"""Pairs of similar clips of different videos, in bounded memory: of all pairs, or of those that share a cell.

    for pairs in all_pairs(clips, lowest=0.55): ...
    for pairs in pairs_in_cells(clips, folder, lowest=0.55): ...

Both go through the videos in order and yield all pairs of a few videos at a time, each pair once, with the video that
comes first by name first. `all_pairs` compares every clip with every other one, so its time grows with the square of
their number. `pairs_in_cells` divides the clips into cells around k-means centres and compares each clip with those in
the nearest cells only (an inverted file: Jegou et al., PAMI 2011). Whole cells are compared by matrix products, which
is far faster than one search per clip.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from c3dvideo.files import writing
from c3dvideo.probing.descriptors import Array, unit_rows
from c3dvideo.progress import progress
from c3dvideo.search.spooled_clips import SpooledClips

MOST_PAIRS = 50
"""Of one clip: its best. So a collection of equal clips needs no more memory than others."""
N_PROBES = 8
"""Cells that each clip is compared with; docs/search.md states what is found."""
_ROWS_AT_ONCE = 1024
_COLUMNS_AT_ONCE = 16_384
_BLOCK_ROWS = 32_768  # a block goes through all cells, so that larger blocks read the file less often
_MOST_HELD = 4_000_000
_SAMPLES_PER_CELL = 40


@dataclass(frozen=True, eq=False)
class ClipPairs:
    """Similar clips: their rows int64 (n,), of which `first` belongs to the earlier video, and float32 scores (n,)."""

    first: Array
    second: Array
    scores: Array


class _Found:
    """The pairs of one block, of which each first clip keeps its best."""

    def __init__(self) -> None:
        self._parts: list[ClipPairs] = []
        self._n = 0

    def add(self, first: Array, second: Array, scores: Array) -> None:
        """Hold more pairs; drops what is not among the best when there are too many."""
        self._parts.append(ClipPairs(first, second, scores))
        self._n += len(first)
        if self._n > _MOST_HELD:
            self._parts = [self.best()]
            self._n = len(self._parts[0].first)

    def best(self) -> ClipPairs:
        """The best pairs of each first clip, in the order of first and second clips."""
        first, second, scores = (
            np.concatenate([getattr(part, name) for part in self._parts] or [np.zeros(0, kind)])
            for name, kind in (("first", np.int64), ("second", np.int64), ("scores", np.float32))
        )
        order = np.lexsort((-scores, first))
        starts = np.searchsorted(first[order], first[order])
        order = order[np.arange(len(order)) - starts < MOST_PAIRS]
        order = order[np.lexsort((second[order], first[order]))]
        return ClipPairs(first[order], second[order], scores[order])


def all_pairs(clips: SpooledClips, *, lowest: float) -> Iterator[ClipPairs]:
    """Every pair of clips of different videos whose score is `lowest` or more, up to `MOST_PAIRS` per clip."""
    n = len(clips)
    with progress("comparing clips", total=n, unit="clips") as bar:
        for start, stop in _blocks(clips, _ROWS_AT_ONCE):
            found = _Found()
            for top in range(start, stop, _ROWS_AT_ONCE):
                rows = np.arange(top, min(top + _ROWS_AT_ONCE, stop))
                for left in range(_end_of_video(clips, top), n, _COLUMNS_AT_ONCE):
                    columns = np.arange(left, min(left + _COLUMNS_AT_ONCE, n))
                    _compare(
                        clips,
                        rows,
                        clips.directions[top : rows[-1] + 1],
                        columns,
                        clips.directions[left : columns[-1] + 1],
                        lowest,
                        found,
                    )
            yield found.best()
            bar.advance(stop - start)


def pairs_in_cells(
    clips: SpooledClips, folder: Path, *, lowest: float, n_probes: int = N_PROBES
) -> Iterator[ClipPairs]:
    """`all_pairs`, of clips in cells near each other only; a copy of the directions is written to `folder`."""
    probes = _nearest_cells(clips.directions, n_probes)
    by_cell = np.argsort(probes[:, 0], kind="stable")  # within a cell in the order of rows
    n_cells = int(probes.max()) + 1
    bounds = np.searchsorted(probes[by_cell, 0], np.arange(n_cells + 1))
    members = _copy_rows(clips.directions, by_cell, folder / "cells")
    with progress("comparing clips", total=len(clips), unit="clips") as bar:
        for start, stop in _blocks(clips, _BLOCK_ROWS):
            found = _Found()
            block = np.asarray(clips.directions[start:stop])
            order = np.argsort(probes[start:stop].ravel(), kind="stable")
            edges = np.searchsorted(probes[start:stop].ravel()[order], np.arange(n_cells + 1))
            for cell in np.flatnonzero(np.diff(edges)):
                queries = np.sort(order[edges[cell] : edges[cell + 1]] // n_probes)
                low, high = bounds[cell], bounds[cell + 1]
                # Of earlier blocks, every pair has been found from its first clip.
                low += np.searchsorted(by_cell[low:high], start)
                for top in range(0, len(queries), _ROWS_AT_ONCE):
                    some = queries[top : top + _ROWS_AT_ONCE]
                    for left in range(low, high, _COLUMNS_AT_ONCE):
                        right = min(left + _COLUMNS_AT_ONCE, high)
                        _compare(
                            clips, start + some, block[some], by_cell[left:right], members[left:right], lowest, found
                        )
            yield found.best()
            bar.advance(stop - start)


def _compare(
    clips: SpooledClips, rows: Array, first: Array, columns: Array, second: Array, lowest: float, found: _Found
) -> None:
    """Find the similar pairs of some clips: `rows` with the directions `first`, and `columns` with `second`."""
    scores = first @ second.T
    row, column = np.nonzero(scores >= lowest)
    video = clips.video_of_row
    later = video[rows[row]] < video[columns[column]]
    row, column = row[later], column[later]
    if len(row):
        found.add(rows[row], columns[column], scores[row, column])


def _blocks(clips: SpooledClips, n_rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows of whole videos, of `n_rows` or more but for the last."""
    start = 0
    while start < len(clips):
        stop = _end_of_video(clips, min(start + n_rows, len(clips)) - 1)
        yield start, stop
        start = stop


def _end_of_video(clips: SpooledClips, row: int) -> int:
    """The row behind the video that `row` belongs to."""
    return int(clips.first_rows[clips.video_of_row[row] + 1])


def _nearest_cells(directions: Array, n_probes: int) -> Array:
    """The cells nearest to every clip, int32 (n, n_probes), the nearest first."""
    from sklearn.cluster import MiniBatchKMeans

    n = len(directions)
    n_cells = max(n_probes, round(2 * n**0.5))
    sample = np.sort(np.random.default_rng(0).permutation(n)[: _SAMPLES_PER_CELL * n_cells])
    means = MiniBatchKMeans(n_cells, batch_size=8192, max_iter=4, init="random", n_init=1, random_state=0)
    centres = unit_rows(means.fit(directions[sample]).cluster_centers_).astype(np.float32)
    probes = np.empty((n, n_probes), np.int32)
    for start in range(0, n, _ROWS_AT_ONCE):
        scores = directions[start : start + _ROWS_AT_ONCE] @ centres.T
        near = np.argpartition(-scores, n_probes - 1, axis=1)[:, :n_probes]
        best_first = np.argsort(-np.take_along_axis(scores, near, 1), axis=1, kind="stable")
        probes[start : start + _ROWS_AT_ONCE] = np.take_along_axis(near, best_first, 1)
    return probes


def _copy_rows(directions: Array, order: Array, path: Path) -> Array:
    """The rows in another order, float32 (n, K), mapped from a file."""
    with writing(path), path.open("wb") as file:
        for start in range(0, len(order), _ROWS_AT_ONCE):
            file.write(directions[order[start : start + _ROWS_AT_ONCE]].tobytes())
    return np.memmap(path, np.float32, "r", shape=directions.shape)
