"""Entry points of torch.hub.

    torch.hub.load("path/of/this/checkout", "c3d", source="local", weights="embedded")
    torch.hub.load("path/of/this/checkout", "c3d_small", source="local", num_classes=101)

`weights` is a weights folder, a published name or a hub id; None draws random weights from `architecture`.
"""

import sys
from pathlib import Path
from typing import Any

dependencies = ["torch", "numpy", "safetensors", "huggingface_hub", "av", "PIL"]

try:
    import c3dvideo
except ImportError:  # a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).parent / "src"))
    import c3dvideo


def c3d(weights: str | None = None, **architecture: Any) -> "c3dvideo.C3D":
    """The network of the authors' release, or that of `weights`, in evaluation mode."""
    return (c3dvideo.c3d(**architecture) if weights is None else _loaded(weights, architecture)).eval()


def c3d_plain(**architecture: Any) -> "c3dvideo.C3D":
    """C3D without padding in pool5 and without dropout, with random weights."""
    return c3dvideo.c3d_plain(**architecture).eval()


def c3d_small(**architecture: Any) -> "c3dvideo.C3D":
    """The network of five convolutions, with random weights."""
    return c3dvideo.c3d_small(**architecture).eval()


def _loaded(weights: str, architecture: dict[str, Any]) -> "c3dvideo.C3D":
    if architecture:
        raise c3dvideo.C3DVideoError(
            f"the architecture comes from `weights={weights!r}`; leave out {', '.join(sorted(architecture))}"
        )
    return c3dvideo.load_weights(weights)
