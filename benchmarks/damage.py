"""How much damage is noticed, by container and codec: python benchmarks/damage.py [CASES]

Generates a short textured video in each codec that PyAV can encode, damages copies of it from a fixed seed, and prints
a Markdown table: of the copies whose frames are no longer those of the whole file, how many raise DecodeError. Four
kinds of damage: the file is cut, one bit is changed, 64 bytes are overwritten at random, 200 bytes are set to zero.
The first and last part of a file stay whole in the last three, because headers that cannot be read are always noticed.
"""

import hashlib
import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.video import moving_texture
from c3dvideo.errors import DecodeError
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video

FRAMES, HEIGHT, WIDTH = 25, 96, 128


class Kind(NamedTuple):
    """A container and codec to write."""

    suffix: str
    codec: str
    pixel_format: str = "yuv420p"
    options: Mapping[str, str] = MappingProxyType({})


INTERFRAME = {"g": "12"}
KINDS = (
    Kind("mp4", "libx264", options=INTERFRAME),
    Kind("mkv", "libx264", options=INTERFRAME),
    Kind("ts", "libx264", options=INTERFRAME),
    Kind("flv", "libx264", options=INTERFRAME),
    Kind("h264", "libx264", options=INTERFRAME),
    Kind("mp4", "libx265", options={"x265-params": "log-level=none:keyint=12"}),
    Kind("mp4", "libsvtav1"),
    Kind("webm", "libvpx", options=INTERFRAME),
    Kind("ogv", "libvpx", options=INTERFRAME),
    Kind("webm", "libvpx-vp9", options=INTERFRAME),
    Kind("mp4", "mpeg4", options=INTERFRAME),
    Kind("avi", "mpeg4", options=INTERFRAME),
    Kind("avi", "msmpeg4", options=INTERFRAME),
    Kind("flv", "flv", options=INTERFRAME),
    Kind("wmv", "wmv1", options=INTERFRAME),
    Kind("wmv", "wmv2", options=INTERFRAME),
    Kind("mpg", "mpeg1video", options=INTERFRAME),
    Kind("mpg", "mpeg2video", options=INTERFRAME),
    Kind("ts", "mpeg2video", options=INTERFRAME),
    Kind("mxf", "mpeg2video", options=INTERFRAME),
    Kind("avi", "mjpeg", "yuvj420p"),
    Kind("mov", "prores", "yuv422p10le"),
    Kind("gif", "gif", "rgb8"),
    Kind("apng", "apng", "rgb24"),
    Kind("mkv", "ffv1", "bgr0", {"level": "3", "slicecrc": "1"}),
    Kind("avi", "huffyuv", "yuv422p"),
    Kind("avi", "utvideo"),
    Kind("mov", "qtrle", "rgb24"),
    Kind("avi", "cinepak", "rgb24"),
    Kind("y4m", "wrapped_avframe"),
)


def cut(content: bytearray, generator: random.Random) -> None:
    del content[int(generator.uniform(0.3, 0.97) * len(content)) :]


def flip_bit(content: bytearray, generator: random.Random) -> None:
    content[_middle(content, generator)] ^= 1 << generator.randrange(8)


def overwrite(content: bytearray, generator: random.Random) -> None:
    at = _middle(content, generator)
    content[at : at + 64] = generator.randbytes(64)


def zero(content: bytearray, generator: random.Random) -> None:
    at = _middle(content, generator)
    content[at : at + 200] = bytes(200)


def _middle(content: bytearray, generator: random.Random) -> int:
    return generator.randrange(len(content) * 15 // 100, len(content) * 90 // 100)


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (cut, flip_bit, overwrite, zero)


def main(n_cases: int) -> None:
    print("| container | codec | " + " | ".join(damage.__name__.replace("_", " ") for damage in DAMAGES) + " |")
    print("|---" * (2 + len(DAMAGES)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            whole, damaged = Path(folder, f"whole.{kind.suffix}"), Path(folder, f"damaged.{kind.suffix}")
            with quiet():
                write_video(
                    whole,
                    moving_texture(FRAMES, HEIGHT, WIDTH),
                    codec=kind.codec,
                    pixel_format=kind.pixel_format,
                    codec_options=dict(kind.options),
                )
            counts = [count(whole, damaged, damage, n_cases) for damage in DAMAGES]
            cells = " | ".join(f"{noticed} of {changed}" for noticed, changed in counts)
            print(f"| {kind.suffix} | {kind.codec} | {cells} |", flush=True)


def count(
    whole: Path, damaged: Path, damage: Callable[[bytearray, random.Random], None], n_cases: int
) -> tuple[int, int]:
    """Damaged copies that were noticed, and copies that were noticed or have other frames."""
    expected = frames_of(whole)
    assert expected is not None, f"{whole} is whole and is refused"
    generator = random.Random(f"{whole.name} {damage.__name__}")
    noticed = changed = 0
    for _ in range(n_cases):
        content = bytearray(whole.read_bytes())
        damage(content, generator)
        damaged.write_bytes(content)
        found = frames_of(damaged)
        noticed += found is None
        changed += found != expected
    return noticed, changed


def frames_of(path: Path) -> list[bytes] | None:
    """A hash of every frame, or None for a video that is refused."""
    try:
        with open_video(path) as video:
            return [hashlib.sha256(frame.pixels.tobytes()).digest() for frame in video.frames()]
    except DecodeError:
        return None


@contextmanager
def quiet() -> Any:
    """Encoders write to stderr on their own."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
