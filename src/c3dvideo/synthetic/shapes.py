"""Sprites of moving objects: outlines and materials, with an opacity channel.

sprite = draw_sprite(rng, shape="star", pattern=texture_map("wood", 3), colours=palette(rng), material="glossy")
sprite.shape                                                # (4, 96, 96): red, green, blue, opacity; 0..1
"""

from typing import Any

import numpy as np

from c3dvideo.synthetic.textures import MAP_SIZE, Array, colourise, spectral_noise

SPRITE_SIZE = 96
SHAPES = ("disc", "triangle", "square", "polygon", "star", "blob", "gear", "ring", "bar", "cross")
MATERIALS = ("matte", "glossy", "rough", "glass", "outlined", "lit from the side")

_AXIS = np.linspace(-1.08, 1.08, SPRITE_SIZE, dtype=np.float32)
_X, _Y = np.meshgrid(_AXIS, _AXIS)
_RADIUS, _ANGLE = np.hypot(_X, _Y), np.arctan2(_Y, _X)


def outline(shape: str, rng: np.random.Generator) -> Array:
    """Signed distance-like field of a shape in the unit circle, float32 (96, 96): positive inside."""
    if shape == "ring":
        width = rng.uniform(0.2, 0.5)
        return np.asarray(np.minimum(1 - _RADIUS, _RADIUS - (1 - width)), np.float32)
    if shape == "bar":
        return np.asarray(np.minimum(0.97 - np.abs(_X), rng.uniform(0.12, 0.35) - np.abs(_Y)), np.float32)
    if shape == "cross":
        arm = rng.uniform(0.15, 0.35)
        across = np.minimum(0.97 - np.abs(_X), arm - np.abs(_Y))
        return np.asarray(np.maximum(across, np.minimum(0.97 - np.abs(_Y), arm - np.abs(_X))), np.float32)
    return np.asarray(_border(shape, rng) - _RADIUS, np.float32)


def _border(shape: str, rng: np.random.Generator) -> Any:
    """Distance from the centre to the border for every pixel's angle, at most 1."""
    if shape == "disc":
        return np.ones_like(_ANGLE)
    if shape in ("triangle", "square", "polygon"):
        corners = {"triangle": 3, "square": 4}.get(shape) or int(rng.integers(5, 9))
        sector = 2 * np.pi / corners
        return np.cos(sector / 2) / np.cos((_ANGLE + sector / 4) % sector - sector / 2)
    if shape == "star":
        points, depth = int(rng.integers(4, 9)), rng.uniform(0.35, 0.65)
        wave = np.abs((_ANGLE * points / np.pi) % 2 - 1)
        return 1 - depth * (1 - wave)
    if shape == "gear":
        teeth, depth = int(rng.integers(6, 14)), rng.uniform(0.12, 0.3)
        return 1 - depth * (0.5 + 0.5 * np.tanh(4 * np.sin(_ANGLE * teeth)))
    waves = range(2, int(rng.integers(4, 9)))
    border: Any = np.ones_like(_ANGLE)
    for turns in waves:
        border += rng.normal() * 0.45 / turns * np.cos(turns * _ANGLE + rng.uniform(0, 2 * np.pi))
    return np.clip(border / border.max(), 0.15, 1)


def draw_sprite(
    rng: np.random.Generator, *, shape: str, pattern: Array, colours: Array, material: str, coarseness: float = 1.0
) -> Array:
    """A shape cut out of a coloured pattern, float32 (4, 96, 96): RGB and opacity, 0..1.

    coarseness: pattern pixels per sprite pixel. The cut starts at a random position.
    """
    field = outline(shape, rng)
    step = np.arange(SPRITE_SIZE) * coarseness
    top, left = rng.integers(0, MAP_SIZE, 2)
    cut = pattern[np.ix_((step + top).astype(int) % MAP_SIZE, (step + left).astype(int) % MAP_SIZE)]
    colour = colourise(cut, colours)
    height = np.sqrt(np.clip(1 - (_RADIUS / 1.08) ** 2, 0, 1))
    opacity = np.clip(field * SPRITE_SIZE / 2.16 + 0.5, 0, 1)
    if material == "glossy":
        turn = rng.uniform(0, 2 * np.pi)
        highlight = np.exp(-((_X - 0.4 * np.cos(turn)) ** 2 + (_Y - 0.4 * np.sin(turn)) ** 2) * 14)
        colour = colour * (0.45 + 0.6 * height[..., None]) + 0.8 * highlight[..., None]
    elif material == "rough":
        colour = colour * (1 + 0.35 * spectral_noise(rng, 0.3, SPRITE_SIZE)[..., None])
    elif material == "glass":
        opacity = opacity * (0.35 + 0.4 * (1 - height))
    elif material == "outlined":
        colour = colour * np.clip(field * 12 - 0.6, rng.uniform(0, 0.3), 1)[..., None]
    elif material == "lit from the side":
        turn = rng.uniform(0, 2 * np.pi)
        colour = colour * (0.75 + 0.6 * (_X * np.cos(turn) + _Y * np.sin(turn)))[..., None]
    return np.concatenate([np.clip(colour, 0, 1), opacity[..., None]], axis=2).transpose(2, 0, 1).astype(np.float32)
