"""Readers without files, for decoders in this process and in others: the name of a source says what happens.

A source is "name:n_clips[:word]"; the clips are noise whose seed is the name, and the word is what comes after them.
"""

import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import DecodeError
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.reader import Clip

COUNT_AT = "C3DVIDEO_TEST_COUNT_AT"


class FakeReader:
    """`read_clips` without a file."""

    damage: str | None = None

    def __init__(self, path: str, *, plan: ClipPlan, profile: Any, views: Any, **_: Any) -> None:
        self.name, n_clips, self.word = [*path.split(":"), "", ""][:3]
        self.n_clips = int(n_clips)
        self.shape = (len(views), 3, plan.clip_length, profile.crop_size, profile.crop_size)
        self.fps, self.n_frames, self.decode_seconds, self.preprocess_seconds = None, 0, 1.0, 0.5

    def __iter__(self) -> Iterator[Clip]:
        for index in range(self.n_clips):
            count_one()
            self.n_frames = 8 * (index + 1)
            yield Clip(8 * index, index / 4, self.pixels(index))
        if self.word:
            self.end()

    def pixels(self, index: int) -> np.ndarray:
        generator = np.random.default_rng([index, *self.name.encode()])
        return generator.integers(0, 256, self.shape, np.uint8)

    def end(self) -> None:
        """What happens after the last clip."""
        kind, _, rest = self.word.partition("=")
        if kind == "damage":
            self.damage = rest
        elif kind == "signal":
            os.kill(os.getpid(), int(rest))
            time.sleep(60)
        elif kind == "segfault":
            ctypes.string_at(0)
        elif kind == "exit":
            os._exit(int(rest))
        elif kind == "sleep":
            time.sleep(float(rest))
        elif kind == "slow":  # but with progress
            for _ in range(int(rest)):
                time.sleep(0.5)
                self.n_frames += 1
        elif kind == "spin":  # in C code that never lets other threads of the interpreter run
            re.match(r"(a+)+$", 60 * "a" + "b")
        elif kind == "memory":
            np.ones(int(rest), np.uint8)
        elif kind == "modules":
            heavy = [name for name in ("torch", "sklearn", "safetensors") if name in sys.modules]
            raise DecodeError(f"heavy modules: {heavy}; ignores Ctrl-C: {ignores_interrupts()}")
        else:
            raise DecodeError(self.word)


def ignores_interrupts() -> bool:
    """Whether Ctrl-C has no effect on this process."""
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def explode(*_: Any, **__: Any) -> Any:
    """A reader with a mistake in it."""
    raise ZeroDivisionError("by zero")


def count_one() -> None:
    """Count one more clip that has been made, in any process, where a test asks for that."""
    path = os.environ.get(COUNT_AT)
    if path:
        with Path(path).open("ab") as file:
            file.write(b".")
