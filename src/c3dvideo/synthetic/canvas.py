"""A sprite painted from back to front: soft shapes in colour, and a map of the part that each pixel shows.

    canvas = Canvas(("background", "skin"))
    canvas.paint(soft(ellipse(0, 0, 0.5, 0.6)), hsv(0.05, 0.4, 0.9)[:, None, None], "skin")
    canvas.picture, canvas.parts          # (4, 96, 96) RGB and opacity in 0..1; uint8 (96, 96)

Coordinates run from -1 to 1 inside the unit circle, x to the right and y down.
"""

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np

from c3dvideo.synthetic.shapes import SPRITE_SIZE
from c3dvideo.synthetic.textures import Array

_AXIS = np.linspace(-1.08, 1.08, SPRITE_SIZE, dtype=np.float32)
X, Y = np.meshgrid(_AXIS, _AXIS)

Colour = Any
Sprite = tuple[Array, np.ndarray[Any, np.dtype[np.uint8]]]


class Canvas:
    """A sprite that is painted layer by layer. `names` lists its possible parts; the part map holds their indices."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self.picture: Array = np.zeros((4, SPRITE_SIZE, SPRITE_SIZE), np.float32)
        self.parts = np.zeros((SPRITE_SIZE, SPRITE_SIZE), np.uint8)

    def paint(self, opacity: Any, colour: Colour, part: str | None) -> None:
        """Paint a colour, (3, 1, 1) or (3, 96, 96), over the sprite. `part` is its name; None keeps the part map."""
        covered = self.picture[3]
        total = opacity + covered * (1 - opacity)
        share = opacity / np.maximum(total, 1e-6)
        # Colours are kept unmultiplied by opacity, so a soft edge keeps its colour over any backdrop.
        self.picture[:3] += share * (np.clip(colour, 0, 1) - self.picture[:3])
        self.picture[3] = total
        if part is not None:
            # A faint stroke only shades the part under it, so the pixel keeps that part.
            self.parts[opacity > 0.4] = self._names.index(part)


def hsv(hue: float, saturation: float, value: float) -> Array:
    """An RGB colour (3,) in 0..1; the hue wraps around, saturation and value are at most 1."""
    return np.asarray(colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0)), np.float32)


def soft(field: Any, sharpness: float = 35.0) -> Any:
    """Opacity of a distance-like field: 1 inside, 0 outside, with a linear edge of width 2 / sharpness."""
    return np.clip(0.5 + 0.5 * sharpness * field, 0, 1)


def ellipse(x: float, y: float, wide: float, tall: float, power: float = 2.0) -> Any:
    """Distance-like field of an ellipse, positive inside; a power above 2 makes it squarer."""
    across, along = np.abs(X - x) / wide, np.abs(Y - y) / tall
    return (1 - (across**power + along**power) ** (1 / power)) * min(wide, tall)


def box(x: float, y: float, wide: float, tall: float, corner: float) -> Any:
    """Distance field of a box with rounded corners, positive inside; wide and tall are half its side lengths."""
    across, along = np.abs(X - x) - wide + corner, np.abs(Y - y) - tall + corner
    outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
    return corner - outside - np.minimum(np.maximum(across, along), 0)
