"""Search an index: by a vector, by what it already holds, by examples and counter-examples, or by a new video.

    search(index, "sub/a.mp4@12.5", top=5)                    # clips like the one at 12.5 s, of other videos
    search(index, None, like=["a.mp4", "b.mp4"], unlike=["c.mp4"], kind="videos")
    search(index, query_vector(index, "new.mp4", seconds=3))

Every match has a score, the cosine of centred and whitened vectors, and its percentile: the percentage of random pairs
of clips of different videos of the collection that have a smaller score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.choices import SearchKind
from c3dvideo.errors import UsageError, VideoError
from c3dvideo.probing.descriptors import Array, clip_vectors, settings_differences, unit_rows
from c3dvideo.search.index import Index

# Rocchio's weights for relevance feedback, as commonly used: counter-examples count less than examples.
_UNLIKE_WEIGHT = 0.5


@dataclass(frozen=True)
class Match:
    """One clip or video found. score: -1 to 1. percentile: 0 to 100, NaN where the index holds one video only."""

    video: str
    start_seconds: float
    end_seconds: float
    score: float
    percentile: float


def search(
    index: Index,
    query: Array | str | None,
    *,
    top: int = 10,
    kind: SearchKind = "clips",
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
    exclude_same_video: bool = True,
) -> list[Match]:
    """The clips or videos of the index nearest to a query, best first.

    query: a vector float32 (D,) of the index, or "video" or "video@seconds" for one that it holds; None with `like`.
    like, unlike: more examples and counter-examples, written in the same way. The query is then the mean direction of
    the examples minus half the mean direction of the counter-examples. exclude_same_video: leave out the videos that
    the query and the examples come from.
    Raises UsageError for a name that is not in the index, for a time outside a video, and without any query.
    """
    if query is None and not like:
        raise UsageError("there is nothing to search for: name a query or at least one `like=`")
    if top < 1:
        raise UsageError(f"`top={top}` matches were wanted; expected 1 or more")
    positive = ([] if query is None else [query]) + list(like)
    direction = _mean_direction(index, positive)
    if unlike:
        direction = direction - _UNLIKE_WEIGHT * _mean_direction(index, list(unlike))
    direction = unit_rows(direction[None])[0].astype(np.float32)
    named = [parse_id(index, text)[0] for text in [*positive, *unlike] if isinstance(text, str)]
    found = index.search_direction(
        direction, top=top, kind=kind, exclude_videos=set(named) if exclude_same_video else set()
    )
    return [
        Match(near.video, near.start_seconds, near.end_seconds, near.score, index.space.percentile(near.score, kind))
        for near in found
    ]


def parse_id(index: Index, text: str) -> tuple[str, float | None]:
    """The video and the seconds in "video" or "video@seconds"; a name that holds an @ itself is found first.

    Raises UsageError for a video that is not in the index.
    """
    if text not in index:
        name, seconds = split_seconds(text)
        if seconds is not None and name in index:
            return name, seconds
        index.stored(name if seconds is not None else text)  # raises, with names that are close
    return text, None


def split_seconds(text: str) -> tuple[str, float | None]:
    """A name and the seconds behind its last @, None when no number stands there.

    >>> split_seconds("a@b.mp4@12.5"), split_seconds("a@b.mp4")
    (('a@b.mp4', 12.5), ('a@b.mp4', None))
    """
    name, at, last = text.rpartition("@")
    try:
        seconds = float(last)
    except ValueError:
        return text, None
    return (name, seconds) if at and name and math.isfinite(seconds) and seconds >= 0 else (text, None)


def stored_vector(index: Index, text: str) -> Array:
    """The vector float32 (D,) of "video" (its descriptor) or "video@seconds" (the clip at that time) in the index."""
    name, seconds = parse_id(index, text)
    clips = index.clips(name)
    return _chosen(clips.vectors, clips.start_seconds, clips.end_seconds, seconds, name)


def query_vector(
    index: Index, video: str | Path, *, seconds: float | None = None, weights: Any = None, device: str = "auto"
) -> Array:
    """The vector float32 (D,) of a video that need not be in the index, computed as the features in it were.

    seconds: takes the clip at that time; None the descriptor of the whole video. weights: a folder or a published name;
        None takes the embedded weights. They must be those of the index.
    Raises UsageError for other weights and for a time outside the video, VideoError for a video that cannot be read.
    """
    from c3dvideo.features.store import Failure
    from c3dvideo.search.feature_clips import clip_ends

    extractor = index_extractor(index, weights, device=device)
    found = list(extractor(video))
    if len(found) != 1:
        raise UsageError(f"{video} holds {len(found)} videos; expected one")
    if isinstance(found[0], Failure):
        raise VideoError(f"{video}: {found[0].message}")
    vectors = index.space.encode(clip_vectors(found[0].layers[index.layer]))
    return _chosen(vectors, found[0].start_seconds, clip_ends(found[0]), seconds, str(video))


def index_extractor(index: Index, weights: Any = None, *, device: str = "auto") -> Any:
    """An `Extractor` that computes what the index holds; raises UsageError for other weights than the index's."""
    from c3dvideo.features.extractor import Extractor
    from c3dvideo.video.clips import ClipPlan
    from c3dvideo.video.preprocess import Profile

    settings = index.settings
    if "plan" not in settings or "profile" not in settings:
        raise UsageError(
            f"{index.db} does not record how its features were computed, so a new video cannot be compared with them; "
            "search by the name of a video in it"
        )
    extractor = Extractor(
        weights,
        layers=[index.layer],
        plan=ClipPlan(**settings["plan"]),
        crops=settings["crops"],
        profile=Profile.from_dict(settings["profile"]),
        device=device,
    )
    differences = settings_differences(settings, extractor.settings)
    if differences:
        which = "the embedded weights are" if weights is None else f"{weights} is"
        raise UsageError(
            f"{index.db} was made with other weights or settings than {which}: {'; '.join(differences)}; name the "
            "weights of the index with `weights=`"
        )
    return extractor


def _mean_direction(index: Index, items: Sequence[Array | str]) -> Array:
    vectors = [stored_vector(index, item) if isinstance(item, str) else np.asarray(item, np.float32) for item in items]
    for vector in vectors:
        if vector.shape != (index.dimensions,):
            raise UsageError(f"the query has the shape {vector.shape}; {index.db} holds vectors ({index.dimensions},)")
    mean: Array = index.space.directions(np.stack(vectors)).mean(axis=0)
    return mean


def _chosen(vectors: Array, starts: Array, ends: Array, seconds: float | None, name: str) -> Array:
    """The descriptor of all clips, or the clip whose middle is nearest to `seconds`."""
    from c3dvideo.features.store import descriptor

    if seconds is None:
        return descriptor(vectors)
    if not seconds <= ends[-1]:
        raise UsageError(f"{name} has clips from {starts[0]:.2f} to {ends[-1]:.2f} seconds, and none at {seconds:g}")
    chosen: Array = vectors[int(np.abs((starts + ends) / 2 - seconds).argmin())]
    return chosen
