"""Pictures of explanations: heat maps over frames, projections to pixels, captions, and first-layer filters.

frames = beside(rgb, overlay(rgb, maps), caption="1.28-1.92 s  walking 0.93")     # (T, H, W, 3) each
write_filters("conv1a.gif", network)
"""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from c3dvideo.errors import UsageError
from c3dvideo.files import atomic_file
from c3dvideo.network.c3d import C3D

Picture = np.ndarray[Any, np.dtype[np.uint8]]

# Points of matplotlib's "inferno", whose lightness grows evenly, so that it also reads without colour.
_HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)
_ENLARGED = 2
_CAPTION = 24
_FILTER_PIXELS, _FILTER_GAP = 12, 4
_MILLISECONDS = 350


def rgb_clip(clip: Picture, channel_order: str) -> Picture:
    """A clip (3, T, H, W) in a profile's channel order as RGB frames (T, H, W, 3)."""
    return np.ascontiguousarray((clip if channel_order == "rgb" else clip[::-1]).transpose(1, 2, 3, 0))


def overlay(frames: Picture, maps: np.ndarray) -> Picture:
    """Frames (T, H, W, 3) in grey under their maps (T, H, W), 0 to 1, in colours from black over red to yellow."""
    grey = frames.astype(np.float32).mean(axis=-1, keepdims=True)
    place = np.clip(maps, 0, 1) * (len(_HEAT) - 1)
    heat = np.stack([np.interp(place, np.arange(len(_HEAT)), _HEAT[:, channel]) for channel in range(3)], axis=-1)
    share = 0.25 + 0.5 * np.clip(maps, 0, 1)[..., None]
    mixed: Picture = np.clip((1 - share) * grey + share * heat, 0, 255).astype(np.uint8)
    return mixed


def signed(values: np.ndarray, channel_order: str) -> Picture:
    """Projections or gradients (3, T, H, W) as RGB frames: grey is 0, the extremes are at the 99.9th percentile."""
    largest = float(np.percentile(np.abs(values), 99.9)) or float(np.abs(values).max()) or 1.0
    grey = np.clip(127.5 + 127.5 * values / largest, 0, 255).astype(np.uint8)
    return rgb_clip(grey, channel_order)


def beside(left: Picture, right: Picture, *, caption: str = "") -> Picture:
    """Two clips (T, H, W, 3) side by side, enlarged, above a line of text: (T, 2 * H + 24, 4 * W, 3)."""
    joined = np.concatenate([left, right], axis=2).repeat(_ENLARGED, axis=1).repeat(_ENLARGED, axis=2)
    strip = _caption(caption, joined.shape[2])
    return np.concatenate([joined, np.broadcast_to(strip, (len(joined), *strip.shape))], axis=1)


def write_filters(path: str | Path, network: C3D) -> int:
    """Write the filters of the first layer as a moving picture (.gif or .webp); returns their number.

    Each cell is one filter; its frames follow each other as the filter's frames do. Grey is 0, and each filter has its
    own scale.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".webp"):
        raise UsageError(f"{path}: the suffix is {suffix!r}; expected .gif or .webp")
    name = network.steps[0]
    weights = network.get_submodule(name).get_parameter("weight").detach().float().cpu().numpy()
    n, _, n_frames, height, width = weights.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    cell = np.array([height, width]) * _FILTER_PIXELS + _FILTER_GAP
    sheet = np.full((n_frames, rows * cell[0] + _FILTER_GAP, columns * cell[1] + _FILTER_GAP, 3), 255, np.uint8)
    for index, weight in enumerate(weights):
        picture = signed(weight, network.profile.channel_order)
        picture = picture.repeat(_FILTER_PIXELS, axis=1).repeat(_FILTER_PIXELS, axis=2)
        top, left = _FILTER_GAP + index // columns * cell[0], _FILTER_GAP + index % columns * cell[1]
        sheet[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    data = BytesIO()
    first, *others = [Image.fromarray(frame) for frame in sheet]
    first.save(
        data, suffix[1:].upper(), save_all=True, append_images=others, duration=_MILLISECONDS, loop=0, lossless=True
    )
    with atomic_file(path) as file:
        file.write(data.getvalue())
    return int(n)


@cache
def _font() -> Any:
    return ImageFont.load_default(size=15)


def _caption(text: str, width: int) -> Picture:
    strip = Image.new("RGB", (width, _CAPTION), "white")
    draw = ImageDraw.Draw(strip)
    while text and draw.textlength(text, font=_font()) > width - 8:
        text = text.removesuffix("…")[:-1] + "…" if len(text) > 1 else ""
    draw.text((4, 3), text, fill="#1f2933", font=_font())
    return np.asarray(strip)
