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

from c3dvideo.network.stages import END_FRAMES, Border, CompiledConv, CompiledFirst, Stage, has_ends

SHIFTS = (1, 2, 3, 4, 6, 8)  # starts further apart have too little in common
_TILE_FRAMES = 4


class SharedStart:
    """The first two stages of the compiled network, on stretches of video with several clips."""

    n_stages = 2

    def __init__(self, first: CompiledFirst, second: CompiledConv, clip_length: int) -> None:
        self._first = first
        self._second = second
        self._clip_length = clip_length
        self._stretch = second.border.another()
        self._ends = second.border.another()
        self._result = Border(len(second.bias), frames=2)

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
        """For every clip the activation (1, T, H, W, C) after the shared stages.

        frames: (T, H, W, 3). starts: ascending, at equal distances out of `SHIFTS`.
        """
        length = self._clip_length
        bordered = self._first.border.around(frames[None])
        n_frames, height, width, _ = frames.shape
        size = (height // 2, width // 2)
        stretch = self._stretch.room((1, n_frames, *size, 0))
        self._first.convolve(bordered, frames.shape[:3], stretch)
        # The first and last frame of each clip, which see a frame of zeros beside them.
        inputs = bordered.new_zeros(2 * len(starts), 3, *bordered.shape[2:])
        for clip, start in enumerate(starts):
            inputs[2 * clip, 1:] = bordered[0, start + 1 : start + 3]
            inputs[2 * clip + 1, :2] = bordered[0, start + length - 1 : start + length + 1]
        ends = stretch.new_empty(len(inputs), 1, *size, stretch.shape[-1])
        self._first.convolve(inputs, (1, height, width), ends)
        found: dict[int, Tensor] = {}
        for remainder in range(_TILE_FRAMES):
            members = [clip for clip, start in enumerate(starts) if start % _TILE_FRAMES == remainder]
            if members:
                found.update(self._aligned(stretch, ends, [(clip, starts[clip]) for clip in members]))
        yield from (found[clip] for clip in range(len(starts)))

    def _aligned(self, stretch: Tensor, ends: Tensor, clips: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Tensor]]:
        """The pooled conv2a of clips whose tiles fall on the same frames, each with its number.

        stretch: conv1a (1, T', H, W, C) inside its border. ends: (2 * clips, 1, H, W, C), its first and last frame as
            every clip has them. clips: numbers and first frames.
        """
        length, size = self._clip_length, stretch.shape[2:4]
        whole = self._stretch.whole((1, *stretch.shape[1:4], 0))
        first, last = clips[0][1], clips[-1][1]
        span = last - first + length - 2 * END_FRAMES
        middle = self._result.room(self._second.output_shape((1, span, *size)))
        self._second.convolve(whole[:, first + END_FRAMES :], (span, *size), middle)
        inputs = self._ends.whole((2 * len(clips), END_FRAMES, *size, 0))
        inside = (slice(1, size[0] + 1), slice(1, size[1] + 1))
        for row, (clip, start) in enumerate(clips):
            inputs[2 * row, 1, *inside] = ends[2 * clip, 0]
            inputs[2 * row, 2:4] = whole[0, start + 2 : start + 4]
            inputs[2 * row + 1, :2] = whole[0, start + length - 2 : start + length]
            inputs[2 * row + 1, 2, *inside] = ends[2 * clip + 1, 0]
        ends_after = middle.new_empty(self._second.output_shape((len(inputs), END_FRAMES, *size)))
        self._second.convolve(inputs, (END_FRAMES, *size), ends_after)
        divisor = span // middle.shape[1]
        for row, (clip, start) in enumerate(clips):
            begin = (start - first) // divisor
            part = middle[0, begin : begin + (length - 2 * END_FRAMES) // divisor]
            yield clip, torch.cat([ends_after[2 * row], part, ends_after[2 * row + 1]])[None]
