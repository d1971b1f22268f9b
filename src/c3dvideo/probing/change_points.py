"""Where the content of a video changes: change points of its sequence of clip descriptors, with times.

    outcome = segment(["a.mp4"])                    # or features that `extract` stored: "features/a.mp4.npz"
    outcome.videos[0].boundaries[0].seconds         # 12.4
    outcome.videos[0].segments[0].end_frame         # 310

The boundaries minimise the squared distances of descriptors to the mean of their segment, plus a penalty per boundary;
their number need not be known. PELT (Killick et al. 2012, as `ruptures` implements it) finds them exactly.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from c3dvideo.choices import Damaged, PrecisionChoice, SegmentMethod
from c3dvideo.errors import MissingExtraError, StoreError, UsageError, VideoError
from c3dvideo.extras import require_extra
from c3dvideo.features.decoding import STALL_SECONDS
from c3dvideo.features.extractor import Extractor, weights_label
from c3dvideo.features.failures import Failure
from c3dvideo.features.store import VideoFeatures, read_features
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D
from c3dvideo.parallel import in_parallel
from c3dvideo.probing.colour_histograms import LAYER, colour_features
from c3dvideo.probing.descriptors import Array, choose_layer, clip_vectors, unit_rows
from c3dvideo.progress import progress
from c3dvideo.video.clip_times import seconds_at
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import Profile
from c3dvideo.video.sources import Source, find_sources
from c3dvideo.weights.load import load_weights

STRIDE_FRAMES = 4
# Chosen on half of joined real videos, measured on the other half: docs/segments.md.
THRESHOLD = 0.5
THRESHOLDS: Mapping[SegmentMethod, float] = {"descriptors": THRESHOLD, "colours": 0.3, "both": 0.55}
"""The default of each method."""
_COMPONENTS, _MANY_CLIPS = 50, 500


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """A change: the first frame of the later segment, its time (None for frame folders), and how strong it is.

    strength: by how much the boundary lowers the squared distances, divided by its penalty; larger is clearer.
    """

    frame: int
    seconds: float | None
    strength: float


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a video between two boundaries: frames [start_frame, end_frame), and their times where known."""

    start_frame: int
    end_frame: int
    start_seconds: float | None
    end_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class SegmentedVideo:
    """The segments of one video, which cover it, and the boundaries between them, in order."""

    name: str
    path: str
    n_frames: int
    boundaries: tuple[Boundary, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True)
class SegmentedVideos:
    """The segmented videos and the failures, each in the order of the inputs, feature files first."""

    videos: tuple[SegmentedVideo, ...]
    failures: tuple[Failure, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


def segment(
    inputs: Iterable[str | Path],
    *,
    weights: str | Path | C3D | None = None,
    layer: str = "",
    method: SegmentMethod = "descriptors",
    stride_frames: int = STRIDE_FRAMES,
    threshold: float | None = None,
    profile: Profile | str | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    workers: int | None = None,
    damaged: Damaged = "error",
    stall_seconds: float = STALL_SECONDS,
    note: Callable[[str], None] = lambda text: None,
) -> SegmentedVideos:
    """The change points of every video of `inputs`.

    inputs: videos, as `extract` takes them, or feature files (.npz) that it stored, which are not decoded again.
    layer: "" takes fc6, or the only layer of a feature file. stride_frames: frames between clips; a boundary is found
        at a multiple of it. Feature files keep their own. threshold: a higher one gives fewer boundaries; None takes
        that of the method in `THRESHOLDS`.
    method: "descriptors" compares what a network computes; "colours" compares colour histograms and needs no network,
        so that neither `weights=` nor `layer=` may be given; "both" compares both, at equal weight. Feature files hold
        descriptors only.
    Raises UsageError for a threshold or an input that cannot be used, MissingExtraError without `ruptures`.

    >>> found = segment(["my_videos/waving_flag/waving_flag_000.mp4"])
    >>> [(part.start_frame, part.end_frame) for part in found.videos[0].segments]
    [(0, 50)]
    """
    require_extra("segment")
    if threshold is None:
        threshold = THRESHOLDS[method]
    if not (math.isfinite(threshold) and threshold > 0):
        raise UsageError(f"`threshold={threshold}`; expected a number above 0, such as {THRESHOLD}")
    given = [str(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    stored = [path for path in given if path.lower().endswith(".npz")]
    if stored and method != "descriptors":
        raise UsageError(f"{stored[0]} holds no colours; name the video, or choose `method=descriptors`")
    if method == "colours" and (weights is not None or layer):
        raise UsageError("`method=colours` uses no network; leave out `weights=` and `layer=`")
    results = [_stored_result(path, layer, threshold) for path in stored]
    if len(stored) < len(given):
        sources = find_sources([path for path in given if path not in stored])
        if left_out := sources.note():
            note(left_out)
        if method == "colours":
            results += _by_colours(list(sources), stride_frames, threshold, workers, damaged, stall_seconds)
        else:
            network = weights if isinstance(weights, C3D) else load_weights(weights)
            length = network.architecture["clip_length"]
            extractor = Extractor(
                network,
                layers=[layer or "fc6"],
                plan=ClipPlan(clip_length=length, stride_frames=stride_frames, short="repeat_last"),
                profile=profile,
                device=device,
                precision=precision,
                workers=workers,
                damaged=damaged,
                stall_seconds=stall_seconds,
            )
            extractor.label = weights_label(weights)  # of what was given, not of the network that it names
            note(str(extractor))
            results += _by_network(list(sources), extractor, threshold, with_colours=method == "both")
    return SegmentedVideos(
        videos=tuple(result for result in results if isinstance(result, SegmentedVideo)),
        failures=tuple(result for result in results if isinstance(result, Failure)),
    )


def _by_network(
    sources: Sequence[Source], extractor: Extractor, threshold: float, *, with_colours: bool
) -> list[SegmentedVideo | Failure]:
    by_name: dict[str, SegmentedVideo | Failure] = {}
    with progress("segmenting", unit="clips") as bar:
        for outcome in extractor.activations(sources, on_clips=bar.advance):
            if isinstance(outcome, Failure):
                by_name[outcome.name] = outcome
                continue
            source, features = outcome.source, extractor.features(outcome)
            try:
                colours = _colours(source, extractor.plan, len(features.start_frame)) if with_colours else None
            except VideoError as error:
                by_name[source.name] = _failed(source, error)
            else:
                by_name[source.name] = _segments(features, source.path, "", threshold, colours)
    return [by_name[source.name] for source in sources]


def _colours(source: Source, plan: ClipPlan, n_clips: int) -> Array:
    """The histograms of clips whose descriptors are known; the video is decoded once more, in a part of their time."""
    rows = colour_features(source, plan, damaged="keep").layers[LAYER]
    if len(rows) < n_clips:
        raise VideoError(f"{source.name} had {n_clips} clips and now has {len(rows)}; it changed while it was read")
    return rows[:n_clips]


def _by_colours(
    sources: Sequence[Source],
    stride_frames: int,
    threshold: float,
    workers: int | None,
    damaged: Damaged,
    stall_seconds: float,
) -> list[SegmentedVideo | Failure]:
    plan = ClipPlan(stride_frames=stride_frames, short="repeat_last")
    found: dict[int, SegmentedVideo | Failure] = {}

    def read(source: Source) -> VideoFeatures:
        return colour_features(source, plan, damaged=damaged, stall_seconds=stall_seconds)

    n_workers = n_cores() if workers is None else workers
    for number, result in in_parallel(read, sources, workers=n_workers, description="segmenting"):
        source = sources[number]
        if isinstance(result, VideoFeatures):
            found[number] = _segments(result, source.path, "", threshold)
        else:
            found[number] = _failed(source, result)
    return [found[number] for number in range(len(sources))]


def _failed(source: Source, error: Exception) -> Failure:
    return Failure(name=source.name, path=source.path, stage="decode", message=str(error))


def change_points(
    vectors: Array,
    start_frame: Array,
    *,
    colours: Array | None = None,
    clip_frames: int = 16,
    threshold: float = THRESHOLD,
) -> list[tuple[int, float]]:
    """The frame and the strength of every change in a sequence of clip vectors (n, D), in order.

    start_frame: int (n,), the first frame of each clip. colours: second vectors (n, C) of the clips, of the same weight
    as the first. clip_frames: the span of a clip.
    A change between two clips lies in the middle between their centres. Segments span a clip and one stride or more.
    Vectors are compared by direction, after the mean direction of the video is subtracted. Their mean squared distance
    is the unit of the penalty, threshold * ln(n), so that one threshold serves weights of any scale.
    """
    rows = _normalised(vectors)
    if colours is not None:
        rows = np.concatenate([rows, _normalised(colours)], axis=1) / math.sqrt(2)
    n = len(rows)
    # Clips across a boundary resemble neither side. With one clip of each side they are as many as a segment of one
    # clip and a stride has, and so seldom make a segment of their own.
    shortest = max(2, 1 + -(-clip_frames // _stride(start_frame)))
    if n < 2 * shortest or not rows.any():
        return []
    penalty = threshold * math.log(n)
    try:
        from ruptures import KernelCPD
    except ImportError as error:
        raise MissingExtraError("ruptures", "segment") from error
    ends = KernelCPD(kernel="linear", min_size=shortest).fit(rows).predict(pen=penalty)
    edges = [0, *ends]
    return [
        (
            int(start_frame[middle - 1] + start_frame[middle] + clip_frames) // 2,
            _gain(rows, *edges[index : index + 3]) / penalty,
        )
        for index, middle in enumerate(ends[:-1])
    ]


def _normalised(vectors: Array) -> Array:
    """Directions relative to the mean direction, float64 (n, D or 50), with a mean squared length of 1."""
    rows = unit_rows(vectors)
    rows = unit_rows(rows - rows.mean(axis=0))
    rows -= rows.mean(axis=0)
    if len(rows) > _MANY_CLIPS and rows.shape[1] > _COMPONENTS:
        # The search compares pairs of clips, so its time grows with the width of the vectors.
        rows = PCA(n_components=_COMPONENTS, random_state=0).fit_transform(rows)
    energy = float((rows**2).sum(axis=1).mean())
    # Equal clips differ by rounding only, which must not be scaled up to a change.
    unit: Array = rows / math.sqrt(energy) if energy > 1e-9 else np.zeros_like(rows)
    return unit


def _stride(start_frame: Array) -> int:
    """Frames between clip starts; of clips at uneven distances, the median."""
    return max(1, int(np.median(np.diff(start_frame)))) if len(start_frame) > 1 else 1


def _gain(rows: Array, start: int, middle: int, end: int) -> float:
    """By how much the squared distances to the mean are smaller with a boundary at `middle` of [start, end)."""
    before, after = rows[start:middle], rows[middle:end]
    weight = len(before) * len(after) / (len(before) + len(after))
    return float(weight * ((before.mean(axis=0) - after.mean(axis=0)) ** 2).sum())


def _stored_result(path: str, layer: str, threshold: float) -> SegmentedVideo | Failure:
    try:
        return _segments(read_features(path), path, layer, threshold)
    except StoreError as error:
        return Failure(name=Path(path).name, path=path, stage="read", message=str(error))


def _segments(
    features: VideoFeatures, path: str, layer: str, threshold: float, colours: Array | None = None
) -> SegmentedVideo:
    vectors = clip_vectors(features.layers[choose_layer(list(features.layers), layer, path)])
    starts = features.start_frame
    span, n_frames, fps = _facts(features, path)
    found = change_points(vectors, starts, colours=colours, clip_frames=span, threshold=threshold)
    seconds = _clock(features, n_frames, fps)
    edges = [0, *(frame for frame, _ in found), n_frames]
    return SegmentedVideo(
        name=features.name,
        path=path,
        n_frames=n_frames,
        boundaries=tuple(
            Boundary(frame=frame, seconds=seconds(frame), strength=round(strength, 4)) for frame, strength in found
        ),
        segments=tuple(
            Segment(start_frame=a, end_frame=b, start_seconds=seconds(a), end_seconds=seconds(b))
            for a, b in pairwise(edges)
        ),
    )


def _facts(features: VideoFeatures, path: str) -> tuple[int, int, Fraction | None]:
    """Frames of a clip's span, frames of the video, and frames per second, from what `extract` recorded."""
    settings = features.metadata.get("settings")
    if not len(features.start_frame) or (isinstance(settings, Mapping) and settings.get("pool")):
        raise StoreError(f"{path} holds one descriptor for the whole video; extract it again, without pooling")
    try:
        plan = settings["plan"]  # type: ignore[index]
        span = int(plan["clip_length"]) * int(plan["sampling_rate"])
        n_frames, fps = int(features.metadata["n_frames"]), features.metadata["fps"]
        return span, max(n_frames, int(features.start_frame[-1]) + 1), None if fps is None else Fraction(str(fps))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise StoreError(
            f"{path} does not record its clip plan, number of frames and frame rate; extract the video again"
        ) from error


def _clock(features: VideoFeatures, n_frames: int, fps: Fraction | None) -> Callable[[int], float | None]:
    """When a frame is shown; None in a frame folder."""
    frames, seconds = features.start_frame, features.start_seconds

    def clock(frame: int) -> float | None:
        if not fps or not np.isfinite(seconds).all():
            return None
        one = np.array([frame])
        found = seconds_at(one, start_frame=frames, start_seconds=seconds, n_frames=n_frames, fps=fps)
        return round(float(found[0]), 6)

    return clock
