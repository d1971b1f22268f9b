"""Action recognition: clip@1, video@1 and video@5 (paper sections 3.3 and 4, Tables 2 and 3).

    report = evaluate_descriptors(partitions(labelled))                       # descriptor + linear SVM, as for UCF101
    report = evaluate_predictions("features/", examples, n_clips=10)          # the network's prob, as for Sports-1M

Several partitions into training and test videos (official splits, or folds) are averaged.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from c3dvideo.choices import Classifier
from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.evaluation.evaluation_report import METRICS, Report, data_facts
from c3dvideo.evaluation.paper import beside
from c3dvideo.features.store import feature_path, has_features, read_features
from c3dvideo.network.folder import read_config
from c3dvideo.probing.descriptors import Array, choose_layer, clip_vectors, some, unit_rows
from c3dvideo.probing.labelled import Labelled
from c3dvideo.probing.probe import fit_probe, group_folds
from c3dvideo.progress import track
from c3dvideo.reading import ForeignFile, read_lines
from c3dvideo.storage import location

# With fewer classes, five guesses hold the right one in half of the cases or more, and the figure says little.
FEWEST_CLASSES_FOR_TOP5 = 10


def partitions(labelled: Labelled, *, folds: int = 5, seed: int = 0) -> list[tuple[Labelled, Labelled]]:
    """(training, test) by the split of the labels (train, and test or val), or else `folds` that share no source."""
    splits = {example.split for example in labelled.examples}
    held_out = next((name for name in ("test", "val") if name in splits), None)
    if "train" in splits and held_out:
        return [(labelled.part("train"), labelled.part(held_out))]
    rows = group_folds(labelled.labels, labelled.groups, folds=folds, seed=seed)
    return [(labelled.rows(train), labelled.rows(test)) for train, test in rows]


def evaluate_recognition(
    parts: Sequence[Labelled],
    features: Sequence[str | Path],
    *,
    by: Classifier = "svm",
    classes: str | Path | None = None,
    n_clips: int | None = 10,
    penalty: float | None = None,
    folds: int = 5,
    standardise: bool = False,
    seed: int = 0,
) -> Report:
    """The report by a linear SVM or by the network's own predictions, averaged over `parts`.

    parts: the labelled videos, or those of each official split. features: the sources that they were read from; clip@1
    needs a single folder. classes: a file or weights folder, see `read_class_names`. The other arguments are those of
    `evaluate_descriptors` and `evaluate_predictions`.
    """
    if by == "network":
        names = [] if classes is None else read_class_names(classes)
        tested = [labelled.preferred_part("", ["test", "val"]).examples for labelled in parts]
        return average([evaluate_predictions(features[0], each, names, n_clips=n_clips, seed=seed) for each in tested])
    clip_folder = features[0] if len(features) == 1 and location(features[0]).is_dir() else None
    options: dict[str, Any] = {"penalty": penalty, "folds": folds, "standardise": standardise, "seed": seed}
    return average(
        [
            evaluate_descriptors(partitions(labelled, folds=folds, seed=seed), clip_folder=clip_folder, **options)
            for labelled in parts
        ]
    )


def partition_facts(parts: Sequence[tuple[Labelled, Labelled]]) -> Report:
    """The facts of a report over these partitions: one split, or folds of which each video is tested in one."""
    train, test = parts[0]
    examples = [*train.examples, *test.examples]
    if len(parts) == 1:
        return data_facts(examples, partition="split", tested=test.examples)
    return data_facts(examples, partition="folds", n_folds=len(parts))


def evaluate_descriptors(
    parts: Sequence[tuple[Labelled, Labelled]],
    *,
    clip_folder: str | Path | None = None,
    penalty: float | None = None,
    folds: int = 5,
    standardise: bool = False,
    seed: int = 0,
) -> Report:
    """Accuracies of a linear SVM on video descriptors, for each partition and averaged.

    clip_folder: the folder of features that the descriptors were computed from, for clip@1; None, or a folder of pooled
        features, leaves that metric out. penalty, folds, standardise, seed: as in `fit_probe`.
    Raises DatasetError when a class is tested that no training video shows.
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
    return _averaged("descriptor + linear SVM", results, partition_facts(parts))


def evaluate_predictions(
    folder: str | Path,
    examples: Sequence[Example],
    classes: Sequence[str] = (),
    *,
    layer: str = "prob",
    n_clips: int | None = 10,
    seed: int = 0,
) -> Report:
    """Accuracies of a network's stored class probabilities; a video's prediction is the mean over its clips.

    examples: the tested videos. classes: the class name of every column; none takes the labels, sorted. n_clips:
        clips drawn at random from each video (10 for Sports-1M; all where there are fewer), the same clips for the same
        seed; None takes all. Videos without features are counted.
    """
    names = list(classes) or sorted({example.label for example in examples})
    number = {name: index for index, name in enumerate(names)}
    unknown = sorted({example.label for example in examples} - set(number))
    if unknown:
        raise DatasetError(f"labels that are no class of the network: {some(unknown)}; it has {some(names)}")
    found: list[Array] = []
    truth, missing = [], []
    for example in track(examples, "reading predictions", unit="videos"):
        is_there = has_features(folder, example.path)
        scores = clip_features(folder, example.path, layer) if is_there else np.zeros((0, len(names)))
        if not len(scores):
            missing.append(example.path)
            continue
        if scores.shape[1] != len(names):
            path = feature_path(folder, example.path)
            raise UsageError(f"{path}: {layer} has {scores.shape[1]} numbers per clip for {len(names)} classes")
        found.append(_drawn(scores, n_clips, [seed, crc32(os.fsencode(example.path))]))
        truth.append(number[example.label])
    if not found:
        raise DatasetError(f"none of {len(examples)} labelled videos has features in {folder}: {some(missing)}")
    result: dict[str, Any] = {"n_test": len(found), "n_clips": n_clips or "all"}
    result |= _clip_rate(found, np.array(truth))
    result |= _video_rates(np.stack([scores.mean(axis=0) for scores in found]), np.array(truth))
    facts = data_facts(examples, partition="network") | {"n_classes": len(names), "chance": 1 / len(names)}
    return _averaged("network predictions", [result], facts) | {"featureless": missing}


def clip_features(folder: str | Path, name: str, layer: str = "") -> Array:
    """The features of every clip of one video, float32 (n_clips, D)."""
    features = read_features(feature_path(folder, name))
    return clip_vectors(features.layers[choose_layer(list(features.layers), layer, name)])


def read_class_names(source: str | Path) -> list[str]:
    """The class names in output order, from a file with one per line or from a weights folder."""
    source = Path(source)
    if source.is_dir():
        return list(read_config(source)["classes"])
    return read_lines(ForeignFile(source, error=UsageError, expected="a file of class names, one per line"))


def average(reports: Sequence[Report]) -> Report:
    """One report of several official splits: the mean of their figures, and the facts of all."""
    results = [result for report in reports for result in report["partitions"]]
    facts = {key: value for key, value in reports[0].items() if key not in (*METRICS["recognition"], "partitions")}
    if len(reports) > 1:
        facts |= {"partition": "official splits", "n_folds": len(reports)}
    return _averaged(reports[0]["by"], results, facts)


def _averaged(by: str, results: list[dict[str, Any]], facts: Report) -> Report:
    shared = [name for name in METRICS["recognition"] if name in results[0]]
    means = {name: float(np.mean([result[name] for result in results])) for name in shared}
    return {
        **facts,
        "task": "recognition",
        "by": by,
        **means,
        "partitions": results,
        "published": beside("recognition"),
    }


def _video_rates(scores: Array, truth: Array) -> dict[str, float]:
    """video@1, and video@5 where there are enough classes for it."""
    n_classes = scores.shape[1]
    rates = {"video@1": float(accuracy_score(truth, scores.argmax(axis=1)))}
    if n_classes >= FEWEST_CLASSES_FOR_TOP5:
        rates["video@5"] = float(top_k_accuracy_score(truth, scores, k=5, labels=np.arange(n_classes)))
    return rates


def _clip_rate(scores: Sequence[Array], truth: Array) -> dict[str, float]:
    """clip@1 over the clips of all videos together."""
    repeated = np.repeat(truth, [len(each) for each in scores])
    return {"clip@1": float(accuracy_score(repeated, np.concatenate(scores).argmax(axis=1)))}


def _drawn(scores: Array, n: int | None, seed: Sequence[int]) -> Array:
    """`n` different rows in their order, or all."""
    if n is None or n >= len(scores):
        return scores
    return scores[np.sort(np.random.default_rng(seed).choice(len(scores), n, replace=False))]
