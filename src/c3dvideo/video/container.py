"""An open container and the video stream in it, with what FFmpeg logs of either when it opens them.

    opened = open_file(Path("a.mp4"), "error")
    opened.stream, opened.fps                       # PyAV's stream, Fraction(25, 1)

"Container" is FFmpeg's word for a file format that holds streams, such as MP4.
"""

import errno
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.error import ExitError, FFmpegError
from av.logging import Capture
from av.stream import Disposition

from c3dvideo.choices import Damaged
from c3dvideo.errors import DecodeError
from c3dvideo.files import os_reason
from c3dvideo.storage import Location, ObjectPath
from c3dvideo.video.access import check_kind, check_url, encoded, is_live, open_options, shown
from c3dvideo.video.damage import (
    LogLine,
    check_index,
    check_size,
    cut_transfer,
    ended_without_length,
    error_detection,
    hint,
    is_about_the_end,
    problem_on_opening,
)
from c3dvideo.video.frame_folder import MAX_PIXELS, too_large
from c3dvideo.video.object_file import ObjectFile

_LIMITS = {"max_pixels": str(MAX_PIXELS)}
_AVFMT_NOTIMESTAMPS = 0x0080  # FFmpeg's flag of formats without time stamps
_AVFMT_TS_DISCONT = 0x0200  # FFmpeg's flag of formats whose time stamps may jump


@dataclass(frozen=True, kw_only=True)
class OpenStream:
    """A container, the stream in it that is read, and what is known of both.

    joins: the format allows that recordings are joined, and so that one begins anywhere (AVFMT_TS_DISCONT).
    states_length: False for a server that ends a file by closing the connection.
    connection: what was wrong with the connection to a server when FFmpeg had opened it, if anything was.
    problem: damage that showed on opening, raised after the last frame.
    file: what FFmpeg reads, when it is an object of a store.
    """

    container: Any
    stream: Any
    fps: Fraction | None
    joins: bool
    is_live: bool
    path: Location | None
    stall_seconds: float | None
    states_length: bool
    problem: DecodeError | None
    file: ObjectFile | None = None
    connection: str | None = None

    @property
    def states_times(self) -> bool:
        """Whether the format has time stamps."""
        return not self.container.format.flags & _AVFMT_NOTIMESTAMPS


def open_file(path: Location, damaged: Damaged) -> OpenStream:
    """The video stream of a file, or of an object, which is read by range requests.

    Raises DecodeError, with damaged="keep" only where nothing at all can be read.
    """
    check_kind(path)
    size_problem = _problem_of(partial(check_size, path), damaged)
    try:
        url = str(path) if isinstance(path, ObjectPath) else f"file:{path}"
        opened = open_url(url, damaged, path=path)
    except DecodeError as error:
        # A file that is too short cannot be opened for that reason.
        raise size_problem or error from error.__cause__
    try:
        index_problem = _problem_of(partial(check_index, opened.stream, path), damaged)
    except DecodeError:
        opened.container.close()
        raise
    return replace(opened, problem=size_problem or index_problem or opened.problem)


def _without_address(error: FFmpegError | OSError) -> Exception | None:
    """The error without the secrets of the address that it names: tracebacks show it."""
    return OSError(error.errno, error.strerror) if isinstance(error, OSError) else None


def _problem_of(check: Callable[[], None], damaged: Damaged) -> DecodeError | None:
    """The DecodeError that `check` raises, which is raised here at once unless damaged videos are kept."""
    try:
        check()
    except DecodeError as error:
        if damaged == "error":
            raise
        return error
    return None


def open_url(
    url: str, damaged: Damaged, *, path: Location | None = None, stall_seconds: float | None = None, live: bool = False
) -> OpenStream:
    """The video stream at an address. Raises DecodeError when it is not allowed or not a video.

    live: leave out what is damaged, also where the address and the format could be those of a file.
    """
    file = ObjectFile(path) if isinstance(path, ObjectPath) else None
    if file is None:
        check_url(url)
    _listen_to_ffmpeg()
    started = time.monotonic()
    try:
        with Capture() as log:
            container = av.open(
                encoded(url) if file is None else file,
                metadata_errors="replace",
                options=_LIMITS,
                container_options=open_options(url),
                timeout=stall_seconds,
            )
    except (FFmpegError, OSError) as error:
        if file is not None:
            file.check()
        explanation = "" if path is None else hint(path)
        connection = None if path is not None else _connection_problem(log, started, stall_seconds)
        reason = connection or reading_reason(error, stall_seconds, path)
        cause = error if shown(url) == url else _without_address(error)
        raise DecodeError(f"FFmpeg cannot read it as a video: {reason}{explanation}") from cause
    try:
        live = path is None and (live or is_live(url, container.format.name))
        problem = None if live else problem_on_opening(log, container.format.name, is_file=path is not None)
        if problem is not None and (damaged == "error" or not is_about_the_end(problem)):
            raise problem
        stream = _choose_stream(container)
    except DecodeError:
        container.close()
        raise
    # One thread per video: two gained a tenth at most, and the network needs the other cores.
    stream.codec_context.thread_count = 1
    joins = bool(container.format.flags & _AVFMT_TS_DISCONT)
    strictness = {} if live else {"err_detect": error_detection(stream.name, may_begin_anywhere=joins)}
    stream.codec_context.options = _LIMITS | strictness
    return OpenStream(
        container=container,
        stream=stream,
        fps=_frames_per_second(stream),
        joins=joins,
        is_live=live,
        path=path,
        stall_seconds=stall_seconds,
        states_length=not ended_without_length(log),
        problem=problem,
        file=file,
        connection=_connection_problem(log, started, stall_seconds) if path is None else None,
    )


def open_device(device: str, device_format: str, *, stall_seconds: float | None = None) -> OpenStream:
    """The video stream of a capture device. Raises DecodeError when there is none of that name or kind."""
    _listen_to_ffmpeg()
    if device_format not in {name for names in av.formats_available for name in names.split(",")}:
        raise DecodeError(f"this build of FFmpeg reads no cameras of the kind {device_format}; use a stream or a file")
    try:
        with Capture():
            container = av.open(device, format=device_format, options=_LIMITS, timeout=stall_seconds)
    except (FFmpegError, OSError) as error:
        raise DecodeError(
            f"the camera cannot be opened: {reading_reason(error, stall_seconds, Path(device))}"
        ) from error
    try:
        stream = _choose_stream(container)
    except DecodeError:
        container.close()
        raise
    stream.codec_context.thread_count = 1
    return OpenStream(
        container=container,
        stream=stream,
        fps=_frames_per_second(stream),
        joins=False,
        is_live=True,
        path=None,
        stall_seconds=stall_seconds,
        states_length=True,
        problem=None,
        file=None,
    )


def is_video(path: Location) -> bool:
    """Whether FFmpeg finds a moving picture in a file, by its first bytes and not by its name."""
    _listen_to_ffmpeg()
    url = str(path) if isinstance(path, ObjectPath) else f"file:{path}"
    with (
        suppress(FFmpegError, OSError),
        Capture(),
        av.open(
            ObjectFile(path) if isinstance(path, ObjectPath) else url,
            metadata_errors="replace",
            options=_LIMITS,
            container_options=open_options(url),
        ) as container,
    ):
        # FFmpeg's name for formats of one picture, such as png_pipe.
        return not container.format.name.endswith("_pipe") and bool(_moving(container))
    return False


def _moving(container: Any) -> list[Any]:
    """The video streams that are more than a cover picture."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _listen_to_ffmpeg() -> None:
    """Make FFmpeg's errors available to `Capture`, which keeps apart what each thread causes."""
    level = av.logging.get_level()
    if level is None or level < av.logging.ERROR:
        av.logging.set_level(av.logging.ERROR)
        # What is logged outside a Capture goes to a user's own logging, and nowhere else.
        logging.getLogger("libav").addHandler(logging.NullHandler())
    # PyAV would report a repetition later, in whichever thread logs next.
    av.logging.set_skip_repeated(False)


def reading_reason(
    error: FFmpegError | OSError, stall_seconds: float | None, path: Location | None, cut: str | None = None
) -> str:
    """Why reading failed. cut: what the log says of a connection that a server closed."""
    if isinstance(error, ExitError):
        return no_data(stall_seconds)
    if cut is not None:
        return cut
    if path is None and error.errno == errno.EIO:  # not of this machine's disk
        return "the server closed the connection, redirects in a circle or answers with something else"
    if isinstance(error, OSError) and error.errno:
        return os_reason(error)
    return str(error.strerror or error)


def _connection_problem(log: list[LogLine], started: float, stall_seconds: float | None) -> str | None:
    """Why opening may have got a part only: a stall in the middle of a header or packet looks like a damaged one."""
    if stall_seconds is not None and time.monotonic() - started > stall_seconds:
        return no_data(stall_seconds)
    return cut_transfer(log)


def no_data(seconds: float | None) -> str:
    """That a server has sent nothing for so long."""
    return f"no data came for {seconds:g} seconds"


def _choose_stream(container: Any) -> Any:
    streams = _moving(container)
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        raise DecodeError(f"there is no video stream in it (its streams: {kinds})")
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise DecodeError("FFmpeg has no decoder for its video; convert it with the program that made it")
    if container.format.name == "webp_pipe" and not stream.codec_context.width:
        raise DecodeError("FFmpeg cannot read animated WebP; convert it to GIF, APNG or MP4")
    height, width = stream.codec_context.height, stream.codec_context.width
    if height * width > MAX_PIXELS:
        raise DecodeError(too_large("its frames", height, width))
    return stream


def _frames_per_second(stream: Any) -> Fraction | None:
    """The average rate, unless it is above the rate at which FFmpeg can express every time stamp: DV states 60000."""
    average: Fraction | None = stream.average_rate
    guessed: Fraction | None = stream.guessed_rate
    return guessed if not average or (guessed and average > 1.2 * guessed) else average
