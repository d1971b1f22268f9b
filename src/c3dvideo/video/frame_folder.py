"""A folder of numbered pictures as a video: which pictures, in which order, and their pixels.

    pictures, problem = numbered_pictures(Path("v_a"))       # problem: where a number is missing, or None
    pixels = read_picture(pictures[0], "bgr")                # uint8 (H, W, 3)

Pillow decodes them: its JPEG decoder is the release's, FFmpeg's differs by a grey level here and there.
"""

import re
import threading
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.choices import ChannelOrder
from c3dvideo.errors import DecodeError
from c3dvideo.files import os_reason
from c3dvideo.video.resize import Pixels

PICTURE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
MAX_PIXELS = 1 << 26
"""Pixels of the largest frame that is read, 8192 x 8192. Reading such a picture takes under 1 GB of memory."""

_filtering = threading.Lock()


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sorting key under which "frame10" comes after "frame9".

    >>> sorted(["frame10", "frame9", "frame1"], key=natural_key)
    ['frame1', 'frame9', 'frame10']
    """
    parts = re.split(r"([0-9]+)", text)
    return [(int(part), part) if index % 2 else (0, part) for index, part in enumerate(parts)]


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder in natural order, without those whose names begin with a dot."""
    pictures = (
        path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )
    return sorted(pictures, key=lambda path: natural_key(path.name))


def numbered_pictures(folder: Path) -> tuple[list[Path], DecodeError | None]:
    """The pictures up to the first one that does not continue the numbering, and what is wrong with that one.

    Numbers may begin anywhere and have any step, such as every fifth. Raises DecodeError for a folder that does not
    begin with a numbered picture.
    """
    pictures = pictures_in(folder)
    names = [re.fullmatch(r"(.*?)([0-9]+)", picture.stem) for picture in pictures]
    if not pictures:
        raise DecodeError("the folder holds no pictures")
    for at, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        if name is None or names[0] is None or name[1] != names[0][1]:
            return pictures[:at], DecodeError(
                f"{picture.name!r} does not continue the numbering that begins with {pictures[0].name!r}"
            )
    return _without_holes(pictures, [int(name[2]) for name in names if name])


def _without_holes(pictures: list[Path], numbers: Sequence[int]) -> tuple[list[Path], DecodeError | None]:
    step = min((later - earlier for earlier, later in pairwise(numbers) if later > earlier), default=1)
    for at, (earlier, later) in enumerate(pairwise(numbers), 1):
        before, after = pictures[at - 1].name, pictures[at].name
        if later == earlier:
            problem = f"{before!r} and {after!r} have the same frame number; remove one of them"
        elif later - earlier != step:
            problem = (
                f"frame number {earlier + step} is missing between {before!r} and {after!r}; "
                "add it, or number the frames anew"
            )
        else:
            continue
        return pictures[:at], DecodeError(problem)
    return pictures, None


def read_picture(path: Path, channel_order: ChannelOrder) -> Pixels:
    """The pixels of a picture file, turned upright as its EXIF says: uint8 (H, W, 3).

    Raises DecodeError for what is no picture, is cut short, has more than 8 bits per channel or MAX_PIXELS pixels.
    """
    from PIL import Image, ImageOps

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with _open_picture(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DecodeError(too_large(repr(path.name), picture.height, picture.width))
            if picture.mode.startswith(("I", "F")):
                raise DecodeError(f"{path.name!r} has more than 8 bits per channel; convert it to 8")
            ImageOps.exif_transpose(picture, in_place=True)
            colour = picture if picture.mode == "RGB" else picture.convert("RGB")
            # Straight to the wanted order, because a reversed array would have to be copied to be resized.
            rows = colour.tobytes("raw", channel_order.upper())
            return np.frombuffer(rows, np.uint8).reshape(colour.height, colour.width, 3)
    except bombs as error:
        raise DecodeError(f"{path.name!r} is far larger than {MAX_PIXELS:,} pixels; scale it down") from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = os_reason(error) if isinstance(error, OSError) and error.errno else error
        raise DecodeError(f"{path.name!r} cannot be read as a picture: {reason}") from error


def _open_picture(path: Path) -> Any:
    """`Image.open`, which also raises for a giant picture where Pillow would only print a warning."""
    from PIL import Image

    # The filters belong to the process: two threads that set and restore them at once would leave them changed.
    with _filtering, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(path)


def too_large(what: str, height: int, width: int) -> str:
    """The message for a frame of more than MAX_PIXELS pixels."""
    return f"{what}: {width}x{height} is more than the {MAX_PIXELS:,} pixels that a frame may have; scale it down"
