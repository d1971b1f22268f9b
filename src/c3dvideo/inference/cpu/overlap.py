"""Work that overlapping clips of one video have in common, computed once.

    shared = SharedStart.of(stages, layers=["fc6"], clip_length=16)
    clips = shared(frames, starts=[0, 4, 8])     # frames: (24, 112, 112, 3), mean subtracted; conv1a to pool2 of each

A convolution pads every clip with zeros before its first and after its last frame. Overlapping clips therefore agree
only away from their ends: in 14 of 16 frames after conv1a, 12 after conv2a, 4 of 8 after conv3a, hardly any after that.
The frames of conv1a and conv2a that agree are computed once over the whole stretch of video, the ends once per clip. A
Winograd tile spans four frames, so that clips share tiles only if their starts are equal modulo four. Every number has
the bits of the separate computation.

This needs an input that does not depend on the place of a frame in its clip: a mean that is constant in time.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from c3dvideo.inference.cpu.stages import END_FRAMES, Border, CompiledConv, CompiledFirst, Stage, both_ends, has_ends

SHIFTS = (1, 2, 3, 4, 6, 8)  # clips that start further apart have too little in common
_TILE_FRAMES = 4
_MOST_FRAMES = 72  # of a stretch: conv1a of each frame takes 0.9 MB


def longest_chain(shift: int) -> int:
    """The number of clips, `shift` frames apart, that one stretch of video may have."""
    return 1 + (_MOST_FRAMES - 16) // shift


class SharedStart:
    """The first two compiled stages, up to pool2, for several clips of one stretch of video."""

    n_stages = 2

    def __init__(self, first: CompiledFirst, second: CompiledConv, clip_length: int) -> None:
        self._first = first
        self._second = second
        self._clip_length = clip_length
        self._stretch = second.border.twin()
        self._ends = second.border.twin()
        # One per remainder modulo four: the middles of four groups of clips are alive at the same time.
        self._middles = [Border(len(second.bias)) for _ in range(_TILE_FRAMES)]

    @classmethod
    def of(cls, stages: Sequence[Stage], layers: Sequence[str], clip_length: int) -> "SharedStart | None":
        """The shared form of the first two of `stages`; None if they are not compiled, or if `layers` has one of them.

        A wanted layer has to exist whole for every clip, which leaves nothing to save.
        """
        names = [stage.name for stage in stages]
        if names[:2] != ["pool1", "pool2"] or not has_ends(clip_length) or {"pool1", "pool2"} & set(layers):
            return None
        first, second = stages[:2]
        if isinstance(first, CompiledFirst) and isinstance(second, CompiledConv):
            return cls(first, second, clip_length)
        return None

    def __call__(self, frames: Tensor, starts: Sequence[int]) -> Iterator[Tensor]:
        """Yield the activation (1, T, H, W, C) of each clip after the shared stages. The next one overwrites it.

        frames: (T, H, W, 3). starts: ascending, at one of the distances of `SHIFTS`.
        """
        bordered = self._first.border.surround(frames[None])
        n_frames, height, width, _ = frames.shape
        stretch = self._stretch.inside((1, n_frames, height // 2, width // 2, 0))
        self._first.convolve(bordered, frames.shape[:3], stretch)
        middles = [
            self._middle(stretch.shape, [start for start in starts if start % _TILE_FRAMES == remainder])
            for remainder in range(_TILE_FRAMES)
        ]
        for start in starts:
            ends = self._end_inputs(bordered[0], start, frames.shape[1:3])
            size = (END_FRAMES, *stretch.shape[2:4])
            y = self._second.allocate(self._second.output_shape((1, self._clip_length, *size[1:])))
            n_end = END_FRAMES * y.shape[1] // self._clip_length  # pooling halves the frames
            self._second.convolve(ends, size, both_ends(y[0], n_end))
            first, middle = middles[start % _TILE_FRAMES]
            begin = (start - first) * n_end // END_FRAMES
            y[0, n_end:-n_end] = middle[begin : begin + y.shape[1] - 2 * n_end]
            yield y

    def _middle(self, shape: tuple[int, ...], starts: Sequence[int]) -> tuple[int, Tensor]:
        """The start of the first of these clips, and pooled conv2a (T, H, W, C) from its first shared frame on.

        starts: of clips whose tiles fall on the same frames; empty for none. shape: of conv1a, which `_stretch` holds.
        """
        if not starts:
            return 0, torch.empty(0)
        span = starts[-1] - starts[0] + self._clip_length - 2 * END_FRAMES
        size = (span, *shape[2:4])
        middle = self._middles[starts[0] % _TILE_FRAMES].inside(self._second.output_shape((1, *size)))
        self._second.convolve(self._stretch.whole(shape)[:, starts[0] + END_FRAMES :], size, middle)
        return starts[0], middle[0]

    def _end_inputs(self, pixels: Tensor, start: int, size: Sequence[int]) -> Tensor:
        """Input of conv2a at both ends of a clip, (2, T', H', W', C) with its border.

        Beside its two frames, each end has a frame of the middle on one side and a frame of zeros, the padding of the
        clip, on the other. pixels: the stretch (T', H', W', 3) with its border.
        """
        stop = start + self._clip_length
        height, width = size
        ends = self._ends.whole((2, END_FRAMES, height // 2, width // 2, 0))
        stretch = self._stretch.whole((1, pixels.shape[0] - 2, height // 2, width // 2, 0))[0]
        ends[0, 2:4] = stretch[start + 2 : start + 4]
        ends[1, :2] = stretch[stop - 2 : stop]
        # conv1a of the first and the last frame of a clip saw padding, where the stretch has another frame. Only these
        # two are computed again.
        for end, frame, first in ((0, 1, start), (1, 2, stop - 1)):
            inputs = torch.zeros(1, 3, *pixels.shape[1:])
            inside = slice(1, 3) if end == 0 else slice(0, 2)
            inputs[0, inside] = pixels[first : first + 3][inside]
            y = ends[end : end + 1, frame : frame + 1, 1 : height // 2 + 1, 1 : width // 2 + 1]
            self._first.convolve(inputs, (1, height, width), y)
        return ends
