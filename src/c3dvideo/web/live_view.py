"""What the page of a live source shows now: its state, its counts, the classes of the last minute, the latest picture.

    view = LiveView("rtsp://me:secret@camera/1", summary, unit="probability")
    for seen in watch(source, summary=summary, show=view.picture.offer):
        view.add(seen)
    view.end()
    view.status().source                       # "rtsp://camera/1"

Those who classify only leave values here; those who look take the latest and wait for nothing. So no browser, however
slow, delays a clip, and none gets an old one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from statistics import median
from typing import Literal

import numpy as np
from PIL import Image

from c3dvideo.probing.watch import Seen, WatchSummary
from c3dvideo.video.access import shown as shown_address
from c3dvideo.video.camera import LiveState
from c3dvideo.video.resize import Pixels
from c3dvideo.web.video_names import shown

HISTORY_SECONDS = 60.0
_MOST_POINTS = 6000
_LATENCIES = 100
_PICTURE_SECONDS, _UNSEEN_PICTURE_SECONDS = 0.1, 1.0
_PICTURE_SIZE = (960, 480)

Unit = Literal["probability", "score"]


@dataclass(frozen=True)
class LivePoint:
    """The best classes of one clip, best first. seconds: of its last frame, since the first frame of the source."""

    seconds: float
    classes: list[str]
    values: list[float]


@dataclass(frozen=True)
class LiveStatus:
    """A live source at one moment.

    state: "starting" while the network is loaded, "connecting" until the first frame, "watching", "reconnecting" from
        a failure to the next frame, "ended".
    reason: why the source was lost or ended, or "". wait_seconds: how long it waits before it opens the source again.
    unit: what `values` are; scores are a probe's.
    frames, dropped_frames: read, and not classified because the machine was too slow. connections: how often the
        source was opened. behind_seconds: how far the reading is behind the source.
    latency_seconds: from the decoding of a clip's last frame to its classes, median of the last 100 clips; null before
        the first.
    points: the clips of the last minute; in an event, those since the event before.
    """

    source: str
    state: LiveState
    reason: str
    wait_seconds: float
    unit: Unit
    frames: int
    dropped_frames: int
    clips: int
    connections: int
    behind_seconds: float
    latency_seconds: float | None
    points: list[LivePoint]


class LivePicture:
    """The latest frame as JPEG: ten times per second for those who look, once per second while nobody does."""

    def __init__(self) -> None:
        self._latest: tuple[int, Pixels | None] = (-1, None)
        self._encoded: tuple[int, bytes] = (-1, b"")
        self._taken = self._wanted = float("-inf")
        self._encoding = threading.Lock()

    @property
    def number(self) -> int:
        """Of the latest picture: it rises with every new one, and is -1 before the first."""
        return self._latest[0]

    def offer(self, convert: Callable[[], Pixels]) -> None:
        """Take a frame if one is due. convert: returns its RGB pixels, uint8 (H, W, 3)."""
        now = time.monotonic()
        is_wanted = now - self._wanted < _UNSEEN_PICTURE_SECONDS
        if now - self._taken >= (_PICTURE_SECONDS if is_wanted else _UNSEEN_PICTURE_SECONDS):
            self._latest = self.number + 1, convert()
            self._taken = now

    def want(self) -> None:
        """Note that somebody looks."""
        self._wanted = time.monotonic()

    def jpeg(self) -> tuple[int, bytes]:
        """The number and the JPEG of the latest picture, at most 960 x 480; all who look share one encoding."""
        with self._encoding:
            number, pixels = self._latest
            if pixels is not None and number != self._encoded[0]:
                picture = Image.fromarray(np.ascontiguousarray(pixels))
                picture.thumbnail(_PICTURE_SIZE, Image.Resampling.BILINEAR)
                stream = BytesIO()
                picture.save(stream, "JPEG", quality=80)
                self._encoded = number, stream.getvalue()
            return self._encoded


class LiveView:
    """All of it. One thread adds and ends; any number of others read. summary: what `watch` fills."""

    def __init__(self, source: str, summary: WatchSummary, *, unit: Unit) -> None:
        self._summary = summary
        self.picture = LivePicture()
        self._source = shown(shown_address(source))
        self._unit = unit
        self._points: deque[tuple[int, LivePoint]] = deque(maxlen=_MOST_POINTS)
        self._number = -1
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._lock = threading.Lock()
        self._end: str | None = None

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._end is not None

    def add(self, seen: Seen) -> None:
        """Show the classes of one more clip."""
        point = LivePoint(seen.end_seconds, list(seen.classes), list(seen.probabilities))
        with self._lock:
            self._number += 1
            self._points.append((self._number, point))
            self._latencies.append(seen.latency_seconds)
            while self._points[0][1].seconds < point.seconds - HISTORY_SECONDS:
                self._points.popleft()

    def end(self, reason: str = "") -> None:
        """Show that nothing more comes, and why; the first reason stays."""
        if self._end is None:
            self._end = shown(reason)

    def status(self) -> LiveStatus:
        """The present state with the points of the last minute."""
        return self.news(after=-1)[1]

    def news(self, *, after: int) -> tuple[int, LiveStatus]:
        """The number of the latest point, and the present state with the points after number `after`."""
        with self._lock:
            number = self._number
            points = [point for at, point in self._points if at > after] if number > after else []
            latency = median(self._latencies) if self._latencies else None
        summary = self._summary
        return number, LiveStatus(
            source=self._source,
            state="ended" if self.ended else summary.state,
            reason=shown(summary.problem) if self._end is None else self._end,
            wait_seconds=0.0 if self.ended else summary.wait_seconds,
            unit=self._unit,
            frames=summary.frames,
            dropped_frames=summary.dropped_frames,
            clips=summary.clips,
            connections=summary.connections,
            behind_seconds=round(summary.behind_seconds, 3),
            latency_seconds=None if latency is None else round(latency, 4),
            points=points,
        )
