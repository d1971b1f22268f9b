"""Reference videos: what a cosine between two descriptors is compared with, and the mean that is subtracted.

    reference = read_reference("features/", "fc6")
    reference.percentile(0.93)                       # percentage of the pairs of unrelated videos that are less alike
    centred(matrix, reference.mean)                  # rows minus the mean of the reference videos, L2-normalised

The descriptors of any two videos are alike (cosines near 0.5 for the embedded weights, 0.9 and above for others), so
the cosine alone says little. Its place among the cosines of unrelated videos does.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from c3dvideo.choices import PostProcessing
from c3dvideo.errors import C3DVideoError, StoreError, UsageError
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.features.manifest import Manifest
from c3dvideo.features.store import descriptor
from c3dvideo.files import atomic_file, cache_folder
from c3dvideo.probing.descriptors import Array, Part, clip_vectors, read_descriptors, unit_rows
from c3dvideo.probing.labelled import source_by_name
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_arrays import read_npy
from c3dvideo.synthetic import EVERYDAY, write_dataset

GENERATED = "generated videos"
_GENERATED_PER_CLASS = 4
_MOST_PAIRS = 200_000


@dataclass(frozen=True, eq=False)
class Reference:
    """Descriptors of reference videos.

    matrix: (n, D), L2-normalised. kinds: (n,); two videos of different kinds are unrelated. name: of the videos, for
    a reader. part: how the descriptors were computed. shipped_mean: (D,), the mean descriptor that the weights ship,
    which stands for more videos than these.
    """

    matrix: Array
    kinds: Array
    name: str
    part: Part
    shipped_mean: Array | None = None

    @property
    def mean(self) -> Array:
        """The mean descriptor, float64 (D,): that of the weights where they ship one, else that of these videos."""
        if self.shipped_mean is not None:
            return self.shipped_mean.astype(np.float64)
        mean: Array = self.matrix.mean(axis=0, dtype=np.float64)
        return mean

    def unrelated(self, post_processing: PostProcessing = "none") -> Array:
        """The cosines of pairs of unrelated videos, sorted, float64 (n,); of at most 200,000 pairs."""
        rows = post_process(self.matrix, post_processing, self.mean)
        first, second = _pairs(len(rows))
        apart = self.kinds[first] != self.kinds[second]
        cosines: Array = np.sort(np.einsum("nd,nd->n", rows[first[apart]], rows[second[apart]]))
        return cosines

    def percentile(self, cosine: float, post_processing: PostProcessing = "none") -> float:
        """The percentage of the pairs of unrelated videos with a smaller cosine, 0 to 100."""
        cosines = self.unrelated(post_processing)
        return float(100 * np.searchsorted(cosines, cosine) / len(cosines))


def centred(matrix: Array, mean: Array) -> Array:
    """Rows (n, D) minus `mean` (D,), L2-normalised, float64: cosines then spread around 0."""
    return unit_rows(matrix.astype(np.float64) - mean)


def post_process(matrix: Array, post_processing: PostProcessing, mean: Array) -> Array:
    """The descriptors (n, D) as they are compared, L2-normalised, float64: `centred` for "centre"."""
    return centred(matrix, mean) if post_processing == "centre" else unit_rows(matrix)


def read_reference(folder: str | Path, layer: str = "") -> Reference:
    """The videos of a folder of features as reference; videos of different sources count as unrelated.

    Raises StoreError for features that cannot be read, UsageError for fewer than two sources.
    """
    table = read_descriptors([folder], layers=[layer])
    kinds = np.array([source_by_name(name) for name in table.names])
    if len(set(kinds.tolist())) < 2:
        raise UsageError(f"{folder} has videos of one source only; reference videos need two sources or more")
    return Reference(table.matrix, kinds, str(folder), table.parts[0])


def generated_reference(
    extractor: Extractor, layer: str, *, note: Callable[[str], None] = lambda text: None
) -> Reference:
    """Generated everyday videos as reference; videos of different motions count as unrelated.

    32 videos of one clip each are written, computed and forgotten; their descriptors are kept in the cache folder under
    the settings of the extractor. The mean is `descriptor_mean` of the weights, if they have one and `layer` is fc6.
    """
    settings = {name: value for name, value in extractor.settings.items() if name not in ("layers", "pool")}
    key = Manifest(settings={**settings, "videos_per_class": _GENERATED_PER_CLASS}).fingerprint
    path = cache_folder() / "references" / f"{key}-{layer}.npy"
    kinds = np.repeat(np.arange(len(EVERYDAY)), _GENERATED_PER_CLASS)
    matrix = _cached(path, len(kinds))
    if matrix is None:
        note(f"computing the descriptors of {len(kinds)} generated videos to compare with (once for these settings)")
        matrix = _generated_descriptors(extractor, layer)
        try:
            with atomic_file(path) as file:
                # np.save by itself would write to the file's descriptor, and lose the reason of an error.
                memory = io.BytesIO()
                np.save(memory, matrix)
                file.write(memory.getbuffer())
        except StoreError as error:
            note(f"note: {error}")
    shipped = extractor.network.descriptor_mean if layer == "fc6" and extractor.pool is None else None
    return Reference(matrix, kinds, GENERATED, Part(layer, matrix.shape[1], extractor.settings), shipped)


def _pairs(n: int) -> tuple[Array, Array]:
    """The rows of every pair of `n` rows, or of _MOST_PAIRS pairs drawn by a fixed seed where there are more."""
    if n * (n - 1) // 2 <= _MOST_PAIRS:
        first, second = np.triu_indices(n, 1)
        return first, second
    first, second = np.random.default_rng(0).integers(0, n, (2, _MOST_PAIRS))
    return first, second


def _cached(path: Path, n_rows: int) -> Array | None:
    """The matrix in a file of the cache, or None when it is missing or damaged."""
    try:
        matrix = read_npy(ForeignFile(path, error=StoreError, expected="cached descriptors"), kinds="f")
    except StoreError:
        return None
    usable = matrix.ndim == 2 and len(matrix) == n_rows and matrix.dtype == np.float32 and np.isfinite(matrix).all()
    return matrix if usable else None


def _generated_descriptors(extractor: Extractor, layer: str) -> Array:
    """The descriptors of the generated videos, one folder per class, in the order of their names: float32 (n, D)."""
    n_frames = extractor.plan.clip_length * extractor.plan.sampling_rate
    rows = {}
    with TemporaryDirectory() as folder:
        write_dataset(folder, clips_per_class=_GENERATED_PER_CLASS, n_frames=n_frames)
        for outcome in extractor(folder):
            if isinstance(outcome, Failure):
                raise C3DVideoError(f"the generated video {outcome.name} could not be read: {outcome.message}")
            rows[outcome.name] = descriptor(clip_vectors(outcome.layers[layer]))
    return np.stack([rows[name] for name in sorted(rows)])
