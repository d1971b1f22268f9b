"""Clips of a user's videos, as inputs of an exported file: what 8-bit integers are calibrated with.

clips = calibration_clips(network, ["my_videos"], with_preprocessing=False)        # arrays of one clip each
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from c3dvideo.errors import UsageError, VideoError
from c3dvideo.inference.engine_arrays import Array
from c3dvideo.inference.scaling import Scaling
from c3dvideo.network.c3d import C3D
from c3dvideo.progress import track
from c3dvideo.video.clips import ClipPlan, stream_clips
from c3dvideo.video.decode import open_video
from c3dvideo.video.reader import read_clips
from c3dvideo.video.sources import find_sources

N_CLIPS = 64
"""Clips to calibrate with."""


def calibration_clips(
    network: C3D,
    videos: Iterable[str | Path],
    *,
    with_preprocessing: bool,
    n_clips: int = N_CLIPS,
    note: Callable[[str], None] = lambda text: None,
) -> Sequence[Array]:
    """Up to `n_clips` inputs, from as many videos as possible: float32 (1, 3, T, crop, crop), or uint8 frames.

    A video that cannot be read is noted and left out. Raises UsageError when no clip is left.
    """
    sources = find_sources(videos)
    step = max(1, len(sources) // n_clips)
    chosen = sources[::step][:n_clips]
    each = -(-n_clips // len(chosen))
    plan = ClipPlan(clip_length=network.architecture["clip_length"], short="repeat_last")
    found: list[Array] = []
    for source in track(chosen, "reading clips for calibration", unit="videos"):
        clips = _frames(source.path, plan) if with_preprocessing else _prepared(source.path, network, plan)
        try:
            found += islice(clips, each)
        except VideoError as error:
            note(f"left out: {error}")
    if not found:
        raise UsageError(f"none of {len(chosen)} videos has a clip to calibrate 8-bit integers with")
    return found[:n_clips]


def _prepared(path: str, network: C3D, plan: ClipPlan) -> Iterator[Array]:
    scaling = Scaling.of(network, network.profile.views("centre"), torch.device("cpu"))
    for clip in read_clips(path, plan=plan, profile=network.profile):
        yield scaling.apply(torch.from_numpy(clip.pixels)).numpy()


def _frames(path: str, plan: ClipPlan) -> Iterator[Array]:
    with open_video(path, channel_order="rgb") as video:
        for _, frames in stream_clips((frame.pixels for frame in video.frames()), plan):
            yield np.stack(frames)[None]
