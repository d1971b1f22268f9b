"""The frames of a video, each decoded once, in order, in bounded memory.

    with open_video("a.mp4") as video:
        for frame in video.frames():
            frame.index, frame.seconds, frame.pixels        # uint8 (H, W, 3)

A video is anything FFmpeg reads (PyAV), a folder of numbered pictures (Pillow), or the address of a camera or file.
Nothing is silently wrong: a file that was cut short, a damaged frame and a hole in a frame folder raise DecodeError.
Only cameras and broadcasts, where losses are daily life, continue after a damaged frame.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.error import ExitError, FFmpegError
from av.logging import Capture
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from c3dvideo.choices import ChannelOrder, Damaged
from c3dvideo.errors import DecodeError
from c3dvideo.video.access import check_kind, check_url, is_live, is_url, open_options
from c3dvideo.video.damage import (
    Inspector,
    check_index,
    check_size,
    error_detection,
    hint,
    is_about_the_end,
    problem_on_opening,
)
from c3dvideo.video.frame_folder import MAX_PIXELS, numbered_pictures, read_picture
from c3dvideo.video.orientation import Orientation, orientation_of
from c3dvideo.video.resize import Pixels
from c3dvideo.video.timestamps import Clock

_AVFMT_TS_DISCONT = 0x0200  # FFmpeg's flag of formats whose time stamps may jump


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    index: 0 for the first decoded frame.
    seconds: when it is shown, after the first frame; exact also at variable frame rates. NaN for a frame folder, which
        states no times.
    size: height and width, upright.
    """

    index: int
    seconds: float
    size: tuple[int, int]
    _convert: Callable[[], Pixels]

    @property
    def pixels(self) -> Pixels:
        """uint8 (H, W, 3), upright; converted from the file's colour format at every call."""
        return self._convert()


class Video:
    """An open video: `fps` (the average, None for a frame folder) and its frames, to be read once."""

    def __init__(self, source: str, fps: Fraction | None, frames: Iterator[Frame], close: Callable[[], None]) -> None:
        self.source = source
        self.fps = fps
        self._frames = frames
        self.close = close

    def frames(self) -> Iterator[Frame]:
        """The frames in order, all of one size. Raises DecodeError where the video is damaged, and for no frames."""
        size: tuple[int, int] | None = None
        with _naming(self.source):
            for frame in self._frames:
                size = size or frame.size
                if frame.size != size:
                    raise DecodeError(
                        f"frame {frame.index} is {frame.size[1]}x{frame.size[0]}, the frames before it are "
                        f"{size[1]}x{size[0]}; split or re-encode the video so that all its frames have one size"
                    )
                yield frame
            if size is None:
                raise DecodeError("the video stream holds no frame that can be decoded")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_video(
    source: str | Path,
    *,
    channel_order: ChannelOrder = "bgr",
    damaged: Damaged = "error",
    stall_seconds: float = 60.0,
) -> Video:
    """An open file, frame folder or address, as a context manager; its pixels are in `channel_order`.

    damaged: with "error", damage that shows before the first frame, such as a file that is shorter than it states,
        raises here; with "keep", `frames` raises it once the frames before the damage have been read.
    stall_seconds: how long a server may send nothing before DecodeError is raised.
    Of several video streams, the one that the file marks as default is read, else the first.
    Raises DecodeError when there is nothing to read, no video in it, or its protocol or format is not allowed
    (`access`).
    """
    with _naming(str(source)):
        if is_url(str(source)):
            check_url(str(source))
            opened = _open_stream(str(source), damaged, stall_seconds=stall_seconds)
        else:
            try:
                if Path(source).is_dir():
                    return _open_folder(Path(source), channel_order, damaged)
                opened = _open_file(Path(source), damaged)
            except OSError as error:
                raise DecodeError(f"cannot be read: {error.strerror or error}") from error
        return Video(str(source), opened.fps, _stream_frames(opened, channel_order), opened.container.close)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Puts the name of the source before the message of a DecodeError."""
    try:
        yield
    except DecodeError as error:
        raise DecodeError(f"{source!r}: {error}") from error.__cause__


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A container, the stream in it that is read, and what is known of both.

    joins: the format allows that recordings are joined, and so that one begins anywhere (AVFMT_TS_DISCONT).
    problem: damage that showed on opening, raised after the last frame.
    """

    container: Any
    stream: Any
    fps: Fraction | None
    joins: bool
    is_live: bool
    path: Path | None
    stall_seconds: float | None
    problem: DecodeError | None


def _open_file(path: Path, damaged: Damaged) -> _Opened:
    check_kind(path)
    size_problem = _problem_of(partial(check_size, path), damaged)
    try:
        opened = _open_stream(f"file:{path}", damaged, path=path)
    except DecodeError as error:
        # A file that is too short cannot be opened for that reason.
        raise size_problem or error from error.__cause__
    try:
        index_problem = _problem_of(partial(check_index, opened.stream, path), damaged)
    except DecodeError:
        opened.container.close()
        raise
    return replace(opened, problem=size_problem or index_problem or opened.problem)


def _problem_of(check: Callable[[], None], damaged: Damaged) -> DecodeError | None:
    """The DecodeError that `check` raises, which is raised here at once unless damaged videos are kept."""
    try:
        check()
    except DecodeError as error:
        if damaged == "error":
            raise
        return error
    return None


def _open_stream(
    url: str, damaged: Damaged, *, path: Path | None = None, stall_seconds: float | None = None
) -> _Opened:
    _listen_to_ffmpeg()
    try:
        with Capture() as log:
            container = av.open(
                url, metadata_errors="replace", container_options=open_options(url), timeout=stall_seconds
            )
    except (FFmpegError, OSError) as error:
        explanation = "" if path is None else hint(path)
        raise DecodeError(f"FFmpeg cannot read it as a video: {_reason(error, stall_seconds)}{explanation}") from error
    try:
        live = path is None and is_live(url, container.format.name)
        problem = None if live else problem_on_opening(log, container.format.name)
        if problem is not None and (damaged == "error" or not is_about_the_end(problem)):
            raise problem
        stream = _choose_stream(container)
    except DecodeError:
        container.close()
        raise
    # One thread per video: two gained a tenth at most, and the network needs the other cores.
    stream.codec_context.thread_count = 1
    strictness = {} if live else {"err_detect": error_detection(stream.name)}
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), **strictness}
    return _Opened(
        container=container,
        stream=stream,
        fps=_frames_per_second(stream),
        joins=bool(container.format.flags & _AVFMT_TS_DISCONT),
        is_live=live,
        path=path,
        stall_seconds=stall_seconds,
        problem=problem,
    )


def _listen_to_ffmpeg() -> None:
    """Make FFmpeg's errors available to `Capture`, which keeps apart what each thread causes."""
    level = av.logging.get_level()
    if level is None or level < av.logging.ERROR:
        av.logging.set_level(av.logging.ERROR)
        # What is logged outside a Capture goes to a user's own logging, and nowhere else.
        logging.getLogger("libav").addHandler(logging.NullHandler())
    # PyAV would report a repetition later, in whichever thread logs next.
    av.logging.set_skip_repeated(False)


def _reason(error: FFmpegError | OSError, stall_seconds: float | None) -> str:
    if isinstance(error, ExitError):
        return f"no data came for {stall_seconds:g} seconds"
    return str(error.strerror or error)


def _choose_stream(container: Any) -> Any:
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        raise DecodeError(f"there is no video stream in it (its streams: {kinds})")
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise DecodeError("FFmpeg has no decoder for its video; convert it with the program that made it")
    if container.format.name == "webp_pipe" and not stream.codec_context.width:
        raise DecodeError("FFmpeg cannot read animated WebP; convert it to GIF, APNG or MP4")
    return stream


def _frames_per_second(stream: Any) -> Fraction | None:
    """The average rate, unless it is above the rate at which FFmpeg can express every time stamp: DV states 60000."""
    average: Fraction | None = stream.average_rate
    guessed: Fraction | None = stream.guessed_rate
    return guessed if not average or (guessed and average > 1.2 * guessed) else average


def _stream_frames(opened: _Opened, channel_order: ChannelOrder) -> Iterator[Frame]:
    reformatter = VideoReformatter()
    codec_context = opened.stream.codec_context
    clock = Clock(
        fps=opened.fps,
        time_base=opened.stream.time_base,
        in_decoding_order=opened.container.format.name == "avi",
        joins=opened.joins,
    )
    orientation: Orientation | None = None

    def pixels(decoded: Any, upright: Callable[[Pixels], Pixels]) -> Pixels:
        picture = reformatter.reformat(decoded, format=f"{channel_order}24", threads=1)
        # As it lies in FFmpeg's memory, which the array keeps alive; rows may be further apart than they are long.
        plane: Any = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(picture.height, plane.line_size)[:, : 3 * picture.width]
        return upright(rows.reshape(picture.height, picture.width, 3))

    for index, decoded in enumerate(_decoded(opened, clock)):
        orientation = orientation or orientation_of(decoded)
        size = decoded.height, decoded.width
        yield Frame(
            index,
            clock.seconds(decoded, reorder_depth=codec_context.reorder_depth),
            size[::-1] if orientation.swaps else size,
            partial(pixels, decoded, orientation.upright),
        )
    if opened.problem is not None:
        raise opened.problem


def _decoded(opened: _Opened, clock: Clock) -> Iterator[Any]:
    """The frames as FFmpeg gives them. Raises DecodeError at damage; a live stream leaves out what is damaged."""
    inspector = Inspector(opened.container.format.name, may_begin_anywhere=opened.joins)
    packets = opened.container.demux(opened.stream)
    while True:
        frames: list[Any] = []
        problem: FFmpegError | None = None
        with Capture() as log:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                raise inspector.error(_reason(error, opened.stall_seconds)) from error
            if packet is None:
                break
            clock.add(packet)
            try:
                frames = packet.decode()
            except FFmpegError as error:
                problem = error
        yield from frames if opened.is_live else inspector.good_frames(packet, frames, problem, log)
    if not opened.is_live:
        inspector.check_end(log, opened.path)


def _open_folder(folder: Path, channel_order: ChannelOrder, damaged: Damaged) -> Video:
    pictures, problem = numbered_pictures(folder)
    if problem is not None and damaged == "error":
        raise problem

    def frames() -> Iterator[Frame]:
        for index, path in enumerate(pictures):
            pixels = read_picture(path, channel_order)
            yield Frame(index, float("nan"), pixels.shape[:2], partial(np.asarray, pixels))
        if problem is not None:
            raise problem

    return Video(str(folder), None, frames(), lambda: None)
