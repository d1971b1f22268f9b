"""A folder of features as the source of an index: which videos it has, in which state, and the rows of each.

collection = Collection("features/", layer="fc6", labels="labels.csv")
collection.states                       # {"sub/a.mp4": "5f0c..."}: changes with features and labels
for rows in collection.rows(["sub/a.mp4"], space): ...
collection.failures                     # feature files that could not be read
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.datasets.labelled_parts import is_whole, labels_at
from c3dvideo.datasets.lists import read_csv
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features.failures import Failure
from c3dvideo.features.manifest import Manifest, read_manifest
from c3dvideo.features.store import list_features, read_layer_names
from c3dvideo.probing.descriptors import Array, choose_layer
from c3dvideo.probing.labelled import labels_from_folders as label_by_folder
from c3dvideo.search.feature_clips import FeatureClips, feature_clips, file_state
from c3dvideo.search.index_rows import VideoRows
from c3dvideo.search.vector_space import VectorSpace

_A_FEW = 25


class Collection:
    """The videos of one folder of features.

    layer: the layer that is read. width: how many numbers a clip has. settings: of the features. fingerprint: of the
    folder. states: by video, of every file that looks whole. failures: by video, why it has no rows.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        layer: str | None = None,
        labels: str | Path | None = None,
        labels_from_folders: bool = False,
    ) -> None:
        """Look at every file. Raises UsageError for a folder without features or without the layer."""
        self.folder = Path(folder)
        self._files = dict(list_features(folder))
        if not self._files:
            raise UsageError(f"{folder} holds no features; make some with `c3dvideo extract VIDEOS --out {folder}`")
        self._labels = _by_video(label_by_folder(list(self._files)) if labels_from_folders else _read_labels(labels))
        self.failures: dict[str, Failure] = {}
        self.states: dict[str, str] = {}
        for name, path in self._files.items():
            try:
                state = f"{file_state(path)} {self._labels.get(name, '')}"
            except StoreError as error:
                self._failed(name, error)
            else:
                self.states[name] = hashlib.sha256(state.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.layer, self.width, self.settings = self._common(layer or "")
        self.fingerprint = Manifest(settings=self.settings).fingerprint

    def rows(self, names: Iterable[str], space: VectorSpace) -> Iterator[VideoRows]:
        """The rows of these videos, as vectors of `space`; those that cannot be read are added to `failures`."""
        for name in names:
            clips = self._read(name)
            if clips is not None:
                labels = self._labels.get(name, ())
                yield VideoRows(
                    video=name,
                    state=self.states[name],
                    content_sha256=clips.content_sha256,
                    start_seconds=clips.start_seconds,
                    end_seconds=clips.end_seconds,
                    label=next((example.label for example in reversed(labels) if is_whole(example)), None),
                    clip_labels=labels_at(labels, (clips.start_seconds + clips.end_seconds) / 2),
                    vectors=space.encode(clips.vectors),
                )

    def sample(self, n_clips: int) -> Array:
        """Clips of random videos, at least `n_clips` where there are as many: float32 (n, W)."""
        found: list[Array] = []
        n_found = 0
        for name in np.random.default_rng(0).permutation(sorted(self.states)).tolist():
            if n_found >= n_clips:
                break
            clips = self._read(name)
            if clips is not None:
                found.append(clips.vectors)
                n_found += len(clips.vectors)
        if not found:
            raise self._unreadable()
        return np.concatenate(found)

    def _read(self, name: str) -> FeatureClips | None:
        """The clips of one video, or None when its file cannot be used."""
        clips = None if name in self.failures else self._try(name, self.layer)
        if clips is None:
            return None
        if clips.vectors.shape[1] != self.width:
            found = clips.vectors.shape[1]
            self._failed(name, StoreError(f"{name}: {self.layer} has {found} numbers per clip, others {self.width}"))
            return None
        differences = different_settings(self.settings, clips.settings)
        if differences:
            raise StoreError(
                f"{self._files[name]} holds features of other settings than {self.folder}: {'; '.join(differences)}"
            )
        return clips

    def _try(self, name: str, layer: str) -> FeatureClips | None:
        try:
            return feature_clips(self._files[name], layer)
        except (StoreError, UsageError) as error:
            self._failed(name, error)
            return None

    def _failed(self, name: str, error: Exception) -> None:
        self.failures[name] = Failure(name=name, path=str(self._files[name]), stage="index", message=str(error))
        self.states.pop(name, None)

    def _common(self, wanted: str) -> tuple[str, int, Mapping[str, Any]]:
        """The layer, its width and the settings that most of a few files have; one odd file decides nothing."""
        layers: Counter[tuple[str, ...]] = Counter()
        readable: list[str] = []
        for name in sorted(self.states):
            if len(readable) == _A_FEW:
                break
            try:
                layers[read_layer_names(self._files[name])] += 1
                readable.append(name)
            except StoreError as error:
                self._failed(name, error)
        if not readable:
            raise self._unreadable()
        layer = choose_layer(layers.most_common(1)[0][0], wanted, self.folder)
        found = [clips for name in readable if (clips := self._try(name, layer)) is not None]
        if not found:
            raise self._unreadable()
        width = Counter(clips.vectors.shape[1] for clips in found).most_common(1)[0][0]
        manifest = read_manifest(self.folder)
        if manifest is not None:
            return layer, width, manifest.settings
        return layer, width, next(clips.settings for clips in found if clips.vectors.shape[1] == width)

    def _unreadable(self) -> StoreError:
        first = next(iter(self.failures.values())).message if self.failures else ""
        return StoreError(
            f"{self.folder}: none of its {len(self._files)} feature files can be read; the first: {first}"
        )


def different_settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two extractions besides the list of layers, one line per setting."""
    first, second = (
        Manifest(settings={key: value for key, value in settings.items() if key != "layers"})
        for settings in (there, here)
    )
    return first.differences(second)


def _read_labels(labels: str | Path | None) -> Dataset:
    if labels is None:
        return Dataset((), ())
    if Path(labels).is_dir():
        raise UsageError(f"the labels file {labels} is a folder; expected a CSV path,label[,start_seconds,end_seconds]")
    if not Path(labels).is_file():
        raise UsageError(f"there is no labels file {labels}; expected a CSV path,label[,start_seconds,end_seconds]")
    return read_csv(labels)


def _by_video(labels: Dataset) -> dict[str, Sequence[Example]]:
    """The labels of every video, of the whole and of parts."""
    found: dict[str, list[Example]] = {}
    for example in labels.examples:
        found.setdefault(PurePosixPath(example.path).as_posix(), []).append(example)
    return dict(found)
