"""Features, class probabilities and length of one uploaded video, computed in a process of its own.

The process keeps the network between videos. It is killed when a video takes too long, and then starts anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import UsageError, VideoError
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.probing.descriptors import Array, clip_vectors, settings_differences, unit_rows
from c3dvideo.probing.probe import Probe
from c3dvideo.search.vector_space import VectorSpace
from c3dvideo.video.clip_times import clip_spans
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import open_video
from c3dvideo.video.preprocess import Profile
from c3dvideo.video.sources import Source
from c3dvideo.web.teaching_jobs import probabilities


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was computed of one video.

    vectors: float32 (n_clips, D), as the index stores them. classes: () without a probe; shares (n_clips, n_classes)
    are their probabilities. damage: why reading ended early, or None.
    """

    start_seconds: Array
    end_seconds: Array
    vectors: Array
    classes: tuple[str, ...]
    shares: Array
    damage: str | None


def analyse(
    path: str,
    name: str,
    *,
    weights: str | None,
    settings: dict[str, Any],
    layer: str,
    space: VectorSpace,
    probe: tuple[str, float] | None,
    max_seconds: float,
) -> Analysis:
    """The clips of an uploaded video as the index with these settings would hold them.

    probe: its file and temperature. Raises UsageError when the weights are not those of the index, VideoError when the
    video cannot be read or is longer than `max_seconds`.
    """
    _check_length(path, max_seconds)
    extractor = extractor_like(settings, weights, layer)
    found = next(iter(extractor.activations([Source(path, name)])))
    if isinstance(found, Failure):
        raise VideoError(found.message.replace(repr(path), "the video").replace(path, "the video"))
    rows = clip_vectors(found.layers[layer])
    vectors = space.encode(rows)
    classes: tuple[str, ...] = ()
    shares = np.zeros((len(rows), 0))
    if probe is not None:
        loaded = Probe.load(probe[0])
        classes, shares = loaded.classes, probabilities(loaded, unit_rows(vectors).astype(np.float32), probe[1])
    fps = float(found.fps or 25)
    starts = found.start_frame / fps if np.isnan(found.start_seconds).any() else found.start_seconds
    span = extractor.plan.span_frames
    _, ends = clip_spans(found.start_frame, starts, span_frames=span, n_frames=found.n_frames, fps=fps)
    return Analysis(starts, ends, vectors.astype(np.float32), classes, shares, found.damage)


def _check_length(path: str, max_seconds: float) -> None:
    """Raise VideoError for a video that is longer, by its time stamps: what a file states about itself may be wrong."""
    with open_video(Path(path), damaged="keep") as video:
        try:
            for frame in video.frames():
                if frame.seconds > max_seconds:
                    raise UsageError(f"the video is longer than {max_seconds:g} seconds; cut out the part of interest")
        except VideoError:
            return  # the damage is reported by the extraction


def extractor_like(settings: Mapping[str, Any], weights: str | None, layer: str) -> Extractor:
    """An extractor that computes what an index with these settings holds; raises UsageError for other weights."""
    if not {"plan", "profile", "crops"} <= settings.keys():
        raise UsageError("the index does not record how its features were computed, so no other video fits in")
    fixed = json.dumps({key: settings[key] for key in ("plan", "profile", "crops")})
    try:
        extractor = _extractor(weights, layer, fixed)
        differences = settings_differences(settings, extractor.settings)
    except UsageError as error:
        differences = [str(error)]
    if differences:
        raise UsageError(
            f"the index was made with other weights or settings than this server uses: {'; '.join(differences)}; start "
            "the server with the weights of the index (`weights=`)"
        )
    return extractor


@lru_cache(maxsize=1)
def _extractor(weights: str | None, layer: str, settings: str) -> Extractor:
    """settings: as JSON, because a dict cannot be the key of a cache."""
    given = json.loads(settings)
    return Extractor(
        weights,
        layers=[layer],
        plan=ClipPlan(**given["plan"]),
        profile=Profile.from_dict(given["profile"]),
        crops=given["crops"],
        workers=0,  # this process is the one that may be killed
        damaged="keep",
    )
