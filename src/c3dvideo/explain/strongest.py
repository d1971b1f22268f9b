"""The clips of a collection to which the units of a layer respond most.

    found = strongest_clips(collection, layer="conv5b", n_clips=8)
    found.units[0].clips[0].start_seconds

A collection is videos, whose activations are computed, or folders of features that hold the layer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.explain.deconvolution import check_unit
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.features.store import VideoFeatures, list_features, read_features
from c3dvideo.probing.descriptors import settings_differences
from c3dvideo.progress import progress
from c3dvideo.storage import ObjectPath
from c3dvideo.video.reader import read_clips
from c3dvideo.video.sources import find_sources

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class StrongClip:
    """A clip and the largest activation of a unit in it; the seconds are None for a frame folder."""

    name: str
    path: str
    start_frame: int
    start_seconds: float | None
    activation: float


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of a layer and the clips to which it responds most, the strongest first."""

    layer: str
    unit: int
    clips: tuple[StrongClip, ...]


def strongest_clips(
    inputs: Sequence[str | Path], extractor: Extractor, *, units: Sequence[int] = (), n_units: int = 4, n_clips: int = 8
) -> tuple[list[Unit], list[Failure]]:
    """The strongest clips of each unit, and the videos that could not be read.

    extractor: computes one layer, which is also the one that is read from folders of features. units: none takes the
        `n_units` most selective ones, whose strongest activation exceeds their mean over all clips by the largest
        factor.
    Raises UsageError for a unit that the layer lacks, and for features of other weights or without the layer.
    """
    (layer,) = extractor.layers
    for unit in units:
        check_unit(extractor.network, layer, unit)
    best: Array | None = None
    owners: Array | None = None
    total: Array = np.zeros(0)
    clips: dict[int, StrongClip] = {}
    failures: list[Failure] = []
    n_seen = 0
    for video in _videos(inputs, extractor):
        if isinstance(video, Failure):
            failures.append(video)
            continue
        rows = _largest(video.layers[layer])
        ids = np.arange(n_seen, n_seen + len(rows))
        clips |= {int(number): _clip(video, index) for index, number in enumerate(ids)}
        n_seen += len(rows)
        values = rows if best is None else np.concatenate([best, rows])
        numbers = np.repeat(ids[:, None], rows.shape[1], axis=1)
        numbers = numbers if owners is None else np.concatenate([owners, numbers])
        order = np.argsort(-values, axis=0, kind="stable")[:n_clips]
        best, owners = np.take_along_axis(values, order, axis=0), np.take_along_axis(numbers, order, axis=0)
        total = rows.sum(axis=0) + (total if len(total) else 0)
        kept = set(owners.ravel().tolist())
        clips = {number: clip for number, clip in clips.items() if number in kept}
    if best is None or owners is None:
        return [], failures
    selectivity = np.where(total > 0, best[0] / np.maximum(total / n_seen, 1e-12), 0)
    chosen = list(units) or [
        int(unit) for unit in np.argsort(-selectivity, kind="stable")[:n_units] if best[0, unit] > 0
    ]
    return [
        Unit(
            layer=layer,
            unit=unit,
            clips=tuple(
                StrongClip(**{**clips[int(number)].__dict__, "activation": float(value)})
                for value, number in zip(best[:, unit], owners[:, unit], strict=True)
                if value > 0
            ),
        )
        for unit in chosen
    ], failures


def clip_pixels(clips: Iterable[StrongClip], extractor: Extractor) -> dict[StrongClip, Array]:
    """The pixels of the clips, uint8 (3, T, H, W), read from their videos; raises VideoError when one is gone."""
    wanted: dict[str, list[StrongClip]] = {}
    for clip in clips:
        wanted.setdefault(clip.path, []).append(clip)
    found: dict[StrongClip, Array] = {}
    for path, parts in wanted.items():
        starts = {clip.start_frame: clip for clip in parts}
        reader = read_clips(path, plan=extractor.plan, profile=extractor.network.profile, damaged="keep")
        for read in reader:
            if read.start_frame in starts:
                found[starts.pop(read.start_frame)] = read.pixels[0].copy()
            if not starts:
                break
    return found


def _videos(inputs: Sequence[str | Path], extractor: Extractor) -> Iterator[VideoFeatures | Failure]:
    folders = [Path(path) for path in inputs if Path(path).is_dir() and any(Path(path).glob("manifest.json"))]
    for folder in folders:
        for name, path in list_features(folder):
            yield _stored(name, path, extractor)
    others = [path for path in inputs if Path(path) not in folders]
    if others:
        with progress("responses", unit="clips") as bar:
            for outcome in extractor.activations(find_sources(others), on_clips=bar.advance):
                yield outcome if isinstance(outcome, Failure) else extractor.features(outcome)


def _stored(name: str, path: Path | ObjectPath, extractor: Extractor) -> VideoFeatures | Failure:
    (layer,) = extractor.layers
    try:
        video = read_features(path)
    except StoreError as error:
        return Failure(name=name, path=str(path), stage="read", message=str(error))
    if layer not in video.layers:
        raise UsageError(
            f"{path} holds {', '.join(video.layers)}; extract {layer} too, or explain the videos themselves"
        )
    settings = video.metadata.get("settings")
    there = {key: value for key, value in settings.items() if key != "crops"} if isinstance(settings, dict) else {}
    here = {key: value for key, value in extractor.settings.items() if key != "crops"}
    # Clips of any stride will do; their span must be that of the network.
    for each in (there, here):
        each["plan"] = {**each["plan"], "stride_frames": 0, "tail": "", "short": ""} if "plan" in each else {}
    if differences := settings_differences(there, here):
        raise UsageError(f"{path} holds features of other settings: {'; '.join(differences)}")
    return video


def _largest(array: Array) -> Array:
    """The largest activation per clip and unit, float32 (n, C), over views, times and places."""
    if array.ndim in (3, 6):
        array = array.max(axis=1)
    return array.reshape(*array.shape[:2], -1).max(axis=2) if array.ndim > 2 else array


def _clip(video: VideoFeatures, index: int) -> StrongClip:
    seconds = float(video.start_seconds[index])
    return StrongClip(
        name=video.name,
        path=str(video.metadata.get("source", video.name)),
        start_frame=int(video.start_frame[index]),
        start_seconds=None if np.isnan(seconds) else seconds,
        activation=0.0,
    )
