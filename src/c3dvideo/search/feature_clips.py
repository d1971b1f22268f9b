"""What an index takes from one feature file: a vector per clip with its span in seconds, and whether the file changed.

file = feature_clips("features/sub/a.mp4.npz", layer="fc6")
file.vectors, file.start_seconds, file.end_seconds
"""

import hashlib
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from c3dvideo.errors import StoreError
from c3dvideo.features.convert.common import clip_array
from c3dvideo.features.parquet_shards import shard_state
from c3dvideo.features.store import VideoFeatures, read_features, stored_in_shards
from c3dvideo.probing.descriptors import Array, clip_vectors
from c3dvideo.reading import ForeignFile, opened
from c3dvideo.storage import Location
from c3dvideo.video.clip_times import clip_spans

LARGEST_WIDTH = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureClips:
    """The clips of one video: vectors float32 (n_clips, W), and their spans, float64 (n_clips,), half-open."""

    vectors: Array
    start_seconds: Array
    end_seconds: Array
    settings: Mapping[str, Any]
    content_sha256: str | None


def feature_clips(path: str | Location, layer: str) -> FeatureClips:
    """The clips in one feature file; views are averaged.

    Raises StoreError for a file that cannot be read, has no clip, holds NaN or is too wide; UsageError without `layer`.
    """
    features = read_features(path)
    vectors = clip_vectors(clip_array(features, layer, allow_pooled=True))
    if vectors.shape[1] > LARGEST_WIDTH:
        raise StoreError(
            f"{features.name}: {layer} has {vectors.shape[1]:,} numbers per clip; an index holds at most "
            f"{LARGEST_WIDTH:,}: choose a fully connected layer"
        )
    settings, content = features.metadata.get("settings"), features.metadata.get("content_sha256")
    return FeatureClips(
        vectors=vectors,
        start_seconds=features.start_seconds,
        end_seconds=clip_ends(features),
        settings=settings if isinstance(settings, Mapping) else {},
        content_sha256=content if isinstance(content, str) else None,
    )


def file_state(path: str | Location) -> str:
    """A hash that changes with the content of a feature file, from the table of contents at its end.

    That table holds a checksum of every array, so that the arrays themselves need not be read. Raises StoreError for a
    file that is no archive.
    """
    if (state := stored_in_shards(path, shard_state)) is not None:
        return hashlib.sha256(state.encode()).hexdigest()[:32]
    file = ForeignFile(path, error=StoreError, expected="a file of c3dvideo features")
    with opened(file) as stream:
        try:
            members = zipfile.ZipFile(stream).infolist()
        except zipfile.BadZipFile as cause:
            raise file.wrong("it is no whole .npz archive") from cause
        contents = [(member.filename, member.CRC, member.file_size) for member in members]
    return hashlib.sha256(repr(sorted(contents)).encode()).hexdigest()[:32]


def clip_ends(features: VideoFeatures) -> Array:
    """When each clip ends, in seconds: float64 (n_clips,).

    By the rule of `c3dvideo.video.clip_times`; where the end is not known, it is the start. A pooled row ends with its
    video. Without a recorded plan a clip ends where the next one starts.
    """
    starts = features.start_seconds
    settings = features.metadata.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    span = _span(settings.get("plan"))
    fps = _rate(features.metadata.get("fps"))
    recorded = features.metadata.get("n_frames")
    n_frames = recorded if isinstance(recorded, int) and recorded > 0 else None
    if settings.get("pool") is not None:
        return starts + (n_frames / fps if n_frames and fps else 0.0)
    if span is None:
        step = float(np.median(np.diff(starts))) if len(starts) > 1 else 0.0
        return np.append(starts[1:], starts[-1] + step)
    _, ends = clip_spans(features.start_frame, starts, span_frames=span, n_frames=n_frames, fps=fps)
    return np.where(np.isnan(ends), starts, ends)


def _span(plan: Any) -> int | None:
    """Consecutive frames that a clip of a recorded plan is taken from."""
    if not isinstance(plan, Mapping):
        return None
    length, rate = plan.get("clip_length"), plan.get("sampling_rate", 1)
    return length * rate if isinstance(length, int) and isinstance(rate, int) and length > 0 < rate else None


def _rate(text: Any) -> float:
    """Frames per second as `extract` records them, "30000/1001"; 0.0 where they are not known."""
    try:
        rate = float(Fraction(text))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return rate if math.isfinite(rate) and rate > 0 else 0.0
