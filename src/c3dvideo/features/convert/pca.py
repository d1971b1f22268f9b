"""Principal components of clip features, fitted exactly in one pass and in bounded memory.

    basis = fit_pca((read_features(path).layers["fc7"] for _, path in list_features("features/")), n_components=500)
    basis.save(Path("basis.npz"))
    basis.project(clips)              # float32 (n_clips, 500)

The basis behind the 500 numbers per clip of the ActivityNet challenge was never published: features projected here are
comparable with each other, not with those.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features.convert.common import Floats
from c3dvideo.features.convert.outputs import new_file
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_arrays import read_npz

Doubles = NDArray[np.float64]
_ROWS_AT_ONCE = 1024
_LARGEST_WIDTH = 20_000  # the matrix of products has 3.2 GB then


@dataclass(frozen=True, kw_only=True, eq=False)
class PcaBasis:
    """Directions of largest variance of D numbers: what is projected is `components @ (x - mean)`.

    mean: float64 (D,). components: float64 (K, D), orthonormal rows, by falling variance, the largest absolute entry of
    each positive. explained_variance: float64 (K,). total_variance: of all D directions, so that the share kept is
    `explained_variance.sum() / total_variance`. n_clips: how many clips it was fitted on. made_for: the layer and the
    weights whose features these were, "" when not known.
    """

    mean: Doubles
    components: Doubles
    explained_variance: Doubles
    total_variance: float
    n_clips: int
    made_for: str = ""

    def __post_init__(self) -> None:
        n_components = len(self.explained_variance)
        if self.mean.ndim != 1 or self.components.shape != (n_components, len(self.mean)):
            raise StoreError(
                f"a PCA basis of mean {self.mean.shape}, components {self.components.shape} and explained_variance "
                f"{self.explained_variance.shape} does not fit together; expected (D,), (K, D) and (K,)"
            )

    def project(self, clips: Floats) -> Floats:
        """The clips (n, D) in this basis, float32 (n, K); raises StoreError for another D."""
        if clips.shape[1] != len(self.mean):
            raise StoreError(f"clips have {clips.shape[1]} numbers, the PCA basis was fitted on {len(self.mean)}")
        return ((clips - self.mean) @ self.components.T).astype(np.float32)

    def save(self, path: Path, *, overwrite: bool = True) -> None:
        """Write an .npz with one array per field; its bytes depend on the basis only.

        Raises StoreError when it cannot be written or, without `overwrite`, when another basis is there.
        """
        with new_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "PcaBasis":
        """The basis stored in a file; raises StoreError when it holds no basis."""
        file = ForeignFile(
            path, error=StoreError, expected="a PCA basis of this program", advice="make one with `pca=`"
        )
        with read_npz(file) as arrays:
            basis = cls(
                mean=arrays.array("mean", kinds="f", shape=(None,)).astype(np.float64),
                components=arrays.array("components", kinds="f", shape=(None, None)).astype(np.float64),
                explained_variance=arrays.array("explained_variance", kinds="f", shape=(None,)).astype(np.float64),
                total_variance=arrays.number("total_variance"),
                n_clips=int(arrays.number("n_clips")),
                made_for=arrays.text("made_for"),
            )
        if not (np.isfinite(basis.mean).all() and np.isfinite(basis.components).all()):
            raise file.wrong("it holds NaN or infinite values")
        return basis


def fit_pca(blocks: Iterable[Floats], *, n_components: int) -> PcaBasis:
    """The first `n_components` principal components of all rows of `blocks`, each (n, D) with n > 0.

    The blocks are read once and not kept: a D x D matrix of products is, in float64, and about a thousand rows.
    Raises UsageError when there are not more rows than components, and for more than 20,000 numbers per row.
    """
    mean, n_clips, products = np.zeros(0), 0, np.zeros(())
    rows: list[Doubles] = []
    for block in blocks:
        if n_clips == 0:
            if block.shape[1] > _LARGEST_WIDTH:
                raise UsageError(
                    f"clips of {block.shape[1]:,} numbers are too wide for a PCA (at most {_LARGEST_WIDTH:,}): "
                    "choose a fully connected layer"
                )
            mean = np.zeros(block.shape[1])
        elif block.shape[1] != len(mean):
            raise StoreError(f"clips of {len(mean)} and of {block.shape[1]} numbers do not share one PCA basis")
        n_new = len(block)
        block_mean = block.mean(axis=0, dtype=np.float64)
        # Each block is centred on its own mean; one more row carries the step between the means (Chan et al. 1979).
        step = np.sqrt(n_clips * n_new / (n_clips + n_new)) * (block_mean - mean)
        rows += [block - block_mean, step[None]]
        n_clips += n_new
        mean = mean + (block_mean - mean) * (n_new / n_clips)
        if sum(map(len, rows)) >= _ROWS_AT_ONCE:
            products, rows = products + _products(rows), []
    if not 0 < n_components < n_clips or n_components > len(mean):
        raise UsageError(
            f"{n_components} principal components cannot be fitted on {n_clips} clips of {len(mean)} numbers: "
            "expected more clips than components and no more components than numbers; choose a smaller `pca=`, or a "
            "saved `pca_basis=`"
        )
    eigenvalues, eigenvectors = np.linalg.eigh(products + (_products(rows) if rows else 0))
    variance = np.maximum(eigenvalues[::-1], 0) / (n_clips - 1)
    components = eigenvectors.T[::-1][:n_components]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    return PcaBasis(
        mean=mean,
        components=components * np.sign(largest),
        explained_variance=variance[:n_components],
        total_variance=float(variance.sum()),
        n_clips=n_clips,
    )


def _products(rows: list[Doubles]) -> Doubles:
    """The sum of the outer products of all rows, (D, D)."""
    stacked = np.concatenate(rows)
    return stacked.T @ stacked
