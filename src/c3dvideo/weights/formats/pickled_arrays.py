"""numpy arrays as pickles describe them, rebuilt from checked parts.

numpy's own functions do not check what a pickle contains: a changed description of a dtype makes them read bytes of the
file as addresses of Python objects, or print tracebacks. `KNOWN` names our functions in their place.
"""

import codecs
import math
import re
from collections import OrderedDict
from typing import Any

import numpy as np

_CODE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f(?:2|4|8|16)|[SU]\d{1,4})")


class PickledDtype:
    """A dtype of plain numbers or short text; raises ValueError for Python objects and structures."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise ValueError(f"an array of dtype {str(code)[:30]!r}; expected numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order from (version, byte order, None, None, None, size, alignment, flags)."""
        _, order, subarray, names, fields, *_ = state
        if order not in ("<", ">", "|", "=") or (subarray, names, fields) != (None, None, None):
            raise ValueError("a dtype with an unknown byte order or with fields")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray(np.ndarray[Any, Any]):
    """An array that is empty until its state is set, whatever arguments it is made with."""

    def __new__(cls, *_: Any) -> "PickledArray":
        return super().__new__(cls, (0,), np.int8)

    def __setstate__(self, state: Any) -> None:
        """Take shape, dtype, order and values; raises ValueError when they do not belong together."""
        _, shape, dtype, fortran_order, values = state
        if isinstance(values, str):  # bytes of Python 2
            values = codecs.latin_1_encode(values)[0]
        if not isinstance(dtype, PickledDtype) or not isinstance(values, bytes):
            raise ValueError("an array of Python objects; expected numbers")
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"an array of shape {str(shape)[:60]}")
        if math.prod(shape) * dtype.dtype.itemsize != len(values):
            raise ValueError(f"an array of shape {str(shape)[:60]} with {len(values)} bytes")
        super().__setstate__((1, shape, dtype.dtype, bool(fortran_order), values))  # type: ignore[arg-type]


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _scalar(dtype: PickledDtype, value: Any = b"") -> Any:
    array = PickledArray()
    array.__setstate__((1, (), dtype, False, value))
    return array[()]


def _latin1(text: str, encoding: str) -> bytes:
    """Python 3 pickles bytes for Python 2 as latin1 text; no other codec is ever needed."""
    if encoding != "latin1":
        raise ValueError(f"text in the encoding {encoding!r}")
    return codecs.latin_1_encode(text)[0]


def _no_bytes(*_: Any) -> bytes:
    """Python 3 pickles empty bytes for Python 2 as a call of bytes()."""
    return b""


NUMPY: dict[str, Any] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledDtype,
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
}
"""What stands for numpy's functions and classes, by their full names in pickles."""

KNOWN: dict[tuple[str, str], Any] = {
    **{(name.rpartition(".")[0], name.rpartition(".")[2]): found for name, found in NUMPY.items()},
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
}
"""All that a plain pickle of arrays may call for, by module and name."""
