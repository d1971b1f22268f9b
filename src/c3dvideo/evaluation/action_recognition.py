"""Action recognition: clip@1, video@1 and video@5 (paper sections 3.3 and 4, Tables 2 and 3).

    report = evaluate_descriptors(partitions(labelled))                    # descriptor + linear SVM, as on UCF101
    report = evaluate_predictions("features/", examples, classes, n_clips=10)      # the network's own, as on Sports-1M

Several train and test partitions (the three official splits, or folds) are averaged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.evaluation.paper import beside
from c3dvideo.features.store import feature_path, read_features
from c3dvideo.probing.descriptors import Array, Labelled, choose_layer, clip_vectors, some, unit_rows
from c3dvideo.probing.probe import fit_probe, group_folds
from c3dvideo.progress import track

METRICS = ("clip@1", "video@1", "video@5")


def partitions(labelled: Labelled, *, folds: int = 5, seed: int = 0) -> list[tuple[Labelled, Labelled]]:
    """(train, test) by the labels' own split (train against test, or val), or else folds that share no source."""
    splits = {example.split for example in labelled.examples}
    held_out = next((name for name in ("test", "val") if name in splits), None)
    if "train" in splits and held_out:
        return [(labelled.part("train"), labelled.part(held_out))]
    rows = group_folds(labelled.labels, labelled.groups, folds=folds, seed=seed)
    return [(labelled.rows(train), labelled.rows(test)) for train, test in rows]


def evaluate_descriptors(
    parts: Sequence[tuple[Labelled, Labelled]],
    *,
    clip_folder: str | Path | None = None,
    penalty: float | None = None,
    folds: int = 5,
    standardise: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracies of a linear SVM on video descriptors, one partition each and averaged.

    clip_folder: the folder of features that the descriptors came from, for clip@1; None, or a folder of pooled
        features, leaves that metric out.
    """
    results = []
    for train, test in parts:
        unseen = sorted(set(test.labels.tolist()) - set(train.labels.tolist()))
        if unseen:
            raise DatasetError(f"classes in test but not in train: {some(unseen)}; every tested class must be trained")
        probe = fit_probe(train, penalty=penalty, folds=folds, standardise=standardise, seed=seed)
        truth = np.searchsorted(probe.classes, test.labels)
        result = {"n_train": len(train.examples), "n_test": len(test.examples), "penalty": probe.penalty}
        result |= _video_rates(probe.scores(test.matrix), truth)
        if clip_folder is not None and not train.parts[0].settings.get("pool"):
            layer, names = train.parts[0].layer, track(test.names, "scoring clips", unit="videos")
            scores = [probe.scores(unit_rows(clip_features(clip_folder, name, layer))) for name in names]
            result |= _clip_rate(scores, truth)
        results.append(result)
    return _averaged("descriptor + linear SVM", results)


def evaluate_predictions(
    folder: str | Path,
    examples: Sequence[Example],
    classes: Sequence[str],
    *,
    layer: str = "prob",
    n_clips: int | None = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracies of a network's stored class probabilities; a video's prediction is the mean of its clips'.

    classes: the class name of every column. n_clips: as many clips drawn at random from each video (10 on Sports-1M;
    all where there are fewer), the same for the same seed; None takes all. Videos without features are counted.
    """
    number = {name: index for index, name in enumerate(classes)}
    unknown = sorted({example.label for example in examples} - set(number))
    if unknown:
        raise DatasetError(f"labels that are no class of the network: {some(unknown)}; it has {some(list(classes))}")
    found: list[Array] = []
    truth, missing = [], []
    for example in track(examples, "reading predictions", unit="videos"):
        path = feature_path(folder, example.path)
        scores = clip_features(folder, example.path, layer) if path.exists() else np.zeros((0, len(classes)))
        if not len(scores):
            missing.append(example.path)
            continue
        if scores.shape[1] != len(classes):
            raise UsageError(f"{path}: {layer} has {scores.shape[1]} numbers a clip for {len(classes)} classes")
        found.append(_drawn(scores, n_clips, [seed, crc32(example.path.encode())]))
        truth.append(number[example.label])
    if not found:
        raise DatasetError(f"none of {len(examples)} labelled videos has features in {folder}: {some(missing)}")
    result: dict[str, Any] = {"n_test": len(found), "n_clips": n_clips or "all"}
    result |= _clip_rate(found, np.array(truth))
    result |= _video_rates(np.stack([scores.mean(axis=0) for scores in found]), np.array(truth))
    report = _averaged("network predictions", [result])
    return report | {"featureless": missing}


def clip_features(folder: str | Path, name: str, layer: str = "") -> Array:
    """The features of every clip of one video, float32 (n_clips, D)."""
    features = read_features(feature_path(folder, name))
    return clip_vectors(features.layers[choose_layer(list(features.layers), layer, name)])


def average(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report of several official splits."""
    return _averaged(reports[0]["by"], [result for report in reports for result in report["partitions"]])


def _averaged(by: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    means = {name: float(np.mean([r[name] for r in results])) for name in METRICS if name in results[0]}
    return {"task": "recognition", "by": by, **means, "partitions": results, "published": beside("recognition")}


def _video_rates(scores: Array, truth: Array) -> dict[str, float]:
    """video@1 and video@5; with five classes or fewer the right one is always among five."""
    n_classes = scores.shape[1]
    top5 = 1.0
    if n_classes > 5:
        top5 = float(top_k_accuracy_score(truth, scores, k=5, labels=np.arange(n_classes)))
    return {"video@1": float(accuracy_score(truth, scores.argmax(axis=1))), "video@5": top5}


def _clip_rate(scores: Sequence[Array], truth: Array) -> dict[str, float]:
    """clip@1 over the clips of all videos together."""
    repeated = np.repeat(truth, [len(each) for each in scores])
    return {"clip@1": float(accuracy_score(repeated, np.concatenate(scores).argmax(axis=1)))}


def _drawn(scores: Array, n: int | None, seed: Sequence[int]) -> Array:
    """`n` different rows in order, or all."""
    if n is None or n >= len(scores):
        return scores
    return scores[np.sort(np.random.default_rng(seed).choice(len(scores), n, replace=False))]
