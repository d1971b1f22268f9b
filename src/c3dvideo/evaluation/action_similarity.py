"""Action similarity: whether two videos show the same action, by the ASLAN protocol (paper section 5, Table 4).

    report = evaluate_labelled({"fc6": labelled, "prob": other}, folds=3)    # pairs drawn from labelled videos
    report = evaluate_published("features/", "View2.mat")                    # the pairs and folds of ASLAN

Every pair becomes the 12 (dis)similarities of Kliper-Gross et al. (TPAMI 2012, Table 3) between its descriptors of
prob, fc7, fc6 and pool5: 48 numbers. These are scaled to zero mean and unit variance. A linear SVM is trained on all
folds but one and tested on that one. The report has accuracy +- standard error and the area under the ROC curve.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from c3dvideo.datasets.annotations import Pair, read_aslan
from c3dvideo.datasets.layouts import Library
from c3dvideo.datasets.splits import check_seed
from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.evaluation.evaluation_report import Report, data_facts
from c3dvideo.evaluation.paper import beside
from c3dvideo.features.store import list_features, read_features
from c3dvideo.probing.descriptors import Array, choose_layer, read_descriptors, some
from c3dvideo.probing.labelled import Labelled

LAYERS = ("prob", "fc7", "fc6", "pool5")
EPSILON = 1e-6
DISTANCES = (
    "dot",
    "root of dot",
    "root of dot of roots",
    "root of harmonic sum",
    "cosine",
    "root of chi square",
    "L1",
    "Hellinger",
    "L2",
    "symmetric Kullback-Leibler",
    "roots of max over sum",
    "intersection",
)
CHANCE = 0.5
_MOST_VIDEOS = 3000


def evaluate_labelled(
    layers: Mapping[str, Labelled], *, folds: int = 10, pairs_per_fold: int = 600, penalty: float = 1.0, seed: int = 0
) -> Report:
    """The report of pairs drawn from labelled videos, as `generate_pairs` draws them.

    layers: the same videos in the same order, by layer. penalty: the SVM's C.
    """
    labelled = next(iter(layers.values()))
    pairs = generate_pairs(labelled, folds=folds, pairs_per_fold=pairs_per_fold, seed=seed)
    vectors = pair_vectors({layer: each.matrix for layer, each in layers.items()}, pairs)
    report = evaluate_pairs(vectors, pairs, layers=list(layers), penalty=penalty)
    facts = data_facts(labelled.examples, partition="folds without a common class", n_folds=report["n_folds"])
    del facts["largest_class"]
    return {**facts, **report, "chance": CHANCE}


def evaluate_published(
    folder: str | Path,
    listed: str | Path,
    *,
    layers: Sequence[str] = (),
    penalty: float = 1.0,
    note: Callable[[str], None] = lambda text: None,
) -> Report:
    """The report of listed pairs of videos with features in `folder`.

    listed: ASLAN's View2.mat, or a CSV with the columns first, second, same and fold. layers: none takes
    `stored_layers`. note: called with one line when videos of the pairs have no features.
    """
    chosen = list(layers) or stored_layers(folder)
    tables = {layer: read_descriptors([folder], layers=[layer]) for layer in chosen}
    names = next(iter(tables.values())).names
    pairs, missing = published_pairs(read_aslan(listed), names)
    if missing:
        note(f"note: {len(missing)} videos of the pairs have no features: {some(missing)}")
    vectors = pair_vectors({layer: table.matrix for layer, table in tables.items()}, pairs)
    report = evaluate_pairs(vectors, pairs, layers=chosen, penalty=penalty)
    n_videos = len({*pairs.first.tolist(), *pairs.second.tolist()})
    return {"n_videos": n_videos, "partition": "published folds", "chance": CHANCE, **report}


def distances(first: Array, second: Array) -> Array:
    """The 12 (dis)similarities of rows of two non-negative arrays (n, D), float64 (n, 12), in the order of DISTANCES.

    The last four are those of the rows divided by their L2 norm, as the table's footnote requires ("original vectors
    were normalized"); descriptors have that norm already. A term of the 4th, 6th and 11th is 0 where x1 + x2 is 0. In
    the 10th, EPSILON is added to every number. An all-zero vector has cosine and intersection 0.
    Raises UsageError for negative numbers: take layers after ReLU or softmax.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.min(initial=0.0) < 0 or y.min(initial=0.0) < 0:
        raise UsageError("the 12 similarities take roots of features, and some are negative; use prob, fc7, fc6, pool5")
    total, product = x + y, x * y
    raw = (
        product.sum(axis=1),
        np.sqrt(product.sum(axis=1)),
        np.sqrt(np.sqrt(product).sum(axis=1)),
        np.sqrt(_ratio(product, total).sum(axis=1)),
        _ratio(product.sum(axis=1), np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)),
        np.sqrt(_ratio((x - y) ** 2, total).sum(axis=1)),
        np.abs(x - y).sum(axis=1),
        np.sqrt(((np.sqrt(x) - np.sqrt(y)) ** 2).sum(axis=1)),
    )
    x, y = (_ratio(rows, np.linalg.norm(rows, axis=1, keepdims=True)) for rows in (x, y))
    log_ratio = np.log(x + EPSILON) - np.log(y + EPSILON)
    normalised = (
        np.linalg.norm(x - y, axis=1),
        ((x - y) * log_ratio).sum(axis=1) / 2,
        _ratio(np.sqrt(np.maximum(x, y)), np.sqrt(x + y)).sum(axis=1),
        _ratio(np.minimum(x, y).sum(axis=1), x.sum(axis=1) * y.sum(axis=1)),
    )
    return np.stack([*raw, *normalised], axis=1)


def stored_layers(folder: str | Path) -> list[str]:
    """Those of LAYERS that a folder of features has, or its only layer."""
    files = list_features(folder)
    if not files:
        raise StoreError(f"{folder} holds no features; make some with: c3dvideo extract VIDEOS --out {folder}")
    stored = list(read_features(files[0][1]).layers)
    return [layer for layer in LAYERS if layer in stored] or [choose_layer(stored, "", folder)]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of videos by their rows, whether both show the same action, and the fold that tests the pair; all (n,)."""

    first: Array
    second: Array
    same: Array
    fold: Array


def generate_pairs(labelled: Labelled, *, folds: int = 10, pairs_per_fold: int = 600, seed: int = 0) -> Pairs:
    """Equally many same and not-same pairs, in folds that share no class; the videos of a pair have different sources.

    The number of folds is lowered so that each has two classes. A fold with fewer possible pairs gets fewer.
    Raises DatasetError for fewer than four classes, or a fold without a same pair.
    """
    labels, groups = labelled.labels, labelled.groups
    check_seed(seed)
    generator = np.random.default_rng(seed)
    classes = generator.permutation(sorted(set(labels.tolist())))
    folds = min(folds, len(classes) // 2)
    if folds < 2:
        raise DatasetError(
            f"{len(classes)} classes make no two folds that share no class; similarity needs four classes or more"
        )
    chosen: list[Array] = []
    for number, names in enumerate(np.array_split(classes, folds), start=1):
        rows = np.flatnonzero(np.isin(labels, names))
        rows = np.sort(generator.permutation(rows)[:_MOST_VIDEOS])
        first, second = (rows[index] for index in np.triu_indices(len(rows), 1))
        apart = groups[first] != groups[second]
        same = labels[first] == labels[second]
        candidates = [np.flatnonzero(apart & kind) for kind in (same, ~same)]
        n = min(pairs_per_fold // 2, *(len(each) for each in candidates))
        if n == 0:
            raise DatasetError(f"classes {', '.join(names)} hold no two videos of one class from different sources")
        for kind, which in zip((1, 0), candidates, strict=True):
            drawn = np.sort(generator.choice(which, n, replace=False))
            chosen.append(np.stack([first[drawn], second[drawn], np.full(n, kind), np.full(n, number)]))
    first, second, same, fold = np.concatenate(chosen, axis=1)
    return Pairs(first, second, same.astype(bool), fold)


def published_pairs(listed: Sequence[Pair], names: Sequence[str]) -> tuple[Pairs, list[str]]:
    """Listed pairs as rows of `names`, and the listed videos that are not among them; pairs of those are left out.

    A listed name matches a video of that path or file name, with or without suffix. Raises DatasetError when no pair is
    left.
    """
    library, row = Library("", names), {name: index for index, name in enumerate(names)}
    found = {name: library.find(name) for pair in listed for name in (pair.first, pair.second)}
    missing = sorted(name for name, path in found.items() if path is None)
    kept = [pair for pair in listed if found[pair.first] and found[pair.second]]
    if not kept:
        raise DatasetError(f"none of {len(listed)} pairs has features of both videos; missing: {some(missing)}")
    rows = np.array([[row[str(found[pair.first])], row[str(found[pair.second])]] for pair in kept])
    same, fold = np.array([pair.same for pair in kept]), np.array([pair.fold for pair in kept])
    return Pairs(rows[:, 0], rows[:, 1], same, fold), missing


def pair_vectors(layers: Mapping[str, Array], pairs: Pairs) -> Array:
    """The distances of every pair in every layer, float64 (n_pairs, 12 x layers); layers: descriptors (n_videos, D)."""
    return np.hstack([distances(matrix[pairs.first], matrix[pairs.second]) for matrix in layers.values()])


def evaluate_pairs(vectors: Array, pairs: Pairs, *, layers: Sequence[str], penalty: float = 1.0) -> Report:
    """Accuracy with its standard error over folds, AUC and ROC curve of a linear SVM tested on each fold in turn.

    vectors: (n_pairs, 12 x layers). "single_auc" holds the AUC of each number alone, at least 0.5: a number that is
    smaller for same pairs is negated.
    Raises DatasetError when a fold has only one kind of pair.
    """
    folds = sorted(set(pairs.fold.tolist()))
    one_kind = [fold for fold in folds if len(set(pairs.same[pairs.fold == fold].tolist())) < 2]
    if len(folds) < 2 or one_kind:
        what = f"fold {one_kind[0]} has pairs of one kind only" if one_kind else f"there is {len(folds)} fold"
        raise DatasetError(f"{what}; expected two folds or more, each with same and not-same pairs")
    scores, accuracies = np.empty(len(vectors)), []
    for fold in folds:
        test = pairs.fold == fold
        model = make_pipeline(StandardScaler(), LinearSVC(C=penalty, dual=False, max_iter=10000))
        model.fit(vectors[~test], pairs.same[~test])
        scores[test] = model.decision_function(vectors[test])
        accuracies.append(float(accuracy_score(pairs.same[test], scores[test] > 0)))
    false_positive, true_positive, _ = roc_curve(pairs.same, scores)
    single = [float(roc_auc_score(pairs.same, column)) for column in vectors.T]
    names = [f"{layer}: {distance}" for layer in layers for distance in DISTANCES]
    return {
        "task": "similarity",
        "n_pairs": len(vectors),
        "n_folds": len(folds),
        "n_numbers": vectors.shape[1],
        "accuracy": float(np.mean(accuracies)),
        "standard_error": float(np.std(accuracies, ddof=1) / np.sqrt(len(folds))),
        "auc": float(roc_auc_score(pairs.same, scores)),
        "fold_accuracies": accuracies,
        "single_auc": {name: max(auc, 1 - auc) for name, auc in zip(names, single, strict=True)},
        "penalty": penalty,
        "epsilon": EPSILON,
        "roc": {"false_positive": false_positive.tolist(), "true_positive": true_positive.tolist()},
        "published": beside("similarity"),
    }


def _ratio(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, and 0 where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator != 0)
