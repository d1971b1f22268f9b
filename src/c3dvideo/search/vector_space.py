"""How the vectors of an index are compared: centred, whitened where there is enough data, and L2-normalised.

    space = fit_space(vectors)
    a, b = space.directions(vectors[:2])
    space.percentile(a @ b)              # percentage of random pairs of clips of different videos with a smaller cosine

Raw cosines mislead: those of unrelated clips lie near 0.45 with the embedded weights and near 0.95 with others. Centred
and whitened vectors (Jegou and Chum, ECCV 2012) spread around 0, and whitening sets copies further apart from clips
that are only similar.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from c3dvideo.choices import SearchKind
from c3dvideo.errors import StoreError
from c3dvideo.probing.descriptors import Array, unit_rows

N_COMPONENTS = 256
"""Most numbers of a whitened direction. More of them changed no measured result."""
ENOUGH_CLIPS = 64
"""Fewer clips are centred only: their covariance is mostly noise."""
# Added to every variance, as a share of their sum: how far whitening goes. docs/search.md has the measurement.
_RIDGE = 0.06
_MOST_PAIRS = 100_000
_QUANTILES = np.linspace(0, 1, 1001)


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorSpace:
    """The statistics of a collection, and what they make of a vector.

    mean: float32 (D,), of L2-normalised vectors. whitening: float32 (K, D), or (0, D) when vectors are centred only.
    basis_mean, basis: float32 (W,) and (N, W) of a PCA, empty without one. quantiles: by kind, 1,001 quantiles of the
    cosines of random pairs of different videos, empty when there are no two videos. n_clips: how many were fitted.
    """

    mean: Array
    whitening: Array
    n_clips: int
    basis_mean: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    basis: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    quantiles: Mapping[SearchKind, Array] = field(default_factory=dict)

    @property
    def dimensions(self) -> int:
        """The number of values of a stored vector."""
        return len(self.mean)

    @property
    def n_direction(self) -> int:
        """The number of values of a direction."""
        return len(self.whitening) or len(self.mean)

    def encode(self, features: Array) -> Array:
        """Features (n, W) as vectors of the index, float32 (n, D): projected when it was made with a PCA."""
        if not len(self.basis):
            return np.ascontiguousarray(features, np.float32)
        return ((features - self.basis_mean) @ self.basis.T).astype(np.float32)

    def directions(self, vectors: Array) -> Array:
        """Vectors (n, D) as unit vectors whose products are scores, float32 (n, K); zero where nothing is left."""
        centred = unit_rows(vectors).astype(np.float32) - self.mean
        if len(self.whitening):
            centred = centred @ self.whitening.T
        return unit_rows(centred).astype(np.float32)

    def percentile(self, score: float, kind: SearchKind = "clips") -> float:
        """The percentage of random pairs of different videos with a smaller score, 0 to 100; NaN without two videos."""
        quantiles = self.quantiles.get(kind, ())
        return float(100 * np.interp(score, quantiles, _QUANTILES)) if len(quantiles) else math.nan

    def pack(self) -> tuple[dict[str, Any], Array]:
        """All of it as a JSON object and one float32 array."""
        arrays = {name: getattr(self, name) for name in ("mean", "whitening", "basis_mean", "basis")}
        arrays |= {f"quantiles.{kind}": array for kind, array in self.quantiles.items()}
        shapes = [[name, list(array.shape)] for name, array in arrays.items()]
        flat = np.concatenate([np.asarray(array, np.float32).ravel() for array in arrays.values()])
        return {"n_clips": self.n_clips, "shapes": shapes}, flat


def unpack_space(record: Mapping[str, Any], numbers: Array) -> VectorSpace:
    """The space that `VectorSpace.pack` packed; raises StoreError for anything else."""
    arrays, position = {}, 0
    try:
        for name, shape in record["shapes"]:
            size = math.prod(shape)
            arrays[name] = numbers[position : position + size].reshape(shape)
            position += size
        quantiles = {
            kind: arrays.pop(f"quantiles.{kind}") for kind in ("clips", "videos") if f"quantiles.{kind}" in arrays
        }
        return VectorSpace(n_clips=record["n_clips"], quantiles=quantiles, **arrays)  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"the statistics of the index are damaged ({error}); delete it and index again") from error


def fit_space(vectors: Array, *, basis_mean: Array | None = None, basis: Array | None = None) -> VectorSpace:
    """The statistics of vectors (n, D), without quantiles."""
    units = unit_rows(vectors).astype(np.float32)
    mean = units.mean(axis=0, dtype=np.float64).astype(np.float32)
    whitening = np.zeros((0, len(mean)), np.float32)
    if len(units) >= ENOUGH_CLIPS:
        whitening = _whitening(units - mean, min(N_COMPONENTS, len(mean), len(units) // 2))
    given = {} if basis is None or basis_mean is None else {"basis_mean": basis_mean, "basis": basis}
    return VectorSpace(
        mean=mean,
        whitening=whitening.astype(np.float32),
        n_clips=len(vectors),
        **{name: np.asarray(array, np.float32) for name, array in given.items()},  # type: ignore[arg-type]
    )


def random_pair_quantiles(directions: Array, videos: Sequence[Any] | Array) -> Array:
    """Quantiles of the scores of random pairs of rows (n, K) of different `videos` (n,), float32; empty without any."""
    names = np.unique(np.asarray(videos), return_inverse=True)[1]
    if not len(names) or names.max() == 0:
        return np.zeros(0, np.float32)
    first, second = np.random.default_rng(0).integers(0, len(names), (2, _MOST_PAIRS))
    apart = names[first] != names[second]
    scores = np.einsum("nd,nd->n", directions[first[apart]], directions[second[apart]])
    quantiles: Array = np.quantile(scores, _QUANTILES).astype(np.float32)
    return quantiles


def _whitening(centred: Array, n_components: int) -> Array:
    """The first principal axes (K, D), each divided by its standard deviation, which is held above a floor."""
    from scipy.linalg import eigh

    covariance = centred.T @ centred / len(centred)
    width = len(covariance)
    variances, axes = eigh(covariance, subset_by_index=(width - n_components, width - 1))
    floor = _RIDGE * float(np.trace(covariance)) or 1.0
    scaled: Array = axes.T[::-1] / np.sqrt(np.maximum(variances[::-1], 0) + floor)[:, None]
    return scaled
