"""Sprites of heads and mouths, each with a map of its parts.

    person = draw_person(rng)
    picture, parts = head(person, rng)                  # (4, 96, 96) RGB and opacity in 0..1; uint8 (96, 96) into PARTS
    lips, _ = mouth(person, rng)                        # placed at `mouth_place(person)`, so that it can move by itself

An ellipsoid under one light, streaked hair, and features that shift when the head turns.
"""

from typing import Any

import numpy as np

from c3dvideo.synthetic.canvas import Canvas, Sprite, X, Y, box, ellipse, hsv, soft
from c3dvideo.synthetic.figures import HEAD, PARTS, Person, lit
from c3dvideo.synthetic.shapes import SPRITE_SIZE
from c3dvideo.synthetic.textures import Array, spectral_noise


def head(person: Person, rng: np.random.Generator) -> Sprite:
    """A head with its hair, without its mouth (see `mouth`)."""
    canvas = Canvas(PARTS)
    tall, wide = HEAD, HEAD * person.width
    tone = lit(person, person.skin, wide, tall) * (1 + 0.03 * spectral_noise(rng, 0.8, SPRITE_SIZE))
    streaks = _streaks(rng)
    hair_tone = lit(person, person.hair_tone, wide * 1.2, tall * 1.15) * (1 + rng.uniform(0.1, 0.4) * streaks)
    behind = person.view == "behind"
    reach = {"none": 1.0, "short": rng.uniform(1.06, 1.2), "long": rng.uniform(1.1, 1.3), "tied": 1.1}[person.hair]
    # The hair shifts against the turn, since its centre lies behind that of the face.
    lock = -0.25 * person.turn * wide
    cap = ellipse(lock, -0.08 * tall, wide * reach, tall * reach * 0.98)
    if person.hair == "long":
        length = rng.uniform(0.5, 1.1)
        curtain = box(lock, length / 2, wide * reach * rng.uniform(0.95, 1.25), length / 2 + 0.15, 0.25)
        cap = np.maximum(cap, curtain)
    elif person.hair == "tied":
        knot = rng.uniform(0.14, 0.24)
        cap = np.maximum(cap, ellipse(lock - person.turn * wide, -tall * rng.uniform(0.6, 1.1), knot, knot))
    if person.hair != "none":
        # Hair behind the face is painted first, and darker because it lies in shadow. The front hair covers the face.
        canvas.paint(soft(cap), 0.8 * hair_tone, "hair")
    if person.hair != "long":
        # Ears come before the face, so that the face covers their inner half.
        for side in (-1, 1):
            ear = ellipse(side * wide - 0.35 * person.turn * wide, 0.02, 0.08, 0.14)
            canvas.paint(soft(ear), 0.85 * tone, "skin")
    face = soft(ellipse(0, 0, wide * (1 + 0.12 * abs(person.turn)), tall, power=2.2))
    canvas.paint(face, tone, "skin")
    if not behind:
        if person.beard != "none":
            _paint_beard(canvas, person, rng, face)
        _paint_features(canvas, person, rng, face)
    if person.hair != "none" or behind:
        # The slant of the hair line is random, so that straight and parted hair both occur.
        line = -rng.uniform(0.3, 0.6) * tall + rng.uniform(-0.2, 0.5) * np.abs(X - lock) + 0.2 * lock * X
        temples = np.abs(X + 0.5 * person.turn * wide) - rng.uniform(0.75, 0.95) * wide
        if behind:
            cover = np.maximum(cap, ellipse(0, -0.1 * tall, wide, tall * 0.95))
        else:
            cover = np.minimum(cap, line - Y)
            if person.hair != "tied":
                low = 1.2 if person.hair == "long" else rng.uniform(-0.1, 0.25) * tall
                cover = np.maximum(cover, np.minimum(np.minimum(cap, temples), low - Y))
        if person.hair == "none":
            canvas.paint(soft(cover), tone, "skin")
        else:
            canvas.paint(soft(cover), hair_tone, "hair")
    return canvas.picture, canvas.parts


def _paint_beard(canvas: Canvas, person: Person, rng: np.random.Generator, inside: Array) -> None:
    tall, wide = HEAD, HEAD * person.width
    grain = 0.5 + 0.5 * np.tanh(spectral_noise(rng, 0.7, SPRITE_SIZE))
    low = Y - rng.uniform(0.2, 0.42) * tall + rng.uniform(0.0, 0.5) * np.abs(X) * rng.choice([-1, 1])
    if person.beard == "foam":
        bare = ellipse(
            rng.uniform(-1, 1) * wide, rng.uniform(0.3, 1) * tall, rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.4)
        )
        opacity = inside * soft(np.minimum(low, -bare), 15) * np.clip(0.6 + 0.7 * grain, 0, 1)
        canvas.paint(opacity, np.ones((3, 1, 1)) * (0.8 + 0.2 * grain), "beard")
        return
    opacity = inside * soft(low, 12) * np.clip(rng.uniform(0.1, 0.9) + 0.4 * grain, 0, 1)
    canvas.paint(opacity, person.hair_tone[:, None, None] * (0.5 + 0.5 * grain), "beard")


def _paint_features(canvas: Canvas, person: Person, rng: np.random.Generator, inside: Array) -> None:
    tall, wide = HEAD, HEAD * person.width
    # Features of a turned head shift sideways and get narrower. A flat sprite needs no further perspective.
    shift, squeeze = 0.5 * person.turn * wide, 1 - 0.35 * abs(person.turn)
    dark = 0.35 * person.hair_tone[:, None, None] + 0.25 * person.skin[:, None, None]
    shade = person.skin[:, None, None] * rng.uniform(0.45, 0.8) * np.asarray([1, 0.9, 0.85])[:, None, None]
    eye_y, eye_x = -rng.uniform(0.02, 0.16) * tall, rng.uniform(0.36, 0.46) * wide
    long, high = rng.uniform(0.15, 0.22) * wide, rng.uniform(0.04, 0.08) * tall
    makeup = hsv(rng.uniform(), rng.uniform(0, 0.6), rng.uniform(0.2, 0.7))[:, None, None]
    socket = float(rng.choice([0.2, 0.5, 0.8]))
    iris = hsv(rng.choice([0.07, 0.55]), 0.5, rng.uniform(0.1, 0.4))[:, None, None]
    brow_gap, brow = rng.uniform(0.13, 0.2) * tall, rng.uniform(0.012, 0.035)
    for side in (-1, 1):
        x = side * eye_x * squeeze + shift
        around = ellipse(x, eye_y - 0.02, 1.7 * long * squeeze, 2.2 * high)
        canvas.paint(inside * soft(around, 10) * socket * 0.6, makeup if socket > 0.6 else shade, "eye")
        lid = ellipse(x, eye_y, long * squeeze, high)
        if person.eyes_open:
            canvas.paint(inside * soft(lid, 80), np.full((3, 1, 1), 0.9), "eye")
            disc = ellipse(x + 0.3 * long * person.turn, eye_y, high, high)
            canvas.paint(inside * soft(np.minimum(lid, disc), 80), iris, "eye")
            upper = np.minimum(lid + 0.012, eye_y + 0.2 * high - Y)
            lash = np.minimum(upper, 0.02 - np.abs(lid))
        else:
            hanging = Y - eye_y - 0.6 * high * (1 - ((X - x) / long) ** 2)
            lash = 0.018 - np.abs(hanging) - 10 * np.maximum(np.abs(X - x) - long, 0)
        canvas.paint(inside * soft(lash, 80), 0.4 * dark, "eye")
        arch = Y - (eye_y - brow_gap) - 0.6 * (X - x) ** 2 - 0.08 * side * (X - x)
        stroke = np.minimum(brow - np.abs(arch), 1.25 * long * squeeze - np.abs(X - x))
        # The part stays skin: an eyebrow is neither an eye nor hair of the head.
        canvas.paint(inside * soft(stroke, 60), dark, None)
    nose_x, nose_y = shift * 1.5, rng.uniform(0.18, 0.3) * tall
    # The nose has its shadow on the side away from the lamp.
    lamp = np.sign(person.light[0]) or 1.0
    bridge = np.minimum(
        0.035 - np.abs(X - nose_x + 0.05 * lamp - 0.15 * (nose_y - Y) * -person.turn),
        np.minimum(nose_y - Y, Y - eye_y),
    )
    canvas.paint(inside * soft(bridge, 20) * 0.45, shade, None)
    canvas.paint(inside * soft(ellipse(nose_x, nose_y, 0.1 * squeeze, 0.035), 25) * 0.7, shade, None)
    # In profile the nose extends beyond the outline of the face, where `inside` would cut it off.
    if abs(person.turn) > 0.7:
        tip = ellipse(np.sign(person.turn) * wide * 1.06, nose_y - 0.04, 0.1, 0.09)
        canvas.paint(soft(tip), lit(person, person.skin, wide, tall), "skin")
    if rng.uniform() < 0.15:
        for side in (-1, 1):
            rim = 0.022 - np.abs(ellipse(side * eye_x * squeeze + shift, eye_y, 1.5 * long, 3 * high))
            canvas.paint(soft(rim, 50), np.full((3, 1, 1), rng.uniform(0, 0.4)), "eye")


def mouth_place(person: Person) -> tuple[float, float]:
    """The position of the mouth relative to the middle of the head, in half heads to the right and down."""
    return 0.5 * person.turn * person.width, 0.5


def mouth(person: Person, rng: np.random.Generator) -> Sprite:
    """Lips as wide as their sprite, closed or around an open mouth that may show teeth."""
    canvas = Canvas(PARTS)
    tall = rng.uniform(0.5, 0.9) if person.mouth_open else rng.uniform(0.2, 0.4)
    lips = person.lips[:, None, None] * (0.85 + 0.15 * np.cos(3 * Y))
    canvas.paint(soft(ellipse(0, 0, 1.0, tall), 15), lips, "mouth")
    if person.mouth_open:
        hole = ellipse(0, 0, 0.8, 0.65 * tall)
        canvas.paint(soft(hole, 20), np.asarray([0.25, 0.05, 0.05])[:, None, None], "mouth")
        teeth = np.minimum(hole, -0.2 * tall - Y)
        canvas.paint(soft(teeth, 20) * (rng.uniform() < 0.7), np.full((3, 1, 1), 0.9), "mouth")
    else:
        line = 0.05 - np.abs(Y - 0.1 * (X**2) * rng.uniform(-1, 1)) - np.maximum(np.abs(X) - 0.9, 0)
        canvas.paint(soft(line, 20), 0.4 * lips, "mouth")
    return canvas.picture, canvas.parts


def _streaks(rng: np.random.Generator) -> Any:
    """Noise (96, 96) stretched downwards into locks of hair that lean to one side."""
    noise = spectral_noise(rng, rng.uniform(0.3, 0.9), SPRITE_SIZE)
    # Few rows are stretched over the full height: noise that varies slowly downwards looks like hair.
    row = np.arange(SPRITE_SIZE) * rng.uniform(0.03, 0.15)
    low = row.astype(int)
    rows = noise[low] + (row - low)[:, None] * (noise[low + 1] - noise[low])
    lean = (rng.normal() * 0.4 * np.abs(Y) * SPRITE_SIZE / 2).astype(int) + np.arange(SPRITE_SIZE)
    return np.take_along_axis(rows, lean % SPRITE_SIZE, axis=1)
