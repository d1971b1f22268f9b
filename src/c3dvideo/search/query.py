"""Search an index: by a vector, by what it already holds, by examples and counter-examples, or by a new video.

    search(index, "sub/a.mp4@12.5", top=5)                    # clips like the one at 12.5 s, of other videos
    search(index, None, like=["a.mp4", "b.mp4"], unlike=["c.mp4"], kind="videos")
    search(index, query_vector(index, "new.mp4", seconds=3))
    search(index, find_query(index, "new.mp4@3"))             # a file, or a name in the index

Every match has a score, the cosine of centred and whitened vectors, and its percentile: the percentage of random pairs
of clips of different videos of the collection that have a smaller score.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.choices import SearchKind
from c3dvideo.errors import UsageError, VideoError
from c3dvideo.probing.descriptors import Array, clip_vectors, settings_differences, unit_rows
from c3dvideo.search.index import Index
from c3dvideo.video.access import is_url, shown
from c3dvideo.video.content import content_sha256

Query = Array | str
"""A vector float32 (D,) of the index, or the name of one that it holds: "video" or "video@seconds"."""

# Of relevance feedback by Rocchio's rule, in which counter-examples count less than examples.
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
    query: Query | None,
    *,
    top: int = 10,
    kind: SearchKind = "clips",
    like: Sequence[Query] = (),
    unlike: Sequence[Query] = (),
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
    direction = combine(_directions(index, positive), _directions(index, unlike))
    named = [parse_id(index, text)[0] for text in [*positive, *unlike] if isinstance(text, str)]
    found = index.search_direction(
        direction, top=top, kind=kind, exclude_videos=set(named) if exclude_same_video else set()
    )
    return [
        Match(near.video, near.start_seconds, near.end_seconds, near.score, index.space.percentile(near.score, kind))
        for near in found
    ]


def combine(like: Array, unlike: Array) -> Array:
    """One direction float32 (K,): the mean of `like` (n, K), minus half the mean of `unlike` (m, K) if it has rows."""
    direction = like.mean(axis=0)
    if len(unlike):
        direction = direction - _UNLIKE_WEIGHT * unlike.mean(axis=0)
    combined: Array = unit_rows(direction[None])[0].astype(np.float32)
    return combined


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


def find_query(
    index: Index,
    text: str,
    *,
    weights: Any = None,
    device: str = "auto",
    note: Callable[[str], None] = lambda text: None,
) -> Query:
    """What "video" or "video@seconds" means: a name in the index as it is, or the vector float32 (D,) of a video file.

    A file whose content is in the index, under whatever name, is not computed again, unless `weights` are named. A name
    in the index that is also a file here means the index, unless the content differs.
    Raises UsageError for what is neither, and what `query_vector` raises.
    """
    path, seconds = _file_and_seconds(index, text)
    if path is None:
        try:
            parse_id(index, text)
        except UsageError as error:
            raise UsageError(f"{error}; and there is no file {split_seconds(text)[0]!r}") from error
        return text
    if weights is None and not is_url(path):
        content, suffix = content_sha256(path), "" if seconds is None else f"@{seconds}"
        if path in index and index.stored(path)["content_sha256"] in (None, content):
            return path + suffix
        if path in index:
            note(f"the file {path} differs from the video of that name in the index; its features are computed")
        elif content is not None and (same := [name for name, known in index.contents().items() if known == content]):
            note(f"{path} is {same[0]!r} in the index")
            return stored_vector(index, same[0] + suffix)
    return query_vector(index, path, seconds=seconds, weights=weights, device=device)


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


def _file_and_seconds(index: Index, text: str) -> tuple[str | None, float | None]:
    """The file or address, and the seconds, in "video" or "video@seconds"; None for what is no file."""
    for path, seconds in ((text, None), split_seconds(text)):
        # A folder of pictures is a video too, but a folder that has the name of an indexed video by chance is none.
        if is_url(path) or _exists(path, Path.is_file) or (path not in index and _exists(path, Path.is_dir)):
            return path, seconds
    return None, None


def _exists(path: str, check: Callable[[Path], bool]) -> bool:
    try:
        return check(Path(path))
    except (OSError, ValueError):  # too long, or with a NUL
        return False


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
    from c3dvideo.features.failures import Failure
    from c3dvideo.search.feature_clips import clip_ends

    extractor = index_extractor(index, weights, device=device)
    found = list(extractor(video))
    if len(found) != 1:
        raise UsageError(f"{shown(str(video))} holds {len(found)} videos; expected one")
    if isinstance(found[0], Failure):
        raise VideoError(f"{shown(str(video))}: {found[0].message}")
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


def _directions(index: Index, items: Sequence[Query]) -> Array:
    """The direction of every item, float32 (n, K)."""
    vectors = [stored_vector(index, item) if isinstance(item, str) else np.asarray(item, np.float32) for item in items]
    for vector in vectors:
        if vector.shape != (index.dimensions,):
            raise UsageError(f"the query has the shape {vector.shape}; {index.db} holds vectors ({index.dimensions},)")
    return index.space.directions(np.reshape(vectors, (len(vectors), index.dimensions)))


def _chosen(vectors: Array, starts: Array, ends: Array, seconds: float | None, name: str) -> Array:
    """The descriptor of all clips, or the clip whose middle is nearest to `seconds`."""
    from c3dvideo.features.store import descriptor

    if seconds is None:
        return descriptor(vectors)
    if not seconds <= ends[-1]:
        raise UsageError(f"{name} has clips from {starts[0]:.2f} to {ends[-1]:.2f} seconds, and none at {seconds:g}")
    chosen: Array = vectors[int(np.abs((starts + ends) / 2 - seconds).argmin())]
    return chosen
