"""The arrays that enter and leave an engine, and their checks.

clips = check_clips(clips, network)            # UsageError unless uint8 (N, 3, T, H, W) of the network's size
check_finite(torch.isfinite(fc6).all(1), "fc6")
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.network.c3d import C3D

Array = np.ndarray[Any, Any]
Activations = dict[str, Array]


def check_clips(clips: Array, network: C3D) -> Array:
    """`clips` as a C-contiguous, writable array; raises UsageError unless they are what the network takes."""
    size = network.architecture["crop_size"]
    expected = (3, network.architecture["clip_length"], size, size)
    if clips.dtype != np.uint8 or clips.shape[1:] != expected:
        wanted = ", ".join(map(str, expected))
        raise UsageError(f"clips are {clips.dtype} of shape {clips.shape}; this network takes uint8 (N, {wanted})")
    return np.require(clips, requirements=["C", "W"])  # torch.from_numpy warns of arrays that cannot be written


def check_views(view_index: Array | None, n_clips: int) -> Array:
    """The view of each clip as int64 (n_clips,), 0 by default."""
    return np.zeros(n_clips, np.int64) if view_index is None else np.asarray(view_index, np.int64)


def no_activations(network: C3D, layers: Sequence[str]) -> Activations:
    """The activations of no clips: arrays (0, ...) of the right shapes."""
    return {name: np.zeros((0, *network.layer_shape(name)), np.float32) for name in layers}


def check_finite(finite: Tensor, layer: str) -> None:
    """Raise WeightsError for the first clip that is False in `finite`, bool (N,)."""
    if not finite.all():
        raise WeightsError(
            f"{layer} is not finite for clip {int((~finite).nonzero()[0])} of a batch, in fp32: the weights or mean "
            "hold values that no training leaves; look at them with `c3dvideo weights check`"
        )
