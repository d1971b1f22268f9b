"""Descriptors of videos, computed once and kept under the hash of each video's content.

    rows, failures = cached_descriptors(extractor, ["a.mp4", "b.mp4"], Path("cache"))
    rows["a.mp4"]                                        # float32 (D,)

The cache is a folder of features per fingerprint, so `read_features` reads it too. Several processes may use it at
once: a video that two of them need is at worst computed twice.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from c3dvideo import __version__
from c3dvideo.errors import C3DVideoError, StoreError
from c3dvideo.features.check_stored import Identify
from c3dvideo.features.claims import FolderLocks
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.features.manifest import claim_folder
from c3dvideo.features.store import Array, VideoFeatures, feature_path, read_features, write_features
from c3dvideo.machine import n_cores
from c3dvideo.parallel import in_parallel
from c3dvideo.progress import progress
from c3dvideo.video.content import content_sha256
from c3dvideo.video.sources import Source


def cached_descriptors(
    extractor: Extractor, paths: Iterable[str], root: Path | None, *, stop_early: bool = False
) -> tuple[dict[str, Array], dict[str, str]]:
    """The descriptor of every path, float32 (D,), and why a path has none.

    extractor: with `pool="mean"`; its layers stand side by side in D. root: the folder above those of each fingerprint;
    None keeps nothing. stop_early: compute nothing when a file cannot be read.
    Raises StoreError when the cache cannot be written.
    """
    unique = list(dict.fromkeys(paths))
    keys, failures = _identify(unique)
    if failures and stop_early:
        return {}, failures
    folder = None if root is None else root / extractor.manifest.fingerprint[:16]
    known = {} if folder is None else _stored(folder, set(keys.values()), extractor)
    missing = {key: path for path, key in keys.items() if key not in known}
    if missing:
        found, reasons = _compute(extractor, missing, folder)
        known |= found
        failures |= {path: reasons[key] for path, key in keys.items() if key in reasons}
    return {path: known[key] for path, key in keys.items() if key in known}, failures


def _identify(paths: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The key of every path (the hash of its content, or an address itself), and why a path cannot be read."""
    keys: dict[str, str] = {}
    failures: dict[str, str] = {}
    for number, found in in_parallel(content_sha256, paths, workers=n_cores(), description="reading videos"):
        if isinstance(found, C3DVideoError):
            failures[paths[number]] = str(found)
        else:
            keys[paths[number]] = found or paths[number]
    return {path: keys[path] for path in paths if path in keys}, failures


def _stored(folder: Path, keys: Iterable[str], extractor: Extractor) -> dict[str, Array]:
    """The rows that the folder holds; a file that is missing, damaged or of other settings is computed again."""
    rows = {}
    for key in keys:
        if "/" in key:  # an address, whose content may have changed
            continue
        try:
            features = read_features(feature_path(folder, key))
            wanted = (key, extractor.manifest.fingerprint)
            if (features.metadata.get("content_sha256"), features.metadata.get("fingerprint")) == wanted:
                rows[key] = _row(features, extractor)
        except (StoreError, LookupError):
            continue
    return rows


def _compute(
    extractor: Extractor, missing: Mapping[str, str], folder: Path | None
) -> tuple[dict[str, Array], dict[str, str]]:
    """Rows and reasons of failures by key, of paths by key."""
    rows: dict[str, Array] = {}
    reasons: dict[str, str] = {}
    sources = [Source(path, key) for key, path in missing.items()]
    with _open(folder, extractor), progress("computing descriptors", total=len(sources), unit="videos") as bar:
        for outcome in extractor.activations(sources, check=Identify(extractor.stall_seconds)):
            bar.advance()
            if isinstance(outcome, Failure):
                reasons[outcome.name] = outcome.message
                continue
            features = extractor.features(outcome)
            rows[outcome.source.name] = _row(features, extractor)
            # A file that changed since it was hashed is not kept: its descriptor belongs to another content.
            if folder is not None and outcome.checked.content_sha256 == outcome.source.name:
                write_features(feature_path(folder, outcome.source.name), features)
    return rows, reasons


@contextmanager
def _open(folder: Path | None, extractor: Extractor) -> Iterator[None]:
    """The folder with its manifest, and present in it, so that no other process deletes what is half-written."""
    if folder is None:
        yield
        return
    with FolderLocks(folder) as locks:
        with locks.updating():
            claim_folder(folder, extractor.manifest, version=__version__)
        yield


def _row(features: VideoFeatures, extractor: Extractor) -> Array:
    """The descriptors of all layers side by side, float32 (D,)."""
    row: Array = np.concatenate([features.layers[name].reshape(-1) for name in extractor.layers])
    return row
