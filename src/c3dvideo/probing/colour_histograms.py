"""Colour histograms of the clips of a video: a descriptor that needs no network, for cuts and dissolves.

    features = colour_features("a.mp4", plan)
    features.layers["colours"]              # float32 (n_clips, 512)

Each colour channel is divided into eight equal ranges. A clip's histogram is the mean over its frames; its square root
is stored, whose dot products are Bhattacharyya coefficients.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from c3dvideo.choices import Damaged
from c3dvideo.errors import DecodeError
from c3dvideo.features.store import VideoFeatures
from c3dvideo.video.clips import ClipPlan, stream_clips
from c3dvideo.video.damage import without_advice
from c3dvideo.video.decode import open_video
from c3dvideo.video.sources import Source

LAYER = "colours"
_SIDE = 240  # of larger frames, only every n-th row and column is counted

Array = np.ndarray[Any, Any]


def colour_features(
    source: Source, plan: ClipPlan, *, damaged: Damaged = "error", stall_seconds: float = 60.0
) -> VideoFeatures:
    """The histograms as features with the layer "colours", which are not meant to be stored.

    damaged: "keep" takes the clips before the damage. Raises VideoError for a video that cannot be read or is too
    short for the plan.
    """
    starts: list[tuple[int, float]] = []
    rows: list[Array] = []
    frames = _Histograms(source.path, damaged, stall_seconds)
    for start, items in stream_clips(frames, plan):
        starts.append((start, items[0][0]))
        rows.append(np.sqrt(np.mean([histogram for _, histogram in items], axis=0)))
    return VideoFeatures(
        name=source.name,
        layers={LAYER: np.stack(rows).astype(np.float32)},
        start_frame=np.array([start for start, _ in starts], np.int64),
        start_seconds=np.array([seconds for _, seconds in starts], np.float64),
        metadata={
            "settings": {"plan": asdict(plan)},
            "n_frames": frames.n_frames,
            "fps": None if frames.fps is None else str(frames.fps),
            **({} if frames.damage is None else {"partial": True, "damage": frames.damage}),
        },
    )


def histogram(pixels: Array) -> Array:
    """The shares of 512 colours in a frame, float32 (512,); pixels: uint8 (H, W, 3).

    >>> histogram(np.zeros((4, 4, 3), np.uint8))[:2]
    array([1., 0.], dtype=float32)
    """
    every = max(1, min(pixels.shape[:2]) // _SIDE)
    few = pixels[::every, ::every] >> 5
    bins = (few[..., 0].astype(np.int64) << 6) + (few[..., 1].astype(np.int64) << 3) + few[..., 2]
    return np.bincount(bins.ravel(), minlength=512).astype(np.float32) / np.float32(bins.size)


class _Histograms:
    """Iterates over the time and the histogram of every frame; has the rate, and after the last frame the rest."""

    def __init__(self, path: str, damaged: Damaged, stall_seconds: float) -> None:
        self._video = open_video(path, channel_order="rgb", damaged=damaged, stall_seconds=stall_seconds)
        self._damaged = damaged
        self.fps = self._video.fps
        self.n_frames = 0
        self.damage: str | None = None

    def __iter__(self) -> Iterator[tuple[float, Array]]:
        with self._video:
            try:
                for frame in self._video.frames():
                    self.n_frames += 1
                    yield frame.seconds, histogram(frame.pixels)
            except DecodeError as error:
                if self._damaged == "error" or not self.n_frames:
                    raise
                self.damage = without_advice(error)
