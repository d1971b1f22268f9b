"""Optional compiled layers for the CPU: built on first use with the machine's own C++ compiler, then kept.

    kernels = load()                       # None without a compiler; the plain PyTorch path then does the same work
    kernels.linear(x, weights, bias, relu=True)

How it is built and kept, and how to turn that off, says `c3dvideo.compiled`.
"""

import ctypes
import math
import mmap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from c3dvideo import compiled

SOURCES = tuple(Path(__file__).with_name(name) for name in ("winograd.cpp", "first.cpp", "linear.cpp", "vectors.h"))
CEIL = 2
FIRST_FRAMES = 4  # frames of conv1a at a time

Item = TypeVar("Item")


class _Numbers(ctypes.Structure):
    """A C struct of longs, filled by keyword."""

    def __init__(self, **numbers: int) -> None:
        super().__init__(*(numbers[name] for name, _ in self._fields_))  # type: ignore[misc]


class _Convolution(_Numbers):
    _fields_ = [
        (name, ctypes.c_long)
        for name in (
            *("frames", "height", "width", "channels_in", "channels_out"),
            *("x_clip", "x_frame", "x_row", "x_column", "y_clip", "y_frame", "y_row", "y_column"),
            *("pool", "relu", "times", "block"),
            *("tile_begin", "tile_end", "channel_begin", "channel_end"),
        )
    ]


class _First(_Numbers):
    _fields_ = [
        (name, ctypes.c_long)
        for name in (
            *("height", "width", "channels", "x_frame", "x_row", "y_frame", "y_row"),
            *("frame_begin", "frame_end"),
        )
    ]


class Kernels:
    """The compiled layers, run on as many threads as PyTorch uses. Results do not depend on that number, in any bit."""

    def __init__(self, library: ctypes.CDLL, *, n_threads: int | None = None) -> None:
        self.library = library
        self.path = Path(library._name)
        for count in (self.library.panel, self.library.scratch, self.library.first_scratch):
            count.restype = ctypes.c_long
        self.panel = int(self.library.panel())  # channels come in multiples of this
        self.n_threads = n_threads or torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self.n_threads, thread_name_prefix="c3dvideo-kernels")
        self._scratch: list[Tensor] = [torch.empty(0)] * self.n_threads

    def whole_panels(self, channels: int) -> int:
        """`channels` rounded up to what the layers take."""
        return -(-channels // self.panel) * self.panel

    def winograd(
        self,
        x: Tensor,
        weights: Tensor,
        bias: Tensor,
        y: Tensor,
        *,
        size: Sequence[int],
        times: int,
        pool: int,
        relu: bool,
    ) -> None:
        """Convolve the zero-bordered `x` (N, T', H', W', C_in) into `y` (N, T, H, W, C_out), channels dense.

        x and y have whole panels of channels, zeros past those of the contiguous weights (C_out, C_in, 3, 3, 3).
        times: positions of a tile in time: 6 for tiles of 4 frames, 4 for tiles of 2, 3 for clips that are 2 frames in
            all, with zeros before and after. T' is at least 2 more than `size`[0] rounded up to tiles, H' and W' 2 more
            than `size`[1:] rounded up to multiples of 4.
        pool: 0 for none, 1 for 2x2x2 maxima, `CEIL` for those with windows at the far border cut instead of left out.
        """
        frames, height, width = size
        channels_out, channels_in = weights.shape[:2]
        panels = -(-channels_out // self.panel)
        tiles = len(y) * -(-frames // (4 if times == 6 else 2)) * -(-height // 4) * -(-width // 4)
        blocks = -(-tiles // self._most_tiles(times))
        block = -(-tiles // blocks)
        parts = self._parts(blocks, panels)

        def compute(thread: int, item: tuple[int, int]) -> None:
            index, part = item
            begin, end = panels * part // parts * self.panel, panels * (part + 1) // parts * self.panel
            shape = _Convolution(
                **{"frames": frames, "height": height, "width": width},
                **{"channels_in": channels_in, "channels_out": channels_out},
                **dict(zip(("x_clip", "x_frame", "x_row", "x_column"), x.stride(), strict=False)),
                **dict(zip(("y_clip", "y_frame", "y_row", "y_column"), y.stride(), strict=False)),
                **{"pool": pool, "relu": relu, "times": times, "block": block},
                **{"tile_begin": index * block, "tile_end": min(tiles, (index + 1) * block)},
                **{"channel_begin": begin, "channel_end": end},
            )
            space = self._room(thread, self.library.scratch(ctypes.byref(shape)))
            self.library.winograd(ctypes.byref(shape), *map(_address, (x, weights, bias, y, space)))

        self._share([(index, part) for part in range(parts) for index in range(blocks)], compute)

    def _most_tiles(self, times: int) -> int:
        """How many tiles to take at a time: their products of one panel should fill two thirds of the second cache."""
        product_bytes = 4 * 36 * times * self.panel
        return max(28, min(98, _second_cache_bytes() * 2 // 3 // product_bytes))

    def _parts(self, blocks: int, panels: int) -> int:
        """Into how many shares of output channels to cut the work on so many blocks, to give every thread as much."""
        if blocks >= 4 * self.n_threads:
            return 1
        return min(panels, self.n_threads // math.gcd(blocks, self.n_threads))

    def first(self, x: Tensor, weights: Tensor, bias: Tensor, y: Tensor, *, size: Sequence[int]) -> None:
        """conv1a + ReLU + pool1 of the zero-bordered `x` (N, T', H', W', 3) into `y` (N, T, H // 2, W // 2, C).

        T' and H' are at least 2 more than `size`[:2], W' than `size`[2] rounded up to a multiple of 4.
        weights: (C / panel, 6, 27, panel): F(4, 3) along rows, the 27 as (T, H, C_in).
        """
        frames, height, width = size

        def compute(thread: int, item: tuple[int, int]) -> None:
            clip, begin = item
            shape = _First(
                **{"height": height, "width": width, "channels": len(bias)},
                **{"x_frame": x.stride(1), "x_row": x.stride(2), "y_frame": y.stride(1), "y_row": y.stride(2)},
                **{"frame_begin": begin, "frame_end": min(frames, begin + FIRST_FRAMES)},
            )
            space = self._room(thread, self.library.first_scratch(ctypes.byref(shape)))
            self.library.first(ctypes.byref(shape), *map(_address, (x[clip], weights, bias, y[clip], space)))

        self._share([(clip, begin) for clip in range(len(y)) for begin in range(0, frames, FIRST_FRAMES)], compute)

    def linear(self, x: Tensor, weights: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
        """Outputs (N, D) of contiguous `x` (N, K) and weights (D, K)."""
        outputs, depth = weights.shape
        y = x.new_empty(len(x), outputs)
        parts = min(outputs, 4 * self.n_threads)

        def compute(_: int, part: int) -> None:
            sizes = (len(x), depth, outputs, int(relu), outputs * part // parts, outputs * (part + 1) // parts)
            self.library.linear(*map(_address, (x, weights, bias, y)), *map(ctypes.c_long, sizes))

        self._share(list(range(parts)), compute)
        return y

    def _room(self, thread: int, numbers: int) -> Tensor:
        """Scratch memory of a thread; what it held before is lost."""
        if self._scratch[thread].numel() < numbers:
            self._scratch[thread] = zeros(numbers)
        return self._scratch[thread]

    def _share(self, work: list[Item], compute: Callable[[int, Item], None]) -> None:
        """Call `compute(thread, item)` for every item of work, items in turn to whichever thread is free."""
        if self.n_threads == 1 or len(work) == 1:
            for item in work:
                compute(0, item)
            return
        left = iter(work)

        def drain(thread: int) -> None:
            for item in left:
                compute(thread, item)

        for done in [self._pool.submit(drain, thread) for thread in range(min(self.n_threads, len(work)))]:
            done.result()


def zeros(numbers: int) -> Tensor:
    """Float32 memory of zeros, in huge pages where there are some: kernels walk along hundreds of lines at a time."""
    size = max(4 * numbers, mmap.PAGESIZE)
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(numbers)
    kept = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has small pages only
    with suppress(OSError):  # a kernel without huge ones
        kept.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(kept, dtype=torch.float32)[:numbers]


@cache
def _second_cache_bytes() -> int:
    """Bytes of one core's second-level cache; 1 MB where Linux does not say."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text(encoding="ascii").strip()
    except OSError:
        return 1 << 20
    return int(text[:-1]) << 10 if text[:-1].isdigit() and text.endswith("K") else 1 << 20


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def load() -> Kernels | None:
    """The compiled layers, built now if this machine has not built them before; None where that is not possible."""
    found = attempt()
    return found if isinstance(found, Kernels) else None


def why_missing() -> str:
    """Why `load()` gives None, in a few words; empty when it does not."""
    found = attempt()
    return found if isinstance(found, str) else ""


@cache
def attempt() -> Kernels | str:
    """The compiled layers, or why there are none."""
    found = compiled.attempt(*SOURCES)
    return found if isinstance(found, str) else Kernels(found)
