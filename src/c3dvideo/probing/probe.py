"""A linear SVM on video descriptors: the paper's classifier for every task (section 4).

    probe = fit_probe(labelled)                      # C by cross-validation over source videos
    probe.save("actions.npz")
    Probe.load("actions.npz").predict(matrix)        # class names

One squared-hinge SVM a class against the rest, as liblinear trains it, which the authors used. What is learned is a
matrix and a vector; they are stored as plain arrays with a JSON description, no pickle.
"""

import json
import warnings
import zipfile
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

from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.files import atomic_file
from c3dvideo.probing.descriptors import Array, Labelled, Part, settings_differences
from c3dvideo.progress import progress

FORMAT = 1
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
# Standardised rows are about as long as they have columns, not of length one, and want a C so much smaller.
PENALTIES_STANDARDISED = tuple(penalty / 100000 for penalty in PENALTIES)
_WIDE = 1500


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted linear classifier: scores = descriptors @ coefficients.T + intercepts.

    coefficients: float64 (n_classes, D). intercepts: float64 (n_classes,). parts: the blocks of columns it takes.
    penalty: the SVM's C. accuracies: mean cross-validated accuracy of each C that was tried, {} when C was given.
    fitted_on: what it was fitted on, for the reader (counts, folds, whether columns were standardised).
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
        """Signed distances, float64 (n, n_classes), of descriptors (n, D): L2-normalised parts, side by side."""
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
        """Raise UsageError unless the features were extracted as those that the probe was fitted on."""
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
        try:
            with np.load(path, allow_pickle=False) as arrays:
                description = json.loads(str(arrays["probe"]))
                return cls(
                    classes=tuple(description["classes"]),
                    coefficients=arrays["coefficients"],
                    intercepts=arrays["intercepts"],
                    parts=tuple(Part(**part) for part in description["parts"]),
                    penalty=description["penalty"],
                    accuracies={float(key): value for key, value in description["accuracies"].items()},
                    fitted_on=description["fitted_on"],
                )
        except FileNotFoundError as error:
            raise StoreError(f"there is no probe {path}; make one with: c3dvideo probe fit") from error
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise StoreError(
                f"{path} is no probe ({type(error).__name__}: {error}); make one with: c3dvideo probe fit"
            ) from error


class RowSpan(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """Rotates rows into the space that the training rows span, when they are fewer than their columns.

    A linear SVM sees inner products only, so this is the same problem in fewer numbers: 420 videos of 4096 become 420 x
    420, and a weight vector w there is `basis_ @ w` here.
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
    """A probe of these descriptors.

    penalty: the SVM's C; None takes the one of `penalties` (by default those above) that classifies best in
        cross-validation (the smallest of equals), with whole groups held out. A class with fewer groups than `folds`
        lowers the number of folds.
    standardise: give every column zero mean and unit variance first; the paper does not.
    Raises DatasetError for fewer than two classes, or, when C has to be chosen, for a class of one group.
    """
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
    """(train, test) rows of `folds` parts, or fewer, that share no group and keep the class shares as even as can be.

    The number of folds is lowered to the number of groups of the smallest class. Raises DatasetError for a class that
    has a single group, or when some training part would lack a class.
    """
    if folds < 2:
        raise UsageError(f"{folds} folds; expected at least 2")
    n_groups = {name: len(set(groups[labels == name])) for name in sorted(set(labels.tolist()))}
    scarce = min(n_groups, key=lambda name: n_groups[name])
    if n_groups[scarce] < 2:
        raise DatasetError(
            f"class {scarce!r} has videos of one source only ({(labels == scarce).sum()} videos), so it cannot be both "
            "trained and tested; add videos of other sources, or give C (--penalty 1)"
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
                f"a fold {what}: {len(set(groups))} groups hold {len(n_groups)} classes; use fewer folds, or give C"
            )
    return parts


def fit_svm(rows: Array, labels: Array, penalty: float, *, seed: int = 0) -> LinearSVC:
    """A one-against-rest linear SVM: the dual solver for many columns, the primal one else or if that stalls."""
    if not penalty > 0:
        raise UsageError(f"the SVM's C is {penalty}; expected a number above 0")
    if rows.shape[1] > _WIDE:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                return LinearSVC(C=penalty, dual=True, max_iter=1000, random_state=seed).fit(rows, labels)
            except ConvergenceWarning:
                pass
    return LinearSVC(C=penalty, dual=False, max_iter=10000, random_state=seed).fit(rows, labels)


def one_against_rest(svm: LinearSVC) -> tuple[Array, Array]:
    """Coefficients (n_classes, D) and intercepts (n_classes,), with two rows also where there are two classes."""
    if len(svm.classes_) == 2:
        return np.concatenate([-svm.coef_, svm.coef_]), np.concatenate([-svm.intercept_, svm.intercept_])
    return svm.coef_, svm.intercept_


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
    """The same linear functions in terms of the columns before rotation and standardisation."""
    basis, scaler = front["span"].basis_, front["scale"]
    if basis is not None:
        coefficients = coefficients @ basis.T
    if scaler != "passthrough":
        coefficients = coefficients / scaler.scale_
        intercepts = intercepts - coefficients @ scaler.mean_
    return coefficients, intercepts


def _shown(parts: Sequence[tuple[str, int]]) -> str:
    return " + ".join(f"{layer} ({width} numbers)" for layer, width in parts)
