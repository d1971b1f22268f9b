"""The work behind the map, done in a process of its own: places of all clips in the plane, and clusters of them.

`lay_out` is quick and comes first: principal components and clusters. `refine` (t-SNE, UMAP) takes minutes for tens of
thousands of clips.
"""

from pathlib import Path

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from c3dvideo.errors import C3DVideoError, StoreError, UsageError
from c3dvideo.evaluation.feature_map import project
from c3dvideo.files import atomic_file
from c3dvideo.probing.descriptors import Array, unit_rows
from c3dvideo.search.index import Index

_N_COMPONENTS = 50
_MOST_FITTED = 20_000
_MOST_CLUSTERS = 12
_FEW = 5_000


def lay_out(db: str, version: str, folder: str) -> None:
    """Write pca.npy (n, 2), reduced.npy (n, K) and clusters.npy (n,) of all clips into `folder`.

    Raises StoreError when the index has another version by now.
    """
    index = Index.open(db)
    if str(index.version) != version:
        raise StoreError("the index has changed in the meantime; the map is made again")
    # Not the directions that are searched: whitened, all their components would be equally wide.
    vectors = unit_rows(index.clips().vectors).astype(np.float32)
    n = len(vectors)
    if n < 3 or vectors.shape[1] < 2:
        raise UsageError(f"{n} clips make no map; index three or more")
    chosen = np.random.default_rng(0).permutation(n)[:_MOST_FITTED]
    n_components = min(_N_COMPONENTS, len(chosen), vectors.shape[1])
    pca = PCA(n_components=n_components, svd_solver="randomized" if n_components > 2 else "full", random_state=0)
    pca.fit(vectors[chosen])
    # In blocks, so that no second array of this size is needed.
    reduced = np.concatenate([pca.transform(vectors[at : at + 8192]) for at in range(0, n, 8192)]).astype(np.float32)
    n_clusters = max(1, min(_MOST_CLUSTERS, round((n / 8) ** 0.5), len(np.unique(reduced, axis=0))))
    means = MiniBatchKMeans(n_clusters, n_init=3, batch_size=max(1024, n_clusters), random_state=0).fit(reduced)
    _write(folder, "reduced", reduced)
    _write(folder, "clusters", _by_size(means.labels_))
    _write(folder, "pca", reduced[:, :2])


def refine(folder: str, method: str) -> None:
    """Write tsne.npy or umap.npy, (n, 2), from reduced.npy."""
    reduced = np.load(Path(folder, "reduced.npy"), allow_pickle=False)
    if method == "umap":
        _write(folder, "umap", _umap(reduced))
    else:
        # Few points: threads that wait for each other take longer than the work.
        with threadpool_limits(1 if len(reduced) < _FEW else None):
            _write(folder, "tsne", project(reduced, method="tsne"))


def _umap(rows: Array) -> Array:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about numba and about threads
            from umap import UMAP

            places: Array = UMAP(n_neighbors=min(15, len(rows) - 1), min_dist=0.1, init="pca").fit_transform(rows)
    except ImportError as error:
        raise C3DVideoError(f"umap-learn is installed and cannot be imported: {error}") from error
    return places


def _by_size(labels: Array) -> Array:
    """Cluster numbers from 0, the largest cluster first."""
    sizes = np.bincount(labels)
    rank = np.empty(len(sizes), np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    numbers: Array = rank[labels]
    return numbers


def _write(folder: str, name: str, array: Array) -> None:
    with atomic_file(Path(folder, f"{name}.npy"), sync=False) as file:
        np.save(file, array)
