"""Turning stored pictures upright by the display matrix that phones write.

orientation = orientation_of(frame)
orientation.upright(pixels)                 # uint8 (W, H, 3) for a picture that lies on its side
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from c3dvideo.video.resize import Pixels


class Orientation(NamedTuple):
    """Whether the stored picture has to be turned at all, whether that swaps height and width, and what does it."""

    turns: bool
    swaps: bool
    upright: Callable[[Pixels], Pixels]


def orientation_of(decoded: Any) -> Orientation:
    """The orientation of a decoded frame, in multiples of 90 degrees, mirrored or not."""
    matrix = decoded.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation(False, False, lambda pixels: pixels)
    # x' = a x + c y, y' = b x + d y maps stored onto displayed pixels.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    swap = abs(b) > abs(a)
    flip_rows, flip_columns = (b < 0, c < 0) if swap else (d < 0, a < 0)

    def upright(pixels: Pixels) -> Pixels:
        pixels = pixels.swapaxes(0, 1) if swap else pixels
        pixels = pixels[::-1] if flip_rows else pixels
        return np.ascontiguousarray(pixels[:, ::-1] if flip_columns else pixels)

    return Orientation(swap or flip_rows or flip_columns, swap, upright)
