"""Parts of a video for people who look at it: what a browser can play, short MP4 or WebM pieces, strips of frames.

    info = view_info("a.avi")                            # info.mime is None: no browser plays it
    write_piece("a.avi", "piece.mp4", start_seconds=8, seconds=4)
    jpeg = sprite("a.avi", [0.0, 10.0, 20.0])            # three moments side by side, eight frames of each, downwards

Unlike the rest of the package this seeks, shows what can be shown of a damaged video, and does not fix frame indices.
Times are seconds after the first frame; a frame folder is shown at 25 frames per second.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps

from c3dvideo.choices import PieceFormat
from c3dvideo.errors import DecodeError
from c3dvideo.video.container import OpenStream, open_file
from c3dvideo.video.frame_folder import pictures_in, read_picture
from c3dvideo.video.orientation import orientation_of
from c3dvideo.video.resize import Pixels

FOLDER_FPS = 25

_TICKS = 90_000
_MAX_HEIGHT = 480
# Container formats (FFmpeg's names) and codecs that every current browser plays, with the type that it expects.
_PLAYABLE = {
    "mov": ("video/mp4", ("h264", "av1", "vp9")),
    "matroska": ("video/webm", ("vp8", "vp9", "av1")),
}
_ENCODERS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    # No B-frames and the baseline profile: pieces then begin at time 0 and every browser decodes them.
    "mp4": (
        "libx264",
        {"preset": "ultrafast", "crf": "24", "profile": "baseline", "bf": "0"},
        {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    ),
    "webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "crf": "12", "b": "2M"}, {}),
}


@dataclass(frozen=True)
class ViewInfo:
    """What is known of a video without decoding all of it.

    mime: the type under which browsers play the file as it is; None where they do not. seconds: its length, None where
    the file does not state it. codec: FFmpeg's name, "pictures" for a frame folder.
    """

    width: int
    height: int
    codec: str
    seconds: float | None
    mime: str | None


def view_info(path: str | Path) -> ViewInfo:
    """What `path`, a file or frame folder, is; raises DecodeError when it cannot be read as a video."""
    path = Path(path)
    if path.is_dir():
        pictures = _pictures(path)
        height, width = read_picture(pictures[0], "rgb").shape[:2]
        return ViewInfo(width, height, "pictures", len(pictures) / FOLDER_FPS, None)
    opened = open_file(path, "keep")
    with opened.container:
        context = opened.stream.codec_context
        format_name = opened.container.format.name
        mime = None
        for name, (wanted, codecs) in _PLAYABLE.items():
            if name in format_name.split(",") and context.name.removeprefix("lib") in codecs:
                mime = wanted if context.pix_fmt in ("yuv420p", "yuvj420p") and opened.problem is None else None
        return ViewInfo(context.width, context.height, context.name, _length(opened), mime)


def write_piece(
    path: str | Path,
    out: str | Path,
    *,
    start_seconds: float,
    seconds: float,
    format: PieceFormat = "mp4",
) -> int:
    """Write the frames in [start_seconds, start_seconds + seconds) as a file that plays by itself from time 0.

    Pictures are at most 480 pixels high; there is no sound. Returns the number of frames; without any, no file is
    written. Raises DecodeError when the video cannot be read.
    """
    n_frames = 0
    writer: _PieceWriter | None = None
    try:
        for at, pixels in frames_between(path, start_seconds, start_seconds + seconds, max_height=_MAX_HEIGHT):
            writer = writer or _PieceWriter(out, format, pixels.shape[0] & ~1, pixels.shape[1] & ~1)
            # The first frame is moved to 0: browsers do not begin to play in a gap.
            writer.add(pixels, 0.0 if n_frames == 0 else at - start_seconds)
            n_frames += 1
    finally:
        if writer is not None:
            writer.close()
    return n_frames


class _PieceWriter:
    """An encoder for one piece whose frames are shown at given times."""

    def __init__(self, out: str | Path, format: PieceFormat, height: int, width: int) -> None:
        codec, options, container_options = _ENCODERS[format]
        self._container = av.open(f"file:{out}", mode="w", format=format, container_options=container_options)
        stream: Any = self._container.add_stream(codec, rate=FOLDER_FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.gop_size = 1000  # one key frame: a piece is played from its beginning
        self._stream = stream
        self._last = -1

    def add(self, pixels: Pixels, seconds: float) -> None:
        cut: Any = np.ascontiguousarray(np.asarray(pixels)[: self._stream.height, : self._stream.width])
        frame = av.VideoFrame.from_ndarray(cut, format="rgb24")
        self._last = max(round(seconds * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


def sprite(
    path: str | Path,
    moments: Sequence[float],
    *,
    rows: int = 8,
    step_seconds: float = 0.12,
    cell: tuple[int, int] = (160, 120),
) -> bytes:
    """A JPEG with one column per moment and `rows` frames of each from top to bottom, `step_seconds` apart.

    cell: width and height of each frame, which is cut to that shape. Where a video ends, its last frame is repeated.
    Raises DecodeError when no frame can be read at any of the moments.
    """
    sheet = Image.new("RGB", (cell[0] * len(moments), cell[1] * rows))
    n_found = 0
    for column, moment in enumerate(moments):
        shown = _frames_at(path, moment, rows, step_seconds, cell[1])
        n_found += len(shown)
        for row in range(rows if shown else 0):
            picture = ImageOps.fit(Image.fromarray(shown[min(row, len(shown) - 1)]), cell)
            sheet.paste(picture, (column * cell[0], row * cell[1]))
    if not n_found:
        raise DecodeError(f"{str(path)!r}: no frame can be decoded at {', '.join(f'{m:g} s' for m in moments)}")
    stream = BytesIO()
    sheet.save(stream, "JPEG", quality=72, optimize=True)
    return stream.getvalue()


def _frames_at(path: str | Path, moment: float, rows: int, step_seconds: float, height: int) -> list[Pixels]:
    """Up to `rows` frames from `moment` on; near the end of the video, its last frames."""
    due = moment
    shown: list[Pixels] = []
    for at, pixels in frames_between(path, moment, moment + rows * step_seconds, max_height=height):
        while at >= due - 0.001 and len(shown) < rows:
            shown.append(pixels)
            due += step_seconds
    if not shown and moment > 0:
        return _frames_at(path, max(0.0, moment - 1), rows, step_seconds, height)
    return shown


def frames_between(
    path: str | Path, start_seconds: float, end_seconds: float, *, max_height: int
) -> Iterator[tuple[float, Pixels]]:
    """The time and the upright RGB pixels of every frame in [start_seconds, end_seconds), scaled to `max_height`.

    Damaged frames are left out. Raises DecodeError when the file is no video.
    """
    path = Path(path)
    if path.is_dir():
        yield from _folder_frames(path, start_seconds, end_seconds, max_height)
        return
    for seek in (True, False) if start_seconds > 0 else (False,):
        opened = open_file(path, "keep")
        with opened.container:
            if seek and not _seek(opened, start_seconds):
                continue
            is_first = True
            for at, decoded in _timed(opened, guess=not seek):
                if is_first and seek and (at is None or at > start_seconds + 0.05):
                    break  # the file's index is wrong, or it has none: decode from the beginning
                is_first = False
                if at is None or at >= end_seconds:
                    return
                if at >= start_seconds - 0.0005:
                    yield at, _small(decoded, max_height)
            else:
                return


def _seek(opened: OpenStream, seconds: float) -> bool:
    target = (opened.stream.start_time or 0) + round(seconds / opened.stream.time_base)
    try:
        opened.container.seek(target, stream=opened.stream, backward=True)
    except (FFmpegError, OSError):
        return False
    return True


def _timed(opened: OpenStream, *, guess: bool) -> Iterator[tuple[float | None, Any]]:
    """Decoded frames with their seconds; a frame without a time follows the one before, or if not `guess` has None."""
    base, start = opened.stream.time_base, opened.stream.start_time or 0
    frame_seconds = float(1 / (opened.fps or FOLDER_FPS))
    at: float | None = -frame_seconds if guess else None
    packets = opened.container.demux(opened.stream)
    while True:
        decoded: list[Any] = []
        try:
            packet = next(packets, None)
            if packet is None:
                return
            decoded = packet.decode()
        except FFmpegError as error:
            if not isinstance(error, av.error.InvalidDataError):
                return
        for frame in decoded:
            ticks = frame.pts if frame.pts is not None else frame.dts
            if ticks is not None:
                at = float((ticks - start) * base)
            elif at is not None:
                at += frame_seconds
            yield at, frame


def _small(decoded: Any, max_height: int) -> Pixels:
    """Upright RGB pixels of a decoded frame, at most `max_height` high and with even sides."""
    orientation = orientation_of(decoded)
    stored_limit = decoded.width if orientation.swaps else decoded.height
    scale = min(1.0, max_height / stored_limit)
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (decoded.width, decoded.height))
    picture = VideoReformatter().reformat(decoded, width=width, height=height, format="rgb24", threads=1)
    pixels: Any = picture.to_ndarray()
    return orientation.upright(pixels)


def _folder_frames(folder: Path, start: float, end: float, max_height: int) -> Iterator[tuple[float, Pixels]]:
    pictures = _pictures(folder)
    first = max(0, -int(-start * FOLDER_FPS // 1))
    for index in range(first, min(len(pictures), -int(-end * FOLDER_FPS // 1))):
        with suppress(DecodeError):  # one damaged picture; the others can still be seen
            picture = Image.fromarray(read_picture(pictures[index], "rgb"))
            scale = min(1.0, max_height / picture.height)
            width, height = (max(2, 2 * round(side * scale / 2)) for side in picture.size)
            yield index / FOLDER_FPS, np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a frame folder, without symbolic links that lead out of it."""
    inside = folder.resolve()
    pictures = [path for path in pictures_in(folder) if path.resolve().is_relative_to(inside)]
    if not pictures:
        raise DecodeError(f"{str(folder)!r}: the folder holds no pictures")
    return pictures


def _length(opened: OpenStream) -> float | None:
    stream = opened.stream
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if opened.container.duration:
        return float(opened.container.duration / av.time_base)
    return None
