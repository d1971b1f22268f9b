"""Pixel-wise targets for generated clips: the part that each pixel shows and its direction of motion.

parts = render_parts(scene, height=56, width=56)               # uint8 (16, 56, 56), indices into figures.PARTS
parts, moves = render_maps(scene, height=56, width=56)         # both in one pass; moves are indices into MOVES
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from c3dvideo.synthetic.figures import PARTS
from c3dvideo.synthetic.rendering import camera_lookup, look_up_sprites, object_lookup
from c3dvideo.synthetic.scenes import Scene
from c3dvideo.synthetic.textures import Array

MOVES = ("still", "right", "down right", "down", "down left", "left", "up left", "up", "up right")
"""Names of the directions of motion; a motion map holds their indices."""

STILL = 0.012
"""Half frame heights per frame; slower motion counts as still."""

_THING = PARTS.index("thing")


@torch.no_grad()
def render_parts(scene: Scene, *, height: int, width: int, frames: slice = slice(None)) -> Tensor:
    """The part that every pixel shows, as its index in `figures.PARTS`: uint8 (T, height, width) of these frames."""
    seen = torch.zeros(len(scene.movement.camera[frames]), height, width)
    for _, found in _sprites(scene, height, width, frames):
        seen = torch.where(found > 0, found, seen)
    return seen.to(torch.uint8)


@torch.no_grad()
def render_maps(scene: Scene, *, height: int, width: int, frames: slice = slice(None)) -> Tensor:
    """`render_parts` and the direction of motion as an index in `MOVES`: uint8 (2, T, height, width).

    The motion of a frame is half the displacement from the frame before to the frame after. The first and the last
    frame have one neighbour; their motion is the displacement between them and it. Ripples do not count as motion.
    """
    aspect = width / height
    chosen = np.arange(len(scene.movement.camera))[frames]
    parts = torch.zeros(len(chosen), height, width)
    ways = _ways(camera_lookup(scene.movement.camera, aspect), chosen, height, width)
    for track, found in _sprites(scene, height, width, frames):
        parts = torch.where(found > 0, found, parts)
        ways = torch.where(found[..., None] > 0, _ways(object_lookup(track, aspect), chosen, height, width), ways)
    right, down = aspect * ways[..., 0], ways[..., 1]
    eighth = torch.round(torch.atan2(down, right) / (torch.pi / 4)) % 8
    moves = torch.where(torch.hypot(right, down) < STILL, 0, 1 + eighth)
    return torch.stack([parts, moves]).to(torch.uint8)


def _sprites(scene: Scene, height: int, width: int, frames: slice) -> Iterator[tuple[Array, Tensor]]:
    """Track (T, 7) and visible parts of every sprite, from back to front.

    The parts are float (t, height, width), 0 outside the sprite; other sprites are ignored.
    """
    parts = np.where(scene.sprites[:, 3] > 0.5, _THING, 0) if scene.parts is None else scene.parts
    for part, track in zip(parts, scene.movement.objects, strict=True):
        sprite = torch.from_numpy(part)[None, None].float()
        yield track, look_up_sprites(sprite, track[None, frames], height, width, mode="nearest")[0, :, 0]


def _ways(lookups: Array, frames: Any, height: int, width: int) -> Tensor:
    """Motion of a layer per frame, to the right and down in half pictures: float (t, height, width, 2).

    lookups: (T, 2, 3) maps from output to layer coordinates. frames: the chosen frames, int (t,).
    """
    square = np.concatenate([lookups, np.broadcast_to([0, 0, 1], (len(lookups), 1, 3))], axis=1).astype(np.float64)
    before, after = np.maximum(frames - 1, 0), np.minimum(frames + 1, len(square) - 1)
    places = np.linalg.inv(square)
    ways = (places[after] - places[before]) @ square[frames] / (after - before)[:, None, None]
    return functional.affine_grid(
        torch.from_numpy(ways[:, :2].astype(np.float32)), [len(frames), 1, height, width], align_corners=False
    )
