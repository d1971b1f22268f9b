"""Scene recognition: a linear SVM tested on every video in turn, trained on all others (paper section 6, Table 5).

    report = evaluate_scenes(labelled)          # YUPENN: 420 videos, 14 classes

Leave-one-out of 420 videos needs 420 x 14 classifiers of 4096 numbers, and all of them depend on one 420 x 420 matrix
of inner products only. A squared-hinge SVM is a linear system over its support vectors (Chapelle, Neural Computation
2007). Leaving out a video that is no support vector changes nothing, and leaving out one that is changes the inverse by
rank one. The result is that of the plain loop (a test compares them). Videos of one source are left out together;
YUPENN and Maryland have one video per source.
"""

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from c3dvideo.errors import DatasetError, TrainingError
from c3dvideo.evaluation.evaluation_report import Report, data_facts
from c3dvideo.evaluation.paper import beside
from c3dvideo.probing.descriptors import Array
from c3dvideo.probing.labelled import Labelled
from c3dvideo.probing.probe import fit_probe
from c3dvideo.progress import track

_MOST_STEPS = 200


def evaluate_scenes(labelled: Labelled, *, penalty: float | None = None, seed: int = 0) -> Report:
    """Leave-one-out accuracy, per-class recall and confusion matrix (rows true, columns predicted).

    penalty: the SVM's C; None chooses it once by cross-validation over all videos, before any is left out.
    Raises DatasetError for fewer than two classes or three videos.
    """
    labels = labelled.labels
    chosen = penalty if penalty is not None else fit_probe(labelled, seed=seed).penalty
    predicted = leave_one_out(labelled.matrix, labels, groups=labelled.groups, penalty=chosen)
    classes = sorted(set(labels.tolist()))
    recall = recall_score(labels, predicted, labels=classes, average=None, zero_division=0.0)
    facts = data_facts(labelled.examples, partition="leave one source out")
    return {
        **facts,
        "task": "scenes",
        "n_folds": facts["n_sources"],
        "accuracy": float(accuracy_score(labels, predicted)),
        "n": len(labels),
        "penalty": chosen,
        "per_class": dict(zip(classes, map(float, recall), strict=True)),
        "classes": classes,
        "confusion": confusion_matrix(labels, predicted, labels=classes).tolist(),
        "published": beside("scenes"),
    }


def leave_one_out(matrix: Array, labels: Array, *, penalty: float, groups: Array | None = None) -> Array:
    """The predicted class of every row by one-against-rest SVMs trained without it, or without its group, str (n,).

    A class that is left out as a whole cannot be predicted. Raises DatasetError for fewer than two classes.
    """
    classes = sorted(set(labels.tolist()))
    if len(classes) < 2 or len(labels) < 3:
        raise DatasetError(
            f"{len(labels)} videos of {len(classes)} class(es); leave-one-out needs two classes, 3 videos"
        )
    rows = matrix.astype(np.float64)
    gram = rows @ rows.T + 1.0  # the 1 is liblinear's bias: one more column, all ones
    held_out = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    scores = np.stack(
        [_left_out_scores(gram, labels == name, held_out, penalty) for name in track(classes, "leaving one out")]
    )
    predicted: Array = np.array(classes)[scores.argmax(axis=0)]
    return predicted


def _left_out_scores(gram: Array, positive: Array, groups: Array, penalty: float) -> Array:
    """Decision value of every row by the SVM trained without its group; -inf where that leaves no positive row."""
    signs, ridge = np.where(positive, 1.0, -1.0), 0.5 / penalty
    weights, scores = _solve(gram, signs, ridge, np.zeros(len(gram)), np.ones(len(gram), bool))
    support = np.flatnonzero(weights)
    inverse = np.linalg.inv(gram[np.ix_(support, support)] + ridge * np.eye(len(support)))
    for group in np.unique(groups[support]):
        others = groups != group
        if positive[others].all() or not positive[others].any():
            scores[~others] = np.inf if positive[others].any() else -np.inf
            continue
        # The weights without these support vectors, should no other row cross the margin.
        gone = np.flatnonzero(~others[support])
        change = inverse[:, gone] @ np.linalg.solve(inverse[np.ix_(gone, gone)], weights[support[gone]])
        guess = np.zeros(len(gram))
        guess[support] = weights[support] - change
        guess[~others] = 0.0
        guessed = gram[:, support] @ guess[support]
        if not np.array_equal(others & (signs * guessed < 1), guess != 0):
            guessed = _solve(gram, signs, ridge, guess, others)[1]
        scores[~others] = guessed[~others]
    return scores


def _solve(gram: Array, signs: Array, ridge: float, weights: Array, rows: Array) -> tuple[Array, Array]:
    """The weight and the score of every row for the SVM of `rows`, by Newton steps from a guess of the weights.

    At the solution (gram + ridge) weights = signs over the support vectors, which are the rows with signs * score < 1.
    A step that would raise the objective is halved, so the steps converge.

    An own solver, because a library fits each SVM from scratch: for 420 videos of 4096 numbers in 14 classes,
    scikit-learn's LinearSVC took 300 to 430 s on one core, this module 2 to 10 s. Here a step starts at the solution
    for all videos, which differs little, and works on the matrix of inner products that all SVMs share.
    """
    scores = gram @ weights

    def objective(w: Array, s: Array) -> float:
        return float(ridge * (w @ s) + (np.maximum(0.0, 1.0 - signs * s)[rows] ** 2).sum())

    for _ in range(_MOST_STEPS):
        support = np.flatnonzero(rows & (signs * scores < 1))
        target = np.zeros(len(gram))
        system = gram[np.ix_(support, support)]
        system[np.diag_indices(len(support))] += ridge
        target[support] = np.linalg.solve(system, signs[support])
        reached = gram[:, support] @ target[support]
        if np.array_equal(np.flatnonzero(rows & (signs * reached < 1)), support):
            return target, reached
        step, change = target - weights, reached - scores
        share, now = 1.0, objective(weights, scores)
        while share > 1e-6 and objective(weights + share * step, scores + share * change) > now:
            share /= 2
        weights, scores = weights + share * step, scores + share * change
    raise TrainingError(
        f"an SVM of {rows.sum()} videos did not converge in {_MOST_STEPS} steps; use a smaller C (`penalty=`)"
    )
