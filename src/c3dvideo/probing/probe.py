"""A linear SVM on video descriptors: the paper's classifier for every task (section 4).

    probe = fit_probe(labelled)                      # C by cross-validation over source videos
    probe.save("actions.npz")
    Probe.load("actions.npz").predict(matrix)        # class names

One squared-hinge SVM per class against the rest, trained by liblinear, which the authors used. A probe is a matrix and
a vector; they are stored as plain arrays with a JSON description, without pickle.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from c3dvideo.datasets.splits import check_seed
from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.files import atomic_file
from c3dvideo.probing.descriptors import Array, Part, settings_differences
from c3dvideo.probing.labelled import Labelled
from c3dvideo.progress import progress
from c3dvideo.reading import ForeignFile, parse_json, parsing
from c3dvideo.reading_arrays import read_npz

FORMAT = 1
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
# Standardised rows have a squared length of about their number of columns instead of 1, so they need a smaller C.
PENALTIES_STANDARDISED = tuple(penalty / 100000 for penalty in PENALTIES)
SMALLEST_PENALTY, LARGEST_PENALTY = 1e-9, 1e9
"""Of the penalties that are taken; far beyond them, liblinear does not end."""
_WIDE = 1500


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted linear classifier: scores = descriptors @ coefficients.T + intercepts.

    coefficients: float64 (n_classes, D). intercepts: float64 (n_classes,). parts: blocks of columns of a descriptor.
    penalty: the SVM's C. accuracies: mean cross-validated accuracy of each C that was tried, {} when C was given.
    fitted_on: numbers of videos, groups and folds, and whether columns were standardised.

    >>> from c3dvideo import read_labelled
    >>> probe = Probe.load("probe.npz")
    >>> rows = read_labelled(["features"], labels=None).matrix
    >>> probe.scores(rows).shape, str(probe.predict(rows[-1:])[0])
    ((40, 8), 'waving_flag')
    """

    classes: tuple[str, ...]
    coefficients: Array
    intercepts: Array
    parts: tuple[Part, ...]
    penalty: float
    accuracies: Mapping[float, float] = field(default_factory=dict)
    fitted_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer of each part, in the order of the columns."""
        return tuple(part.layer for part in self.parts)

    def scores(self, descriptors: Array) -> Array:
        """Signed distances, float64 (n, n_classes), of descriptors (n, D): L2-normalised parts, concatenated."""
        if descriptors.ndim != 2 or descriptors.shape[1] != self.coefficients.shape[1]:
            widths = " + ".join(f"{part.layer} {part.width}" for part in self.parts)
            raise UsageError(f"descriptors are {descriptors.shape}; this probe takes (n, {widths})")
        scores: Array = descriptors.astype(np.float64) @ self.coefficients.T + self.intercepts
        return scores

    def predict(self, descriptors: Array) -> Array:
        """The class name with the highest score, str (n,)."""
        names: Array = np.array(self.classes)[self.scores(descriptors).argmax(axis=1)]
        return names

    def check_parts(self, parts: Sequence[Part]) -> None:
        """Raise UsageError unless the features have the layers, widths and settings that the probe was fitted on."""
        ours = [(part.layer, part.width) for part in self.parts]
        given = [(part.layer, part.width) for part in parts]
        if [width for _, width in ours] != [width for _, width in given]:
            raise UsageError(f"the probe was fitted on {_shown(ours)}, these features are {_shown(given)}")
        for mine, other in zip(self.parts, parts, strict=True):
            differences = settings_differences(mine.settings, other.settings)
            if differences:
                raise UsageError(f"the probe was fitted on other features of {mine.layer}: {'; '.join(differences)}")

    def save(self, path: str | Path) -> None:
        """Write one .npz file: coefficients, intercepts, and the rest as a JSON string; atomically."""
        description = {
            "format": FORMAT,
            "classes": self.classes,
            "parts": [asdict(part) for part in self.parts],
            "penalty": self.penalty,
            "accuracies": {str(penalty): accuracy for penalty, accuracy in self.accuracies.items()},
            "fitted_on": dict(self.fitted_on),
        }
        with atomic_file(path) as file:
            np.savez(
                file,
                coefficients=self.coefficients,
                intercepts=self.intercepts,
                probe=np.array(json.dumps(description, sort_keys=True)),
            )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The probe stored in a file; raises StoreError when it is missing, damaged or something else."""
        file = ForeignFile(
            path, error=StoreError, expected="a probe", advice="make one with `c3dvideo probe fit FEATURES --out FILE`"
        )
        with read_npz(file) as arrays:
            description = parse_json(arrays.text("probe"), file)
            coefficients = arrays.array("coefficients", kinds="f", shape=(None, None)).astype(np.float64)
            intercepts = arrays.array("intercepts", kinds="f", shape=(len(coefficients),)).astype(np.float64)
        if not (np.isfinite(coefficients).all() and np.isfinite(intercepts).all()):
            raise file.wrong("it holds NaN or infinite coefficients")
        with parsing(file):
            return cls(
                classes=_class_names(description["classes"], len(coefficients), file),
                coefficients=coefficients,
                intercepts=intercepts,
                parts=_parts(description["parts"], coefficients.shape[1], file),
                penalty=float(description["penalty"]),
                accuracies={float(key): float(value) for key, value in dict(description["accuracies"]).items()},
                fitted_on=dict(description["fitted_on"]),
            )


class RowSpan(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """Rotates rows into the space that the training rows span, when there are fewer rows than columns.

    A linear SVM depends on inner products only, so this is the same problem in fewer numbers: 420 videos of 4096
    numbers become 420 x 420. A weight vector w in that space is `basis_ @ w` in the original one.
    """

    def fit(self, rows: Array, labels: Any = None) -> Self:
        """Learn the basis, (D, n), or None when there are as many rows as columns."""
        self.basis_ = np.linalg.qr(rows.T)[0] if len(rows) < rows.shape[1] else None
        return self

    def transform(self, rows: Array) -> Array:
        """Rows in that basis."""
        return rows if self.basis_ is None else rows @ self.basis_


def fit_probe(
    labelled: Labelled,
    *,
    penalty: float | None = None,
    penalties: Sequence[float] = (),
    folds: int = 5,
    standardise: bool = False,
    seed: int = 0,
) -> Probe:
    """A probe fitted on these descriptors.

    penalty: the SVM's C; None takes the best of `penalties` in cross-validation with whole groups held out (the
        smallest of equals). penalties: none means PENALTIES. folds: lowered to the number of groups of the smallest
        class. standardise: give every column zero mean and unit variance first; the paper does not.
    Raises DatasetError for fewer than two classes, or, when C has to be chosen, for a class with one group.

    >>> from c3dvideo import read_labelled
    >>> probe = fit_probe(read_labelled(["features"], labels=None), penalty=100.0)
    >>> probe.coefficients.shape, probe.classes[-1]
    ((8, 1024), 'waving_flag')
    """
    check_seed(seed)
    if penalty is not None:
        check_penalty(penalty)
    rows, labels = labelled.matrix.astype(np.float64), labelled.labels
    if len(set(labels)) < 2:
        raise DatasetError(
            f"all {len(labels)} videos are of class '{labels[0]}'; a classifier needs at least two classes"
        )
    front = Pipeline([("scale", StandardScaler() if standardise else "passthrough"), ("span", RowSpan())])
    penalties = penalties or (PENALTIES_STANDARDISED if standardise else PENALTIES)
    accuracies: dict[float, float] = {}
    used_folds = 0
    if penalty is None:
        splits = group_folds(labels, labelled.groups, folds=folds, seed=seed)
        used_folds = len(splits)
        accuracies = _cross_validate(front, rows, labels, splits=splits, penalties=penalties, seed=seed)
        penalty = max(penalties, key=lambda c: (round(accuracies[c], 12), -c))
    svm = fit_svm(front.fit_transform(rows), labels, penalty, seed=seed)
    coefficients, intercepts = _unfold(front, *one_against_rest(svm))
    return Probe(
        classes=tuple(str(name) for name in svm.classes_),
        coefficients=coefficients,
        intercepts=intercepts,
        parts=labelled.parts,
        penalty=float(penalty),
        accuracies=accuracies,
        fitted_on={
            "n_videos": len(labels),
            "n_groups": len(set(labelled.groups)),
            "folds": used_folds,
            "standardised": standardise,
            "seed": seed,
        },
    )


def group_folds(labels: Array, groups: Array, *, folds: int, seed: int = 0) -> list[tuple[Array, Array]]:
    """(train, test) rows of each of `folds` folds that share no group and have class shares as even as possible.

    The number of folds is lowered to the number of groups of the smallest class. Raises DatasetError for a class with a
    single group, or when some training part would lack a class.
    """
    check_seed(seed)
    if folds < 2:
        raise UsageError(f"{folds} folds; expected at least 2")
    n_groups = {name: len(set(groups[labels == name])) for name in sorted(set(labels.tolist()))}
    scarce = min(n_groups, key=lambda name: n_groups[name])
    if n_groups[scarce] < 2:
        raise DatasetError(
            f"class {scarce!r} has videos of one source only ({(labels == scarce).sum()} videos), so it cannot be both "
            "trained and tested; add videos of other sources, or set C (`penalty=1`)"
        )
    splitter = StratifiedGroupKFold(min(folds, n_groups[scarce]), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "the least populated class": groups were counted above
        parts = list(splitter.split(np.zeros(len(labels)), labels, groups))
    for train, test in parts:
        lacking = sorted(set(labels.tolist()) - set(labels[train].tolist()))
        if lacking or not len(test):
            what = f"would train without class {lacking[0]!r}" if lacking else "would test nothing"
            raise DatasetError(
                f"a fold {what}: {len(set(groups))} groups hold {len(n_groups)} classes; use fewer folds, or set C "
                "(`penalty=1`)"
            )
    return parts


def check_penalty(penalty: float) -> None:
    """Raise UsageError for a C with which the fit of a linear SVM would fail or not end."""
    if not SMALLEST_PENALTY <= penalty <= LARGEST_PENALTY:
        raise UsageError(
            f"the SVM's C (`penalty=`) is {penalty:g}; expected a number above 0, from {SMALLEST_PENALTY:g} to "
            f"{LARGEST_PENALTY:g}"
        )


def fit_svm(rows: Array, labels: Array, penalty: float, *, seed: int = 0) -> LinearSVC:
    """A one-against-rest linear SVM, by the dual solver for many columns, or else, or if that stalls, by the primal."""
    check_penalty(penalty)
    if rows.shape[1] > _WIDE:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                return LinearSVC(C=penalty, dual=True, max_iter=1000, random_state=seed).fit(rows, labels)
            except ConvergenceWarning:
                pass
    return LinearSVC(C=penalty, dual=False, max_iter=10000, random_state=seed).fit(rows, labels)


def one_against_rest(svm: LinearSVC) -> tuple[Array, Array]:
    """Coefficients (n_classes, D) and intercepts (n_classes,), also for two classes, where liblinear stores one row."""
    if len(svm.classes_) == 2:
        return np.concatenate([-svm.coef_, svm.coef_]), np.concatenate([-svm.intercept_, svm.intercept_])
    return svm.coef_, svm.intercept_


def _class_names(names: Any, n: int, file: ForeignFile) -> tuple[str, ...]:
    """The class names of a stored probe: `n` different strings."""
    if not isinstance(names, list) or len(names) != n or len({name for name in names if isinstance(name, str)}) != n:
        raise file.wrong(f"its classes are {str(names)[:60]}; expected {n} different names")
    return tuple(names)


def _parts(parts: Any, width: int, file: ForeignFile) -> tuple[Part, ...]:
    """The parts of a stored probe, whose widths add up to `width`."""
    found = tuple(
        Part(layer=str(part["layer"]), width=int(part["width"]), settings=dict(part["settings"])) for part in parts
    )
    if sum(part.width for part in found) != width or any(part.width < 1 for part in found):
        widths = " + ".join(str(part.width) for part in found)
        raise file.wrong(f"its parts have {widths or 'no'} numbers, its coefficients {width}")
    return found


def _cross_validate(
    front: Pipeline,
    rows: Array,
    labels: Array,
    *,
    splits: Sequence[tuple[Array, Array]],
    penalties: Sequence[float],
    seed: int,
) -> dict[float, float]:
    """Mean held-out accuracy of each C."""
    found: dict[float, list[float]] = {penalty: [] for penalty in penalties}
    with progress("choosing C", total=len(splits) * len(penalties), unit="fits") as bar:
        for train, test in splits:
            known, held_out = front.fit_transform(rows[train]), front.transform(rows[test])
            for penalty in penalties:
                svm = fit_svm(known, labels[train], penalty, seed=seed)
                found[penalty].append(accuracy_score(labels[test], svm.predict(held_out)))
                bar.advance()
    return {penalty: float(np.mean(values)) for penalty, values in found.items()}


def _unfold(front: Pipeline, coefficients: Array, intercepts: Array) -> tuple[Array, Array]:
    """The same linear functions of the columns before rotation and standardisation."""
    basis, scaler = front["span"].basis_, front["scale"]
    if basis is not None:
        coefficients = coefficients @ basis.T
    if scaler != "passthrough":
        coefficients = coefficients / scaler.scale_
        intercepts = intercepts - coefficients @ scaler.mean_
    return coefficients, intercepts


def _shown(parts: Sequence[tuple[str, int]]) -> str:
    return " + ".join(f"{layer} ({width} numbers)" for layer, width in parts)
