"""Reading weights out of pickles without running anything that is in them.

    content = read_torch(Path("c3d.pickle"))        # saved by torch.save
    content = read_pickle(Path("c3d_model.pkl"))    # a plain pickle, of Python 2 as well

A pickle is a program. These readers know the few functions that rebuild arrays and refuse every other one by name.
"""

import codecs
import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import UnsafePickleError, WeightsError

_DAMAGED = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, OSError)

_REBUILDERS: dict[str, Any] = {"_reconstruct": np.empty(0).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}


def read_torch(path: Path) -> Any:
    """What torch.save wrote, tensors on the CPU.

    Raises UnsafePickleError when the file asks for anything but tensors, arrays and containers, WeightsError when it
    is damaged.
    """
    import torch

    harmless: list[Any] = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in _REBUILDERS.items()
    ]
    harmless += [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8"))]
    try:
        with torch.serialization.safe_globals(harmless), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a TorchScript program is announced before it is refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        message = str(error)
        if wanted := re.search(r"GLOBAL ([\w.]+)", message):
            raise _unsafe(path, wanted[1]) from error
        if "TorchScript" in message:
            raise _unsafe(path, "a TorchScript program") from error
        raise WeightsError(
            f"{path} is damaged or cut short: {message.splitlines()[0] if message else error!r}"
        ) from error


def read_pickle(path: Path) -> Any:
    """What a plain pickle of numbers, numpy arrays and containers holds.

    Raises UnsafePickleError when it asks for anything else, WeightsError when it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, path).load()
    except UnsafePickleError:
        raise
    except _DAMAGED as error:
        raise WeightsError(f"{path} is damaged or cut short, or is no pickle of arrays: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Finds nothing but what rebuilds numpy arrays; bytes of Python 2 become text character by character."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path
        self._known: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("collections", "OrderedDict"): OrderedDict,
            ("_codecs", "encode"): _latin1,
            **{("numpy.core.multiarray", name): function for name, function in _REBUILDERS.items()},
            **{("numpy._core.multiarray", name): function for name, function in _REBUILDERS.items()},
        }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return self._known[module_name, global_name]
        except KeyError:
            raise _unsafe(self._path, f"{module_name}.{global_name}") from None


def _latin1(text: str, encoding: str) -> bytes:
    """Python 3 pickles bytes for Python 2 as latin1 text; no other codec is ever needed."""
    if encoding != "latin1":
        raise ValueError(f"text in the encoding {encoding!r}")
    return codecs.latin_1_encode(text)[0]


def _unsafe(path: Path, wanted: str) -> UnsafePickleError:
    return UnsafePickleError(
        f"{path} was not loaded: it is a pickle that calls for {wanted}, and a pickle that does more than rebuild "
        "arrays can run any code. If you trust it, load it with the project it comes from and save only its "
        "state dict (torch.save) or its arrays (numpy.savez)"
    )
