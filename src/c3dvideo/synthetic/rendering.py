"""Clips of scenes: every layer is one affine picture lookup a frame, and a camera and a codec spoil the result.

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
"""The backdrop covers this many half frame heights on every side of the middle; it is mirrored beyond."""


def render(
    scenes: Sequence[Scene], *, height: int = 112, width: int = 112, device: str | torch.device = "cpu"
) -> Tensor:
    """Clips of the scenes as uint8 (N, 3, T, height, width) on the device, RGB. Height and width are multiples of 8.

    On a CPU one scene is rendered at a time, which fits its caches, so a clip never depends on its neighbours; on a GPU
    all are rendered as one batch.
    """
    if torch.device(device).type == "cpu":
        return torch.stack([_render_batch([scene], height, width, "cpu")[0] for scene in scenes])
    return _render_batch(scenes, height, width, device)


@torch.no_grad()
def _render_batch(scenes: Sequence[Scene], height: int, width: int, device: str | torch.device) -> Tensor:
    """`render` of all scenes at once: each layer is one affine picture lookup a frame, from back to front."""
    n_frames = len(scenes[0].movement.camera)
    aspect = width / height
    backdrops = torch.from_numpy(np.stack([scene.backdrop for scene in scenes])).to(device)
    cameras = np.stack([camera_lookup(scene.movement.camera, aspect) for scene in scenes])
    pictures = _look_up(backdrops, torch.from_numpy(cameras).to(device), height, width, padding="reflection")
    for layer in range(max(len(scene.sprites) for scene in scenes)):
        rows = [row for row, scene in enumerate(scenes) if layer < len(scene.sprites)]
        sprites = torch.from_numpy(np.stack([scenes[row].sprites[layer] for row in rows])).to(device)
        tracks = np.stack([scenes[row].movement.objects[layer] for row in rows])
        things = look_up_sprites(sprites, tracks, height, width)
        pictures[rows] = torch.lerp(pictures[rows], things[:, :, :3], things[:, :, 3:])
    clips = [_finish(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return torch.stack(clips).view(len(scenes), n_frames, 3, height, width).transpose(1, 2).contiguous()


def camera_lookup(camera: Any, aspect: float) -> Array:
    """(T, 2, 3) maps from output to backdrop coordinates, both -1..1."""
    lookup = np.zeros((len(camera), 2, 3), np.float32)
    lookup[:, 0, 0], lookup[:, 1, 1] = aspect, 1.0
    lookup[:, :, 2] = camera
    return lookup / np.float32(BACKDROP_REACH)


def object_lookup(tracks: Any, aspect: float) -> Array:
    """(N, T, 2, 3) maps from output to sprite coordinates, both -1..1, for tracks (N, T, 7)."""
    cosine, sine = np.cos(tracks[..., ANGLE]), np.sin(tracks[..., ANGLE])
    across = 1 / (1.08 * np.exp(tracks[..., SIZE] + 0.5 * tracks[..., STRETCH]))
    along = 1 / (1.08 * np.exp(tracks[..., SIZE] - 0.5 * tracks[..., STRETCH]))
    x, y = tracks[..., X], tracks[..., Y]
    rows = [
        [aspect * cosine * across, sine * across, -(cosine * x + sine * y) * across],
        [-aspect * sine * along, cosine * along, (sine * x - cosine * y) * along],
    ]
    return np.asarray(np.moveaxis(np.asarray(rows), (0, 1), (-2, -1)), np.float32)


def look_up_sprites(sprites: Tensor, tracks: Any, height: int, width: int, *, mode: str = "bilinear") -> Tensor:
    """(N, T, C, height, width): sprites (N, C, S, S) where their tracks (N, T, 7) put them."""
    lookups = torch.from_numpy(object_lookup(tracks, width / height)).to(sprites.device)
    ripple = None
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
    """(N, T, C, height, width): images (N, C, S, S) seen through lookups (N, T, 2, 3)."""
    n_images, n_frames = lookups.shape[:2]
    grid = functional.affine_grid(
        lookups.flatten(0, 1), [n_images * n_frames, 1, height, width], align_corners=False
    ).view(n_images, n_frames, height, width, 2)
    if ripple is not None:
        tall, phase = (ripple[:, :, None, None, part] for part in range(2))
        grid[..., 1] += tall * (grid[..., 0] + 1) * torch.sin(4 * grid[..., 0] - phase)
    seen = functional.grid_sample(
        images, grid.view(n_images, n_frames * height, width, 2), mode=mode, padding_mode=padding, align_corners=False
    )
    return seen.view(n_images, -1, n_frames, height, width).transpose(1, 2)


def _finish(picture: Tensor, scene: Scene) -> Tensor:
    """uint8 (T, 3, H, W) of pictures in 0..1: light, softness, noise and compression."""
    n_frames, _, height, width = picture.shape
    middle, right, down, flicker = scene.light
    across = torch.linspace(-right, right, width, device=picture.device)
    along = torch.linspace(-down, down, height, device=picture.device)
    tape = _noise_tape()
    wink = torch.from_numpy(tape[scene.noise_start : scene.noise_start + n_frames]).to(picture.device)
    light = (middle + along[:, None] + across) * (1 + flicker * wink)[:, None, None, None]
    picture = picture * (255 * light)
    if scene.softness:
        picture = torch.lerp(picture, functional.avg_pool2d(picture, 3, 1, 1, count_include_pad=False), scene.softness)
    if scene.noise:
        grain = np.resize(tape[scene.noise_start :], picture.numel())
        picture = picture + scene.noise * torch.from_numpy(grain).to(picture.device).view(picture.shape)
    if scene.compression:
        picture = _compress(picture, scene.compression)
    return picture.clamp_(0, 255).round_().to(torch.uint8)


@lru_cache(maxsize=1)
def _noise_tape() -> Array:
    """Normal noise that every clip reads from a start of its own."""
    return np.random.default_rng(1969).standard_normal(1 << 21, dtype=np.float32)


@lru_cache(maxsize=4)
def _cosine_transform(device: torch.device) -> Tensor:
    """The orthonormal 8 x 8 discrete cosine transform."""
    rows, columns = np.mgrid[:8, :8]
    matrix = np.sqrt(2 / 8) * np.cos(np.pi * (2 * columns + 1) * rows / 16)
    matrix[0] /= np.sqrt(2)
    return torch.from_numpy(matrix.astype(np.float32)).to(device)


def _compress(picture: Tensor, step: float) -> Tensor:
    """The picture after rounding the cosine transform of its 8 x 8 blocks; high frequencies are rounded more."""
    n_frames, _, height, width = picture.shape
    transform = _cosine_transform(picture.device)
    blocks = picture.reshape(n_frames, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    weight = torch.arange(8, device=picture.device)
    quantiser = step * (1 + weight[:, None] + weight) / 4
    rounded = (transform @ blocks @ transform.T / quantiser).round_() * quantiser
    return (transform.T @ rounded @ transform).transpose(3, 4).reshape(picture.shape)
