"""Signs that a video is cut short or damaged, before and beside what FFmpeg itself refuses.

    check_file(Path("a.avi"))            # DecodeError: the file was cut short: it has 900 of 1200 bytes
    check_numbers(pictures_in(folder))   # DecodeError: frame number 3 is missing between '2.png' and '4.png'

docs/fidelity.md lists what is recognised, and what is not, by container and codec.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from c3dvideo.errors import DecodeError


def damaged(n_frames: int) -> str:
    """The message for a video whose first n_frames decode and whose next does not."""
    return (
        f"the file is damaged or was cut short: FFmpeg stumbles after {n_frames} good frames; "
        "repair it, or keep what there is with: ffmpeg -i FILE REPAIRED.mp4"
    )


def check_file(path: Path) -> None:
    """Refuse what FFmpeg would read without a word: an empty file, and one that is shorter than it says."""
    size = path.stat().st_size
    if size == 0:
        raise DecodeError("the file is empty (0 bytes)")
    with path.open("rb") as file:
        head = file.read(64)
    expected = _stated_size(head)
    if expected is not None and size < expected:
        raise DecodeError(f"the file was cut short: it has {size} of {expected} bytes; fetch or record it again")


def _stated_size(head: bytes) -> int | None:
    """The least file size that an AVI, Matroska or WebM file states for itself, if it is one and does."""
    if head.startswith(b"RIFF"):
        size = int.from_bytes(head[4:8], "little")
        return None if size == 0xFFFF_FFFF else 8 + size
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    with suppress(IndexError):
        header_size, segment = _ebml_number(head, 4)
        if header_size is not None:
            segment += header_size
            segment_size, content = _ebml_number(head, segment + 4)
            if head[segment : segment + 4] == b"\x18\x53\x80\x67" and segment_size is not None:
                return content + segment_size
    return None


def _ebml_number(data: bytes, at: int) -> tuple[int | None, int]:
    """An EBML size (None: unknown) and the position behind it."""
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), at + length


def check_index(stream: Any, url: str) -> None:
    """Refuse a file whose index names bytes behind its end."""
    path = Path(url.removeprefix("file:"))
    index = stream.index_entries
    if not url.startswith("file:") or not path.is_file() or not index:
        return
    end, size = index[-1].pos + index[-1].size, path.stat().st_size
    if end > size:
        raise DecodeError(f"the file was cut short: it has {size} of at least {end} bytes; fetch or record it again")


def hint(url: str) -> str:
    """What the first bytes say about a file that FFmpeg does not read."""
    with suppress(OSError), Path(url.removeprefix("file:")).open("rb") as file:
        head = file.read(512)
        if head[4:8] == b"ftyp":
            return "; it is an MP4 file without its index (moov), as an interrupted recording or copy leaves it"
        if not set(head) - set(range(32, 127)) - set(b"\t\r\n"):
            return "; it holds text"
    return ""


def check_numbers(pictures: Sequence[Path]) -> None:
    """Refuse a frame folder with a hole, two frames of one number, or pictures of anything else."""
    names = [re.fullmatch(r"(.*?)([0-9]+)", picture.stem) for picture in pictures]
    if not pictures:
        raise DecodeError("the folder holds no pictures")
    for name, picture in zip(names, pictures, strict=True):
        if name is None or names[0] is None or name[1] != names[0][1]:
            raise DecodeError(f"{picture.name!r} does not continue the numbering that begins with {pictures[0].name!r}")
    numbers = [int(name[2]) for name in names if name]
    step = min((later - earlier for earlier, later in pairwise(numbers) if later > earlier), default=1)
    for earlier, later, before, after in zip(numbers, numbers[1:], pictures, pictures[1:], strict=False):
        if later == earlier:
            raise DecodeError(f"{before.name!r} and {after.name!r} have the same frame number; remove one of them")
        if later - earlier != step:
            raise DecodeError(
                f"frame number {earlier + step} is missing between {before.name!r} and {after.name!r}; "
                "add it, or number the frames anew"
            )
