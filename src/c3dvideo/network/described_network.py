"""The description of a network: what its weights folder and its model card contain.

    def save_folder(network: DescribedNetwork, directory: Path) -> None: ...

`C3D` has all of it. It is a protocol, so that `folder` and `model_card`, which `c3d` imports, need not import `c3d`.
"""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from torch import nn

from c3dvideo.video.preprocess import Profile

Floats = np.ndarray[Any, np.dtype[np.float32]]


class DescribedNetwork(Protocol):
    """A network with the attributes of `C3D`, which documents them."""

    architecture: dict[str, Any]
    profile: Profile
    mean_volume: Floats | None
    descriptor_mean: Floats | None
    classes: tuple[str, ...]
    provenance: dict[str, Any]
    fc6: nn.Linear

    def __init__(self, **architecture: Any) -> None: ...

    @property
    def head(self) -> nn.Module:
        """The last layer."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The arrays by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the arrays of a state dict."""
        ...

    def eval(self) -> Self:
        """Turn dropout off; returns the network itself."""
        ...
