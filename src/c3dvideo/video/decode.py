"""The frames of a video, each decoded once, in order, in bounded memory.

    with open_video("a.mp4") as video:
        for frame in video.frames():
            frame.index, frame.seconds, frame.pixels        # uint8 (H, W, 3)

A video is anything FFmpeg reads (PyAV), a folder of numbered pictures (Pillow, whose JPEG decoder is the release's),
or a camera or stream URL. Nothing is silently wrong: a file that was cut short, a damaged frame or a hole in a frame
folder raises DecodeError. Only a stream URL, where losses are daily life, goes on after a damaged frame.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import av
import numpy as np
from av.error import FFmpegError
from av.format import Flags
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from c3dvideo.choices import ChannelOrder
from c3dvideo.errors import DecodeError
from c3dvideo.video.damage import check_file, check_index, check_numbers, damaged, hint
from c3dvideo.video.resize import Pixels
from c3dvideo.video.sources import is_url, pictures_in
from c3dvideo.video.timestamps import Clock


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    index: 0 for the first decoded frame.
    seconds: when it is shown, after the first frame; from the time stamps of the file, so exact at variable frame
        rates. NaN for a frame folder, which has no clock.
    size: height and width, upright.
    """

    index: int
    seconds: float
    size: tuple[int, int]
    _convert: Callable[[], Pixels]

    @property
    def pixels(self) -> Pixels:
        """uint8 (H, W, 3), upright; made from the colours of the file whenever it is asked for."""
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


def open_video(source: str | Path, *, channel_order: ChannelOrder = "bgr") -> Video:
    """An open file, frame folder or URL, as a context manager; its pixels are in `channel_order`.

    Raises DecodeError when there is nothing to read or no video in it.
    """
    with _naming(str(source)):
        if is_url(str(source)):
            return _open_stream(str(source), str(source), channel_order, skip_damage=True)
        path = Path(source)
        try:
            if path.is_dir():
                return _open_folder(path, channel_order)
            if path.is_file():
                check_file(path)
            elif not path.exists():
                raise DecodeError("no such file")
        except OSError as error:
            raise DecodeError(f"cannot be read: {error.strerror}") from error
        return _open_stream(str(source), f"file:{path}", channel_order, skip_damage=False)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Puts the name of the source before the message of a DecodeError."""
    try:
        yield
    except DecodeError as error:
        raise DecodeError(f"{source!r}: {error}") from error.__cause__


def _open_stream(source: str, url: str, channel_order: ChannelOrder, *, skip_damage: bool) -> Video:
    try:
        container = av.open(url, metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise DecodeError(f"FFmpeg cannot read it as a video: {error.strerror}{hint(url)}") from error
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        container.close()
        raise DecodeError(f"there is no video stream in it (its streams: {kinds})")
    stream = streams[0]
    # One thread a video: two gained a tenth at most, and the network wants the other cores.
    stream.codec_context.thread_count = 1
    if not skip_damage:
        stream.codec_context.options = {"err_detect": "explode"}
    fps = _frames_per_second(stream)
    try:
        check_index(stream, url)
    except DecodeError:
        container.close()
        raise
    return Video(source, fps, _stream_frames(container, stream, fps, channel_order, skip_damage), container.close)


def _frames_per_second(stream: Any) -> Fraction | None:
    """The average rate, unless it is above the rate at which FFmpeg can express every time stamp: DV states 60000."""
    average: Fraction | None = stream.average_rate
    guessed: Fraction | None = stream.guessed_rate
    return guessed if not average or (guessed and average > 1.2 * guessed) else average


def _stream_frames(
    container: Any, stream: Any, fps: Fraction | None, channel_order: ChannelOrder, skip_damage: bool
) -> Iterator[Frame]:
    reformatter = VideoReformatter()
    clock = Clock(
        fps=fps,
        time_base=stream.time_base,
        in_decoding_order=container.format.name == "avi",
        joins=bool(container.format.flags & Flags.ts_discont.value),
    )
    orientation: _Orientation | None = None

    def pixels(decoded: Any, upright: Callable[[Pixels], Pixels]) -> Pixels:
        picture = reformatter.reformat(decoded, format=f"{channel_order}24", threads=1)
        # As it lies in FFmpeg's memory, which the array keeps alive; rows may be further apart than they are long.
        plane: Any = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(picture.height, plane.line_size)[:, : 3 * picture.width]
        return upright(rows.reshape(picture.height, picture.width, 3))

    for index, decoded in enumerate(_decoded(container, stream, clock, skip_damage)):
        if decoded.is_corrupt and not skip_damage:
            raise DecodeError(damaged(index))
        orientation = orientation or _orientation(decoded)
        size = decoded.height, decoded.width
        yield Frame(
            index,
            clock.seconds(decoded, reorder_depth=stream.codec_context.reorder_depth),
            size[::-1] if orientation.swaps else size,
            partial(pixels, decoded, orientation.upright),
        )


def _decoded(container: Any, stream: Any, clock: Clock, skip_damage: bool) -> Iterator[Any]:
    """The frames as FFmpeg gives them; what it cannot decode is an error or, with skip_damage, left out."""
    n_frames = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt and not skip_damage:
                raise DecodeError(damaged(n_frames))
            clock.add(packet)
            try:
                frames = packet.decode()
            except FFmpegError:
                if not skip_damage:
                    raise
                continue
            n_frames += len(frames)
            yield from frames
    except FFmpegError as error:
        raise DecodeError(f"{damaged(n_frames)} ({error.strerror})") from error


class _Orientation(NamedTuple):
    """What turns the stored picture upright, and whether that swaps height and width."""

    swaps: bool
    upright: Callable[[Pixels], Pixels]


def _orientation(decoded: Any) -> _Orientation:
    """From the display matrix that phones write; multiples of 90 degrees."""
    matrix = decoded.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _Orientation(False, lambda pixels: pixels)
    # x' = a x + c y, y' = b x + d y maps stored onto displayed pixels.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    swap = abs(b) > abs(a)
    flip_rows, flip_columns = (b < 0, c < 0) if swap else (d < 0, a < 0)

    def upright(pixels: Pixels) -> Pixels:
        pixels = pixels.swapaxes(0, 1) if swap else pixels
        pixels = pixels[::-1] if flip_rows else pixels
        return np.ascontiguousarray(pixels[:, ::-1] if flip_columns else pixels)

    return _Orientation(swap, upright)


def _open_folder(folder: Path, channel_order: ChannelOrder) -> Video:
    pictures = pictures_in(folder)
    check_numbers(pictures)
    return Video(str(folder), None, _folder_frames(pictures, channel_order), lambda: None)


def _folder_frames(pictures: Sequence[Path], channel_order: ChannelOrder) -> Iterator[Frame]:
    from PIL import Image, ImageOps

    for index, path in enumerate(pictures):
        try:
            with Image.open(path) as picture:
                if picture.mode.startswith(("I", "F")):
                    raise DecodeError(f"{path.name!r} has more than 8 bits a channel; convert it to 8")
                pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise DecodeError(f"{path.name!r} cannot be read as a picture: {error}") from error
        pixels = pixels if channel_order == "rgb" else pixels[:, :, ::-1]
        yield Frame(index, float("nan"), pixels.shape[:2], partial(np.asarray, pixels))
