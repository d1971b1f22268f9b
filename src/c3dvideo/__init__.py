"""c3dvideo: C3D video features, exact, fast and trainable.

    from c3dvideo import C3D, c3d, c3d_plain, c3d_small, extract

Names are imported on first use, so that `import c3dvideo` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "C3D": "network.c3d",
    "c3d": "network.c3d",
    "c3d_plain": "network.c3d",
    "c3d_small": "network.c3d",
    "extract": "features.extract",
    "load_weights": "weights.load",
    "predict": "probing.predict",
    "read_features": "features.store",
    "C3DVideoError": "errors",
}

__all__ = [
    "C3D",
    "C3DVideoError",
    "c3d",
    "c3d_plain",
    "c3d_small",
    "extract",
    "load_weights",
    "predict",
    "read_features",
]

if TYPE_CHECKING:
    from c3dvideo.errors import C3DVideoError
    from c3dvideo.features.extract import extract
    from c3dvideo.features.store import read_features
    from c3dvideo.network.c3d import C3D, c3d, c3d_plain, c3d_small
    from c3dvideo.probing.predict import predict
    from c3dvideo.weights.load import load_weights


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'c3dvideo' has no attribute {name!r}")
    return getattr(import_module(f"c3dvideo.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
