"""How uint8 pixels become network input, on the device that computes.

scaling = Scaling.of(network, network.profile.views("five"), torch.device("cpu"))
x = scaling.apply(pixels, view_index)          # pixels: uint8 (N, 3, T, H, W); view_index: int64 (N,)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from c3dvideo.network.c3d import C3D
from c3dvideo.video.preprocess import View, input_mean


@dataclass(frozen=True)
class Scaling:
    """Network input is (pixels * scale - mean of the clip's view) / std.

    means: float32 (views, 3, T or 1, H, W); a single frame is subtracted from every frame. std: float32 (3,). Both lie
    on the device that computes.
    """

    means: Tensor
    std: Tensor
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.means.ndim != 5 or self.means.shape[1] != 3 or self.std.shape != (3,):
            raise ValueError(
                f"means have shape {tuple(self.means.shape)} and std {tuple(self.std.shape)}; "
                "expected (views, 3, T or 1, H, W) and (3,)"
            )

    @classmethod
    def of(cls, network: C3D, views: Sequence[View], device: torch.device) -> "Scaling":
        """The scaling of a network's profile, with the mean of each view at the size of the crop.

        A mean volume whose frames are all equal is kept as one frame, so that it fits stretches of any length. Raises
        UsageError when the profile subtracts a mean volume that the network lacks.
        """
        size = network.architecture["crop_size"]
        means = np.stack([input_mean(network.profile, network.mean_volume, view) for view in views])
        if (means == means[:, :, :1]).all():
            means = means[:, :, :1]
        means = np.broadcast_to(means, (*means.shape[:3], size, size)).copy()
        std = torch.tensor(network.profile.std, dtype=torch.float32, device=device)
        return cls(torch.from_numpy(means).to(device), std, network.profile.scale)

    def apply(self, pixels: Tensor, view_index: Tensor | None = None) -> Tensor:
        """Float32 network input (N, 3, T, H, W) of uint8 pixels of that shape; view 0 by default."""
        x = pixels.float()
        if self.scale != 1:
            x *= self.scale
        # Indexing copies a mean volume for every clip, which one view can do without.
        one_mean = view_index is None or len(self.means) == 1
        x -= self.means[:1] if one_mean else self.means[view_index]
        if self._divides:
            x /= self.std.view(3, 1, 1, 1)
        return x

    @cached_property
    def _divides(self) -> bool:
        # Found out once: on a GPU the comparison waits for all work that was submitted before it.
        return bool((self.std != 1).any())
