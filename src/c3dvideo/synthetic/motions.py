"""Motions whose labels depend on the order of the frames only.

    order = draw_order("glide", rng)                     # {"horizontal": "left", "rotation": "clockwise", ...}
    movement = move("glide", order, rng, n_frames=16)

Every motion is a set of states and the order of these states in time. A label names the order. Two constructions make
the set the same for every label, so neither a random frame nor a bag of shuffled frames predicts the label:

* reversal: labels come in pairs, and flipping all labels of a clip gives the same clip played backwards;
* permutation: the same T states occur in another order (steps of k around a ring, where k and T have no common factor;
  up and down through interleaved states; or a random order).

All other variation is exchangeable in time (independent jitter in every frame), so the property is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from c3dvideo.errors import UsageError

Array = np.ndarray[Any, np.dtype[np.float64]]
Order = dict[str, str]

MOTION_TASKS: dict[str, tuple[str, ...]] = {
    "horizontal": ("left", "right"),
    "vertical": ("up", "down"),
    "rotation": ("anticlockwise", "clockwise"),
    "zoom": ("out", "in"),
    "deformation": ("slackening", "stretching"),
    "acceleration": ("braking", "speeding up"),
    "camera pan": ("left", "right"),
    "frequency": ("one", "three", "five"),
    "periodicity": ("one-shot", "periodic"),
    "collision": ("struck from the left", "struck from the right"),
    "occlusion": ("emerging", "vanishing"),
    "camera path": ("pan then tilt", "tilt then pan", "shake"),
    "mover": ("object", "camera"),
    "movers": ("one", "two"),
}
"""Motion tasks and their classes. In the two-class tasks above "frequency", and in "collision" and "occlusion", one
class is the other played backwards."""

SCENARIOS = {
    "glide": 0.4,
    "cycle": 0.22,
    "repeat": 0.08,
    "strike": 0.06,
    "hide": 0.06,
    "camera path": 0.06,
    "mover": 0.06,
    "movers": 0.06,
}
"""Share of the clips per scenario."""

X, Y, ANGLE, SIZE, STRETCH, RIPPLE, RIPPLE_PHASE = range(7)


@dataclass(frozen=True)
class Movement:
    """Positions and shapes of all objects and the position of the camera, in every frame.

    objects: (n, T, 7): centre x to the right and y down (half a frame height = 1, 0 = middle), angle in radians,
        natural logarithms of the radius and of the stretch (length over width), height and phase in radians of a ripple
        that grows along the object, as on a flag. Later objects lie in front.
    camera: (T, 2), the point that the camera is aimed at, in the same units. The background moves the other way; object
        positions are relative to the picture, so the camera does not change them.
    """

    objects: Array
    camera: Array


def draw_order(scenario: str, rng: np.random.Generator) -> Order:
    """Random motion labels for this scenario, uniform over the classes. Tasks that do not apply have no label."""
    if scenario == "glide":
        tasks = [task for task in _SIGNS if rng.uniform() < 0.55] or ["horizontal"]
        if "acceleration" in tasks and not {"horizontal", "vertical"} & set(tasks):
            tasks.append("horizontal")
        return {task: str(rng.choice(MOTION_TASKS[task])) for task in tasks}
    if scenario == "cycle":
        order = {"frequency": str(rng.choice(MOTION_TASKS["frequency"]))}
        if rng.uniform() < 0.6:
            order["rotation"] = str(rng.choice(MOTION_TASKS["rotation"]))
        return order
    task = {"repeat": "periodicity", "strike": "collision", "hide": "occlusion"}.get(scenario, scenario)
    return {task: str(rng.choice(MOTION_TASKS[task]))}


def check_n_frames(n_frames: int) -> None:
    """Raise UsageError unless n_frames is a power of two of at least 8."""
    if n_frames < 8 or n_frames & (n_frames - 1):
        raise UsageError(f"n_frames is {n_frames}; the motion labels need 8, 16, 32 or another power of two")


def move(scenario: str, order: Order, rng: np.random.Generator, *, n_frames: int, n_objects: int = 1) -> Movement:
    """The motion with these labels; `rng` determines everything else.

    n_frames: a power of two of at least 8, so that cycles of 1, 3 and 5 turns visit the same states.
    n_objects: the least number of objects. The labels describe the first, which lies behind the others. Objects that
    the scenario does not need stay still. Raises UsageError for another number of frames.
    """
    check_n_frames(n_frames)
    needed = {"strike": 2, "hide": 2, "movers": 3}.get(scenario, 1)
    count = max(needed, n_objects)
    objects = np.zeros((count, n_frames, 7))
    objects[:, :, [X, Y]] = rng.uniform(-0.85, 0.85, (count, 1, 2))
    objects[:, :, ANGLE] = rng.uniform(-np.pi, np.pi, (count, 1))
    objects[:, :, SIZE] = np.log(rng.uniform(0.16, 0.6, (count, 1)))
    camera = np.zeros((n_frames, 2))
    _MOVES[scenario](objects, camera, order, rng)
    objects[:, :, [X, Y]] += _jitter(rng, (1, n_frames, 2))
    camera += _jitter(rng, (n_frames, 2))
    return Movement(objects, camera)


def _jitter(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    """The shake of a hand-held camera, or none. Frames are independent, so the shake does not depend on their order."""
    return np.asarray(rng.choice([0.0, 0.01, 0.03]) * rng.normal(size=size))


_SIGNS = ("horizontal", "vertical", "rotation", "zoom", "deformation", "acceleration", "camera pan")


def _sign(order: Order, task: str) -> float:
    """-1 or 1 for the first or second class of a two-class task, 0 when the clip has no label for it."""
    return 0.0 if task not in order else 2.0 * MOTION_TASKS[task].index(order[task]) - 1.0


def _glide(objects: Array, camera: Array, order: Order, rng: np.random.Generator) -> None:
    """Steady or accelerated travel, with or without spin, approach, stretch and camera pan."""
    progress = np.linspace(-1, 1, objects.shape[1])
    power = rng.uniform(1.7, 3.2)
    travel = progress
    if order.get("acceleration") == "speeding up":
        travel = 2 * ((progress + 1) / 2) ** power - 1
    elif order.get("acceleration") == "braking":
        travel = 1 - 2 * ((1 - progress) / 2) ** power
    mine = objects[0]
    mine[:, [X, Y]] *= 0.7
    reach = rng.uniform(0.08, 0.9, 5)
    mine[:, X] += _sign(order, "horizontal") * reach[0] * travel
    mine[:, Y] += _sign(order, "vertical") * reach[1] * travel
    mine[:, ANGLE] += _sign(order, "rotation") * 2.5 * reach[2] * progress
    mine[:, SIZE] += _sign(order, "zoom") * 0.9 * reach[3] * progress
    mine[:, STRETCH] += _sign(order, "deformation") * 0.8 * reach[4] * progress
    camera[:, 0] += _sign(order, "camera pan") * rng.uniform(0.08, 0.7) * progress


def _cycle(objects: Array, camera: Array, order: Order, rng: np.random.Generator) -> None:
    """Rotation in place or around a point when rotation has a label; else swinging, pulsing, wobbling or rippling."""
    turns = {"one": 1, "three": 3, "five": 5}[order["frequency"]]
    n_frames = objects.shape[1]
    sense = _sign(order, "rotation") or 1.0
    phase = sense * 2 * np.pi * turns * np.arange(n_frames) / n_frames + rng.uniform(0, 2 * np.pi)
    mine = objects[0]
    reach = rng.uniform(0.1, 0.6)
    kind = rng.integers(2) if "rotation" in order else rng.integers(2, 7)
    if kind == 0:
        mine[:, ANGLE] += phase
    elif kind == 1:
        mine[:, X] = 0.5 * mine[:, X] + reach * np.cos(phase)
        mine[:, Y] = 0.5 * mine[:, Y] + reach * np.sin(phase)
    elif kind == 2:
        along = rng.uniform(0, np.pi)
        mine[:, X] = 0.7 * mine[:, X] + reach * np.cos(along) * np.sin(phase)
        mine[:, Y] = 0.7 * mine[:, Y] + reach * np.sin(along) * np.sin(phase)
    elif kind == 3:
        length, swing = rng.uniform(0.5, 1.5), rng.uniform(0.2, 0.9) * np.sin(phase)
        mine[:, X] = 0.5 * mine[:, X] + length * np.sin(swing)
        mine[:, Y] = 0.5 * mine[:, Y] + length * (np.cos(swing) - 0.7)
        mine[:, ANGLE] -= swing
    elif kind == 4:
        mine[:, SIZE] += 0.6 * reach * np.sin(phase)
    elif kind == 5:
        mine[:, STRETCH] += 0.8 * reach * np.sin(phase)
    else:
        mine[:, RIPPLE] = 0.6 * reach
        mine[:, RIPPLE_PHASE] = phase


def _repeat(objects: Array, camera: Array, order: Order, rng: np.random.Generator) -> None:
    """One sweep through the states, or up and down through interleaved quarters of the same states."""
    n_frames = objects.shape[1]
    states = np.linspace(-1, 1, n_frames)
    if order["periodicity"] == "periodic":
        states = np.concatenate([states[first::4][:: 1 if first % 2 == 0 else -1] for first in range(4)])
    states = states * rng.choice([-1.0, 1.0])
    mine, axis = objects[0], rng.choice([X, Y, ANGLE, SIZE, STRETCH])
    mine[:, axis] = 0.5 * mine[:, axis] + rng.uniform(0.15, 0.7) * states
    other = rng.choice([X, Y])
    mine[:, other] += rng.uniform(-0.5, 0.5) * states


def _strike(objects: Array, camera: Array, order: Order, rng: np.random.Generator) -> None:
    """Two objects on a line: one approaches, hits the other and stops; the other moves away."""
    n_frames = objects.shape[1]
    contact = rng.uniform(0.35, 0.65) * (n_frames - 1)
    tilt, speed_left, speed_right = rng.uniform(-0.9, 0.9), *rng.uniform(0.06, 0.16, 2)
    time = np.arange(n_frames, dtype=np.float64)
    if order["collision"] == "struck from the right":
        time = time[::-1]
    left, right = objects[:2]
    left[:, SIZE] = np.minimum(left[:, SIZE], np.log(0.4))
    right[:, SIZE] = np.minimum(right[:, SIZE], np.log(0.4))
    along = np.stack([-np.exp(left[0, SIZE]) - speed_left * np.maximum(contact - time, 0),
                      np.exp(right[0, SIZE]) + speed_right * np.maximum(time - contact, 0)])  # fmt: skip
    place = rng.uniform(-0.3, 0.3, 2)
    objects[:2, :, X] = place[0] + np.cos(tilt) * along
    objects[:2, :, Y] = place[1] + np.sin(tilt) * along


def _hide(objects: Array, camera: Array, order: Order, rng: np.random.Generator) -> None:
    """A small object disappears behind a larger one, or appears from behind it."""
    thing, cover = objects[0], objects[-1]
    cover[:, SIZE] = np.log(rng.uniform(0.55, 0.8))
    cover[:, [X, Y]] *= 0.5
    thing[:, SIZE] = np.log(rng.uniform(0.15, 0.4))
    way, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.3)
    distance = far * np.linspace(0.1, 1, objects.shape[1])
    if order["occlusion"] == "vanishing":
        distance = distance[::-1]
    thing[:, X] = cover[:, X] + np.cos(way) * distance
    thing[:, Y] = cover[:, Y] + np.sin(way) * distance


def _camera_path(objects: Array, camera: Array, order: Order, rng: np.random.Generator) -> None:
    """The camera follows an L-shaped path, in either direction, or takes the same positions in random order."""
    n_frames = len(camera)
    reach = rng.uniform(0.15, 0.6, 2) * rng.choice([-1.0, 1.0], 2)
    way = np.arange(n_frames) / n_frames * 2
    places = np.stack([reach[0] * np.minimum(way, 1), reach[1] * np.maximum(way - 1, 0)], axis=1) - reach / 2
    scrambled = rng.permutation(n_frames)
    if order["camera path"] == "tilt then pan":
        places = places[::-1]
    elif order["camera path"] == "shake":
        places = places[scrambled]
    camera += places


def _mover(objects: Array, camera: Array, order: Order, rng: np.random.Generator) -> None:
    """The object glides while the camera shakes, or the camera glides while the object jumps."""
    states = np.linspace(-1, 1, len(camera)) * rng.choice([-1.0, 1.0])
    scrambled = rng.permutation(len(camera))
    object_way, camera_way = rng.uniform(-0.5, 0.5, (2, 2))
    objects_first = order["mover"] == "object"
    objects[0, :, [X, Y]] += object_way[:, None] * (states if objects_first else states[np.argsort(scrambled)])
    camera += camera_way * (states[scrambled] if objects_first else states)[:, None]


def _movers(objects: Array, camera: Array, order: Order, rng: np.random.Generator) -> None:
    """The first of three objects glides and the others jump together, or the first jumps and the others glide."""
    n_frames = objects.shape[1]
    states, scrambled = np.linspace(-1, 1, n_frames), rng.permutation(n_frames)
    ways = rng.uniform(-0.5, 0.5, (3, 2))
    one = order["movers"] == "one"
    first = states if one else states[np.argsort(scrambled)]
    others = states[scrambled] if one else states
    for thing, way, progress in zip(objects[:3], ways, (first, others, others), strict=True):
        thing[:, SIZE] = np.minimum(thing[:, SIZE], np.log(0.35))
        thing[:, [X, Y]] += way * progress[:, None]


_MOVES: dict[str, Callable[[Array, Array, Order, np.random.Generator], None]] = {
    "glide": _glide,
    "cycle": _cycle,
    "repeat": _repeat,
    "strike": _strike,
    "hide": _hide,
    "camera path": _camera_path,
    "mover": _mover,
    "movers": _movers,
}
