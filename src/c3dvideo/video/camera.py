"""A camera, a stream, or a file played as if it were live: a thread reads, and only the latest frames are kept.

    with LiveFrames("rtsp://camera/1", profile, ClipPlan(stride_frames=8)) as live:
        while (window := live.next_window(timeout_seconds=1.0)) is not None or not live.ended:
            window.pixels                   # uint8 (1, 3, 16, 112, 112), the latest frames

A reader that is slower than its source does not fall behind: older frames are dropped and counted. A source that ends
or fails is opened again, after waits that double; a file ends at its end.
"""

import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import numpy as np

from c3dvideo.choices import ChannelOrder
from c3dvideo.errors import C3DVideoError, DecodeError, VideoError
from c3dvideo.storage import is_object
from c3dvideo.video.access import is_url, shown
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import Frame, Video, open_camera, open_video
from c3dvideo.video.preprocess import Profile, prepare_frame
from c3dvideo.video.resize import Pixels

# "connecting" until the first frame has come, "reconnecting" from a failure to the next frame.
LiveState = Literal["starting", "connecting", "watching", "reconnecting", "ended"]
ShowFrame = Callable[[Callable[[], Pixels]], None]

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
_MOST_BEHIND_SECONDS = 0.5
_END_SECONDS = 0.5
_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@dataclass(frozen=True)
class Window:
    """The latest clip of a source.

    pixels: uint8 (V, 3, T, crop, crop). start_seconds, end_seconds: since the first frame of the source. arrived: when
    its last frame had been decoded, on the clock of `time.monotonic`.
    """

    pixels: Pixels
    start_seconds: float
    end_seconds: float
    arrived: float


class _Kept(NamedTuple):
    number: int
    seconds: float
    arrived: float
    pixels: Pixels


class LiveFrames:
    """Reads a source in a thread and keeps the latest frames, cropped for the network.

    source: an address, a file, a frame folder, a camera ("/dev/video0"; "0" is the first), or a function that opens
        one. plan: which frames make a clip, and how many come before the next. show: called in the reading thread with
        every frame, as a function that converts it to RGB, uint8 (H, W, 3), and is to be called before `show` returns.
    n_frames: frames read. n_dropped: frames that no window shows although the plan would. n_connections: how often the
    source was opened. behind_seconds: how far the reading is behind its source. problem: why the source was lost, ""
    once frames come again. wait_seconds: how long it then waits before it opens the source again.
    """

    def __init__(
        self,
        source: str | Path | Callable[[], Video],
        profile: Profile,
        plan: ClipPlan,
        *,
        stall_seconds: float = 10.0,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
        longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
        note: Callable[[str], None] = lambda text: None,
        show: ShowFrame | None = None,
    ) -> None:
        self.source = source
        self.is_file = not callable(source) and (is_object(str(source)) or not _is_endless(str(source)))
        self.n_frames = self.n_dropped = self.n_connections = 0
        self.behind_seconds = self.wait_seconds = 0.0
        self.state: LiveState = "connecting"
        self.problem = ""
        self.error: C3DVideoError | None = None
        self._profile, self._views = profile, profile.views("centre")
        self._plan = plan
        self._stall_seconds = stall_seconds
        self._first_wait, self._longest_wait = first_wait_seconds, longest_wait_seconds
        self._note, self._show = note, show
        self._kept: deque[_Kept] = deque(maxlen=plan.span_frames)
        self._shown = -1
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live frames", daemon=True)
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        # A read that waits for the network cannot be interrupted; its thread ends with the process.
        self._thread.join(timeout=_END_SECONDS)

    @property
    def ended(self) -> bool:
        """Whether no further frame will come."""
        return self.state == "ended"

    def next_window(self, *, timeout_seconds: float) -> Window | None:
        """The latest clip, once a stride of frames has come since the one before; None after the timeout.

        Also None when the source has ended; `ended` is True then. Raises VideoError when a file cannot be read.
        """
        plan = self._plan
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended or self._is_due(), timeout_seconds):
                return None
            if not self._is_due():
                if self.error is not None:
                    raise self.error
                return None
            kept = list(self._kept)
            new = kept[-1].number - self._shown if self._shown >= 0 else kept[-1].number + 1
            self.n_dropped += max(0, new - max(plan.stride_frames, plan.span_frames))
            self._shown = kept[-1].number
        pixels = np.stack([frame.pixels for frame in kept[:: plan.sampling_rate]], axis=2)
        return Window(pixels, kept[0].seconds, kept[-1].seconds, kept[-1].arrived)

    def _is_due(self) -> bool:
        if len(self._kept) < self._plan.span_frames:
            return False
        return self._shown < 0 or self._kept[-1].number - self._shown >= self._plan.stride_frames

    def _run(self) -> None:
        """The reader: connect, read until the source ends, wait, connect again; a file is read once."""
        wait = self._first_wait
        while not self._stop.is_set():
            before = self.n_frames
            problem: C3DVideoError | None = None
            try:
                self._read()
            except VideoError as error:
                problem = error
            if self.is_file:
                self.error = problem
                self.problem = str(problem or "")
                break
            if self.n_frames > before:
                wait = self._first_wait
            if self._stop.is_set():
                break
            self.problem = str(problem) if problem else f"{shown(str(self.source))!r} ended"
            self.wait_seconds = wait
            self.state = "reconnecting"
            self._note(f"{self.problem}; connecting again in {wait:g} s")
            self._stop.wait(wait)
            self.wait_seconds = 0.0
            wait = min(2 * wait, self._longest_wait)
        with self._changed:
            self.state = "ended"
            self._changed.notify_all()

    def _read(self) -> None:
        with self._open() as video:
            self.n_connections += 1
            began = time.monotonic()
            offset = 0.0 if self.is_file else began - self._started
            pace = _Pace(began, is_file=self.is_file, fps=float(video.fps or 25))
            with self._changed:
                self._kept.clear()
            frames = video.frames()
            while not self._stop.is_set():
                asked, used = time.monotonic(), time.thread_time()
                frame = next(frames, None)
                if frame is None:
                    return
                arrived = time.monotonic()
                idle = (arrived - asked) - (time.thread_time() - used)
                seconds = frame.index / pace.fps if np.isnan(frame.seconds) else frame.seconds
                due = pace.due(seconds)
                if self.is_file and due > arrived:
                    if self._stop.wait(due - arrived):
                        return
                    arrived = time.monotonic()
                self.behind_seconds = pace.behind(seconds, arrived, idle=idle)
                self.state, self.problem, self.wait_seconds = "watching", "", 0.0
                self._keep(frame, offset + seconds, arrived)
                if self._show is not None:
                    self._show(partial(_rgb, frame, self._profile.channel_order))

    def _keep(self, frame: Frame, seconds: float, arrived: float) -> None:
        is_late = self.behind_seconds > _MOST_BEHIND_SECONDS
        pixels = None if is_late else prepare_frame(frame.picture, self._profile, self._views)
        with self._changed:
            self.n_frames += 1
            if pixels is None:
                # A clip shows consecutive frames, so the next one begins after the gap.
                self._kept.clear()
                self._shown = max(self._shown, self.n_frames - 1)
                self.n_dropped += 1
                return
            self._kept.append(_Kept(self.n_frames - 1, seconds, arrived, pixels))
            self._changed.notify_all()

    def _open(self) -> Video:
        order = self._profile.channel_order
        if callable(self.source):
            return self.source()
        text = str(self.source)
        if is_camera(text):
            device = f"/dev/video{text}" if text.isdecimal() and sys.platform == "linux" else text
            kind = _CAMERA_FORMATS.get(sys.platform)
            if kind is None:
                raise DecodeError(f"{text!r}: cameras are not supported on {sys.platform}; use a stream or a file")
            return open_camera(device, kind, channel_order=order, stall_seconds=self._stall_seconds)
        return open_video(
            self.source, channel_order=order, damaged="keep", stall_seconds=self._stall_seconds, live=not self.is_file
        )


def is_camera(source: str) -> bool:
    """Whether the source is a camera of this machine: a number, or a video device.

    >>> [is_camera(source) for source in ("0", "/dev/video2", "rtsp://camera/1", "a.mp4")]
    [True, True, False, False]
    """
    return re.fullmatch(r"\d{1,3}|/dev/video\d+", source) is not None


def _rgb(frame: Frame, channel_order: ChannelOrder) -> Pixels:
    pixels = frame.pixels
    return pixels if channel_order == "rgb" else pixels[..., ::-1]


def _is_endless(source: str) -> bool:
    return (is_url(source) and not source.lower().startswith("file:")) or is_camera(source)


class _Pace:
    """When frames of a source are due, and how far the reading is behind."""

    def __init__(self, began: float, *, is_file: bool, fps: float) -> None:
        self._began = began
        self._is_file = is_file
        self.fps = fps

    def due(self, seconds: float) -> float:
        return self._began + seconds

    def behind(self, seconds: float, arrived: float, *, idle: float) -> float:
        behind = arrived - self.due(seconds)
        # Whoever had to wait for a frame has no backlog: the source paused, or its clock is slow.
        if behind < 0 or (not self._is_file and idle > 0.3 / self.fps):
            self._began += behind
            return 0.0
        return behind
