"""How long a video is by what its container states, without decoding it.

length = stated_length("a.mp4")              # VideoLength(n_frames=1500, seconds=60.0), or None when nothing is stated
"""

from dataclasses import dataclass
from pathlib import Path

from c3dvideo.errors import DecodeError
from c3dvideo.video.access import is_url
from c3dvideo.video.container import OpenStream, open_file
from c3dvideo.video.frame_folder import numbered_pictures


@dataclass(frozen=True, kw_only=True)
class VideoLength:
    """Frames as stated or estimated, seconds (0 when not stated), and bytes of the file or folder."""

    n_frames: int
    seconds: float
    n_bytes: int


def stated_length(source: str) -> VideoLength | None:
    """The stated length of a file or a frame folder; None for an address, and when nothing can be read or is stated.

    What a container states may be wrong; decoding alone counts frames. For a plan of a run it is near enough.
    """
    if is_url(source):
        return None
    path = Path(source)
    try:
        if path.is_dir():
            pictures, _ = numbered_pictures(path)
            return VideoLength(
                n_frames=len(pictures), seconds=0.0, n_bytes=sum(each.stat().st_size for each in pictures)
            )
        opened = open_file(path, "keep")
        try:
            n_frames, seconds = _stated(opened)
        finally:
            opened.container.close()
        return VideoLength(n_frames=n_frames, seconds=seconds, n_bytes=path.stat().st_size) if n_frames else None
    except (DecodeError, OSError):
        return None


def _stated(opened: OpenStream) -> tuple[int, float]:
    stream, container = opened.stream, opened.container
    seconds = 0.0
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / 1_000_000  # FFmpeg's own time base
    fps = float(opened.fps or 0)
    return int(stream.frames) or round(seconds * fps), seconds
