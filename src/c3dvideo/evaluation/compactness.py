"""Compactness: accuracy of a linear SVM after PCA to few dimensions (paper section 4, Figure 5).

report = evaluate_compactness(labelled, dimensions=[10, 50, 100, 500])
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import accuracy_score

from c3dvideo.errors import UsageError
from c3dvideo.evaluation.action_recognition import partition_facts, partitions
from c3dvideo.evaluation.evaluation_report import Report
from c3dvideo.evaluation.paper import beside
from c3dvideo.probing.descriptors import Part
from c3dvideo.probing.labelled import Labelled
from c3dvideo.probing.probe import fit_probe

DIMENSIONS = (10, 50, 100, 500)


def evaluate_compactness(
    labelled: Labelled,
    *,
    dimensions: Sequence[int] = DIMENSIONS,
    penalty: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Report:
    """Video accuracy after PCA to each number of dimensions, and without PCA, averaged over the partitions.

    The components are fitted on the training descriptors. Numbers of dimensions above theirs are left out and listed.
    penalty: the SVM's C; None chooses it for every number of dimensions by cross-validation on the training videos.
    """
    parts = partitions(labelled, folds=folds, seed=seed)
    limit = min(min(len(train.examples), train.matrix.shape[1]) for train, _ in parts)
    kept = sorted({d for d in dimensions if 1 <= d <= limit})
    if not kept:
        raise UsageError(f"`dimensions={list(dimensions)}`: the training descriptors have {limit} components at most")
    found: dict[int | None, list[float]] = {d: [] for d in [*kept, None]}
    for train, test in parts:
        pca = PCA(n_components=kept[-1], random_state=seed).fit(train.matrix.astype(np.float64))
        for d, accuracies in found.items():
            known, held_out = (side if d is None else _project(side, pca, d) for side in (train, test))
            probe = fit_probe(known, penalty=penalty, folds=folds, seed=seed)
            accuracies.append(float(accuracy_score(test.labels, probe.predict(held_out.matrix))))
    return {
        **partition_facts(parts),
        "task": "compactness",
        "dimensions": kept,
        "accuracies": [float(np.mean(found[d])) for d in kept],
        "all_dimensions": {"dimensions": labelled.matrix.shape[1], "accuracy": float(np.mean(found[None]))},
        "left_out": sorted(set(dimensions) - set(kept)),
        "n_partitions": len(parts),
        "n_test": sum(len(test.examples) for _, test in parts),
        "published": beside("compactness"),
    }


def _project(labelled: Labelled, pca: PCA, dimensions: int) -> Labelled:
    """The first principal components in place of the descriptors."""
    matrix = pca.transform(labelled.matrix.astype(np.float64))[:, :dimensions]
    return replace(labelled, matrix=matrix, parts=(Part("pca", dimensions, {}),))
