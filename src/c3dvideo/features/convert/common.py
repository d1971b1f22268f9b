"""What every writer needs of a video: the right array, checked, and what extract recorded about it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features.store import VideoFeatures

Floats = NDArray[np.float32]
Write = Callable[[str, VideoFeatures], None]
"""Writes one video under a name, e.g. write("sub/a", read_features("features/sub/a.mp4.npz"))."""


def choose_layer(features: VideoFeatures, layer: str | None) -> str:
    """`layer`, or the only layer that is stored when it is None; raises UsageError when there is no such choice."""
    return choose_stored_layer(features.name, tuple(features.layers), layer)


def choose_stored_layer(video: str, stored: Sequence[str], layer: str | None) -> str:
    """`choose_layer` for the names of a video's layers."""
    names = ", ".join(stored)
    if layer is None and len(stored) > 1:
        raise UsageError(f"{video} has several layers ({names}); choose one with `layer=`")
    if layer is not None and layer not in stored:
        raise UsageError(
            f"{video} has no layer {layer!r}, only {names}; choose one of them, or extract again with "
            f"`layer={layer}` into another folder"
        )
    return layer or next(iter(stored), "")


def clip_array(features: VideoFeatures, layer: str | None, *, allow_pooled: bool = False) -> Floats:
    """One layer as it is stored: float32 (n_clips, [views,] D) or (n_clips, [views,] C, T, H, W).

    Raises UsageError for a layer that is not there, StoreError for a video without clips, for one pooled vector where
    clips are needed, and for values that are not finite.
    """
    layer = choose_layer(features, layer)
    array: Floats = features.layers[layer]
    if not allow_pooled and recorded(features, "settings", "pool") is not None:
        raise StoreError(
            f"{features.name} holds one pooled vector, this format needs every clip; extract again, without pooling"
        )
    if not len(array):
        raise StoreError(f"{features.name} has no clips")
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        first = int(features.start_frame[finite.argmin()])
        raise StoreError(
            f"{features.name}: {layer} has NaN or infinite values in {int((~finite).sum())} of {len(array)} clips, the "
            f"first at frame {first}; delete its file and extract it again with weights that pass `weights check`"
        )
    return array


def clip_matrix(features: VideoFeatures, layer: str | None, *, allow_pooled: bool = False) -> Floats:
    """One layer as float32 (n_clips, D); convolutions and pools are flattened in (C, T, H, W) order.

    Raises what `clip_array` raises, and StoreError for several views per clip.
    """
    array = clip_array(features, layer, allow_pooled=allow_pooled)
    if has_views(array):
        raise StoreError(
            f"{features.name} has {array.shape[1]} crops per clip and this format holds one; "
            "convert with `to=crops`, or extract again with `crops=centre`"
        )
    return array.reshape(len(array), -1)


def has_views(array: Floats) -> bool:
    """Whether a stored layer has an axis of views (crops) after its axis of clips."""
    return array.ndim in (3, 6)


def clip_frames(features: VideoFeatures) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frame of every clip, and the frame after its last: int64 (n_clips,) each, counted from 0."""
    length = recorded_integer(features, "settings", "plan", "clip_length")
    rate = recorded_integer(features, "settings", "plan", "sampling_rate")
    span = (length - 1) * rate + 1
    return features.start_frame, features.start_frame + span


def recorded(features: VideoFeatures, *keys: str) -> Any:
    """What extract recorded under these nested keys of the metadata; raises StoreError when it is not there."""
    value: Any = features.metadata
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            raise StoreError(
                f"{features.name} does not record its {'.'.join(keys)}, which this format needs; "
                "extract it with `c3dvideo extract`"
            )
        value = value[key]
    return value


def recorded_integer(features: VideoFeatures, *keys: str) -> int:
    """A positive whole number that extract recorded; raises StoreError when it is missing or something else."""
    value = recorded(features, *keys)
    if type(value) is not int or not 0 < value < 2**31:
        raise StoreError(
            f"{features.name} records {str(value)[:60]!r} as its {'.'.join(keys)}; expected a whole number"
        )
    return value


def recorded_text(features: VideoFeatures, *keys: str) -> str:
    """A text that extract recorded; raises StoreError when it is missing or something else."""
    value = recorded(features, *keys)
    if not isinstance(value, str):
        raise StoreError(f"{features.name} records {str(value)[:60]!r} as its {'.'.join(keys)}; expected a text")
    return value


def origin(features: VideoFeatures, layer: str | None) -> str:
    """The layer and the weights that the numbers come from, as one line; "" when the weights were not recorded."""
    settings = features.metadata.get("settings")
    weights = settings.get("weights") if isinstance(settings, Mapping) else None
    return f"{choose_layer(features, layer)} of weights {weights}" if weights else ""
