"""A small moving picture of a video, for pages that show many videos.

data = moving_thumbnail("a.mp4")          # bytes of an animated WebP
"""

from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path

from PIL import Image

from c3dvideo.video.decode import open_video


def moving_thumbnail(path: str | Path, *, height: int = 72, n_pictures: int = 12, every: int = 4) -> bytes:
    """An animated WebP of the first frames: `n_pictures` of them, every `every`-th one, at the speed of the video.

    The aspect ratio is kept. Raises DecodeError for a video that cannot be read.
    """
    with open_video(path, channel_order="rgb") as video:
        fps = video.fps or Fraction(25)
        frames = [frame.pixels for frame in islice(video.frames(), 0, n_pictures * every, every)]
    size = (max(1, round(height * frames[0].shape[1] / frames[0].shape[0])), height)
    pictures = [Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR) for pixels in frames]
    stream = BytesIO()
    milliseconds = max(20, round(1000 * every / fps))
    pictures[0].save(
        stream, "WEBP", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, quality=60
    )
    return stream.getvalue()
