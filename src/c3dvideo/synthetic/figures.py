"""Drawn people and tables: the appearance of a person, and sprites of bodies, arms and tables with maps of their parts.

    person = draw_person(rng)
    picture, parts = arm(person, "brush", rng)          # (4, 96, 96) RGB and opacity in 0..1; uint8 (96, 96) into PARTS

The people are cartoons: ellipsoids under one light. `heads` draws their heads. No photograph of a person was used.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from c3dvideo.synthetic.canvas import Canvas, Sprite, X, Y, box, ellipse, hsv, soft
from c3dvideo.synthetic.shapes import SPRITE_SIZE
from c3dvideo.synthetic.textures import MAP_SIZE, Array, colourise, palette

PARTS = ("background", "thing", "skin", "hair", "eye", "mouth", "beard", "hand", "tool", "clothes", "flame")
"""Names of the parts that a pixel can show; a part map holds their indices."""

HEAD = 0.6
"""Half the height of a head, where half the height of its sprite is 1."""

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


@dataclass(frozen=True, kw_only=True)
class Person:
    """The appearance of one person; colours are RGB (3,) in 0..1.

    turn: -1 (faces the left of the picture) to 1 (the right). light: unit vector towards the lamp.
    ambient: share of undirected light. width: width of the head, as a share of its height.
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
    """A random person. Frontal views, hair and bare chins are the most frequent."""
    view = str(rng.choice(VIEWS, p=(0.5, 0.2, 0.2, 0.1)))
    turn = {"frontal": rng.uniform(-0.35, 0.35), "left": -rng.uniform(0.4, 1.0), "right": rng.uniform(0.4, 1.0)}
    hair_colour = str(rng.choice(list(HAIR_COLOURS), p=(0.3, 0.3, 0.2, 0.1, 0.1)))
    hue, saturation, value = HAIR_COLOURS[hair_colour]
    # Half of the draws are light skin, the others have any value: a uniform draw alone would give few light ones.
    skin = hsv(rng.uniform(0.02, 0.085), rng.uniform(0.2, 0.6), rng.choice([rng.uniform(0.65, 1), rng.uniform(0.3, 1)]))
    # y points down and z towards the viewer. The mean puts the lamp above and in front, the most frequent case.
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
        hair_tone=hsv(hue + 0.015 * rng.normal(), saturation * rng.uniform(0.6, 1.2), value * rng.uniform(0.6, 1.3)),
        lips=np.clip(skin * (1, rng.uniform(0.45, 0.8), rng.uniform(0.5, 0.85)) * rng.uniform(0.6, 1), 0, 1),
        width=rng.uniform(0.68, 0.86),
        light=np.asarray(light / np.linalg.norm(light), np.float32),
        ambient=rng.uniform(0.35, 0.75),
    )


def body(person: Person, pattern: Array, rng: np.random.Generator) -> Sprite:
    """Neck, shoulders and chest, from y = -0.75 (the chin) to the lower edge. Clothes have the given pattern."""
    canvas = Canvas(PARTS)
    neck = np.minimum(0.2 * person.width / 0.77 - np.abs(X) + 0.1 * np.maximum(Y + 0.5, 0), Y + 1.0)
    canvas.paint(soft(np.minimum(neck, 0.1 - Y)), 0.8 * lit(person, person.skin, 0.3, 1.0), "skin")
    slope, half = rng.uniform(0.3, 0.8), rng.uniform(0.6, 0.9)
    top = -rng.uniform(0.38, 0.5) + slope * np.maximum(np.abs(X) - 0.2, 0) ** 1.5
    chest = np.minimum(Y - top, half + 0.08 * Y - np.abs(X))
    if rng.uniform() < 0.12:
        clothes, part = lit(person, person.skin, 0.9, 1.4), "skin"
    else:
        step = np.arange(SPRITE_SIZE) * rng.uniform(0.4, 1.6)
        cut = pattern[np.ix_(step.astype(int) % MAP_SIZE, (step + rng.integers(MAP_SIZE)).astype(int) % MAP_SIZE)]
        colours = palette(rng)
        # Half of the clothes are nearly plain, as many real clothes are.
        if rng.uniform() < 0.5:
            colours = 0.85 * colours[:1] + 0.15 * colours
        clothes, part = colourise(cut, colours).transpose(2, 0, 1), "clothes"
        clothes = clothes * np.clip(shading(person, 0.95, 1.6), 0.3, 1.3)
    if (deep := rng.uniform(-0.3, 0.5)) > 0:
        collar = deep - 0.35 - Y - 1.5 * np.abs(X)
        chest = np.minimum(chest, -collar)
        canvas.paint(soft(np.minimum(collar, Y - top)), 0.9 * lit(person, person.skin, 0.6, 1.2), "skin")
    canvas.paint(soft(chest), clothes, part)
    return canvas.picture, canvas.parts


def arm(person: Person, tool: str, rng: np.random.Generator) -> Sprite:
    """A forearm that enters at the left edge, a fist and its tool. The tool's tip is the middle of the sprite."""
    canvas = Canvas(PARTS)
    length = {"nothing": 0.02, "stick": rng.uniform(0.1, 0.4), "brush": rng.uniform(0.15, 0.35),
              "box": rng.uniform(0.3, 0.6), "scissors": rng.uniform(0.2, 0.35), "pad": 0.12}[tool]  # fmt: skip
    fist, bend = rng.uniform(0.18, 0.26), rng.uniform(-0.7, 0.7)
    wrist = -length - 0.6 * fist
    # The tool is painted before the hand, so that the fingers close over its handle.
    _paint_tool(canvas, tool, length, fist, rng)
    tone = lit(person, person.skin, 1.0, 0.6)
    along = np.clip((wrist - X) / (1.08 + wrist), 0, 1)
    centre = bend * along**1.3 * 0.5
    thick = fist * (0.55 + 0.35 * along)
    forearm = np.minimum(thick - np.abs(Y - centre), wrist - X + fist * 0.4)
    canvas.paint(soft(forearm), 0.9 * tone * (1 - 0.4 * np.abs(Y - centre) / fist), "hand")
    if rng.uniform() < 0.6:
        sleeve = np.minimum(forearm + 0.04, wrist - rng.uniform(0.15, 0.5) - X)
        cloth = palette(rng)[0][:, None, None] * (0.7 + 0.3 * np.cos(4 * Y))
        canvas.paint(soft(sleeve), cloth, "clothes")
    palm = ellipse(-length - 0.5 * fist, 0, fist, fist * rng.uniform(0.65, 0.9), power=2.5)
    canvas.paint(soft(palm), tone, "hand")
    pointing = tool == "nothing" or rng.uniform() < 0.4
    for finger in range(4):
        y = (finger - 1.5) * fist * 0.38
        reach = fist * (rng.uniform(0.7, 1.2) if pointing else rng.uniform(0.2, 0.5))
        one = box(-length + 0.1 * fist + reach / 2 - fist * 0.3, y, reach / 2 + 0.2 * fist, fist * 0.16, 0.05)
        canvas.paint(soft(one), tone * rng.uniform(0.85, 1.05), "hand")
        gap = 0.012 - np.abs(Y - y - 0.19 * fist) - 10 * np.maximum(np.abs(X + length) - 0.7 * fist, 0)
        canvas.paint(soft(gap, 60) * 0.5, 0.5 * tone, "hand")
    return canvas.picture, canvas.parts


def _paint_tool(canvas: Canvas, tool: str, length: float, fist: float, rng: np.random.Generator) -> None:
    colour = palette(rng)[int(rng.integers(2))][:, None, None] * (0.8 + 0.4 * np.cos(6 * Y))
    if tool in ("stick", "brush"):
        thin = rng.uniform(0.02, 0.05)
        canvas.paint(soft(box(-length / 2, 0, length / 2 + 0.5 * fist, thin, 0.01), 60), colour, "tool")
        if rng.uniform() < 0.6:
            canvas.paint(soft(box(-length - 1.6 * fist, 0.05, fist * 0.6, thin, 0.01), 60), colour, "tool")
        if tool == "brush":
            up = thin + rng.uniform(0.03, 0.08)
            canvas.paint(soft(box(-0.08, -up / 2, 0.1, up, 0.01), 50), palette(rng)[-1][:, None, None], "tool")
        else:
            tip = hsv(rng.uniform(), rng.uniform(0, 1), rng.uniform(0.1, 1))[:, None, None]
            canvas.paint(soft(box(0, 0, 0.06, thin * 1.1, 0.01), 60), tip, "tool")
    elif tool == "box":
        thick = rng.uniform(0.1, 0.2)
        canvas.paint(soft(box(-length / 2, -thick, length / 2, thick, 0.08)), colour, "tool")
        canvas.paint(soft(ellipse(0, -thick, 0.05, thick)), 0.3 * colour, "tool")
        canvas.paint(soft(box(-length, 0.15, 0.08, 0.35, 0.05)), 0.9 * colour, "tool")
    elif tool == "scissors":
        for side in (-1, 1):
            blade = np.minimum(
                0.025 - np.abs(Y - side * 0.25 * (X + length) * rng.uniform(0.1, 1)),
                length / 2 + 0.1 - np.abs(X + length / 2),
            )
            canvas.paint(soft(blade, 60), np.full((3, 1, 1), rng.uniform(0.4, 0.95)), "tool")
    elif tool == "pad":
        canvas.paint(soft(ellipse(0, 0, rng.uniform(0.1, 0.18), rng.uniform(0.1, 0.18))), colour, "tool")


def table(pattern: Array, n_candles: int, rng: np.random.Generator) -> Sprite:
    """A table top below y = 0.3, with a round or square cake and `n_candles` burning candles on it."""
    canvas = Canvas(PARTS)
    step = np.arange(SPRITE_SIZE)
    wood = colourise(pattern[np.ix_(step, step)], palette(rng)).transpose(2, 0, 1)
    canvas.paint(soft(Y - 0.3), wood * (0.7 + 0.3 * Y), "thing")
    half, tall, base = rng.uniform(0.35, 0.75), rng.uniform(0.12, 0.35), rng.uniform(0.35, 0.6)
    top = base - tall
    icing = hsv(rng.uniform(), rng.choice([0.05, 0.3, 0.8]), rng.uniform(0.5, 1))[:, None, None]
    round_cake = rng.uniform() < 0.6
    side = np.maximum(box(0, base - tall / 2, half, tall / 2, 0.03), ellipse(0, base, half, 0.12) if round_cake else -1)
    canvas.paint(soft(side), 0.75 * icing * (1 + 0.1 * np.sin(X * rng.uniform(10, 60))), "thing")
    canvas.paint(soft(ellipse(0, top, half, 0.12, power=2 if round_cake else 8)), icing, "thing")
    # All flames come after all candles, so that no candle covers the flame of another.
    flames = []
    for _ in range(n_candles):
        x, y, stem = half * rng.uniform(-0.85, 0.85), top + rng.uniform(-0.08, 0.08), rng.uniform(0.1, 0.25)
        wax = hsv(rng.uniform(), rng.uniform(0, 0.9), 0.95)[:, None, None]
        canvas.paint(soft(box(x, y - stem / 2, 0.018, stem / 2, 0.01), 60), wax, "thing")
        flames.append((x, y - stem - 0.05))
    for x, y in flames:
        near = np.hypot(X - x, 0.7 * (Y - y))
        canvas.paint(
            np.exp(-((near / rng.uniform(0.08, 0.2)) ** 2)) * 0.6, np.asarray([1, 0.65, 0.2])[:, None, None], None
        )
        canvas.paint(soft(ellipse(x, y, 0.03, 0.07), 50), np.asarray([1, 0.95, 0.7])[:, None, None], "flame")
    return canvas.picture, canvas.parts


def shading(person: Person, wide: float, tall: float) -> Any:
    """Brightness of an ellipsoid of this size, centred in the sprite: float (96, 96)."""
    # 5% larger than the head: at the exact outline the normal is parallel to the picture, so the rim would be dark.
    x, y = np.clip(X / (1.05 * wide), -1, 1), np.clip(Y / (1.05 * tall), -1, 1)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    facing = np.clip(x * person.light[0] + y * person.light[1] + z * person.light[2], 0, 1)
    return person.ambient + (1.1 - person.ambient) * facing


def lit(person: Person, colour: Array, wide: float, tall: float) -> Any:
    """A colour on an ellipsoid of this size under the light of a person: float (3, 96, 96)."""
    return colour[:, None, None] * shading(person, wide, tall)
