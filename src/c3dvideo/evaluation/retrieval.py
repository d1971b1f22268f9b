"""Retrieval across sources: does the descriptor of a video find other videos of its class?

    report = evaluate_retrieval(labelled)
    report["mAP"], report["P@1"], report["chance"]["mAP"]

Every video is a query once. The videos of all other sources are ranked by the cosine of their descriptors to it, so
that clips of one source video never find each other. The videos of the query's class are relevant. Nothing is learned
from labels: the measure shows what search and similarity give without a classifier.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score

from c3dvideo.choices import PostProcessing
from c3dvideo.errors import DatasetError
from c3dvideo.evaluation.evaluation_report import Report, data_facts
from c3dvideo.probing.descriptors import Array
from c3dvideo.probing.labelled import Labelled
from c3dvideo.probing.reference import post_process
from c3dvideo.progress import track

_QUERIES_AT_ONCE = 256
_RESAMPLES = 2000
MEASURES = ("mAP", "P@1")


def evaluate_retrieval(
    labelled: Labelled, *, post_processing: PostProcessing = "none", mean: Array | None = None, seed: int = 0
) -> Report:
    """Mean average precision (mAP) and precision at 1 over all queries and per class, with those of a random ranking.

    post_processing: "centre" subtracts `mean` (D,) from the descriptors; None takes the mean of `labelled` itself.
    The 95% intervals are bootstrapped over sources, because videos of one source depend on each other. A query without
    a relevant video in another source is left out and counted.
    Raises DatasetError when no query is left.
    """
    labels, groups = labelled.labels, labelled.groups
    own_mean = labelled.matrix.mean(axis=0, dtype=np.float64)
    rows = post_process(labelled.matrix, post_processing, own_mean if mean is None else mean)
    queries = np.flatnonzero([((labels == labels[i]) & (groups != groups[i])).any() for i in range(len(labels))])
    if not len(queries):
        raise DatasetError(
            f"no class of {len(set(labels.tolist()))} has videos of two sources, so nothing can be retrieved; "
            "add videos of other sources"
        )
    found = np.array(list(track(_score(rows, labels, groups, queries), "ranking", total=len(queries), unit="queries")))
    measured, chance = found[:, : len(MEASURES)], found[:, len(MEASURES) :]
    per_class = {}
    for name in sorted(set(labels[queries].tolist())):
        mask = labels[queries] == name
        per_class[name] = {"n": int(mask.sum()), **_means(measured[mask]), "chance": _means(chance[mask])}
    return {
        **data_facts(labelled.examples, partition="every source against all others"),
        "task": "retrieval",
        **_means(measured),
        "chance": _means(chance),
        "intervals": {
            name: _interval(column, groups[queries], seed) for name, column in zip(MEASURES, measured.T, strict=True)
        },
        "n_queries": len(queries),
        "n_without_match": len(labels) - len(queries),
        "post_processing": post_processing,
        "per_class": per_class,
    }


def random_average_precision(n_relevant: int, n: int) -> float:
    """The expected average precision of a random ranking of `n` videos of which `n_relevant` are relevant.

    It exceeds n_relevant / n, most of all for short rankings, because average precision counts relevant places only.
    """
    if n == 1:
        return float(n_relevant)
    others = (n_relevant - 1) / (n - 1)
    return others + (1 - others) * float((1 / np.arange(1, n + 1)).sum()) / n


def _means(columns: Array) -> dict[str, float]:
    return dict(zip(MEASURES, columns.mean(axis=0).tolist(), strict=True))


def _score(rows: Array, labels: Array, groups: Array, queries: Array) -> Iterator[tuple[float, ...]]:
    """The measures of every query, then those of a random ranking; the cosines of few queries are held at a time."""
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        chosen = queries[start : start + _QUERIES_AT_ONCE]
        for query, cosines in zip(chosen, rows[chosen] @ rows.T, strict=True):
            candidates = groups != groups[query]
            relevant, scores = labels[candidates] == labels[query], cosines[candidates]
            n_relevant, n = int(relevant.sum()), len(relevant)
            yield (
                float(average_precision_score(relevant, scores)),
                float(relevant[scores.argmax()]),
                random_average_precision(n_relevant, n),
                n_relevant / n,
            )


def _interval(values: Array, groups: Array, seed: int) -> list[float]:
    """The 95% interval of the mean of `values`, by resampling whole groups; the mean twice where there is one group."""
    names = np.unique(groups)
    if len(names) < 2:
        return [float(values.mean())] * 2
    sums = np.array([values[groups == name].sum() for name in names])
    counts = np.array([(groups == name).sum() for name in names], float)

    def mean(sums: Array, counts: Array, axis: int = -1) -> Any:
        return sums.sum(axis=axis) / counts.sum(axis=axis)

    found = bootstrap(
        (sums, counts), mean, paired=True, vectorized=True, n_resamples=_RESAMPLES, method="percentile", rng=seed
    ).confidence_interval
    return [float(found.low), float(found.high)]
