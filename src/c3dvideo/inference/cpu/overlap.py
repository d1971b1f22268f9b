"""Work that overlapping clips of one video have in common, computed once.

    shared = SharedStart.of(stages, layers=["fc6"], clip_length=16)
    clips = shared(frames, starts=[0, 4, 8])     # frames: (24, 112, 112, 3), mean subtracted; conv1a to pool2 of each

A clip sees zeros before its first and after its last frame, so that only what lies away from its two ends is the same
in its neighbours: 14 of its 16 frames after conv1a, 12 after conv2a, 4 of 8 after conv3a, next to nothing after that.
Those of conv1a and conv2a are computed once over the whole stretch of video, and the ends clip by clip. A Winograd tile
spans four frames and is shared only by clips whose tiles fall on the same frames, so clips are taken by their starts
modulo four. Every number has the bits of the separate computation.

This needs an input that does not depend on where in its clip a frame lies: a mean that is constant in time.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from c3dvideo.inference.cpu.stages import END_FRAMES, Border, CompiledConv, CompiledFirst, Stage, both_ends, has_ends

SHIFTS = (1, 2, 3, 4, 6, 8)  # starts further apart have too little in common
_TILE_FRAMES = 4
_MOST_FRAMES = 72  # of a stretch: conv1a of each takes 0.9 MB


def longest_chain(shift: int) -> int:
    """How many clips that start `shift` frames apart are worth giving as one stretch."""
    return 1 + (_MOST_FRAMES - 16) // shift


class SharedStart:
    """The first two stages of the compiled network, on stretches of video with several clips."""

    n_stages = 2

    def __init__(self, first: CompiledFirst, second: CompiledConv, clip_length: int) -> None:
        self._first = first
        self._second = second
        self._clip_length = clip_length
        self._stretch = second.border.another()
        self._ends = second.border.another()
        self._middles = [Border(len(second.bias)) for _ in range(_TILE_FRAMES)]

    @classmethod
    def of(cls, stages: Sequence[Stage], layers: Sequence[str], clip_length: int) -> "SharedStart | None":
        """The shared form of the first two of `stages`; None if they are not compiled, or in `layers`."""
        names = [stage.name for stage in stages]
        if names[:2] != ["pool1", "pool2"] or not has_ends(clip_length) or {"pool1", "pool2"} & set(layers):
            return None
        first, second = stages[:2]
        if isinstance(first, CompiledFirst) and isinstance(second, CompiledConv):
            return cls(first, second, clip_length)
        return None

    def __call__(self, frames: Tensor, starts: Sequence[int]) -> Iterator[Tensor]:
        """For every clip the activation (1, T, H, W, C) after the shared stages, gone when the next one is asked for.

        frames: (T, H, W, 3). starts: ascending, at equal distances out of `SHIFTS`.
        """
        bordered = self._first.border.around(frames[None])
        n_frames, height, width, _ = frames.shape
        stretch = self._stretch.room((1, n_frames, height // 2, width // 2, 0))
        self._first.convolve(bordered, frames.shape[:3], stretch)
        middles = [
            self._middle(stretch.shape, [start for start in starts if start % _TILE_FRAMES == remainder])
            for remainder in range(_TILE_FRAMES)
        ]
        for start in starts:
            ends = self._end_inputs(bordered[0], start, frames.shape[1:3])
            size = (END_FRAMES, *stretch.shape[2:4])
            y = self._second.allocate(self._second.output_shape((1, self._clip_length, *size[1:])))
            n_end = END_FRAMES * y.shape[1] // self._clip_length
            self._second.convolve(ends, size, both_ends(y[0], n_end))
            first, middle = middles[start % _TILE_FRAMES]
            begin = (start - first) * n_end // END_FRAMES
            y[0, n_end:-n_end] = middle[begin : begin + y.shape[1] - 2 * n_end]
            yield y

    def _middle(self, shape: tuple[int, ...], starts: Sequence[int]) -> tuple[int, Tensor]:
        """Pooled conv2a of all but the ends of clips whose tiles fall on the same frames, from the first of them on.

        shape: of conv1a (1, T', H, W, C), which `_stretch` holds. Also returns the first frame of these clips.
        """
        if not starts:
            return 0, torch.empty(0)
        span = starts[-1] - starts[0] + self._clip_length - 2 * END_FRAMES
        size = (span, *shape[2:4])
        middle = self._middles[starts[0] % _TILE_FRAMES].room(self._second.output_shape((1, *size)))
        self._second.convolve(self._stretch.whole(shape)[:, starts[0] + END_FRAMES :], size, middle)
        return starts[0], middle[0]

    def _end_inputs(self, pixels: Tensor, start: int, size: Sequence[int]) -> Tensor:
        """conv1a of the first and of the last frames of the clip (2, T', H', W', C), each beside a frame of zeros.

        pixels: the stretch (T', H', W', 3) with its border.
        """
        stop = start + self._clip_length
        height, width = size
        ends = self._ends.whole((2, END_FRAMES, height // 2, width // 2, 0))
        stretch = self._stretch.whole((1, pixels.shape[0] - 2, height // 2, width // 2, 0))[0]
        ends[0, 2:4] = stretch[start + 2 : start + 4]
        ends[1, :2] = stretch[stop - 2 : stop]
        # The first and last frame of each clip see a frame of zeros beside them, and so are not those of the stretch.
        for end, frame, first in ((0, 1, start), (1, 2, stop - 1)):
            inputs = torch.zeros(1, 3, *pixels.shape[1:])
            inside = slice(1, 3) if end == 0 else slice(0, 2)
            inputs[0, inside] = pixels[first : first + 3][inside]
            y = ends[end : end + 1, frame : frame + 1, 1 : height // 2 + 1, 1 : width // 2 + 1]
            self._first.convolve(inputs, (1, height, width), y)
        return ends
