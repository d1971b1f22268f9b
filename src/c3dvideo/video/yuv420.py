"""Frames in yuv420p, which most decoders deliver, resized without converting them to BGR or RGB as a whole first.

    frame = yuv420_of(decoded, "bgr", convert)      # None where FFmpeg has to convert
    resample(frame, "opencv_bilinear", size=(128, 171), rows=(8, 120), columns=(29, 141))

The release converts a frame with FFmpeg's swscale and then resizes it. `resize.cpp` does both at once, for the pixels
that the crop needs, with swscale's arithmetic for x86 processors. Other processors, and later versions of FFmpeg, may
round in another way. So each size and kind of frame is tried once per process: a frame of random bytes must come out
equal to the last bit, else FFmpeg converts.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from c3dvideo.choices import ChannelOrder
from c3dvideo.video.resize import Coefficients, Pixels, Yuv420, resample

# V to red, U to blue, U to green, V to green as in swscale's ff_yuv2rgb_coeffs, by AVCOL_SPC; others are as BT.601.
_BT601 = (104597, 132201, -25675, -53279)
_FACTORS = {
    1: (117489, 138438, -13975, -34925),
    4: (104448, 132798, -24759, -53109),
    7: (117579, 136230, -16907, -35559),
    9: (110013, 140363, -12277, -42626),
}
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG


def yuv420_of(decoded: Any, channel_order: ChannelOrder, convert: Callable[[], Pixels]) -> Yuv420 | None:
    """A decoded frame for `resample`, or None where its format, or the processor, needs FFmpeg's conversion.

    convert: converts the whole frame by FFmpeg.
    """
    name = decoded.format.name
    if name not in ("yuv420p", "yuvj420p"):
        return None
    kind = (name, decoded.color_range, decoded.colorspace)
    if not _is_exact(kind, decoded.height, decoded.width, channel_order):
        return None
    return _wrap(decoded, kind, channel_order, convert)


def _wrap(
    decoded: Any, kind: tuple[str, int, int], channel_order: ChannelOrder, convert: Callable[[], Pixels]
) -> Yuv420:
    planes = tuple((plane.buffer_ptr, plane.line_size) for plane in decoded.planes)
    shape = (decoded.height, decoded.width, 3)
    return Yuv420(shape, channel_order, planes, _coefficients(*kind), convert, decoded)


@lru_cache(maxsize=64)
def _coefficients(name: str, color_range: int, colorspace: int) -> Coefficients:
    """The factors of the conversion in 3.13 fixed point, as swscale rounds them."""
    is_full = name == "yuvj420p" or color_range == _FULL_RANGE
    luma, offset = (1 << 16, 0) if is_full else ((255 << 16) // 219, 16 << 3)
    factors = _FACTORS.get(colorspace, _BT601)
    if is_full:
        factors = tuple(abs(factor) * 224 // 255 * (1 if factor > 0 else -1) for factor in factors)  # type: ignore[assignment]
    return np.array([offset, *((factor * 8192 + 32768) >> 16 for factor in (luma, *factors))], np.int16)


@lru_cache(maxsize=64)
def _is_exact(kind: tuple[str, int, int], height: int, width: int, channel_order: ChannelOrder) -> bool:
    """Whether a random frame of this kind and size comes out as FFmpeg converts it, at every pixel."""
    generator = np.random.default_rng(0)
    frame: Any = av.VideoFrame(width, height, kind[0])
    for part in frame.planes:
        part.update(generator.bytes(part.buffer_size))
    frame.color_range, frame.colorspace = kind[1:]
    try:
        picture = VideoReformatter().reformat(frame, format=f"{channel_order}24", threads=1)
    except FFmpegError:  # it does not convert these colours at all
        return False
    plane: Any = picture.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)[:, : 3 * width]
    # One row and column more than the frame has, so that every pixel counts.
    window: Any = {"size": (height + 1, width + 1), "rows": (0, height + 1), "columns": (0, width + 1)}
    expected = resample(rows.reshape(height, width, 3), "opencv_bilinear", **window)
    found = resample(_wrap(frame, kind, channel_order, _refuse), "opencv_bilinear", **window)
    return np.array_equal(found, expected)


def _refuse() -> Pixels:
    """Stands for FFmpeg's conversion while the other one is tried."""
    return np.zeros((1, 1, 3), np.uint8)
