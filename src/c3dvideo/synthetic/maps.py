"""What every pixel of a generated clip shows, and its direction of motion.

parts = render_parts(scene, height=56, width=56)               # uint8 (16, 56, 56), numbers into figures.PARTS
parts, moves = render_maps(scene, height=56, width=56)         # both in one pass; moves are numbers into MOVES
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
"""The direction of motion of a pixel of a generated clip, by number."""

STILL = 0.012
"""Half frame heights per frame; slower motion counts as still."""

_THING = PARTS.index("thing")


@torch.no_grad()
def render_parts(scene: Scene, *, height: int, width: int, frames: slice = slice(None)) -> Tensor:
    """What every pixel shows, by its number in `figures.PARTS`: uint8 (T, height, width) of the chosen frames."""
    seen = torch.zeros(len(scene.movement.camera[frames]), height, width)
    for _, found in _sprites(scene, height, width, frames):
        seen = torch.where(found > 0, found, seen)
    return seen.to(torch.uint8)


@torch.no_grad()
def render_maps(scene: Scene, *, height: int, width: int, frames: slice = slice(None)) -> Tensor:
    """`render_parts`, and the direction of motion by its number in `MOVES`: uint8 (2, T, height, width).

    Going means half the way from the frame before to the frame after; at the ends, the way from or to the one
    neighbour there is. Ripples are not followed.
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
    """Of every sprite from back to front its track (T, 7) and the parts that it would show, float (t, height, width),
    0 where it shows none."""
    parts = np.where(scene.sprites[:, 3] > 0.5, _THING, 0) if scene.parts is None else scene.parts
    for part, track in zip(parts, scene.movement.objects, strict=True):
        sprite = torch.from_numpy(part)[None, None].float()
        yield track, look_up_sprites(sprite, track[None, frames], height, width, mode="nearest")[0, :, 0]


def _ways(lookups: Array, frames: Any, height: int, width: int) -> Tensor:
    """Right and down a frame, in half pictures, of a layer seen everywhere through lookups (T, 2, 3), at the frames
    int (t,): float (t, height, width, 2)."""
    square = np.concatenate([lookups, np.broadcast_to([0, 0, 1], (len(lookups), 1, 3))], axis=1).astype(np.float64)
    before, after = np.maximum(frames - 1, 0), np.minimum(frames + 1, len(square) - 1)
    places = np.linalg.inv(square)
    ways = (places[after] - places[before]) @ square[frames] / (after - before)[:, None, None]
    return functional.affine_grid(
        torch.from_numpy(ways[:, :2].astype(np.float32)), [len(frames), 1, height, width], align_corners=False
    )
