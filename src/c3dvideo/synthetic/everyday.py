"""Scenes with everyday motions: a swinging pendulum, a waving flag, a panning camera.

    scene = everyday_scene("bouncing ball", seed=0, index=3, n_frames=50, fps=25)

For demonstrations and end-to-end tests, from file to classifier. Background, colours and pace differ in every clip.
Motion determines the class. Some classes also differ in appearance, as in real video.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from c3dvideo.errors import UsageError
from c3dvideo.synthetic.motions import ANGLE, RIPPLE, RIPPLE_PHASE, SIZE, STRETCH, Movement, X, Y
from c3dvideo.synthetic.scenes import Scene, any_map, draw_backdrop, draw_defects
from c3dvideo.synthetic.shapes import draw_sprite
from c3dvideo.synthetic.textures import Array, palette

Tracks = np.ndarray[Any, np.dtype[np.float64]]


def everyday_scene(name: str, *, seed: int, index: int, n_frames: int = 50, fps: int = 25) -> Scene:
    """Scene `index` of a class in `EVERYDAY`; a pure function of its arguments. Raises UsageError for another name."""
    if name not in _CLASSES:
        raise UsageError(f"unknown everyday class: {name}; there are {', '.join(EVERYDAY)}")
    rng = np.random.default_rng([seed, index, EVERYDAY.index(name), 25])
    seconds = np.arange(n_frames) / fps
    sprites, objects, camera = _CLASSES[name](rng, seconds)
    camera = camera + rng.choice([0.0, 0.004]) * rng.normal(size=(n_frames, 2))
    places = ["texture", "clutter"] if name == "panning camera" else ["gradient", "texture", "horizon", "room"]
    backdrop = draw_backdrop(rng, str(rng.choice(places)))
    defects = draw_defects(rng) | {"compression": 0.0, "noise": float(rng.choice([0.0, 2.0, 5.0]))}
    return Scene(
        backdrop=backdrop, sprites=sprites, movement=Movement(objects, camera), labels={"everyday": name}, **defects
    )


def _thing(rng: np.random.Generator, shape: str, **look: Any) -> Array:
    look = {"pattern": any_map(rng), "colours": palette(rng), "material": "outlined", **look}
    return draw_sprite(rng, shape=shape, **look)


def _stage(n_objects: int, seconds: Tracks) -> tuple[Tracks, Tracks]:
    """The tracks (n_objects, T, 7) of still objects in the middle, and the track (T, 2) of a still camera."""
    return np.zeros((n_objects, len(seconds), 7)), np.zeros((len(seconds), 2))


def _rolling_ball(rng: np.random.Generator, seconds: Tracks) -> tuple[Array, Tracks, Tracks]:
    objects, camera = _stage(1, seconds)
    radius, sense = rng.uniform(0.2, 0.4), rng.choice([-1.0, 1.0])
    x = sense * (rng.uniform(-1.5, -0.9) + rng.uniform(0.8, 1.6) * seconds)
    objects[0, :, X], objects[0, :, Y] = x, rng.uniform(0.2, 0.6)
    objects[0, :, ANGLE], objects[0, :, SIZE] = x / radius, np.log(radius)
    return _thing(rng, "disc", pattern=any_map(rng, "checks"))[None], objects, camera


def _bouncing_ball(rng: np.random.Generator, seconds: Tracks) -> tuple[Array, Tracks, Tracks]:
    objects, camera = _stage(1, seconds)
    radius, period, height = rng.uniform(0.15, 0.35), rng.uniform(0.5, 1.0), rng.uniform(0.8, 1.4)
    phase = (seconds / period + rng.uniform()) % 1
    objects[0, :, X] = rng.uniform(-0.8, 0.8) + rng.uniform(-0.2, 0.2) * seconds
    objects[0, :, Y] = 0.75 - radius - height * 4 * phase * (1 - phase)
    objects[0, :, SIZE] = np.log(radius)
    objects[0, :, STRETCH] = 0.5 * np.exp(-np.minimum(phase, 1 - phase) * 15)
    return _thing(rng, "disc", material="glossy")[None], objects, camera


def _swinging_pendulum(rng: np.random.Generator, seconds: Tracks) -> tuple[Array, Tracks, Tracks]:
    objects, camera = _stage(2, seconds)
    length, top, left = rng.uniform(0.9, 1.5), rng.uniform(-1.1, -0.8), rng.uniform(-0.4, 0.4)
    swing = rng.uniform(0.3, 0.8) * np.sin(2 * np.pi * seconds / rng.uniform(0.8, 1.6) + rng.uniform(0, 6.3))
    for thing, share in ((objects[0], 0.5), (objects[1], 1.0)):
        thing[:, X], thing[:, Y] = left + share * length * np.sin(swing), top + share * length * np.cos(swing)
        thing[:, ANGLE] = np.pi / 2 - swing
    objects[0, :, SIZE], objects[0, :, STRETCH] = np.log(length / 8), np.log(16)
    objects[0, :, SIZE] = np.log(length / 2) - 0.5 * objects[0, :, STRETCH]
    objects[1, :, SIZE] = np.log(rng.uniform(0.12, 0.25))
    rod = _thing(rng, "square", pattern=np.zeros((160, 160), np.float32), material="matte")
    return np.stack([rod, _thing(rng, "disc", material="glossy")]), objects, camera


def _spinning_wheel(rng: np.random.Generator, seconds: Tracks) -> tuple[Array, Tracks, Tracks]:
    objects, camera = _stage(2, seconds)
    pace = rng.choice([-1.0, 1.0]) * rng.uniform(2.5, 7)
    objects[:, :, [X, Y]] = rng.uniform(-0.4, 0.4, (1, 1, 2))
    objects[:, :, ANGLE] = rng.uniform(0, 6.3) + pace * seconds
    objects[0, :, SIZE] = np.log(rng.uniform(0.4, 0.8))
    objects[1, :, SIZE] = objects[0, :, SIZE] - 0.15
    return np.stack([_thing(rng, "ring"), _thing(rng, "cross")]), objects, camera


def _waving_flag(rng: np.random.Generator, seconds: Tracks) -> tuple[Array, Tracks, Tracks]:
    objects, camera = _stage(2, seconds)
    size, left, top = rng.uniform(0.5, 0.8), rng.uniform(-0.5, 0.3), rng.uniform(-0.4, 0.0)
    objects[:, :, X], objects[:, :, Y] = left, top
    objects[0, :, [X, Y]] += np.array([[-0.75 * size], [0.6]])
    objects[0, :, ANGLE], objects[0, :, SIZE], objects[0, :, STRETCH] = np.pi / 2, np.log(0.25), np.log(20)
    objects[1, :, SIZE], objects[1, :, RIPPLE] = np.log(size), rng.uniform(0.08, 0.2)
    objects[1, :, RIPPLE_PHASE] = rng.uniform(5, 12) * seconds
    pole = _thing(rng, "square", pattern=np.full((160, 160), 0.5, np.float32), material="matte")
    cloth = _thing(rng, "square", pattern=any_map(rng, "stripes"), material="matte", coarseness=0.6)
    return np.stack([pole, cloth]), objects, camera


def _panning_camera(rng: np.random.Generator, seconds: Tracks) -> tuple[Array, Tracks, Tracks]:
    objects, camera = _stage(1, seconds)
    pan = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 0.9) * (seconds - seconds.mean())
    camera[:, 0] = pan
    objects[0, :, X], objects[0, :, Y] = rng.uniform(-0.6, 0.6) - pan, rng.uniform(-0.2, 0.5)
    objects[0, :, SIZE] = np.log(rng.uniform(0.2, 0.5))
    return _thing(rng, str(rng.choice(["square", "triangle", "blob"])))[None], objects, camera


def _falling_leaves(rng: np.random.Generator, seconds: Tracks) -> tuple[Array, Tracks, Tracks]:
    count = 7
    objects, camera = _stage(count, seconds)
    colours = palette(rng, str(rng.choice(["red", "orange", "yellow", "green"])))
    sprites = [_thing(rng, "blob", colours=colours, material="matte") for _ in range(count)]
    for leaf in objects:
        sway = rng.uniform(0.05, 0.2) * np.sin(rng.uniform(3, 7) * seconds + rng.uniform(0, 6.3))
        leaf[:, X] = rng.uniform(-1.2, 1.2) + sway
        leaf[:, Y] = (rng.uniform(0, 2.6) + rng.uniform(0.5, 1.2) * seconds) % 2.6 - 1.3
        leaf[:, ANGLE] = rng.uniform(0, 6.3) + 5 * sway
        leaf[:, SIZE] = np.log(rng.uniform(0.1, 0.2))
    return np.stack(sprites), objects, camera


def _approaching_sign(rng: np.random.Generator, seconds: Tracks) -> tuple[Array, Tracks, Tracks]:
    objects, camera = _stage(1, seconds)
    near = rng.uniform(1.0, 1.8)
    distance = 1 / np.maximum(1.3 - rng.uniform(0.7, 1.1) * seconds / seconds[-1], 0.2)
    objects[0, :, X], objects[0, :, Y] = rng.uniform(-0.5, 0.5) * distance / 2, rng.uniform(-0.3, 0.2) * distance / 2
    objects[0, :, SIZE] = np.log(0.15 * near * distance)
    return _thing(rng, str(rng.choice(["triangle", "polygon"])))[None], objects, camera


_CLASSES: dict[str, Callable[[np.random.Generator, Tracks], tuple[Array, Tracks, Tracks]]] = {
    "rolling ball": _rolling_ball,
    "bouncing ball": _bouncing_ball,
    "swinging pendulum": _swinging_pendulum,
    "spinning wheel": _spinning_wheel,
    "waving flag": _waving_flag,
    "panning camera": _panning_camera,
    "falling leaves": _falling_leaves,
    "approaching sign": _approaching_sign,
}
EVERYDAY = tuple(_CLASSES)
"""Names of the everyday classes."""
