"""Drawn people and what they hold: sprites of heads, mouths, bodies, arms and tables, with a map of their parts.

    person = draw_person(rng)
    picture, parts = head(person, rng)                  # (4, 96, 96) RGB and opacity in 0..1; uint8 (96, 96) into PARTS

Cartoons, not portraits: ellipsoids in one light, streaked hair, features that shift when the head turns. Nothing here
is taken from a picture of anybody.
"""

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np

from c3dvideo.synthetic.shapes import SPRITE_SIZE
from c3dvideo.synthetic.textures import MAP_SIZE, Array, colourise, palette, spectral_noise

PARTS = ("background", "thing", "skin", "hair", "eye", "mouth", "beard", "hand", "tool", "clothes", "flame")
"""What a pixel of a generated clip shows, by number."""

HEAD = 0.6
"""Half the height of a head in its sprite, whose own half height is 1."""

HAIR = ("none", "short", "long", "tied")
HAIR_COLOURS = {
    "black": (0.07, 0.3, 0.13),
    "brown": (0.07, 0.5, 0.35),
    "blond": (0.11, 0.5, 0.8),
    "red": (0.03, 0.75, 0.55),
    "grey": (0.1, 0.05, 0.65),
}
"""Name -> hue, saturation and value, 0..1."""
BEARDS = ("none", "beard", "foam")
VIEWS = ("frontal", "left", "right", "behind")
TOOLS = ("nothing", "stick", "brush", "box", "scissors", "pad")

_AXIS = np.linspace(-1.08, 1.08, SPRITE_SIZE, dtype=np.float32)
_X, _Y = np.meshgrid(_AXIS, _AXIS)

Colour = Any
Sprite = tuple[Array, np.ndarray[Any, np.dtype[np.uint8]]]


@dataclass(frozen=True, kw_only=True)
class Person:
    """Looks of one person; colours are RGB (3,) in 0..1.

    turn: -1 (looks to the left of the picture) .. 1. light: unit vector towards the lamp;
    ambient: light from everywhere. width: of the head, as a share of its height.
    """

    view: str
    hair: str
    hair_colour: str
    beard: str
    eyes_open: bool
    mouth_open: bool
    turn: float
    skin: Array
    hair_tone: Array
    lips: Array
    width: float
    light: Array
    ambient: float


def draw_person(rng: np.random.Generator) -> Person:
    """Somebody; frontal views, hair and bare chins are more frequent than the others."""
    view = str(rng.choice(VIEWS, p=(0.5, 0.2, 0.2, 0.1)))
    turn = {"frontal": rng.uniform(-0.35, 0.35), "left": -rng.uniform(0.4, 1.0), "right": rng.uniform(0.4, 1.0)}
    hair_colour = str(rng.choice(list(HAIR_COLOURS), p=(0.3, 0.3, 0.2, 0.1, 0.1)))
    hue, saturation, value = HAIR_COLOURS[hair_colour]
    skin = _hsv(
        rng.uniform(0.02, 0.085), rng.uniform(0.2, 0.6), rng.choice([rng.uniform(0.65, 1), rng.uniform(0.3, 1)])
    )
    light = rng.normal(size=3) * (1, 0.7, 0.4) + (0, -0.4, 0.8)
    return Person(
        view=view,
        hair=str(rng.choice(HAIR, p=(0.1, 0.35, 0.4, 0.15))),
        hair_colour=hair_colour,
        beard=str(rng.choice(BEARDS, p=(0.6, 0.2, 0.2))),
        eyes_open=bool(rng.uniform() < 0.6),
        mouth_open=bool(rng.uniform() < 0.4),
        turn=turn.get(view, 0.0),
        skin=skin,
        hair_tone=_hsv(hue + 0.015 * rng.normal(), saturation * rng.uniform(0.6, 1.2), value * rng.uniform(0.6, 1.3)),
        lips=np.clip(skin * (1, rng.uniform(0.45, 0.8), rng.uniform(0.5, 0.85)) * rng.uniform(0.6, 1), 0, 1),
        width=rng.uniform(0.68, 0.86),
        light=np.asarray(light / np.linalg.norm(light), np.float32),
        ambient=rng.uniform(0.35, 0.75),
    )


def head(person: Person, rng: np.random.Generator) -> Sprite:
    """A head with its hair, without its mouth (see `mouth`)."""
    canvas = _Canvas()
    tall, wide = HEAD, HEAD * person.width
    tone = _lit(person, person.skin, wide, tall) * (1 + 0.03 * spectral_noise(rng, 0.8, SPRITE_SIZE))
    streaks = _streaks(rng)
    hair_tone = _lit(person, person.hair_tone, wide * 1.2, tall * 1.15) * (1 + rng.uniform(0.1, 0.4) * streaks)
    behind = person.view == "behind"
    reach = {"none": 1.0, "short": rng.uniform(1.06, 1.2), "long": rng.uniform(1.1, 1.3), "tied": 1.1}[person.hair]
    lock = -0.25 * person.turn * wide
    cap = _ellipse(lock, -0.08 * tall, wide * reach, tall * reach * 0.98)
    if person.hair == "long":
        length = rng.uniform(0.5, 1.1)
        curtain = _box(lock, length / 2, wide * reach * rng.uniform(0.95, 1.25), length / 2 + 0.15, 0.25)
        cap = np.maximum(cap, curtain)
    elif person.hair == "tied":
        knot = rng.uniform(0.14, 0.24)
        cap = np.maximum(cap, _ellipse(lock - person.turn * wide, -tall * rng.uniform(0.6, 1.1), knot, knot))
    if person.hair != "none":
        canvas.paint(_soft(cap), 0.8 * hair_tone, "hair")
    if person.hair != "long":
        for side in (-1, 1):
            ear = _ellipse(side * wide - 0.35 * person.turn * wide, 0.02, 0.08, 0.14)
            canvas.paint(_soft(ear), 0.85 * tone, "skin")
    face = _soft(_ellipse(0, 0, wide * (1 + 0.12 * abs(person.turn)), tall, power=2.2))
    canvas.paint(face, tone, "skin")
    if not behind:
        if person.beard != "none":
            _paint_beard(canvas, person, rng, face)
        _paint_features(canvas, person, rng, face)
    if person.hair != "none" or behind:
        line = -rng.uniform(0.3, 0.6) * tall + rng.uniform(-0.2, 0.5) * np.abs(_X - lock) + 0.2 * lock * _X
        temples = np.abs(_X + 0.5 * person.turn * wide) - rng.uniform(0.75, 0.95) * wide
        if behind:
            cover = np.maximum(cap, _ellipse(0, -0.1 * tall, wide, tall * 0.95))
        else:
            cover = np.minimum(cap, line - _Y)
            if person.hair != "tied":
                low = 1.2 if person.hair == "long" else rng.uniform(-0.1, 0.25) * tall
                cover = np.maximum(cover, np.minimum(np.minimum(cap, temples), low - _Y))
        if person.hair == "none":
            canvas.paint(_soft(cover), tone, "skin")
        else:
            canvas.paint(_soft(cover), hair_tone, "hair")
    return canvas.picture, canvas.parts


def _paint_beard(canvas: "_Canvas", person: Person, rng: np.random.Generator, inside: Array) -> None:
    tall, wide = HEAD, HEAD * person.width
    grain = 0.5 + 0.5 * np.tanh(spectral_noise(rng, 0.7, SPRITE_SIZE))
    low = _Y - rng.uniform(0.2, 0.42) * tall + rng.uniform(0.0, 0.5) * np.abs(_X) * rng.choice([-1, 1])
    if person.beard == "foam":
        bare = _ellipse(
            rng.uniform(-1, 1) * wide, rng.uniform(0.3, 1) * tall, rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.4)
        )
        opacity = inside * _soft(np.minimum(low, -bare), 15) * np.clip(0.6 + 0.7 * grain, 0, 1)
        canvas.paint(opacity, np.ones((3, 1, 1)) * (0.8 + 0.2 * grain), "beard")
        return
    opacity = inside * _soft(low, 12) * np.clip(rng.uniform(0.1, 0.9) + 0.4 * grain, 0, 1)
    canvas.paint(opacity, person.hair_tone[:, None, None] * (0.5 + 0.5 * grain), "beard")


def _paint_features(canvas: "_Canvas", person: Person, rng: np.random.Generator, inside: Array) -> None:
    tall, wide = HEAD, HEAD * person.width
    shift, squeeze = 0.5 * person.turn * wide, 1 - 0.35 * abs(person.turn)
    dark = 0.35 * person.hair_tone[:, None, None] + 0.25 * person.skin[:, None, None]
    shade = person.skin[:, None, None] * rng.uniform(0.45, 0.8) * np.asarray([1, 0.9, 0.85])[:, None, None]
    eye_y, eye_x = -rng.uniform(0.02, 0.16) * tall, rng.uniform(0.36, 0.46) * wide
    long, high = rng.uniform(0.15, 0.22) * wide, rng.uniform(0.04, 0.08) * tall
    makeup = _hsv(rng.uniform(), rng.uniform(0, 0.6), rng.uniform(0.2, 0.7))[:, None, None]
    socket = float(rng.choice([0.2, 0.5, 0.8]))
    iris = _hsv(rng.choice([0.07, 0.55]), 0.5, rng.uniform(0.1, 0.4))[:, None, None]
    brow_gap, brow = rng.uniform(0.13, 0.2) * tall, rng.uniform(0.012, 0.035)
    for side in (-1, 1):
        x = side * eye_x * squeeze + shift
        around = _ellipse(x, eye_y - 0.02, 1.7 * long * squeeze, 2.2 * high)
        canvas.paint(inside * _soft(around, 10) * socket * 0.6, makeup if socket > 0.6 else shade, "eye")
        lid = _ellipse(x, eye_y, long * squeeze, high)
        if person.eyes_open:
            canvas.paint(inside * _soft(lid, 80), np.full((3, 1, 1), 0.9), "eye")
            disc = _ellipse(x + 0.3 * long * person.turn, eye_y, high, high)
            canvas.paint(inside * _soft(np.minimum(lid, disc), 80), iris, "eye")
            upper = np.minimum(lid + 0.012, eye_y + 0.2 * high - _Y)
            lash = np.minimum(upper, 0.02 - np.abs(lid))
        else:
            hanging = _Y - eye_y - 0.6 * high * (1 - ((_X - x) / long) ** 2)
            lash = 0.018 - np.abs(hanging) - 10 * np.maximum(np.abs(_X - x) - long, 0)
        canvas.paint(inside * _soft(lash, 80), 0.4 * dark, "eye")
        arch = _Y - (eye_y - brow_gap) - 0.6 * (_X - x) ** 2 - 0.08 * side * (_X - x)
        stroke = np.minimum(brow - np.abs(arch), 1.25 * long * squeeze - np.abs(_X - x))
        canvas.paint(inside * _soft(stroke, 60), dark, None)
    nose_x, nose_y = shift * 1.5, rng.uniform(0.18, 0.3) * tall
    lit = np.sign(person.light[0]) or 1.0
    bridge = np.minimum(
        0.035 - np.abs(_X - nose_x + 0.05 * lit - 0.15 * (nose_y - _Y) * -person.turn),
        np.minimum(nose_y - _Y, _Y - eye_y),
    )
    canvas.paint(inside * _soft(bridge, 20) * 0.45, shade, None)
    canvas.paint(inside * _soft(_ellipse(nose_x, nose_y, 0.1 * squeeze, 0.035), 25) * 0.7, shade, None)
    if abs(person.turn) > 0.7:
        tip = _ellipse(np.sign(person.turn) * wide * 1.06, nose_y - 0.04, 0.1, 0.09)
        canvas.paint(_soft(tip), _lit(person, person.skin, wide, tall), "skin")
    if rng.uniform() < 0.15:
        for side in (-1, 1):
            rim = 0.022 - np.abs(_ellipse(side * eye_x * squeeze + shift, eye_y, 1.5 * long, 3 * high))
            canvas.paint(_soft(rim, 50), np.full((3, 1, 1), rng.uniform(0, 0.4)), "eye")


def mouth_place(person: Person) -> tuple[float, float]:
    """Where the mouth lies from the middle of the head, in half heads to the right and down."""
    return 0.5 * person.turn * person.width, 0.5


def mouth(person: Person, rng: np.random.Generator) -> Sprite:
    """Lips that fill their sprite across, closed or round an open mouth with teeth."""
    canvas = _Canvas()
    tall = rng.uniform(0.5, 0.9) if person.mouth_open else rng.uniform(0.2, 0.4)
    lips = person.lips[:, None, None] * (0.85 + 0.15 * np.cos(3 * _Y))
    canvas.paint(_soft(_ellipse(0, 0, 1.0, tall), 15), lips, "mouth")
    if person.mouth_open:
        hole = _ellipse(0, 0, 0.8, 0.65 * tall)
        canvas.paint(_soft(hole, 20), np.asarray([0.25, 0.05, 0.05])[:, None, None], "mouth")
        teeth = np.minimum(hole, -0.2 * tall - _Y)
        canvas.paint(_soft(teeth, 20) * (rng.uniform() < 0.7), np.full((3, 1, 1), 0.9), "mouth")
    else:
        line = 0.05 - np.abs(_Y - 0.1 * (_X**2) * rng.uniform(-1, 1)) - np.maximum(np.abs(_X) - 0.9, 0)
        canvas.paint(_soft(line, 20), 0.4 * lips, "mouth")
    return canvas.picture, canvas.parts


def body(person: Person, pattern: Array, rng: np.random.Generator) -> Sprite:
    """Neck, shoulders and chest from y = -0.75, where the chin is, to the lower edge; clothes in the pattern."""
    canvas = _Canvas()
    neck = np.minimum(0.2 * person.width / 0.77 - np.abs(_X) + 0.1 * np.maximum(_Y + 0.5, 0), _Y + 1.0)
    canvas.paint(_soft(np.minimum(neck, 0.1 - _Y)), 0.8 * _lit(person, person.skin, 0.3, 1.0), "skin")
    slope, half = rng.uniform(0.3, 0.8), rng.uniform(0.6, 0.9)
    top = -rng.uniform(0.38, 0.5) + slope * np.maximum(np.abs(_X) - 0.2, 0) ** 1.5
    chest = np.minimum(_Y - top, half + 0.08 * _Y - np.abs(_X))
    if rng.uniform() < 0.12:
        clothes, part = _lit(person, person.skin, 0.9, 1.4), "skin"
    else:
        step = np.arange(SPRITE_SIZE) * rng.uniform(0.4, 1.6)
        cut = pattern[np.ix_(step.astype(int) % MAP_SIZE, (step + rng.integers(MAP_SIZE)).astype(int) % MAP_SIZE)]
        colours = palette(rng)
        if rng.uniform() < 0.5:
            colours = 0.85 * colours[:1] + 0.15 * colours
        clothes, part = colourise(cut, colours).transpose(2, 0, 1), "clothes"
        clothes = clothes * np.clip(_shading(person, 0.95, 1.6), 0.3, 1.3)
    if (deep := rng.uniform(-0.3, 0.5)) > 0:
        collar = deep - 0.35 - _Y - 1.5 * np.abs(_X)
        chest = np.minimum(chest, -collar)
        canvas.paint(_soft(np.minimum(collar, _Y - top)), 0.9 * _lit(person, person.skin, 0.6, 1.2), "skin")
    canvas.paint(_soft(chest), clothes, part)
    return canvas.picture, canvas.parts


def arm(person: Person, tool: str, rng: np.random.Generator) -> Sprite:
    """A forearm from the left edge, a fist and what it holds; the tool's tip is the middle of the sprite."""
    canvas = _Canvas()
    length = {"nothing": 0.02, "stick": rng.uniform(0.1, 0.4), "brush": rng.uniform(0.15, 0.35),
              "box": rng.uniform(0.3, 0.6), "scissors": rng.uniform(0.2, 0.35), "pad": 0.12}[tool]  # fmt: skip
    fist, bend = rng.uniform(0.18, 0.26), rng.uniform(-0.7, 0.7)
    wrist = -length - 0.6 * fist
    _paint_tool(canvas, tool, length, fist, rng)
    tone = _lit(person, person.skin, 1.0, 0.6)
    along = np.clip((wrist - _X) / (1.08 + wrist), 0, 1)
    centre = bend * along**1.3 * 0.5
    thick = fist * (0.55 + 0.35 * along)
    forearm = np.minimum(thick - np.abs(_Y - centre), wrist - _X + fist * 0.4)
    canvas.paint(_soft(forearm), 0.9 * tone * (1 - 0.4 * np.abs(_Y - centre) / fist), "hand")
    if rng.uniform() < 0.6:
        sleeve = np.minimum(forearm + 0.04, wrist - rng.uniform(0.15, 0.5) - _X)
        cloth = palette(rng)[0][:, None, None] * (0.7 + 0.3 * np.cos(4 * _Y))
        canvas.paint(_soft(sleeve), cloth, "clothes")
    palm = _ellipse(-length - 0.5 * fist, 0, fist, fist * rng.uniform(0.65, 0.9), power=2.5)
    canvas.paint(_soft(palm), tone, "hand")
    pointing = tool == "nothing" or rng.uniform() < 0.4
    for finger in range(4):
        y = (finger - 1.5) * fist * 0.38
        reach = fist * (rng.uniform(0.7, 1.2) if pointing else rng.uniform(0.2, 0.5))
        one = _box(-length + 0.1 * fist + reach / 2 - fist * 0.3, y, reach / 2 + 0.2 * fist, fist * 0.16, 0.05)
        canvas.paint(_soft(one), tone * rng.uniform(0.85, 1.05), "hand")
        gap = 0.012 - np.abs(_Y - y - 0.19 * fist) - 10 * np.maximum(np.abs(_X + length) - 0.7 * fist, 0)
        canvas.paint(_soft(gap, 60) * 0.5, 0.5 * tone, "hand")
    return canvas.picture, canvas.parts


def _paint_tool(canvas: "_Canvas", tool: str, length: float, fist: float, rng: np.random.Generator) -> None:
    colour = palette(rng)[int(rng.integers(2))][:, None, None] * (0.8 + 0.4 * np.cos(6 * _Y))
    if tool in ("stick", "brush"):
        thin = rng.uniform(0.02, 0.05)
        canvas.paint(_soft(_box(-length / 2, 0, length / 2 + 0.5 * fist, thin, 0.01), 60), colour, "tool")
        if rng.uniform() < 0.6:
            canvas.paint(_soft(_box(-length - 1.6 * fist, 0.05, fist * 0.6, thin, 0.01), 60), colour, "tool")
        if tool == "brush":
            up = thin + rng.uniform(0.03, 0.08)
            canvas.paint(_soft(_box(-0.08, -up / 2, 0.1, up, 0.01), 50), palette(rng)[-1][:, None, None], "tool")
        else:
            tip = _hsv(rng.uniform(), rng.uniform(0, 1), rng.uniform(0.1, 1))[:, None, None]
            canvas.paint(_soft(_box(0, 0, 0.06, thin * 1.1, 0.01), 60), tip, "tool")
    elif tool == "box":
        thick = rng.uniform(0.1, 0.2)
        canvas.paint(_soft(_box(-length / 2, -thick, length / 2, thick, 0.08)), colour, "tool")
        canvas.paint(_soft(_ellipse(0, -thick, 0.05, thick)), 0.3 * colour, "tool")
        canvas.paint(_soft(_box(-length, 0.15, 0.08, 0.35, 0.05)), 0.9 * colour, "tool")
    elif tool == "scissors":
        for side in (-1, 1):
            blade = np.minimum(
                0.025 - np.abs(_Y - side * 0.25 * (_X + length) * rng.uniform(0.1, 1)),
                length / 2 + 0.1 - np.abs(_X + length / 2),
            )
            canvas.paint(_soft(blade, 60), np.full((3, 1, 1), rng.uniform(0.4, 0.95)), "tool")
    elif tool == "pad":
        canvas.paint(_soft(_ellipse(0, 0, rng.uniform(0.1, 0.18), rng.uniform(0.1, 0.18))), colour, "tool")


def table(pattern: Array, n_candles: int, rng: np.random.Generator) -> Sprite:
    """A table top across the sprite below y = 0.3, with a cake on it when there are candles, or something else."""
    canvas = _Canvas()
    step = np.arange(SPRITE_SIZE)
    wood = colourise(pattern[np.ix_(step, step)], palette(rng)).transpose(2, 0, 1)
    canvas.paint(_soft(_Y - 0.3), wood * (0.7 + 0.3 * _Y), "thing")
    half, tall, base = rng.uniform(0.35, 0.75), rng.uniform(0.12, 0.35), rng.uniform(0.35, 0.6)
    top = base - tall
    icing = _hsv(rng.uniform(), rng.choice([0.05, 0.3, 0.8]), rng.uniform(0.5, 1))[:, None, None]
    round_cake = rng.uniform() < 0.6
    side = np.maximum(
        _box(0, base - tall / 2, half, tall / 2, 0.03), _ellipse(0, base, half, 0.12) if round_cake else -1
    )
    canvas.paint(_soft(side), 0.75 * icing * (1 + 0.1 * np.sin(_X * rng.uniform(10, 60))), "thing")
    canvas.paint(_soft(_ellipse(0, top, half, 0.12, power=2 if round_cake else 8)), icing, "thing")
    flames = []
    for _ in range(n_candles):
        x, y, stem = half * rng.uniform(-0.85, 0.85), top + rng.uniform(-0.08, 0.08), rng.uniform(0.1, 0.25)
        wax = _hsv(rng.uniform(), rng.uniform(0, 0.9), 0.95)[:, None, None]
        canvas.paint(_soft(_box(x, y - stem / 2, 0.018, stem / 2, 0.01), 60), wax, "thing")
        flames.append((x, y - stem - 0.05))
    for x, y in flames:
        near = np.hypot(_X - x, 0.7 * (_Y - y))
        canvas.paint(
            np.exp(-((near / rng.uniform(0.08, 0.2)) ** 2)) * 0.6, np.asarray([1, 0.65, 0.2])[:, None, None], None
        )
        canvas.paint(_soft(_ellipse(x, y, 0.03, 0.07), 50), np.asarray([1, 0.95, 0.7])[:, None, None], "flame")
    return canvas.picture, canvas.parts


class _Canvas:
    """A sprite being painted from back to front."""

    def __init__(self) -> None:
        self.picture: Array = np.zeros((4, SPRITE_SIZE, SPRITE_SIZE), np.float32)
        self.parts = np.zeros((SPRITE_SIZE, SPRITE_SIZE), np.uint8)

    def paint(self, opacity: Any, colour: Colour, part: str | None) -> None:
        """Lay a colour, (3, 1, 1) or (3, 96, 96), over what is there; `part` is what it shows, None for no change."""
        covered = self.picture[3]
        total = opacity + covered * (1 - opacity)
        share = opacity / np.maximum(total, 1e-6)
        self.picture[:3] += share * (np.clip(colour, 0, 1) - self.picture[:3])
        self.picture[3] = total
        if part is not None:
            self.parts[opacity > 0.4] = PARTS.index(part)


def _hsv(hue: float, saturation: float, value: float) -> Array:
    return np.asarray(colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0)), np.float32)


def _soft(field: Any, sharpness: float = 35.0) -> Any:
    """Opacity of a distance-like field: 1 inside, 0 outside, a ramp 2 / sharpness wide between."""
    return np.clip(0.5 + 0.5 * sharpness * field, 0, 1)


def _ellipse(x: float, y: float, wide: float, tall: float, power: float = 2.0) -> Any:
    across, along = np.abs(_X - x) / wide, np.abs(_Y - y) / tall
    return (1 - (across**power + along**power) ** (1 / power)) * min(wide, tall)


def _box(x: float, y: float, wide: float, tall: float, corner: float) -> Any:
    across, along = np.abs(_X - x) - wide + corner, np.abs(_Y - y) - tall + corner
    outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
    return corner - outside - np.minimum(np.maximum(across, along), 0)


def _shading(person: Person, wide: float, tall: float) -> Any:
    """Light on an ellipsoid of this size around the middle of the sprite."""
    x, y = np.clip(_X / (1.05 * wide), -1, 1), np.clip(_Y / (1.05 * tall), -1, 1)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    facing = np.clip(x * person.light[0] + y * person.light[1] + z * person.light[2], 0, 1)
    return person.ambient + (1.1 - person.ambient) * facing


def _lit(person: Person, colour: Array, wide: float, tall: float) -> Any:
    return colour[:, None, None] * _shading(person, wide, tall)


def _streaks(rng: np.random.Generator) -> Any:
    """Noise (96, 96) that runs down in locks which lean to one side."""
    noise = spectral_noise(rng, rng.uniform(0.3, 0.9), SPRITE_SIZE)
    row = np.arange(SPRITE_SIZE) * rng.uniform(0.03, 0.15)
    low = row.astype(int)
    rows = noise[low] + (row - low)[:, None] * (noise[low + 1] - noise[low])
    lean = (rng.normal() * 0.4 * np.abs(_Y) * SPRITE_SIZE / 2).astype(int) + np.arange(SPRITE_SIZE)
    return np.take_along_axis(rows, lean % SPRITE_SIZE, axis=1)
