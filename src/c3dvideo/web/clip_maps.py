"""Maps of all clips, made in the background for each version of the index and kept in the cache folder.

    maps = Maps(collection, workers, folder)
    maps.get("pca")                     # MapState: "ready" with places, "computing", or "failed" with a message

The principal components are there after seconds. t-SNE and UMAP begin when somebody first looks at them.
"""

import shutil
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from c3dvideo.choices import WebMap
from c3dvideo.errors import C3DVideoError
from c3dvideo.web.web_collection import Array, Collection, Snapshot
from c3dvideo.web.workers import Workers

_LAYOUT_SECONDS, _REFINE_SECONDS = 1800.0, 4 * 3600.0
_MOST_KEPT = 4
_REVISION = 1  # raise it when the same clips get other places


@dataclass(frozen=True, eq=False)
class MapState:
    """state: whether the places are there. places: float32 (n, 2), each axis from -1 to 1, in the snapshot's order."""

    version: str
    method: WebMap
    state: Literal["ready", "computing", "failed"]
    message: str = ""
    places: Array | None = None
    clusters: Array | None = None


def methods() -> list[WebMap]:
    """The maps that this installation can make."""
    return ["pca", "tsne", "umap"] if find_spec("umap") is not None else ["pca", "tsne"]


class Maps:
    """The maps of one collection, in sub-folders of `folder`."""

    def __init__(self, collection: Collection, workers: Workers, folder: str | Path) -> None:
        self._collection = collection
        self._workers = workers
        self._folder = Path(folder)
        self._jobs: dict[tuple[str, str], Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, method: WebMap) -> MapState:
        """The map of the index's present version; the first call starts to make it."""
        snapshot = self._collection.now()
        version = snapshot.version
        if len(snapshot.start_seconds) < 3:
            n = len(snapshot.start_seconds)
            return MapState(version, method, "failed", f"a map needs three clips or more; the index has {n}")
        folder = self._folder / self._key(snapshot)
        if not (folder / "pca.npy").exists():
            job = self._start(version, "pca", "lay_out", {"db": self._collection.db, "version": version}, folder)
        elif not (folder / f"{method}.npy").exists():
            job = self._start(version, method, "refine", {"method": method}, folder)
        else:
            places, clusters = _load(folder, method)
            return MapState(version, method, "ready", places=places, clusters=clusters)
        if job.done() and (error := job.exception()) is not None:
            return MapState(version, method, "failed", str(error))
        return MapState(version, method, "computing")

    def clusters(self) -> Array | None:
        """The cluster of every clip, from 0, or None until they are there."""
        found = self.get("pca")
        return found.clusters

    def _start(self, version: str, method: str, function: str, arguments: dict[str, Any], folder: Path) -> Future[Any]:
        with self._lock:
            job = self._jobs.get((version, method))
            if job is None:
                self._forget_old(folder)
                seconds = _LAYOUT_SECONDS if function == "lay_out" else _REFINE_SECONDS
                job = self._workers.start(
                    f"c3dvideo.web.map_jobs:{function}",
                    {**arguments, "folder": str(folder)},
                    seconds=seconds,
                    urgent=function == "lay_out",
                )
                self._jobs[version, method] = job
        return job

    def _key(self, snapshot: Snapshot) -> str:
        """A name for the maps of this content of the index, computed in this way."""
        text = f"{_REVISION} {self._collection.index.fingerprint} {snapshot.version} {snapshot.digest}"
        return sha256(text.encode()).hexdigest()[:24]

    def _forget_old(self, current: Path) -> None:
        """Keep the newest few sets of maps; the cache would grow with every version of every index."""
        with suppress(OSError):
            folders = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in [path for path in folders if path != current][_MOST_KEPT:]:
                shutil.rmtree(old, ignore_errors=True)


@lru_cache(maxsize=8)
def _load(folder: Path, method: str) -> tuple[Array, Array]:
    """Places moved and scaled into the square from -1 to 1, both axes by the same factor, and clusters."""
    try:
        places = np.load(folder / f"{method}.npy", allow_pickle=False).astype(np.float32)
        clusters = np.load(folder / "clusters.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise C3DVideoError(f"the cached map in {folder} is damaged: {error}; delete that folder") from error
    low, high = places.min(axis=0), places.max(axis=0)
    reach = float((high - low).max()) / 2 or 1.0
    return (places - (low + high) / 2) / reach, clusters
