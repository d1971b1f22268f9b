"""Write frames as a video file: for generated data, demos and tests.

write_video("a.mp4", frames, fps=25)                    # frames: an iterable of uint8 RGB (H, W, 3)
"""

from collections.abc import Iterable
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any

import av
import numpy as np

_TICKS_PER_SECOND = 90_000


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray[Any, np.dtype[np.uint8]]],
    *,
    fps: Fraction | int = 25,
    codec: str = "libx264",
    crf: int = 18,
    pixel_format: str = "yuv420p",
    seconds: Iterable[float] | None = None,
    rotation: int = 0,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> None:
    """Write uint8 RGB frames (H, W, 3) to `path`; the suffix names the container. 4:2:0 formats need even H and W.

    seconds: when each frame is shown, for a variable frame rate; by default one every 1 / fps.
    rotation: degrees by which a player turns the picture counter-clockwise, as phones state it (mp4, mov).
    container_format: FFmpeg's name of the container, such as "mp4", for a path whose suffix does not name it.
    codec_options, container_options: further FFmpeg options, such as {"g": "10"} and {"movflags": "faststart"}.
    """
    with av.open(
        f"file:{path}", mode="w", format=container_format, container_options=container_options or {}
    ) as container:
        stream: Any = None
        for pixels, second in zip(frames, repeat(None) if seconds is None else seconds, strict=False):
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(fps))
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = pixel_format
                quality = {"crf": str(crf), "preset": "veryfast"} if codec in ("libx264", "libx265") else {}
                if codec == "libx264":  # its look-ahead makes the file differ from run to run at some widths
                    quality["rc-lookahead"] = "0"
                stream.options = quality | (codec_options or {})
                if rotation:
                    stream.set_display_rotation(rotation)
                if seconds is not None:
                    stream.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if second is not None:
                frame.pts, frame.time_base = round(second * _TICKS_PER_SECOND), Fraction(1, _TICKS_PER_SECOND)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
