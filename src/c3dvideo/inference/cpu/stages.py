"""The pieces that `cpu` strings together, each for one activation: in plain PyTorch, compiled, or the network's own.

Activations between them are channels-last, (N, T, H, W, C), and (N, D) from fc6 on.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from c3dvideo.inference.cpu.kernels import CEIL, Kernels, zeros
from c3dvideo.inference.cpu.winograd import TILE_SIDE, WinogradConv, share_out, transform_row_weights
from c3dvideo.network.c3d import C3D

END_FRAMES = 2
_FIRST_FRAMES = 2


class Stage:
    """Computes the activation `name` from the one before it: channels last (N, T, H, W, C), or (N, D) from fc6 on.

    channels: how many channels of the result are real; further ones hold zeros.
    allocate: gives the memory for a result of some shape; set to write straight into the next stage's border.
    """

    def __init__(self, name: str, channels: int) -> None:
        self.name = name
        self.channels = channels
        self.allocate: Callable[[tuple[int, ...]], Tensor] = torch.empty

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class DirectStage(Stage):
    """A step as the network itself computes it, one clip at a time."""

    def __init__(self, network: C3D, name: str, channels_before: int) -> None:
        layer = network.head if name == "fc8" else getattr(network, name, None)
        super().__init__(name, len(layer.weight) if isinstance(layer, nn.Conv3d | nn.Linear) else channels_before)
        self._network = network
        self._channels_before = channels_before

    def __call__(self, x: Tensor) -> Tensor:
        clips = channels_first(x[..., : self._channels_before]) if x.ndim == 5 else x
        y = torch.cat([self._network.step(self.name, clip.contiguous()[None]) for clip in clips])
        return y.permute(0, 2, 3, 4, 1) if y.ndim == 5 else y


class WinogradStage(Stage):
    """A convolution, ReLU and, when `name` is a pool, the 2x2x2 pooling after it, in plain PyTorch."""

    def __init__(self, name: str, layer: nn.Conv3d) -> None:
        super().__init__(name, layer.out_channels)
        self._convolution = WinogradConv(layer, pool=name.startswith("pool"))

    def __call__(self, x: Tensor) -> Tensor:
        return self._convolution(x[..., : self._convolution.weights.shape[1]])


class FirstStage(Stage):
    """conv1a, ReLU and pool1 as a 2-D convolution over three stacked frames; the 51 MB in between never exist."""

    def __init__(self, name: str, layer: nn.Conv3d) -> None:
        super().__init__(name, layer.out_channels)
        stacked = layer.weight.detach().permute(0, 2, 1, 3, 4).flatten(1, 2)
        self._weight = stacked.contiguous(memory_format=torch.channels_last)
        self._bias = _bias(layer)

    def __call__(self, x: Tensor) -> Tensor:
        n_clips, frames, height, width, _ = x.shape
        y = self.allocate((n_clips, frames, height // 2, width // 2, self.channels))
        bordered = nn.functional.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))

        def compute(work: tuple[int, int]) -> None:
            clip, first = work
            last = min(frames, first + _FIRST_FRAMES)
            stacked = torch.cat([bordered[clip, first + shift : last + shift] for shift in range(3)], dim=-1)
            pixels = nn.functional.conv2d(stacked.permute(0, 3, 1, 2), self._weight, padding=1)
            pooled = nn.functional.max_pool2d(pixels, 2).permute(0, 2, 3, 1)
            torch.clamp_min(pooled + self._bias, 0, out=y[clip, first:last])

        share_out([(clip, first) for clip in range(n_clips) for first in range(0, frames, _FIRST_FRAMES)], compute)
        return y


class Border:
    """Activations with a border of zeros, kept from call to call, so that a result is written where it will be read."""

    def __init__(self, channels: int, *, frames: int = 1, side: int = 1) -> None:
        self._channels = channels
        self._frames, self._side = frames, side
        self._kept = torch.empty(0)
        self._size: tuple[int, ...] = ()

    def room(self, shape: tuple[int, ...]) -> Tensor:
        """The inside (N, T, H, W, channels) of the border; what it held before is lost."""
        n_clips, *size, _ = shape
        if len(self._kept) < n_clips or self._size != tuple(size):
            steps = (self._frames, self._side, self._side)
            padded = [-(-length // step) * step + 2 for length, step in zip(size, steps, strict=True)]
            shape = (n_clips, *padded, self._channels)
            self._kept, self._size = zeros(math.prod(shape)).view(shape), tuple(size)
        frames, height, width = size
        return self._kept[:n_clips, 1 : frames + 1, 1 : height + 1, 1 : width + 1]

    def another(self) -> "Border":
        """A border of the same kind with memory of its own."""
        return Border(self._channels, frames=self._frames, side=self._side)

    def whole(self, shape: tuple[int, ...]) -> Tensor:
        """The room of this shape with its border (N, T', H', W', channels)."""
        room = self.room(shape)
        return self._kept[: len(room)]

    def around(self, x: Tensor) -> Tensor:
        """`x` with the border, copied inside unless it was written there to begin with."""
        room = self.room(tuple(x.shape))
        if x.data_ptr() != room.data_ptr():
            room[..., : x.shape[-1]] = x
        return self._kept[: len(x)]


class CompiledConv(Stage):
    """`WinogradStage` by the compiled layers; channels are rounded up to whole panels of zeros.

    ceil: pool windows at the far border are cut rather than left out.
    """

    def __init__(self, name: str, layer: nn.Conv3d, kernels: Kernels, *, ceil: bool = False) -> None:
        super().__init__(name, layer.out_channels)
        self._kernels = kernels
        self._pool = (CEIL if ceil else 1) if name.startswith("pool") else 0
        self.border = Border(kernels.whole_panels(layer.in_channels), frames=4, side=TILE_SIDE)
        self.bias = _padded(_bias(layer), kernels.whole_panels(layer.out_channels))
        self._weights = layer.weight.detach().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        y = self.allocate(self.output_shape(x.shape))
        bordered = self.border.around(x)
        frames, *size = x.shape[1:4]
        if not has_ends(frames):
            self.convolve(bordered, x.shape[1:4], y, alone=True)
            return y
        end = END_FRAMES * y.shape[1] // frames
        self.convolve(bordered[:, END_FRAMES:], (frames - 2 * END_FRAMES, *size), y[:, end:-end])
        for clip in range(len(x)):
            ends = both_ends(bordered[clip, : frames + 2], END_FRAMES + 2)
            self.convolve(ends, (END_FRAMES, *size), both_ends(y[clip], end))
        return y

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the result, with its whole panels of channels, for an input of this shape."""
        divisor, more = 2 if self._pool else 1, 1 if self._pool == CEIL else 0
        return (shape[0], *((length + more) // divisor for length in shape[1:4]), len(self.bias))

    def convolve(self, bordered: Tensor, size: Sequence[int], y: Tensor, *, alone: bool = False) -> None:
        """Compute `y` from an input of `size` (T, H, W) with its border, in tiles that begin at its first frame.

        alone: these are whole clips, with zeros before and after.
        """
        frames = size[0]
        if alone and frames == 2:
            times = 3
        else:
            times = 6 if 6 * -(-frames // 4) < 4 * -(-frames // 2) else 4
        self._kernels.winograd(
            bordered, self._weights, self.bias, y, size=size, times=times, pool=self._pool, relu=True
        )


class CompiledFirst(Stage):
    """`FirstStage` by the compiled layers."""

    def __init__(self, name: str, layer: nn.Conv3d, kernels: Kernels) -> None:
        super().__init__(name, layer.out_channels)
        self._kernels = kernels
        self.border = Border(3, side=TILE_SIDE)
        channels = kernels.whole_panels(layer.out_channels)
        rows = transform_row_weights(layer.weight.detach())  # (C_out, C_in, T, H, 6)
        by_position = _padded(rows.permute(4, 2, 3, 1, 0).flatten(1, 3), channels)
        self._weights = by_position.view(6, 27, -1, kernels.panel).permute(2, 0, 1, 3).contiguous()
        self._bias = _padded(_bias(layer), channels)

    def __call__(self, x: Tensor) -> Tensor:
        n_clips, *size, _ = x.shape
        y = self.allocate((n_clips, size[0], size[1] // 2, size[2] // 2, len(self._bias)))
        self.convolve(self.border.around(x), size, y)
        return y

    def convolve(self, bordered: Tensor, size: Sequence[int], y: Tensor) -> None:
        """Compute `y` (N, T, H // 2, W // 2, C) from an input of `size` (T, H, W) with its border."""
        self._kernels.first(bordered, self._weights, self._bias, y, size=size)


class CompiledLinear(Stage):
    """A fully connected layer by the compiled kernel, which reads each weight once for several clips."""

    def __init__(self, name: str, layer: nn.Linear, channels_before: int, kernels: Kernels) -> None:
        super().__init__(name, layer.out_features)
        self._kernels = kernels
        self._channels_before = channels_before
        self._weights = layer.weight.detach()
        self._bias = _bias(layer)

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim == 5:
            x = channels_first(x[..., : self._channels_before])
        flat = x.flatten(1).contiguous()
        return self._kernels.linear(flat, self._weights, self._bias, relu=self.name != "fc8")


def has_ends(frames: int) -> bool:
    """Whether so many frames are computed as `END_FRAMES` at either end and, in longer tiles, those between.

    That costs a twelfth more than tiles of four throughout, and lets clips that overlap share what lies between.
    """
    return frames >= 16 and frames % 4 == 0


def both_ends(x: Tensor, frames: int) -> Tensor:
    """The first and the last `frames` of `x` (T, ...), as a view (2, frames, ...)."""
    return x.unfold(0, frames, len(x) - frames).movedim(-1, 1)


def _bias(layer: nn.Conv3d | nn.Linear) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach()


def _padded(x: Tensor, length: int) -> Tensor:
    """`x` with zeros up to `length` at the end of its last axis, contiguous."""
    return nn.functional.pad(x, (0, length - x.shape[-1])).contiguous()


def channels_first(x: Tensor) -> Tensor:
    """Activations (N, C, T, H, W) of channels-last ones; (N, D) as they are."""
    return x.permute(0, 4, 1, 2, 3) if x.ndim == 5 else x
