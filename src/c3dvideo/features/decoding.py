"""One video as a stream of messages: what is known of it, its clips, and how it ended.

    settings = DecodeSettings(plan=ClipPlan(), profile=CAFFE, views=CAFFE.views("centre"))
    for message in decode(Source("a.mp4", "a.mp4"), settings, Activity()):
        ...                               # Begun, then Clip after Clip, then End; or Failed at any point

This runs in decoder processes, which must start fast: neither this module nor what it imports may import torch.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from c3dvideo.choices import Damaged
from c3dvideo.errors import C3DVideoError, DecodeError, ShortVideoError
from c3dvideo.features.timings import Timings
from c3dvideo.features.url_state import url_state
from c3dvideo.files import os_reason
from c3dvideo.storage import is_object
from c3dvideo.video.access import shown
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import Profile, View
from c3dvideo.video.reader import Clip, read_clips
from c3dvideo.video.sources import Source

STALL_SECONDS = 60.0
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What is known of a video before it is decoded.

    content_sha256: of its bytes, None for a URL. url_state: what the server states about a file, as JSON. is_stored:
    whether the features of exactly this content are there already. damage: why the stored ones end early, if they do.
    """

    content_sha256: str | None = None
    url_state: Mapping[str, Any] | None = None
    is_stored: bool = False
    damage: str | None = None


@dataclass(frozen=True)
class Begun:
    """Work on a video has begun. Nothing follows when its features are stored."""

    checked: Checked


@dataclass(frozen=True)
class End:
    """A video was decoded to its end, or, with a message in `damage`, to where it is damaged."""

    fps: Fraction | None
    n_frames: int
    damage: str | None = None


@dataclass(frozen=True)
class Failed:
    """A video gives no features: the stage that failed, and why."""

    stage: str
    message: str


Check = Callable[[Source, Callable[[], None]], Checked]


class Reader(Protocol):
    """What `read_clips` returns, as far as it is used here."""

    fps: Fraction | None
    n_frames: int
    damage: str | None
    decode_seconds: float
    preprocess_seconds: float

    def __iter__(self) -> Iterator[Clip]: ...


class Activity:
    """The progress of the work on the present video, which shows a standstill, and its seconds.

    steps: counts blocks of a file that is hashed or checked. reader: counts frames.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.check_seconds = 0.0
        self.reader: Reader | None = None

    def step(self) -> None:
        """Count one step."""
        self.steps += 1

    def total(self) -> int:
        """A number that changes while there is progress."""
        # Another thread calls this, without a lock: the reader may change between a test for None and its use.
        reader = self.reader
        return self.steps + (0 if reader is None else reader.n_frames)

    def timings(self) -> Timings:
        """The seconds spent on the present video."""
        if self.reader is None:
            return Timings(check=self.check_seconds)
        return Timings(
            check=self.check_seconds, decode=self.reader.decode_seconds, preprocess=self.reader.preprocess_seconds
        )


@dataclass(frozen=True, kw_only=True)
class ReadSettings(ABC):
    """What all decoders of a run do with a video; must survive pickling, and be found without importing torch.

    check: finds out what is known of a video, calling its second argument for progress; None checks nothing.
    stall_seconds: how long a video may go without progress. memory_bytes: the most that a decoder may allocate.
    stall_advice, start_advice: what a user can change when a video makes no progress, and when no decoder process can
        be started; ends of a sentence, empty where the caller offers no such argument.
    """

    stall_seconds: float = STALL_SECONDS
    memory_bytes: int = MEMORY_BYTES
    check: Check | None = None
    stall_advice: str = ""
    start_advice: str = ""

    @property
    @abstractmethod
    def clip_shape(self) -> tuple[int, ...]:
        """The shape of the pixels of every clip."""

    @abstractmethod
    def reader(self, source: Source, step: Callable[[], None]) -> Reader:
        """What makes the clips of one video. step: called for progress that `Reader.n_frames` does not count."""


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(ReadSettings):
    """Videos are cut into clips of network input. read: what makes the clips."""

    plan: ClipPlan
    profile: Profile
    views: tuple[View, ...]
    damaged: Damaged = "error"
    # A field, because settings reach a decoder as a pickle: tests put a reader there that crashes or stalls.
    read: Callable[..., Reader] = read_clips

    @property
    def clip_shape(self) -> tuple[int, int, int, int, int]:
        """(views, channels, frames, height, width) of one clip."""
        return len(self.views), 3, self.plan.clip_length, self.profile.crop_size, self.profile.crop_size

    def reader(self, source: Source, step: Callable[[], None]) -> Reader:
        """The clips that the plan makes of the video."""
        return self.read(
            source.path,
            plan=self.plan,
            profile=self.profile,
            views=self.views,
            damaged=self.damaged,
            stall_seconds=self.stall_seconds,
        )


def decode(source: Source, settings: ReadSettings, activity: Activity) -> Iterator[Begun | Clip | End | Failed]:
    """The messages of one video; no exception that the video causes leaves this function."""
    # The reader of the last video goes first: its frames would count as progress of this one.
    activity.reader, started = None, time.perf_counter()
    try:
        checked = Checked() if settings.check is None else settings.check(source, activity.step)
        activity.check_seconds = time.perf_counter() - started
        # After the check, which is done here and not by the main process: hashing files is work for many cores, too.
        yield Begun(checked)
        if checked.is_stored:
            return
        reader = settings.reader(source, activity.step)
        activity.reader = reader
        yield from reader
        # After the last frame: an object can be replaced at any time while it is read, which no lock prevents.
        _check_unchanged(source, checked, settings)
        yield End(reader.fps, reader.n_frames, reader.damage)
    except Exception as error:  # whatever one video causes, the others are not affected
        yield Failed(_stage(error), _message(error, source, settings))


def _check_unchanged(source: Source, checked: Checked, settings: ReadSettings) -> None:
    """Raises DecodeError for an object that is another one than when its identity was taken."""
    if checked.url_state is None or not is_object(source.path):
        return
    if url_state(source.path, seconds=settings.stall_seconds) != checked.url_state:
        raise DecodeError(f"{source.path!r}: it has changed while it was read; run the same command again")


def _stage(error: Exception) -> str:
    if isinstance(error, ShortVideoError):
        return "clips"
    # `video` wraps errors of the system as DecodeError; the cause shows whether the file could not be read at all.
    return "read" if isinstance(error, OSError) or isinstance(error.__cause__, OSError) else "decode"


def _message(error: Exception, source: Source, settings: ReadSettings) -> str:
    if isinstance(error, C3DVideoError):
        return str(error)
    if isinstance(error, MemoryError):  # in a decoder process, whose memory is limited
        return f"{shown(source.path)!r}: decoding takes more than {gigabytes(settings.memory_bytes)} of memory"
    if isinstance(error, OSError) or (isinstance(error, ValueError) and "\0" in source.path):
        return f"{shown(source.path)!r} cannot be read: {os_reason(error)}"
    return f"{type(error).__name__}: {error}"


def gigabytes(n_bytes: int) -> str:
    """The size as people write it: "4 GB".

    >>> gigabytes(4 << 30)
    '4 GB'
    """
    return f"{n_bytes / (1 << 30):.3g} GB"
