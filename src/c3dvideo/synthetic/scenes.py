"""Random scenes: objects, backdrop, motion and labels, determined by a seed; `rendering` turns them into clips.

    scene = draw_scene(seed=0, index=17)
    scene.labels["rotation"], scene.labels["colour"]         # "clockwise", "red"

Motion labels and appearance labels come from separate random generators, so they are independent of each other.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from c3dvideo.synthetic.motions import MOTION_TASKS, SCENARIOS, Movement, Order, draw_order, move
from c3dvideo.synthetic.shapes import MATERIALS, SHAPES, draw_sprite
from c3dvideo.synthetic.textures import (
    FAMILIES,
    HUES,
    MAP_SIZE,
    MAPS_PER_FAMILY,
    Array,
    colourise,
    palette,
    texture_map,
)  # fmt: skip

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
"""Class names per task."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All input of `render`; `labels` holds the class name per task that applies to this clip.

    backdrop: (3, 160, 160); sprites: (n, 4, 96, 96); both RGB (and opacity) in 0..1.
    light: brightness at the middle, its slope to the right and down, and the strength of its flicker.
    softness: share of a 3 x 3 box blur; noise: standard deviation in grey levels; compression: quantiser step of an
        8 x 8 cosine transform in grey levels, 0 for none; noise_start: first index into the shared noise.
    parts: uint8 (n, 96, 96), index in `figures.PARTS` per pixel of the sprites; None when all opaque pixels are things.
    """

    backdrop: Array
    sprites: Array
    movement: Movement
    parts: Any = None
    labels: dict[str, str] = field(default_factory=dict)
    light: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    softness: float = 0.0
    noise: float = 0.0
    compression: float = 0.0
    noise_start: int = 0


def draw_scene(*, seed: int, index: int, n_frames: int = 16) -> Scene:
    """Scene `index` of an unlimited seeded series; a pure function of its arguments. n_frames: 8, 16, 32, ..."""
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
    """The labels of scene `index`, hundreds of times faster than `draw_scene`."""
    motion_rng, look_rng = (np.random.default_rng([seed, index, part]) for part in range(2))
    return {**_draw_motion(motion_rng)[1], **_draw_look(look_rng)}


def _draw_motion(rng: np.random.Generator) -> tuple[str, Order]:
    """Scenario and labels of the motion."""
    scenario = str(rng.choice(list(SCENARIOS), p=list(SCENARIOS.values())))
    return scenario, draw_order(scenario, rng)


def _draw_look(rng: np.random.Generator) -> dict[str, str]:
    """Appearance labels. A plain or gradient backdrop has no texture, hence no background label."""
    look = {task: str(rng.choice(names)) for task, names in APPEARANCE_TASKS.items()}
    if look["scene"] in ("plain", "gradient"):
        del look["background"]
    return look


def draw_defects(rng: np.random.Generator) -> dict[str, Any]:
    """Random defects of camera and codec, as arguments of Scene: light, softness, noise and compression."""
    return {
        "light": (rng.uniform(0.6, 1.25), *rng.uniform(-0.3, 0.3, 2), float(rng.choice([0.0, 0.0, 0.02, 0.06]))),
        "softness": float(rng.choice([0.0, 0.5, 1.0])),
        "noise": float(rng.choice([0.0, 2.0, 5.0, 12.0])),
        "compression": float(rng.choice([0.0, 0.0, 0.0, 15.0, 40.0])),
        "noise_start": int(rng.integers(0, 1 << 20)),
    }


def any_map(rng: np.random.Generator, family: str | None = None) -> Array:
    """A random pattern of the family (of any family when None); one in four has clouds mixed in."""
    family = family or str(rng.choice(FAMILIES))
    pattern = texture_map(family, int(rng.integers(MAPS_PER_FAMILY)))
    if rng.uniform() < 0.25:
        pattern = 0.75 * pattern + 0.25 * texture_map("clouds", int(rng.integers(MAPS_PER_FAMILY)))
    return pattern


def draw_backdrop(rng: np.random.Generator, place: str, family: str | None = None) -> Array:
    """A random picture of this kind of place, behind all moving objects: float32 (3, 160, 160) in 0..1."""
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
    """Paste one still object on the picture (H, W, 3), in place."""
    shape, material = str(rng.choice(SHAPES)), str(rng.choice(MATERIALS))
    sprite = draw_sprite(rng, shape=shape, pattern=any_map(rng), colours=palette(rng), material=material)
    sprite = sprite[:, :: int(rng.integers(2, 4)), :: int(rng.integers(2, 4))]
    height, width = sprite.shape[1:]
    top, left = (int(rng.integers(0, MAP_SIZE - size)) for size in (height, width))
    window = picture[top : top + height, left : left + width]
    window += sprite[3, ..., None] * (sprite[:3].transpose(1, 2, 0) - window)
