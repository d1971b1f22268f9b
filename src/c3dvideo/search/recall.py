"""Recall@10: how many of the ten nearest clips a cheaper search finds.

pca_recall(features, space, full)           # of vectors shortened by a PCA
approximate_recall(writer)                  # of an approximate index
"""

import numpy as np

from c3dvideo.probing.descriptors import Array
from c3dvideo.search.index_writer import IndexWriter
from c3dvideo.search.vector_space import VectorSpace

N_NEAREST = 10
# At a million clips each exact search takes about a second.
_N_QUERIES = 30
_N_PCA_QUERIES = 200


def pca_recall(features: Array, space: VectorSpace, full: VectorSpace) -> float:
    """The recall@10 of vectors that `space` projects, measured on features (n, W); `full` compares all numbers."""
    rows = np.random.default_rng(0).permutation(len(features))[:_N_PCA_QUERIES]
    wanted = _nearest(full.directions(features), rows)
    found = _nearest(space.directions(space.encode(features)), rows)
    return _share(wanted, found)


def approximate_recall(writer: IndexWriter) -> float:
    """The recall@10 of the approximate index, with random clips of the index as queries."""
    directions, _ = writer.sample(_N_QUERIES)
    wanted, found = (
        [
            {tuple[object, ...](row) for row in writer.nearest(direction, N_NEAREST, exact=exact)}
            for direction in directions
        ]
        for exact in (True, False)
    )
    return _share(wanted, found)


def _nearest(directions: Array, rows: Array) -> list[set[tuple[object, ...]]]:
    """The ten rows nearest to each of `rows`, without itself."""
    scores = directions[rows] @ directions.T
    scores[np.arange(len(rows)), rows] = -np.inf
    n_nearest = min(N_NEAREST, len(directions) - 1)
    return [{(int(number),) for number in np.argsort(-line, kind="stable")[:n_nearest]} for line in scores]


def _share(wanted: list[set[tuple[object, ...]]], found: list[set[tuple[object, ...]]]) -> float:
    n_wanted = sum(map(len, wanted))
    hits = sum(len(one & other) for one, other in zip(wanted, found, strict=True))
    return hits / n_wanted if n_wanted else 1.0
