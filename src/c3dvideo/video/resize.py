"""Resizing of uint8 frames, bit for bit as the programs do it whose features we reproduce.

resample(pixels, "opencv_bilinear", size=(128, 171), rows=(8, 120), columns=(29, 141))    # uint8 (3, 112, 112)

Only the wanted rows and columns are computed; neighbours and weights are worked out once per video.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from c3dvideo.choices import ChannelOrder, Interpolation
from c3dvideo.compiled import load

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Weights = np.ndarray[Any, np.dtype[np.int32]]
Coefficients = np.ndarray[Any, np.dtype[np.int16]]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Yuv420:
    """A decoded frame whose colours are converted while it is resized, and only where a resized pixel needs them.

    shape: height, width and 3. channel_order: of the pixels that it becomes.
    planes: address and bytes per row of the luma and both chroma planes, which live as long as `owner`.
    coefficients: six int16 of the conversion, for `resize.cpp`.
    convert: the whole frame as uint8 (H, W, 3), by FFmpeg.
    """

    shape: tuple[int, int, int]
    channel_order: ChannelOrder
    planes: tuple[tuple[int, int], ...]
    coefficients: Coefficients
    convert: Callable[[], Pixels]
    owner: object


def resample(
    pixels: Pixels | Yuv420,
    interpolation: Interpolation,
    *,
    size: Span,
    rows: Span,
    columns: Span,
    out: Pixels | None = None,
) -> Pixels:
    """Rows and columns (half-open) of `pixels` resized to `size`: uint8 (3, rows, columns).

    out: an array of that shape to write to; its rows must follow each other, its planes may lie anywhere.
    """
    if isinstance(pixels, Yuv420):
        library = compiled_loop()
        if library is not None and interpolation == "opencv_bilinear" and pixels.shape[:2] != size:
            resized = _resize_yuv420(library, pixels, size, rows, columns, out)
            if resized is not None:
                return resized
        pixels = pixels.convert()
    if pixels.shape[:2] != size and interpolation == "opencv_bilinear":
        return _opencv_bilinear(pixels, size, rows, columns, out)
    whole = pixels.transpose(2, 0, 1) if pixels.shape[:2] == size else _antialias_bilinear(pixels, size)
    return _into(out, whole[:, slice(*rows), slice(*columns)])


def _into(out: Pixels | None, picture: Pixels) -> Pixels:
    if out is None:
        return picture
    out[:] = picture
    return out


def _antialias_bilinear(pixels: Pixels, size: Span) -> Pixels:
    """The whole frame resized by PIL: uint8 (3, h, w)."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def _opencv_bilinear(pixels: Pixels, size: Span, rows: Span, columns: Span, out: Pixels | None) -> Pixels:
    """Bit for bit OpenCV's INTER_LINEAR on uint8: 11-bit weights, products cut to 16 bits before the last sum."""
    library = compiled_loop()
    # The compiled loop takes four bytes at a time, so a row has to have two pixels.
    if library is None or pixels.shape[1] < 2:
        return _into(out, opencv_bilinear_numpy(pixels, size, rows, columns))
    return opencv_bilinear_compiled(library, pixels, size, rows, columns, out)


@cache
def compiled_loop() -> ctypes.CDLL | None:
    """The compiled form of OpenCV's INTER_LINEAR, or None where there is no compiler."""
    library = load(Path(__file__).with_suffix(".cpp"))
    if library is not None:
        pointer, long = ctypes.c_void_p, ctypes.c_long
        library.resize.argtypes = (pointer, long, ctypes.c_int32, long, long, *8 * (pointer,), pointer, long)
        library.resize.restype = None
        library.resize_yuv420.argtypes = (
            *3 * (pointer,),
            *3 * (long,),
            pointer,
            ctypes.c_int,
            ctypes.c_int32,
            long,
            long,
            *8 * (pointer,),
            pointer,
            long,
        )
    return library


def opencv_bilinear_compiled(
    library: ctypes.CDLL, pixels: Pixels, size: Span, rows: Span, columns: Span, out: Pixels | None = None
) -> Pixels:
    """By the loop of resize.cpp, for frames at least two pixels wide."""
    if pixels.strides[1:] != (3, 1):
        pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    _, addresses = _compiled_plan((height, width), size, rows, columns)
    if out is None:
        out = np.empty((3, rows[1] - rows[0], columns[1] - columns[0]), np.uint8)
    assert out.strides[1:] == (out.shape[2], 1)
    library.resize(
        pixels.ctypes.data,
        pixels.strides[0],
        3 * (width - 1),
        *out.shape[1:],
        *addresses,
        out.ctypes.data,
        out.strides[0],
    )
    return out


def _resize_yuv420(
    library: ctypes.CDLL, frame: Yuv420, size: Span, rows: Span, columns: Span, out: Pixels | None
) -> Pixels | None:
    """As `opencv_bilinear_compiled` after FFmpeg's conversion; None on processors without the instructions for it."""
    height, width = frame.shape[:2]
    _, addresses = _compiled_plan((height, width), size, rows, columns)
    if out is None:
        out = np.empty((3, rows[1] - rows[0], columns[1] - columns[0]), np.uint8)
    assert out.strides[1:] == (out.shape[2], 1)
    (y, y_bytes), (u, u_bytes), (v, v_bytes) = frame.planes
    done = library.resize_yuv420(
        y,
        u,
        v,
        y_bytes,
        u_bytes,
        v_bytes,
        frame.coefficients.ctypes.data,
        frame.channel_order == "rgb",
        3 * (width - 1),
        *out.shape[1:],
        *addresses,
        out.ctypes.data,
        out.strides[0],
    )
    return out if done else None


@lru_cache(maxsize=64)
def _compiled_plan(source: Span, size: Span, rows: Span, columns: Span) -> tuple[list[Weights], list[int]]:
    """Neighbours and weights of columns and rows in the order in which `resize` takes them, and where they lie."""
    left, right, *column_weights = _opencv_taps(source[1], size[1], columns, clamp_weights=True)
    above, below, *row_weights = _opencv_taps(source[0], size[0], rows, clamp_weights=False)
    given = (3 * left, 3 * right, *column_weights, above, below, *row_weights)
    arrays = [np.ascontiguousarray(each, dtype=np.int32) for each in given]
    return arrays, [each.ctypes.data for each in arrays]


def opencv_bilinear_numpy(pixels: Pixels, size: Span, rows: Span, columns: Span) -> Pixels:
    """The same in numpy, for machines without a compiler."""
    height, width = pixels.shape[:2]
    plan = _opencv_plan((height, width), size, rows, columns)
    n = len(plan.left_weight)
    neighbours = pixels.reshape(height, width * 3)[plan.lines].take(plan.neighbours, axis=1)
    across = np.multiply(neighbours[:, :n], plan.left_weight, dtype=np.int32)
    across += np.multiply(neighbours[:, n:], plan.right_weight, dtype=np.int32)
    across >>= 4
    upper, lower = across[plan.above], across[plan.below]
    upper *= plan.above_weight
    lower *= plan.below_weight
    upper >>= 16
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8).reshape(len(upper), 3, -1).transpose(1, 0, 2)


class _Plan(NamedTuple):
    """Which pixels the fixed-point bilinear reads, and with which weights; the same for every frame of a video.

    lines: the source rows that are needed. neighbours: for every resized column, channel by channel, its left then
    its right neighbour in a source row. above, below: for every resized row its two neighbours among `lines`.
    """

    lines: slice | Indices
    neighbours: Indices
    left_weight: Weights
    right_weight: Weights
    above: Indices
    below: Indices
    above_weight: Weights
    below_weight: Weights


@lru_cache(maxsize=64)
def _opencv_plan(source: Span, size: Span, rows: Span, columns: Span) -> _Plan:
    left, right, left_weight, right_weight = _opencv_taps(source[1], size[1], columns, clamp_weights=True)
    above, below, above_weight, below_weight = _opencv_taps(source[0], size[0], rows, clamp_weights=False)
    channels = np.arange(3)[:, None]
    needed = np.union1d(above, below)
    first, last = int(needed[0]), int(needed[-1])
    return _Plan(
        lines=slice(first, last + 1) if len(needed) == last + 1 - first else needed,
        neighbours=np.concatenate([(3 * side + channels).ravel() for side in (left, right)]),
        left_weight=np.tile(left_weight, 3),
        right_weight=np.tile(right_weight, 3),
        above=np.searchsorted(needed, above),
        below=np.searchsorted(needed, below),
        above_weight=above_weight[:, None],
        below_weight=below_weight[:, None],
    )


def _opencv_taps(
    length: int, resized: int, window: Span, *, clamp_weights: bool
) -> tuple[Indices, Indices, Weights, Weights]:
    """The two source positions of every resized position in `window`, and their weights, which sum to 2048.

    OpenCV gives a column beyond the border all its weight on the border, but a row keeps both weights.
    """
    positions = ((np.arange(*window) + 0.5) * (1 / (resized / length)) - 0.5).astype(np.float32)
    first = np.floor(positions).astype(np.int64)
    fraction = positions - first.astype(np.float32)
    if clamp_weights:
        fraction[(first < 0) | (first >= length - 1)] = 0
    before, after = (np.rint(part * np.float32(2048)).astype(np.int32) for part in (1 - fraction, fraction))
    return np.clip(first, 0, length - 1), np.clip(first + 1, 0, length - 1), before, after
