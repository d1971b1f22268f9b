"""Optional compiled layers for the CPU, built on first use with the machine's own C++ compiler, then cached.

    kernels = load()                       # None without a compiler: plain PyTorch then does the same work
    kernels.linear(x, weights, bias, relu=True)

See `c3dvideo.compiled` for how they are built, cached and turned off. Each file of C++ begins with what it computes.
"""

import ctypes
import math
import mmap
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import RLock
from typing import TypeVar

import torch
from torch import Tensor

from c3dvideo import compiled

SOURCES = tuple(Path(__file__).with_name(name) for name in ("winograd.cpp", "first.cpp", "linear.cpp", "vectors.h"))
CEIL = 2  # of `pool`: as in winograd.cpp
FIRST_FRAMES = 4  # of conv1a per piece of work: enough pieces for all threads, few rows transformed twice

Item = TypeVar("Item")


class _Numbers(ctypes.Structure):
    """A C struct of longs, filled by keyword, as a mistaken order would not be noticed by any compiler."""

    def __init__(self, **numbers: int) -> None:
        super().__init__(*(numbers[name] for name, _ in self._fields_))  # type: ignore[misc]


class _Convolution(_Numbers):
    """`struct Convolution` of winograd.cpp, field by field."""

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
    """`struct First` of first.cpp, field by field."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in (
            *("height", "width", "channels", "x_frame", "x_row", "y_frame", "y_row"),
            *("frame_begin", "frame_end"),
        )
    ]


class Kernels:
    """The compiled layers, run on as many threads as PyTorch uses. Results depend on that number in no bit."""

    def __init__(self, library: ctypes.CDLL, *, n_threads: int | None = None) -> None:
        self.library = library
        self.path = Path(library._name)
        for count in (self.library.panel, self.library.scratch, self.library.first_scratch):
            count.restype = ctypes.c_long
        self.panel = int(self.library.panel())  # channels come in multiples of this
        # Held for a whole run of the network: scratch memory and threads are shared by all networks of a process.
        self.lock = RLock()
        self.n_threads = n_threads or torch.get_num_threads()
        # Python's threads are enough: ctypes releases the interpreter while a kernel runs.
        self._pool = ThreadPoolExecutor(self.n_threads, thread_name_prefix="c3dvideo-kernels")
        self._scratch: list[Tensor] = [torch.empty(0)] * self.n_threads

    def whole_panels(self, channels: int) -> int:
        """`channels` rounded up to a multiple of `panel`."""
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

        weights: contiguous (C_out, C_in, 3, 3, 3). x and y have whole panels of channels; those beyond the weights are
            zeros.
        size: (T, H, W) before pooling. T' is at least T rounded up to whole tiles, plus 2; H' and W' at least H and W
            rounded up to multiples of 4, plus 2.
        times: positions of a tile in time: 6 for tiles of 4 frames, 4 for tiles of 2, and 3 for clips of 2 frames with
            zeros before and after.
        pool: 0 for none, 1 for 2x2x2 maxima, `CEIL` for those with windows cut at the far edge in place of dropped.
        """
        frames, height, width = size
        channels_out, channels_in = weights.shape[:2]
        panels = -(-channels_out // self.panel)
        tiles = len(y) * -(-frames // (4 if times == 6 else 2)) * -(-height // 4) * -(-width // 4)
        blocks = -(-tiles // self._most_tiles(times))
        block = -(-tiles // blocks)  # nearly equal blocks: a small last one would transform all weights for few tiles
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
            space = self._scratch_of(thread, self.library.scratch(ctypes.byref(shape)))
            self.library.winograd(ctypes.byref(shape), *map(_address, (x, weights, bias, y, space)))

        # Part by part: threads that work at the same time then read the same weights, from a cache that they share.
        self._share([(index, part) for part in range(parts) for index in range(blocks)], compute)

    def _most_tiles(self, times: int) -> int:
        """Tiles per block: their products for one panel fill two thirds of the second-level cache.

        More would not fit beside the weights. Fewer would transform the weights more often. Blocks past 98 tiles gained
        nothing; see docs/speed.md.
        """
        product_bytes = 4 * 36 * times * self.panel
        return max(28, min(98, _second_cache_bytes() * 2 // 3 // product_bytes))

    def _parts(self, blocks: int, panels: int) -> int:
        """The number of shares of output channels into which blocks are cut, so that all threads get equal work.

        Each share transforms the input of its block again, so that there are no more than needed.
        """
        if blocks >= 4 * self.n_threads:
            return 1
        return min(panels, self.n_threads // math.gcd(blocks, self.n_threads))

    def first(self, x: Tensor, weights: Tensor, bias: Tensor, y: Tensor, *, size: Sequence[int]) -> None:
        """conv1a + ReLU + pool1 of the zero-bordered `x` (N, T', H', W', 3) into `y` (N, T, H // 2, W // 2, C).

        size: (T, H, W). T' and H' are at least T + 2 and H + 2; W' is W rounded up to a multiple of 4, plus 2.
        weights: (C / panel, 6, 27, panel): the 6 positions of F(4, 3) along a row, the 27 taps as (T, H, C_in).
        """
        frames, height, width = size

        def compute(thread: int, item: tuple[int, int]) -> None:
            clip, begin = item
            shape = _First(
                **{"height": height, "width": width, "channels": len(bias)},
                **{"x_frame": x.stride(1), "x_row": x.stride(2), "y_frame": y.stride(1), "y_row": y.stride(2)},
                **{"frame_begin": begin, "frame_end": min(frames, begin + FIRST_FRAMES)},
            )
            space = self._scratch_of(thread, self.library.first_scratch(ctypes.byref(shape)))
            self.library.first(ctypes.byref(shape), *map(_address, (x[clip], weights, bias, y[clip], space)))

        self._share([(clip, begin) for clip in range(len(y)) for begin in range(0, frames, FIRST_FRAMES)], compute)

    def linear(self, x: Tensor, weights: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
        """Outputs (N, D) of contiguous `x` (N, K) and weights (D, K)."""
        outputs, depth = weights.shape
        y = x.new_empty(len(x), outputs)
        parts = min(outputs, 4 * self.n_threads)  # more than threads, so that a thread that is held up does fewer

        def compute(_: int, part: int) -> None:
            sizes = (len(x), depth, outputs, int(relu), outputs * part // parts, outputs * (part + 1) // parts)
            self.library.linear(*map(_address, (x, weights, bias, y)), *map(ctypes.c_long, sizes))

        self._share(list(range(parts)), compute)
        return y

    def _scratch_of(self, thread: int, numbers: int) -> Tensor:
        """Scratch memory of a thread, for so many float32 numbers. Former contents are lost."""
        if self._scratch[thread].numel() < numbers:
            self._scratch[thread] = zeros(numbers)
        return self._scratch[thread]

    def _share(self, work: list[Item], compute: Callable[[int, Item], None]) -> None:
        """Call `compute(thread, item)` for every item of work; each goes to the thread that is free first."""
        if self.n_threads == 1 or len(work) == 1:
            for item in work:
                compute(0, item)
            return
        left = iter(work)  # one for all threads; the interpreter's lock makes taking an item safe

        def drain(thread: int) -> None:
            for item in left:
                compute(thread, item)

        for done in [self._pool.submit(drain, thread) for thread in range(min(self.n_threads, len(work)))]:
            done.result()


def zeros(numbers: int) -> Tensor:
    """Float32 zeros, in huge pages where the system has them.

    Kernels read along hundreds of rows at a time, each in a page of its own. With pages of 4 KB these would be more
    pages than the processor keeps addresses of.
    """
    size = max(4 * numbers, mmap.PAGESIZE)
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(numbers)
    # Private: shared memory, the default of mmap, has small pages only.
    kept = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system without huge pages
        kept.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(kept, dtype=torch.float32)[:numbers]


@cache
def _second_cache_bytes() -> int:
    """Bytes of one core's second-level cache; 1 MB where Linux does not report it."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text(encoding="ascii").strip()
    except OSError:
        return 1 << 20
    return int(text[:-1]) << 10 if text[:-1].isdigit() and text.endswith("K") else 1 << 20


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def load() -> Kernels | None:
    """The compiled layers, built now if this machine has not built them yet; None where that is not possible."""
    found = attempt()
    return found if isinstance(found, Kernels) else None


def why_missing() -> str:
    """Why `load()` returns None, in a few words; empty when it returns the layers."""
    found = attempt()
    return found if isinstance(found, str) else ""


@cache
def attempt() -> Kernels | str:
    """The compiled layers, or why there are none."""
    found = compiled.attempt(*SOURCES)
    return found if isinstance(found, str) else Kernels(found)
