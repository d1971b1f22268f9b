"""Object recognition in egocentric video: the object in hand, window by window (paper section 6).

    labels = read_frame_labels("labels/")
    report = evaluate_objects("features/", labels)

A window of 16 frames slides over every video (its step is the stride of the extraction). Its label is the most frequent
frame label. A window in which that label covers fewer than 8 frames shows no object and is left out, in training and in
testing. A linear SVM is fitted on the training windows of the data set's own split.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from c3dvideo.datasets.annotations import FrameLabels
from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError
from c3dvideo.evaluation.evaluation_report import Report, data_facts
from c3dvideo.evaluation.paper import beside
from c3dvideo.features.store import list_features, read_features
from c3dvideo.probing.descriptors import Array, Part, choose_layer, clip_vectors, feature_settings, some, unit_rows
from c3dvideo.probing.labelled import Labelled
from c3dvideo.probing.probe import fit_probe
from c3dvideo.probing.probe_score import score_probe
from c3dvideo.progress import track


def window_label(labels: Sequence[str], start: int, *, window_frames: int = 16, minimum_frames: int = 8) -> str:
    """The most frequent label of frames [start, start + window_frames), "" when it covers fewer than the minimum.

    "" means no object and does not count. Of equally frequent labels, the first in the window is taken.
    """
    counts = Counter(label for label in labels[start : start + window_frames] if label)
    if not counts:
        return ""
    label, n_frames = counts.most_common(1)[0]
    return label if n_frames >= minimum_frames else ""


def read_windows(
    folder: str | Path,
    frame_labels: Sequence[FrameLabels],
    *,
    layer: str = "",
    window_frames: int = 16,
    minimum_frames: int = 8,
) -> tuple[Labelled, dict[str, Any]]:
    """Every window that shows an object, L2-normalised, with its label, split and video; and what is left out.

    A video with labels is found by its name, with or without suffix.
    """
    files = {_bare(name): path for name, path in list_features(folder)}
    rows: list[Array] = []
    examples: list[Example] = []
    dropped, featureless = 0, []
    for video in track(frame_labels, "reading windows", unit="videos"):
        path = files.get(_bare(video.path)) or files.get(video.path)
        if path is None:
            featureless.append(video.path)
            continue
        features = read_features(path)
        layer = choose_layer(list(features.layers), layer, path)
        for start, row in zip(features.start_frame, clip_vectors(features.layers[layer]), strict=True):
            label = window_label(video.labels, int(start), window_frames=window_frames, minimum_frames=minimum_frames)
            if label:
                rows.append(row)
                examples.append(Example(video.path, label, video.split, video.path))
            dropped += not label
    if not rows:
        raise DatasetError(
            f"no window shows an object: {dropped} dropped, {len(featureless)} of {len(frame_labels)} videos have no "
            f"features{': ' + some(featureless) if featureless else ''}"
        )
    matrix = unit_rows(np.stack(rows))
    part = Part(layer, matrix.shape[1], feature_settings(folder))
    return Labelled(matrix, (part,), tuple(examples)), {"n_dropped": dropped, "featureless": featureless}


def evaluate_objects(
    folder: str | Path,
    frame_labels: Sequence[FrameLabels],
    *,
    layer: str = "",
    penalty: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Report:
    """Accuracy over the test windows, per class, and the confusion matrix; what was dropped is counted.

    Raises DatasetError when the labels have no split into train and test.
    """
    windows, left_out = read_windows(folder, frame_labels, layer=layer)
    train, test = windows.part("train"), windows.part("test")
    probe = fit_probe(train, penalty=penalty, folds=folds, seed=seed)
    report = score_probe(probe, test)
    return {
        **data_facts([*train.examples, *test.examples], partition="split", tested=test.examples),
        "task": "objects",
        **report,
        **left_out,
        "n_train": len(train.examples),
        "penalty": probe.penalty,
        "published": beside("objects"),
    }


def _bare(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()
