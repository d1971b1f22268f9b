"""Procedural textures: grey patterns of ten families, and random palettes for their colours.

pattern = texture_map("marble", 7)                      # float32 (160, 160), 0..1
picture = colourise(pattern, palette(rng, "red"))       # float32 (160, 160, 3), 0..1
"""

import colorsys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]

MAP_SIZE = 160
MAPS_PER_FAMILY = 48
HUES = {
    "red": 0.0,
    "orange": 0.08,
    "yellow": 0.15,
    "green": 0.33,
    "cyan": 0.5,
    "blue": 0.62,
    "purple": 0.78,
    "grey": None,
}


@lru_cache(maxsize=1024)
def texture_map(family: str, number: int) -> Array:
    """Pattern `number` of a family, float32 (160, 160) with range 0..1; a pure function of its arguments."""
    rng = np.random.default_rng([FAMILIES.index(family), number, 1969])
    pattern: Array = _PAINTERS[family](rng).astype(np.float32)
    low, high = pattern.min(), pattern.max()
    pattern = (pattern - low) / max(float(high - low), 1e-6)
    pattern.setflags(write=False)
    return pattern


def palette(rng: np.random.Generator, hue: str | None = None) -> Array:
    """Two to five random RGB colours around a hue (any when None): float32 (n, 3) in 0..1, dark to light or mixed."""
    n_colours = int(rng.integers(2, 6))
    centre = rng.uniform() if hue is None else HUES[hue]
    saturation = rng.uniform(0.55, 1.0) if hue not in (None, "grey") else rng.uniform(0.0, 0.7)
    if centre is None:
        centre, saturation = 0.0, 0.0
    spread = rng.uniform(0.0, 0.06) if hue is not None else rng.choice([0.03, 0.1, 0.3])
    values = np.linspace(rng.uniform(0.05, 0.5), rng.uniform(0.6, 1.0), n_colours)
    if rng.uniform() < 0.3:
        values = rng.permutation(values)
    colours = [
        colorsys.hsv_to_rgb((centre + spread * rng.normal()) % 1.0, saturation * rng.uniform(0.7, 1.0), value)
        for value in values
    ]
    return np.asarray(colours, np.float32)


_SHADES = 1024


def colourise(pattern: Array, colours: Array) -> Array:
    """The pattern (H, W) in 0..1, coloured by linear blends of colours (n, 3) in 1,024 shades: float32 (H, W, 3)."""
    position = np.linspace(0, len(colours) - 1, _SHADES, dtype=np.float32)
    below = np.minimum(position.astype(np.int64), len(colours) - 2)
    weight = (position - below)[:, None]
    shades = colours[below] * (1 - weight) + colours[below + 1] * weight
    shade = np.clip(pattern * (_SHADES - 1) + 0.5, 0, _SHADES - 1).astype(np.int16)
    return np.asarray(shades[shade], np.float32)


def _axes() -> tuple[Array, Array]:
    axis = np.linspace(-1, 1, MAP_SIZE, dtype=np.float32)
    return axis[None, :], axis[:, None]


def _rotated(rng: np.random.Generator) -> tuple[Array, Array]:
    x, y = _axes()
    angle = rng.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def spectral_noise(rng: np.random.Generator, slope: float, size: int = MAP_SIZE) -> Array:
    """Periodic noise (size, size) of zero mean and unit variance whose amplitude falls as frequency ** -slope."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) * frequency**-slope
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return np.asarray(noise / noise.std(), np.float32)


def _clouds(rng: np.random.Generator) -> Any:
    return np.tanh(spectral_noise(rng, rng.uniform(0.8, 2.2)))


def _marble(rng: np.random.Generator) -> Any:
    x, _ = _rotated(rng)
    return np.sin(x * rng.uniform(6, 20) + spectral_noise(rng, 1.6) * rng.uniform(0.6, 2.0))


def _wood(rng: np.random.Generator) -> Any:
    x, y = _rotated(rng)
    rings = np.hypot(x + rng.uniform(-1, 1), 0.25 * y + rng.uniform(-0.3, 0.3)) + 0.03 * spectral_noise(rng, 1.6)
    return (rings * rng.uniform(5, 14)) % 1.0 + 0.1 * spectral_noise(rng, 0.5)


def _stripes(rng: np.random.Generator) -> Any:
    x, _ = _rotated(rng)
    return np.tanh(rng.uniform(0.8, 8) * np.sin(x * rng.uniform(8, 40)) + rng.uniform(-0.7, 0.7))


def _checks(rng: np.random.Generator) -> Any:
    x, y = _rotated(rng)
    frequency = rng.uniform(6, 25)
    return np.tanh(rng.uniform(2, 10) * np.sin(x * frequency) * np.sin(y * frequency * rng.uniform(0.5, 1.5)))


def _dots(rng: np.random.Generator) -> Any:
    x, y = _rotated(rng)
    frequency = rng.uniform(2, 8)
    u, v = (x * frequency) % 1.0 - 0.5, (y * frequency) % 1.0 - 0.5
    return np.tanh((rng.uniform(0.15, 0.4) - np.hypot(u, v)) * 20)


def _bricks(rng: np.random.Generator) -> Any:
    x, y = _rotated(rng)
    rows = y * rng.uniform(3, 8)
    columns = x * rng.uniform(1.5, 4) + 0.5 * (np.floor(rows) % 2)
    mortar = np.minimum(np.abs(rows % 1 - 0.5) * -1 + 0.5, np.abs(columns % 1 - 0.5) * -1 + 0.5)
    tone = np.sin(np.floor(rows) * 12.9 + np.floor(columns) * 78.2)
    return np.minimum(mortar * 12, 1.0) + 0.3 * tone + 0.1 * spectral_noise(rng, 0.8)


def _dead_leaves(rng: np.random.Generator) -> Any:
    """Overlapping discs whose radii have density r^-3, which gives the statistics of natural images."""
    x, y = _axes()
    picture = (0.3 * spectral_noise(rng, 1.5)).astype(np.float64)
    smallest = rng.uniform(0.04, 0.1)
    for _ in range(400):
        radius = smallest / np.sqrt(1 - rng.uniform() * (1 - (smallest / 0.7) ** 2))
        left, top = rng.uniform(-1.2, 1.2, 2)
        level, slope = rng.normal(size=2)
        # Most discs are small: only the square around a disc is computed, which takes a third of the time.
        columns, rows = _within(x[0], left, radius), _within(y[:, 0], top, radius)
        across, down = x[:, columns] - left, y[rows] - top
        window = picture[rows, columns]
        np.copyto(window, level + 0.2 * across / radius * slope, where=across**2 + down**2 < radius**2)
    return np.clip(picture, -2, 2)


def _within(axis: Array, centre: float, radius: float) -> slice:
    """The part of an ascending axis whose values are at most `radius` from `centre`."""
    return slice(*np.searchsorted(axis, [centre - radius, centre + radius]))


def _cells(rng: np.random.Generator) -> Any:
    """Distances to random points, which resemble cobbles, scales or cracks."""
    x, y = _axes()
    points = rng.uniform(-1.1, 1.1, (int(rng.integers(15, 70)), 2))
    distances = np.stack([np.hypot(x - left, y - top) for left, top in points])
    nearest = np.partition(distances, (0, 1), axis=0)[:2]
    return nearest[0] if rng.uniform() < 0.5 else np.minimum(nearest[1] - nearest[0], 0.15)


def _fractal(rng: np.random.Generator) -> Any:
    """Smooth escape times of a Julia set near the border of the Mandelbrot set."""
    x, y = _rotated(rng)
    angle = rng.uniform(0, 2 * np.pi)
    constant = 0.52 * np.exp(1j * angle) - 0.27 * np.exp(2j * angle)
    z = (x + 1j * y) * rng.uniform(0.6, 1.4) + complex(*rng.uniform(-0.3, 0.3, 2))
    escape = np.zeros(z.shape)
    for _ in range(40):
        alive = np.abs(z) < 4
        z = np.where(alive, z * z + constant, z)
        escape += alive
    return np.log1p(escape - np.log2(np.log(np.maximum(np.abs(z), 1.01)) + 1e-3) * (np.abs(z) >= 4))


_PAINTERS: dict[str, Callable[[np.random.Generator], Any]] = {
    "clouds": _clouds,
    "marble": _marble,
    "wood": _wood,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "bricks": _bricks,
    "dead leaves": _dead_leaves,
    "cells": _cells,
    "fractal": _fractal,
}
FAMILIES = tuple(_PAINTERS)
