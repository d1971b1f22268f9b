"""Read weights from pickles without running their code, and write such files.

    content = read_torch(Path("c3d.pickle"))        # saved by torch.save
    content = read_pickle(Path("c3d_model.pkl"))    # a plain pickle, of Python 2 as well

A pickle is a program. These readers allow only the few functions that rebuild arrays. Any other function or class is an
error that names it, except beside the state dict of a training checkpoint, where an inert object replaces it.
"""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import C3DVideoError, UnsafePickleError, WeightsError
from c3dvideo.files import atomic_file
from c3dvideo.weights.formats.pickled_arrays import KNOWN, NUMPY

STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "network", "net", "params", "weights")
"""Keys of the state dict in training checkpoints, in order of preference."""

# Damaged pickles raise SystemError, MemoryError and OverflowError; damaged module names in them raise ImportError.
_DAMAGED = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, OSError),
    *(SystemError, MemoryError, ArithmeticError, AssertionError, ImportError, zipfile.BadZipFile, struct.error),
)


def read_torch(path: Path) -> Any:
    """The content of a file from torch.save, with tensors on the CPU.

    A training checkpoint may hold an optimizer, log or message hub of any class beside its state dict; inert objects
    replace them. Raises UnsafePickleError when the file otherwise calls for anything but tensors, arrays and
    containers, WeightsError when it is damaged.
    """
    import torch

    harmless: list[Any] = [(found, name) for name, found in NUMPY.items()]
    try:
        with torch.serialization.safe_globals(harmless), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about a TorchScript program before it raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        message = str(error)
        if wanted := re.search(r"GLOBAL ([\w.]+)", message):
            return _read_checkpoint(path, wanted[1])
        if "TorchScript" in message:
            raise _unsafe(path, "a TorchScript program") from error
        raise WeightsError(
            f"{path} is damaged or cut short: {message.splitlines()[0] if message else error!r}"
        ) from error


def write_torch(content: Any, path: Path, *, error: type[C3DVideoError] = WeightsError) -> None:
    """Write what torch.load reads, complete or not at all; raises `error` when the file cannot be written."""
    import torch

    with atomic_file(path, error=error) as file:
        try:
            torch.save(content, file)
        except RuntimeError as cause:
            if isinstance(cause.__context__, OSError):  # PyTorch reports a full disk as a position in the file
                raise cause.__context__ from cause
            raise


class _Inert:
    """Replaces an object of a class that is not loaded. It accepts any arguments and state, and does nothing."""

    def __new__(cls, *arguments: Any, **options: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Ignore the item; pickles of lists and deques call this."""

    def extend(self, items: Any) -> None:
        """Ignore the items."""


class _CheckpointPickle:
    """The part of the `pickle` module that `torch.load` uses, with inert objects for all but tensors."""

    class Unpickler(pickle.Unpickler):
        """Loads functions that rebuild tensors, arrays and containers; replaces all others by `_Inert`."""

        def find_class(self, module_name: str, global_name: str, /) -> Any:
            import torch

            if (module_name, global_name) in KNOWN:
                return KNOWN[module_name, global_name]
            if module_name == "torch._utils" and global_name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
                return getattr(torch._utils, global_name)
            found = getattr(torch, global_name, None) if module_name == "torch" else None
            is_plain = isinstance(found, torch.dtype) or global_name in ("Size", "device")
            return found if is_plain or (global_name.endswith("Storage") and found is not None) else _Inert

    @classmethod
    def load(cls, file: Any, **options: Any) -> Any:
        """The object in the file, as from `pickle.load`."""
        return cls.Unpickler(file, **options).load()


def _read_checkpoint(path: Path, wanted: str) -> Any:
    """The state dict of a training checkpoint that also holds objects of other classes, such as `wanted`.

    Raises UnsafePickleError when there is no state dict, or when it holds more than arrays.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_CheckpointPickle)
    except _DAMAGED as error:
        raise _unsafe(path, wanted) from error
    inner = content if isinstance(content, Mapping) else {}
    key = next((key for key in STATE_DICT_KEYS if isinstance(inner.get(key), Mapping)), None)
    if key is None or not all(isinstance(value, torch.Tensor | np.ndarray) for value in inner[key].values()):
        raise _unsafe(path, wanted)
    return {key: inner[key]} | {name: None for name in inner if name != key and isinstance(name, str)}


def read_pickle(path: Path) -> Any:
    """The content of a plain pickle of numbers, numpy arrays and containers.

    Raises UnsafePickleError when the pickle calls for anything else, WeightsError when it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, path).load()
    except UnsafePickleError:
        raise
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} is damaged or cut short, or is no pickle of arrays: {reason}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Loads only functions that rebuild numpy arrays. Python 2 strings are decoded as latin1."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return KNOWN[module_name, global_name]
        except KeyError:
            raise _unsafe(self._path, f"{module_name}.{global_name}") from None


def _unsafe(path: Path, wanted: str) -> UnsafePickleError:
    return UnsafePickleError(
        f"{path} was not loaded: it is a pickle that calls for {wanted}, and a pickle that does more than rebuild "
        "arrays can run any code. If you trust it, load it with the project it comes from and save only its "
        "state dict (torch.save) or its arrays (numpy.savez)"
    )
