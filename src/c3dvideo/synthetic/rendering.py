"""Render scenes as clips: one affine image lookup per layer and frame, then defects of camera and codec.

clips = render([scene], height=112, width=112)                 # uint8 (1, 3, 16, 112, 112), RGB
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from c3dvideo.synthetic.motions import ANGLE, RIPPLE, RIPPLE_PHASE, SIZE, STRETCH, X, Y
from c3dvideo.synthetic.scenes import Scene
from c3dvideo.synthetic.textures import Array

BACKDROP_REACH = 1.7
"""The backdrop extends this many half frame heights from the middle in each direction, and is mirrored beyond."""


def render(
    scenes: Sequence[Scene], *, height: int = 112, width: int = 112, device: str | torch.device = "cpu"
) -> Tensor:
    """Clips of the scenes as uint8 (N, 3, T, height, width) on the device, RGB. Height and width are multiples of 8.

    A CPU renders one scene at a time, because one scene fits its caches; no clip depends on another. A GPU renders all
    scenes as one batch.
    """
    if torch.device(device).type == "cpu":
        return torch.stack([_render_batch([scene], height, width, "cpu")[0] for scene in scenes])
    return _render_batch(scenes, height, width, device)


@torch.no_grad()
def _render_batch(scenes: Sequence[Scene], height: int, width: int, device: str | torch.device) -> Tensor:
    """All scenes as one batch: one affine image lookup per layer and frame, from back to front."""
    n_frames = len(scenes[0].movement.camera)
    aspect = width / height
    backdrops = torch.from_numpy(np.stack([scene.backdrop for scene in scenes])).to(device)
    cameras = np.stack([camera_lookup(scene.movement.camera, aspect) for scene in scenes])
    pictures = _look_up(backdrops, torch.from_numpy(cameras).to(device), height, width, padding="reflection")
    for layer in range(max(len(scene.sprites) for scene in scenes)):
        # Scenes differ in their number of sprites; only those that have this layer are looked up.
        rows = [row for row, scene in enumerate(scenes) if layer < len(scene.sprites)]
        sprites = torch.from_numpy(np.stack([scenes[row].sprites[layer] for row in rows])).to(device)
        tracks = np.stack([scenes[row].movement.objects[layer] for row in rows])
        things = look_up_sprites(sprites, tracks, height, width)
        pictures[rows] = torch.lerp(pictures[rows], things[:, :, :3], things[:, :, 3:])
    # Defects differ in strength from scene to scene, so they are applied to one clip at a time.
    clips = [_finish(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return torch.stack(clips).view(len(scenes), n_frames, 3, height, width).transpose(1, 2).contiguous()


def camera_lookup(camera: Any, aspect: float) -> Array:
    """(T, 2, 3) maps from output to backdrop coordinates, both -1..1."""
    lookup = np.zeros((len(camera), 2, 3), np.float32)
    lookup[:, 0, 0], lookup[:, 1, 1] = aspect, 1.0
    # The map goes from output to backdrop, so a camera that moves right reads further right.
    lookup[:, :, 2] = camera
    return lookup / np.float32(BACKDROP_REACH)


def object_lookup(tracks: Any, aspect: float) -> Array:
    """(N, T, 2, 3) maps from output to sprite coordinates, both -1..1, for tracks (N, T, 7)."""
    cosine, sine = np.cos(tracks[..., ANGLE]), np.sin(tracks[..., ANGLE])
    # 1.08 is the border of a sprite beyond its unit circle. Half the stretch per axis keeps the area constant.
    across = 1 / (1.08 * np.exp(tracks[..., SIZE] + 0.5 * tracks[..., STRETCH]))
    along = 1 / (1.08 * np.exp(tracks[..., SIZE] - 0.5 * tracks[..., STRETCH]))
    x, y = tracks[..., X], tracks[..., Y]
    rows = [
        [aspect * cosine * across, sine * across, -(cosine * x + sine * y) * across],
        [-aspect * sine * along, cosine * along, (sine * x - cosine * y) * along],
    ]
    return np.asarray(np.moveaxis(np.asarray(rows), (0, 1), (-2, -1)), np.float32)


def look_up_sprites(sprites: Tensor, tracks: Any, height: int, width: int, *, mode: str = "bilinear") -> Tensor:
    """(N, T, C, height, width): sprites (N, C, S, S) at the positions in their tracks (N, T, 7)."""
    lookups = torch.from_numpy(object_lookup(tracks, width / height)).to(sprites.device)
    ripple = None
    # Most objects have no ripple, and the sine per pixel would be wasted on them.
    if tracks[..., RIPPLE].any():
        ripple = torch.from_numpy(tracks[..., [RIPPLE, RIPPLE_PHASE]].astype(np.float32)).to(sprites.device)
    return _look_up(sprites, lookups, height, width, mode=mode, ripple=ripple)


def _look_up(
    images: Tensor,
    lookups: Tensor,
    height: int,
    width: int,
    *,
    padding: str = "zeros",
    mode: str = "bilinear",
    ripple: Tensor | None = None,
) -> Tensor:
    """(N, T, C, height, width): images (N, C, S, S) sampled through lookups (N, T, 2, 3)."""
    n_images, n_frames = lookups.shape[:2]
    grid = functional.affine_grid(
        lookups.flatten(0, 1), [n_images * n_frames, 1, height, width], align_corners=False
    ).view(n_images, n_frames, height, width, 2)
    if ripple is not None:
        tall, phase = (ripple[:, :, None, None, part] for part in range(2))
        grid[..., 1] += tall * (grid[..., 0] + 1) * torch.sin(4 * grid[..., 0] - phase)
    # The frames are stacked along the height, so that one call samples each image for all frames without copies of it.
    seen = functional.grid_sample(
        images, grid.view(n_images, n_frames * height, width, 2), mode=mode, padding_mode=padding, align_corners=False
    )
    return seen.view(n_images, -1, n_frames, height, width).transpose(1, 2)


def _finish(picture: Tensor, scene: Scene) -> Tensor:
    """Pictures in 0..1 with light, softness, noise and compression applied: uint8 (T, 3, H, W)."""
    n_frames, _, height, width = picture.shape
    middle, right, down, flicker = scene.light
    across = torch.linspace(-right, right, width, device=picture.device)
    along = torch.linspace(-down, down, height, device=picture.device)
    tape = _noise_tape()
    wink = torch.from_numpy(tape[scene.noise_start : scene.noise_start + n_frames]).to(picture.device)
    light = (middle + along[:, None] + across) * (1 + flicker * wink)[:, None, None, None]
    # The order is that of a real camera: light, optics, sensor noise, codec.
    picture = picture * (255 * light)
    if scene.softness:
        picture = torch.lerp(picture, functional.avg_pool2d(picture, 3, 1, 1, count_include_pad=False), scene.softness)
    if scene.noise:
        # A clip larger than the rest of the tape repeats it.
        grain = np.resize(tape[scene.noise_start :], picture.numel())
        picture = picture + scene.noise * torch.from_numpy(grain).to(picture.device).view(picture.shape)
    if scene.compression:
        picture = _compress(picture, scene.compression)
    return picture.clamp_(0, 255).round_().to(torch.uint8)


@lru_cache(maxsize=1)
def _noise_tape() -> Array:
    """Normal noise (2^21,) that all clips share; each clip starts at its own position."""
    # Normal numbers are slow to draw, so they are drawn once per process.
    return np.random.default_rng(1969).standard_normal(1 << 21, dtype=np.float32)


@lru_cache(maxsize=4)
def _cosine_transform(device: torch.device) -> Tensor:
    """The orthonormal 8 x 8 discrete cosine transform."""
    rows, columns = np.mgrid[:8, :8]
    matrix = np.sqrt(2 / 8) * np.cos(np.pi * (2 * columns + 1) * rows / 16)
    matrix[0] /= np.sqrt(2)
    return torch.from_numpy(matrix.astype(np.float32)).to(device)


def _compress(picture: Tensor, step: float) -> Tensor:
    """The picture after quantisation of the cosine transform of its 8 x 8 blocks; high frequencies lose more."""
    n_frames, _, height, width = picture.shape
    transform = _cosine_transform(picture.device)
    blocks = picture.reshape(n_frames, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    weight = torch.arange(8, device=picture.device)
    quantiser = step * (1 + weight[:, None] + weight) / 4
    rounded = (transform @ blocks @ transform.T / quantiser).round_() * quantiser
    return (transform.T @ rounded @ transform).transpose(3, 4).reshape(picture.shape)
