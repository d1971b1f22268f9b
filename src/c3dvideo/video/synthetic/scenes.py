"""Scenes: what is seen and how it moves, drawn from a seed, and rendered as uint8 clips.

    scene = draw_scene(seed=0, index=17)
    clips = render([scene], height=112, width=112)           # uint8 (1, 3, 16, 112, 112), RGB
    scene.labels["rotation"], scene.labels["colour"]         # "clockwise", "red"

Motion labels and appearance labels come from generators of their own and are independent of each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from c3dvideo.video.synthetic.motions import (
    ANGLE,
    MOTION_TASKS,
    RIPPLE,
    RIPPLE_PHASE,
    SCENARIOS,
    SIZE,
    STRETCH,
    Movement,
    Order,
    X,
    Y,
    draw_order,
    move,
)  # fmt: skip
from c3dvideo.video.synthetic.shapes import MATERIALS, SHAPES, draw_sprite
from c3dvideo.video.synthetic.textures import (
    FAMILIES,
    HUES,
    MAP_SIZE,
    MAPS_PER_FAMILY,
    Array,
    colourise,
    palette,
    texture_map,
)  # fmt: skip

BACKDROP_REACH = 1.7
"""The backdrop covers this many half frame heights on every side of the middle; it is mirrored beyond."""

PLACES = ("plain", "gradient", "texture", "horizon", "clutter", "room")
APPEARANCE_TASKS: dict[str, tuple[str, ...]] = {
    "scene": PLACES,
    "background": FAMILIES,
    "texture": FAMILIES,
    "shape": SHAPES,
    "colour": tuple(HUES),
    "material": MATERIALS,
}
TASKS = {**MOTION_TASKS, **APPEARANCE_TASKS}
"""Task -> names of its classes."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that `render` needs; `labels` holds the class name of every task that is asked of this clip.

    backdrop: (3, 160, 160); sprites: (n, 4, 96, 96); both RGB (and opacity) in 0..1.
    light: brightness at the middle, its slope to the right and down, and the strength of its flicker.
    softness: share of a 3 x 3 box blur; noise: standard deviation in grey levels; compression: quantiser step of an
        8 x 8 cosine transform in grey levels, 0 for none; noise_start: where the noise tape starts.
    """

    backdrop: Array
    sprites: Array
    movement: Movement
    labels: dict[str, str] = field(default_factory=dict)
    light: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    softness: float = 0.0
    noise: float = 0.0
    compression: float = 0.0
    noise_start: int = 0


def draw_scene(*, seed: int, index: int, n_frames: int = 16) -> Scene:
    """Scene `index` of an endless seeded row; a pure function of its arguments. n_frames: 8, 16, 32, ..."""
    motion_rng, look_rng, post_rng = (np.random.default_rng([seed, index, part]) for part in range(3))
    scenario, order = _draw_motion(motion_rng)
    look = _draw_look(look_rng)
    movement = move(scenario, order, motion_rng, n_frames=n_frames, n_objects=int(motion_rng.integers(1, 4)))
    sprites = [
        draw_sprite(
            look_rng,
            shape=look["shape"] if first else str(look_rng.choice(SHAPES)),
            pattern=any_map(look_rng, look["texture"] if first else None),
            colours=palette(look_rng, look["colour"] if first else None),
            material=look["material"] if first else str(look_rng.choice(MATERIALS)),
            coarseness=look_rng.uniform(0.5, 1.6),
        )
        for first in [True] + [False] * (len(movement.objects) - 1)
    ]
    return Scene(
        backdrop=draw_backdrop(look_rng, look["scene"], look.get("background")),
        sprites=np.stack(sprites),
        movement=movement,
        labels={**order, **look},
        **draw_defects(post_rng),
    )


def scene_labels(*, seed: int, index: int) -> dict[str, str]:
    """The labels of scene `index` without drawing it, which costs hundreds of times more."""
    motion_rng, look_rng = (np.random.default_rng([seed, index, part]) for part in range(2))
    return {**_draw_motion(motion_rng)[1], **_draw_look(look_rng)}


def _draw_motion(rng: np.random.Generator) -> tuple[str, Order]:
    """Scenario and labels of the motion."""
    scenario = str(rng.choice(list(SCENARIOS), p=list(SCENARIOS.values())))
    return scenario, draw_order(scenario, rng)


def _draw_look(rng: np.random.Generator) -> dict[str, str]:
    """Labels of the look; a plain or gradient backdrop has no texture to name."""
    look = {task: str(rng.choice(names)) for task, names in APPEARANCE_TASKS.items()}
    if look["scene"] in ("plain", "gradient"):
        del look["background"]
    return look


def draw_defects(rng: np.random.Generator) -> dict[str, Any]:
    """Light, softness, noise and compression for a Scene: what a camera and a codec do to a picture."""
    return {
        "light": (rng.uniform(0.6, 1.25), *rng.uniform(-0.3, 0.3, 2), float(rng.choice([0.0, 0.0, 0.02, 0.06]))),
        "softness": float(rng.choice([0.0, 0.5, 1.0])),
        "noise": float(rng.choice([0.0, 2.0, 5.0, 12.0])),
        "compression": float(rng.choice([0.0, 0.0, 0.0, 15.0, 40.0])),
        "noise_start": int(rng.integers(0, 1 << 20)),
    }


def any_map(rng: np.random.Generator, family: str | None = None) -> Array:
    """A pattern of the family (any family when None); one in four is disturbed by another."""
    family = family or str(rng.choice(FAMILIES))
    pattern = texture_map(family, int(rng.integers(MAPS_PER_FAMILY)))
    if rng.uniform() < 0.25:
        pattern = 0.75 * pattern + 0.25 * texture_map("clouds", int(rng.integers(MAPS_PER_FAMILY)))
    return pattern


def draw_backdrop(rng: np.random.Generator, place: str, family: str | None = None) -> Array:
    """A background picture, float32 (3, 160, 160) in 0..1: what lies behind everything that moves."""
    axis = np.linspace(-1, 1, MAP_SIZE, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    turn = rng.uniform(0, 2 * np.pi)
    slope = 0.5 + 0.45 * (x * np.cos(turn) + y * np.sin(turn))
    if place == "plain":
        slope = 0.5 + 0.05 * slope
    picture = colourise(slope.astype(np.float32), palette(rng))
    if place not in ("plain", "gradient"):
        picture = colourise(any_map(rng, family), palette(rng))
    if place == "horizon":
        level = rng.uniform(-0.3, 0.3) + 0.1 * rng.normal() * x
        depth = np.clip(0.5 + 0.5 * y, 0, 1) * np.ones_like(x)
        picture = np.where((y < level)[..., None], colourise(depth, palette(rng)), picture)
    elif place == "room":
        corner, floor = rng.uniform(-0.4, 0.4), rng.uniform(0.1, 0.4)
        lean = rng.uniform(0.1, 0.6)
        side = (x < corner)[..., None] & np.ones_like(y, bool)[..., None]
        ground = (y > floor + lean * np.abs(x - corner))[..., None]
        picture = np.where(side, 0.6 * picture, picture)
        picture = np.where(ground, colourise(any_map(rng), palette(rng)), picture)
    elif place == "clutter":
        for _ in range(int(rng.integers(5, 14))):
            _paste(picture, rng)
    return np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)


def _paste(picture: Array, rng: np.random.Generator) -> None:
    """Put one thing that stands still on the picture (H, W, 3), in place."""
    shape, material = str(rng.choice(SHAPES)), str(rng.choice(MATERIALS))
    sprite = draw_sprite(rng, shape=shape, pattern=any_map(rng), colours=palette(rng), material=material)
    sprite = sprite[:, :: int(rng.integers(2, 4)), :: int(rng.integers(2, 4))]
    height, width = sprite.shape[1:]
    top, left = (int(rng.integers(0, MAP_SIZE - size)) for size in (height, width))
    window = picture[top : top + height, left : left + width]
    window += sprite[3, ..., None] * (sprite[:3].transpose(1, 2, 0) - window)


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
    cameras = np.stack([_camera_lookup(scene.movement.camera, aspect) for scene in scenes])
    pictures = _look_up(backdrops, torch.from_numpy(cameras).to(device), height, width, padding="reflection")
    for layer in range(max(len(scene.sprites) for scene in scenes)):
        rows = [row for row, scene in enumerate(scenes) if layer < len(scene.sprites)]
        sprites = torch.from_numpy(np.stack([scenes[row].sprites[layer] for row in rows])).to(device)
        tracks = np.stack([scenes[row].movement.objects[layer] for row in rows])
        lookups = torch.from_numpy(_object_lookup(tracks, aspect)).to(device)
        ripple = torch.from_numpy(tracks[..., [RIPPLE, RIPPLE_PHASE]].astype(np.float32)).to(device)
        things = _look_up(sprites, lookups, height, width, ripple=ripple if tracks[..., RIPPLE].any() else None)
        pictures[rows] = torch.lerp(pictures[rows], things[:, :, :3], things[:, :, 3:])
    clips = [_finish(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return torch.stack(clips).view(len(scenes), n_frames, 3, height, width).transpose(1, 2).contiguous()


def _camera_lookup(camera: Any, aspect: float) -> Array:
    """(T, 2, 3) maps from output to backdrop coordinates, both -1..1."""
    lookup = np.zeros((len(camera), 2, 3), np.float32)
    lookup[:, 0, 0], lookup[:, 1, 1] = aspect, 1.0
    lookup[:, :, 2] = camera
    return lookup / np.float32(BACKDROP_REACH)


def _object_lookup(tracks: Any, aspect: float) -> Array:
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


def _look_up(
    images: Tensor, lookups: Tensor, height: int, width: int, *, padding: str = "zeros", ripple: Tensor | None = None
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
        images, grid.view(n_images, n_frames * height, width, 2), padding_mode=padding, align_corners=False
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
