"""The JSON documents of the interface, as FastAPI describes them in /openapi.json.

Tables of clips are arrays of one length, one value per clip, in the order of the videos and of time. A video is named
by its `id`; `name` is for people. Times are seconds, and a score is the cosine of centred and whitened vectors.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]


@dataclass(frozen=True)
class Problem:
    """Why a request has no other answer."""

    detail: str


@dataclass(frozen=True)
class VideoRow:
    """A video in the list: its clips are rows `first` to `first + n_clips` of the tables of clips."""

    id: str
    name: str
    label: str
    first: int
    n_clips: int
    seconds: float
    missing: bool


@dataclass(frozen=True)
class VideoList:
    """Every video of the index at `version`."""

    version: str
    videos: list[VideoRow]


@dataclass(frozen=True)
class ClipColumns:
    """Every clip: the row of its video, its span, the row of its label in `labels` (-1 without one) and its cluster."""

    version: str
    video: list[int]
    start_seconds: list[float]
    end_seconds: list[float]
    labels: list[str]
    label: list[int]
    cluster: list[int]


@dataclass(frozen=True)
class MapPlaces:
    """The place of every clip in the plane, from -1 to 1; empty until state is "ready"."""

    version: str
    method: str
    state: Literal["ready", "computing", "failed"]
    message: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class PredictedColumns:
    """The best class of every clip, as its row in `classes`, and the probability of that class."""

    version: str
    number: int
    classes: list[str]
    best: list[int]
    confidence: list[float]


@dataclass(frozen=True)
class ClipSpan:
    """One clip."""

    start_seconds: float
    end_seconds: float
    label: str


@dataclass(frozen=True)
class Playback:
    """How to play a video. type: the MIME type of `file`; null where the `pieces` of piece_seconds are played."""

    type: str | None
    width: int
    height: int
    seconds: float
    piece_seconds: float
    codec: str


@dataclass(frozen=True)
class Timeline:
    """Class probabilities of every clip: `shares[clip][class]`."""

    classes: list[str]
    shares: list[list[float]]


@dataclass(frozen=True)
class VideoDetail:
    """One video. problem: why it cannot be played, or ""."""

    id: str
    name: str
    label: str
    missing: bool
    problem: str
    clips: list[ClipSpan]
    playback: Playback | None
    timeline: Timeline | None


@dataclass(frozen=True)
class Found:
    """A clip or a video that was found. percentile: the percentage of random pairs with a smaller score."""

    id: str
    name: str
    label: str
    start_seconds: float
    end_seconds: float
    score: float
    percentile: float | None


@dataclass(frozen=True)
class FoundList:
    """What was found, best first."""

    results: list[Found]


@dataclass(frozen=True)
class Comparison:
    """Scores of every clip of one video with every clip of another, and the best pair of clips.

    rows, columns: spans of `a` and `b`; neighbouring clips of long videos are averaged.
    """

    a: str
    b: str
    rows: list[ClipSpan]
    columns: list[ClipSpan]
    scores: list[list[float]]
    score: float
    percentile: float | None


@dataclass(frozen=True)
class Moment:
    """A video by its id, and a second in it; null means the whole video."""

    id: str
    seconds: Seconds | None = None


@dataclass(frozen=True)
class SearchRequest:
    """Find what is like all of `like` and unlike all of `unlike`."""

    like: list[Moment]
    unlike: list[Moment]
    top: int = 24
    kind: Literal["clips", "videos"] = "clips"


@dataclass(frozen=True)
class LabelRequest:
    """Give every part this label; "" takes labels away. A part is the clip at `seconds`, or the whole video."""

    parts: list[Moment]
    label: str


@dataclass(frozen=True)
class LabelAnswer:
    """How many parts were changed, and the version of the labels after it."""

    n_changed: int
    labels_version: int


@dataclass(frozen=True)
class ProbeAnswer:
    """The classifier: "none", "fitting", "ready" or "failed".

    interval: 95% of the accuracy on clips of held-out videos; null where no class has clips of a second video.
    """

    state: Literal["none", "fitting", "ready", "failed"]
    number: int
    message: str
    is_outdated: bool
    classes: list[str]
    n_labelled: int
    accuracy: float | None
    interval: list[float] | None
    chance: float | None


@dataclass(frozen=True)
class State:
    """What a page needs to know again and again: versions that rise when something has changed."""

    version: str
    n_videos: int
    n_clips: int
    layer: str
    fingerprint: str
    labels_version: int
    labels_file: str
    has_videos: bool
    maps: list[str]
    probe: ProbeAnswer
    max_upload_bytes: int
    max_upload_seconds: float


@dataclass(frozen=True)
class UploadAnswer:
    """One upload and how far it is; when state is "done", `/api/videos/{id}` describes it."""

    id: str
    name: str
    state: Literal["receiving", "analysing", "done", "failed"]
    message: str
    n_clips: int
    top: list[tuple[str, float]]
