"""Read and write Caffe model and mean files of the authors' release, without Caffe.

    layers = read_model("conv3d_deepnetA_sport1m_iter_1900000")     # {"conv1a": [weight, bias], ...}
    mean = read_blob("sport1m_train16_128_mean.binaryproto")        # (1, 3, 16, 128, 171)

The release is a fork of Caffe with its own field numbers: a blob is num 1, channels 2, length 3,
height 4, width 5, data 6, diff 7; a model's layers are field 2, a layer's name 4, its type 5, its blobs 6. All other
fields (inputs, fillers, learning rates) are skipped.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from c3dvideo.errors import WeightsError
from c3dvideo.weights.formats.protobuf import Malformed, fields, number, packed

Array = NDArray[np.float32]

CONVOLUTION3D, INNER_PRODUCT = 30, 14
_LAYERS, _NAME, _TYPE, _BLOBS = 2, 4, 5, 6
_AXES, _DATA = (1, 2, 3, 4, 5), 6


def read_model(path: Path) -> dict[str, list[Array]]:
    """Arrays (weight, then bias) per layer that has arrays, by layer name, in file order.

    Convolution weights are (out, in, T, H, W), fully connected ones (1, 1, 1, out, in), biases (1, 1, 1, 1, out).
    Raises WeightsError when the file is truncated or is no model of the release.
    """
    layers: dict[str, list[Array]] = {}
    with _naming(path):
        for field, layer in fields(memoryview(path.read_bytes())):
            if field != _LAYERS or not isinstance(layer, memoryview):
                continue
            parts = [(number, value) for number, value in fields(layer) if isinstance(value, memoryview)]
            names = [bytes(value).decode() for number, value in parts if number == _NAME]
            blobs = [_blob(value) for number, value in parts if number == _BLOBS]
            if blobs and names:
                layers[names[-1]] = blobs
    if not layers:
        raise WeightsError(f"{path} holds no layer of a Caffe model of the C3D release (field 2 with blobs in field 6)")
    return layers


def read_blob(path: Path) -> Array:
    """The array of a `.binaryproto` file, (num, channels, length, height, width)."""
    with _naming(path):
        return _blob(memoryview(path.read_bytes()))


def write_model(path: Path, layers: Mapping[str, Sequence[Array]]) -> None:
    """Write a model in the release's format. 5-D weights are convolutions, 2-D weights fully connected layers."""
    with path.open("wb") as file:
        file.write(packed(1, b"c3d"))
        for name, blobs in layers.items():
            kind = CONVOLUTION3D if blobs[0].ndim == 5 else INNER_PRODUCT
            body = packed(_NAME, name.encode()) + number(_TYPE, kind)
            file.write(packed(_LAYERS, body + b"".join(packed(_BLOBS, _blob_bytes(blob)) for blob in blobs)))


def write_blob(path: Path, array: Array) -> None:
    """Write an array of up to five axes as a `.binaryproto` file; missing leading axes become 1."""
    path.write_bytes(_blob_bytes(array))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns errors of parsing into WeightsErrors that name the file."""
    try:
        yield
    except (Malformed, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is cut short, or is no Caffe file of the C3D release: {error}") from error


def _blob(message: memoryview) -> Array:
    axes = dict.fromkeys(_AXES, 1)
    parts: list[Array] = []
    for field, value in fields(message):
        if field in axes and isinstance(value, int):
            axes[field] = value
        elif field == _DATA and isinstance(value, memoryview):
            if len(value) % 4:
                raise Malformed(f"a blob's data has {len(value)} bytes, not a multiple of 4")
            parts.append(np.frombuffer(value, "<f4"))
    data = np.concatenate(parts) if parts else np.empty(0, np.float32)
    shape = tuple(axes.values())
    if data.size != math.prod(shape):
        raise Malformed(f"a blob of shape {shape} has {data.size} numbers")
    return data.reshape(shape).astype(np.float32, copy=False)


def _blob_bytes(array: Array) -> bytes:
    shape = (1,) * (5 - array.ndim) + array.shape
    head = b"".join(number(axis, size) for axis, size in zip(_AXES, shape, strict=True))
    return head + packed(_DATA, np.ascontiguousarray(array, "<f4").tobytes())
