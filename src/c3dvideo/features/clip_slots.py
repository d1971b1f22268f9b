"""Memory that several processes share, as slots of one clip each, and a counter of activity per decoder.

    slots = ClipSlots.create()
    slots.use(SlotLayout(n_slots=144, clip_shape=(1, 3, 16, 112, 112), n_decoders=16))
    slots.clips[3]                        # uint8 (1, 3, 16, 112, 112): the same bytes in every process

The memory belongs to a file without a name. It exists as long as a process has it open, so that nothing is left behind
however the processes end. (Named segments, as of multiprocessing.shared_memory, stay after kill -9. They also lie in
/dev/shm, which containers limit to 64 MB.)
"""

import math
import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Counters = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True)
class SlotLayout:
    """How the memory is divided. clip_shape: (views, channels, frames, height, width)."""

    n_slots: int
    clip_shape: tuple[int, ...]
    n_decoders: int

    @property
    def header_bytes(self) -> int:
        """Bytes of the counters, up to the next page, so that clips start on one."""
        return -(-8 * self.n_decoders // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def n_bytes(self) -> int:
        """Bytes of everything."""
        return self.header_bytes + self.n_slots * math.prod(self.clip_shape)


class ClipSlots:
    """The shared memory in one process. descriptor: of its file, to be passed on to other processes.

    clips: uint8 (n_slots, *clip_shape). activity: int64 (n_decoders,), written by one decoder each.
    """

    clips: Pixels
    activity: Counters

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def create(cls) -> Self:
        """New memory, without a layout yet."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("c3dvideo-clips", os.MFD_CLOEXEC))
        with tempfile.TemporaryFile() as file:  # without a name, too, but written to disk when memory is short
            return cls(os.dup(file.fileno()))

    def use(self, layout: SlotLayout) -> None:
        """Map the memory. The first process to do so gives the file its size."""
        if os.fstat(self.descriptor).st_size < layout.n_bytes:
            os.ftruncate(self.descriptor, layout.n_bytes)
        memory = mmap.mmap(self.descriptor, layout.n_bytes)
        self.activity = np.frombuffer(memory, np.int64, layout.n_decoders)
        pixels = np.frombuffer(memory, np.uint8, offset=layout.header_bytes)
        self.clips = pixels.reshape(layout.n_slots, *layout.clip_shape)

    def close(self) -> None:
        """Close the file. The memory goes when the last array of it does."""
        os.close(self.descriptor)
