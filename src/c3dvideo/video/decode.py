"""The frames of a video, each decoded once, in order, in bounded memory.

    with open_video("a.mp4") as video:
        for frame in video.frames():
            frame.index, frame.seconds, frame.pixels        # uint8 (H, W, 3)

A video is anything FFmpeg reads (PyAV), a folder of numbered pictures (Pillow), or the address of a camera or file.
Nothing is silently wrong: a file that was cut short, a damaged frame and a hole in a frame folder raise DecodeError.
Only cameras and broadcasts, which lose packets all the time, continue after a damaged frame.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from c3dvideo.choices import ChannelOrder, Damaged, check_choice
from c3dvideo.errors import DecodeError, UsageError
from c3dvideo.files import os_reason
from c3dvideo.storage import ObjectPath, is_object
from c3dvideo.video.access import is_url, shown, without_secrets
from c3dvideo.video.container import OpenStream, open_device, open_file, open_url
from c3dvideo.video.frame_folder import numbered_pictures, read_picture
from c3dvideo.video.orientation import Orientation, orientation_of
from c3dvideo.video.resize import Pixels, Yuv420
from c3dvideo.video.stream_frames import decoded_frames
from c3dvideo.video.timestamps import Clock
from c3dvideo.video.yuv420 import yuv420_of


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
    _picture: Callable[[], Pixels | Yuv420]

    @property
    def pixels(self) -> Pixels:
        """uint8 (H, W, 3), upright; converted from the file's colour format at every call."""
        return self._convert()

    @property
    def picture(self) -> Pixels | Yuv420:
        """What `resample` and `prepare_frame` take: `pixels`, or the same in a form that is faster to resize."""
        return self._picture()


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
    live: bool = False,
) -> Video:
    """An open file, frame folder or address, as a context manager; its pixels are in `channel_order`.

    damaged: with "error", damage that shows before the first frame, such as a file that is shorter than it states,
        raises here; with "keep", `frames` raises it once the frames before the damage have been read.
    stall_seconds: how long a server may send nothing before DecodeError is raised.
    live: leave out what is damaged, as of cameras, also where a server sends what could be a file.
    Of several video streams, the one that the file marks as default is read, else the first.
    Raises DecodeError when there is nothing to read, no video in it, or its protocol or format is not allowed
    (`access`).
    """
    check_choice("damaged", damaged, Damaged)
    check_choice("channel_order", channel_order, ChannelOrder)
    with _naming(str(source)):
        if is_object(source):
            opened = _open_object(str(source), damaged)
        elif is_url(str(source)):
            opened = open_url(str(source), damaged, stall_seconds=stall_seconds, live=live)
        else:
            try:
                if Path(source).is_dir():
                    return _open_folder(Path(source), channel_order, damaged)
                opened = open_file(Path(source), damaged)
            except OSError as error:
                raise DecodeError(f"cannot be read: {os_reason(error)}") from error
        return Video(
            str(source), opened.fps, _stream_frames(str(source), opened, channel_order), opened.container.close
        )


def open_frames(frames: Any, *, fps: float | None = None, channel_order: ChannelOrder = "bgr") -> Video:
    """Frames in memory as a video: uint8 (T, H, W, 3), red first, an array or a tensor; read in `channel_order`.

    Without `fps`, frames have no times (NaN). Raises UsageError for another shape or dtype, and for an fps not above 0.
    """
    pixels = np.asarray(frames)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape:
        raise UsageError(f"frames are {pixels.dtype} {pixels.shape}; expected uint8 (T, height, width, 3), red first")
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"fps is {fps}; expected a number above 0")
    rate = None if fps is None else Fraction(fps).limit_denominator(1001)

    def read() -> Iterator[Frame]:
        for index, frame in enumerate(pixels):
            same = partial(np.ascontiguousarray, frame if channel_order == "rgb" else frame[..., ::-1])
            yield Frame(index, float("nan") if rate is None else float(index / rate), frame.shape[:2], same, same)

    return Video("frames", rate, read(), lambda: None)


def _open_object(address: str, damaged: Damaged) -> OpenStream:
    try:
        return open_file(ObjectPath.of(address).pinned(), damaged)
    except OSError as error:
        raise DecodeError(f"cannot be read: {os_reason(error)}") from error


def open_camera(
    device: str, device_format: str, *, channel_order: ChannelOrder = "bgr", stall_seconds: float = 60.0
) -> Video:
    """An open capture device, as a context manager. device_format: FFmpeg's name of its kind, such as "v4l2".

    Raises DecodeError when there is no such device, or this build of FFmpeg cannot read its kind.
    """
    with _naming(device):
        opened = open_device(device, device_format, stall_seconds=stall_seconds)
        return Video(device, opened.fps, _stream_frames(device, opened, channel_order), opened.container.close)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Puts the name of the source before the message of a DecodeError."""
    try:
        yield
    except DecodeError as error:
        # FFmpeg's log may repeat addresses that a playlist names.
        raise DecodeError(f"{shown(source)!r}: {without_secrets(str(error))}") from error.__cause__


def _stream_frames(source: str, opened: OpenStream, channel_order: ChannelOrder) -> Iterator[Frame]:
    codec_context = opened.stream.codec_context
    clock = Clock(
        fps=opened.fps,
        time_base=opened.stream.time_base,
        in_decoding_order=opened.container.format.name == "avi",
        joins=opened.joins,
        states_times=opened.states_times,
    )
    frame_of = frame_maker(source, channel_order)
    for index, decoded in enumerate(decoded_frames(opened, clock)):
        yield frame_of(index, clock.seconds(decoded, reorder_depth=codec_context.reorder_depth), decoded)
    if opened.problem is not None:
        raise opened.problem


def frame_maker(source: str, channel_order: ChannelOrder) -> Callable[[int, float, Any], Frame]:
    """A function from index, seconds and a PyAV frame to a Frame, for the frames of one video."""
    reformatter = VideoReformatter()
    orientation: Orientation | None = None

    def pixels(decoded: Any, upright: Callable[[Pixels], Pixels]) -> Pixels:
        try:
            picture = reformatter.reformat(decoded, format=f"{channel_order}24", threads=1)
        except FFmpegError as error:
            raise DecodeError(f"{shown(source)!r}: FFmpeg cannot convert its colours: {error.strerror}") from error
        # As it lies in FFmpeg's memory, which the array keeps alive; rows may be further apart than they are long.
        plane: Any = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(picture.height, plane.line_size)[:, : 3 * picture.width]
        return upright(rows.reshape(picture.height, picture.width, 3))

    def picture(decoded: Any, convert: Callable[[], Pixels]) -> Pixels | Yuv420:
        return yuv420_of(decoded, channel_order, convert) or convert()

    def make(index: int, seconds: float, decoded: Any) -> Frame:
        nonlocal orientation
        orientation = orientation or orientation_of(decoded)
        size = decoded.height, decoded.width
        convert = partial(pixels, decoded, orientation.upright)
        return Frame(
            index,
            seconds,
            size[::-1] if orientation.swaps else size,
            convert,
            convert if orientation.turns else partial(picture, decoded, convert),
        )

    return make


def _open_folder(folder: Path, channel_order: ChannelOrder, damaged: Damaged) -> Video:
    pictures, problem = numbered_pictures(folder)
    if problem is not None and damaged == "error":
        raise problem

    def frames() -> Iterator[Frame]:
        for index, path in enumerate(pictures):
            pixels = read_picture(path, channel_order)
            same = partial(np.asarray, pixels)
            yield Frame(index, float("nan"), pixels.shape[:2], same, same)
        if problem is not None:
            raise problem

    return Video(str(folder), None, frames(), lambda: None)
