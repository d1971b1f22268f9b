"""Fit a probe on labelled clips and predict all others, in a process of its own.

    fit(db, version, labels, folder)           # labels: one per clip, "" without one; writes probe.npz, predictions.npy

The probe is the package's linear SVM on L2-normalised clip features. Its scores become probabilities by one
temperature, chosen on clips of held-out source videos (Guo et al. 2017), so that 0.8 means right in about 80% of cases.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import log_loss

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.files import atomic_file
from c3dvideo.probing.descriptors import Array, Part, settings_differences, unit_rows
from c3dvideo.probing.labelled import Labelled
from c3dvideo.probing.probe import Probe, fit_probe, group_folds
from c3dvideo.probing.probe_score import wilson
from c3dvideo.search.index import Index

_MOST_FITTED = 4000
_TEMPERATURES = np.geomspace(0.02, 20, 61)
_PENALTIES = (0.1, 1.0, 10.0, 100.0)


def fit(db: str, version: str, labels: Sequence[str], folder: str) -> dict[str, Any]:
    """Fit, predict every clip, and write both into `folder`. Returns what is known of the probe, as JSON values.

    Raises DatasetError for labels of fewer than two classes, StoreError when the index has another version by now.
    """
    index, names, rows = _clips(db, version)
    known = np.flatnonzero(np.array([bool(label) for label in labels]))
    classes = sorted({labels[row] for row in known.tolist()})
    if len(classes) < 2:
        raise DatasetError(f"{len(classes)} of two classes are labelled; label some clips of a second one")
    if len(known) > _MOST_FITTED:
        known = np.sort(np.random.default_rng(0).permutation(known)[:_MOST_FITTED])
    labelled = Labelled(
        matrix=rows[known],
        parts=(Part(layer=index.layer, width=rows.shape[1], settings=dict(index.settings)),),
        examples=tuple(Example(names[row], labels[row]) for row in known.tolist()),
    )
    probe, held_out = _fit(labelled)
    temperature = _temperature(probe.classes, labelled.labels, held_out)
    about = {"classes": list(probe.classes), "n_labelled": len(known), "temperature": temperature}
    if held_out is not None:
        right = int((np.array(probe.classes)[held_out.argmax(axis=1)] == labelled.labels).sum())
        counts = [int((labelled.labels == name).sum()) for name in probe.classes]
        about |= {
            "accuracy": right / len(known),
            "interval": list(wilson(right, len(known))),
            "chance": max(counts) / len(known),
        }
    probe = replace(probe, fitted_on={**probe.fitted_on, "temperature": temperature})
    probe.save(Path(folder, "probe.npz"))
    _write_predictions(folder, probabilities(probe, rows, temperature))
    return about


def apply(db: str, version: str, probe: str, folder: str) -> dict[str, Any]:
    """Predict every clip with a probe from a file; returns what is known of it.

    Raises UsageError unless the probe was fitted on features like those of the index.
    """
    index, _, rows = _clips(db, version)
    loaded = Probe.load(probe)
    if len(loaded.parts) != 1 or loaded.parts[0].width != rows.shape[1]:
        widths = " + ".join(f"{part.layer} {part.width}" for part in loaded.parts)
        raise UsageError(f"the probe takes {widths}, the index holds {index.layer} {rows.shape[1]}")
    if differences := settings_differences(loaded.parts[0].settings, index.settings):
        raise UsageError(f"the probe was fitted on other features: {'; '.join(differences)}")
    temperature = float(loaded.fitted_on.get("temperature", 1.0))
    loaded.save(Path(folder, "probe.npz"))
    _write_predictions(folder, probabilities(loaded, rows, temperature))
    n_labelled = loaded.fitted_on.get("n_videos", 0)
    return {"classes": list(loaded.classes), "n_labelled": n_labelled, "temperature": temperature}


def probabilities(probe: Probe, rows: Array, temperature: float) -> Array:
    """Class probabilities, float64 (n, n_classes), of L2-normalised clip features (n, D)."""
    return _softmax(probe.scores(rows) / temperature)


def _clips(db: str, version: str) -> tuple[Index, list[str], Array]:
    """The index, and the video and the L2-normalised features of every clip."""
    index = Index.open(db)
    if str(index.version) != version:
        raise StoreError("the index has changed in the meantime; fit again")
    table = index.clips()
    return index, table.video.tolist(), unit_rows(table.vectors).astype(np.float32)


def _fit(labelled: Labelled) -> tuple[Probe, Array | None]:
    """The probe, and the score of every labelled clip by a probe that saw no clip of its source video.

    Without two source videos of every class, C is 1 and there are no such scores.
    """
    try:
        folds = group_folds(labelled.labels, labelled.groups, folds=5)
    except DatasetError:
        return fit_probe(labelled, penalty=1.0), None
    probe = fit_probe(labelled, penalties=_PENALTIES, folds=5)
    scores = np.zeros((len(labelled.labels), len(probe.classes)))
    for train, test in folds:
        part = fit_probe(labelled.rows(train), penalty=probe.penalty)
        scores[test] = part.scores(labelled.matrix[test])
    return probe, scores


def _temperature(classes: Sequence[str], labels: Array, scores: Array | None) -> float:
    """The temperature under which the held-out probabilities have the least log loss; 1 without held-out scores."""
    if scores is None:
        return 1.0
    losses = [log_loss(labels, _softmax(scores / each), labels=list(classes)) for each in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _write_predictions(folder: str, shares: Array) -> None:
    with atomic_file(Path(folder, "predictions.npy"), sync=False) as file:
        np.save(file, shares.astype(np.float32))
