"""Stages of the network on a CPU. Each computes one activation: in plain PyTorch, compiled, or by the network's layer.

    stage = CompiledConv("pool3", network.conv3b, kernels)     # conv3b, ReLU and pool3 in one pass
    y = stage(x)                               # x: channels-last activation of conv3a

`winograd_network` chains them. Activations between stages are channels-last, (N, T, H, W, C), and (N, D) from fc6 on.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from c3dvideo.inference.cpu.kernels import CEIL, Kernels, zeros
from c3dvideo.inference.cpu.sharing import share_out
from c3dvideo.inference.cpu.winograd import TILE_SIDE, WinogradConv, transform_row_weights
from c3dvideo.network.c3d import C3D

END_FRAMES = 2  # a tile of two frames at either end of a clip; see `has_ends`
_LINEAR_OUTPUTS = 256  # per piece of work: enough pieces for the threads of a large machine
_FIRST_FRAMES = 2  # frames of conv1a at a time: 6 MB before pooling, where all sixteen have 51


class Stage:
    """Computes the activation `name` from the one before it: channels-last (N, T, H, W, C), or (N, D) from fc6 on.

    channels: the number of real channels of the result; further ones hold zeros.
    allocate: returns memory for a result of some shape. The network sets it so that a stage writes its result inside
        the zero border that the next stage needs, without a copy.
    """

    def __init__(self, name: str, channels: int) -> None:
        self.name = name
        self.channels = channels
        self.allocate: Callable[[tuple[int, ...]], Tensor] = torch.empty

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class DirectStage(Stage):
    """A step as the network's own layer computes it."""

    def __init__(self, network: C3D, name: str, channels_before: int) -> None:
        layer = network.head if name == "fc8" else getattr(network, name, None)
        super().__init__(name, len(layer.weight) if isinstance(layer, nn.Conv3d | nn.Linear) else channels_before)
        self._network = network
        self._channels_before = channels_before

    def __call__(self, x: Tensor) -> Tensor:
        clips = channels_first(x[..., : self._channels_before]) if x.ndim == 5 else x
        found: list[Tensor] = [x] * len(clips)

        def compute(clip: int) -> None:
            found[clip] = self._network.step(self.name, clips[clip].contiguous()[None])

        # One clip per call and thread: PyTorch picks its kernels by the shape and by the number of threads, either of
        # which would change the last bits.
        share_out(range(len(clips)), compute)
        y = torch.cat(found)
        return y.permute(0, 2, 3, 4, 1) if y.ndim == 5 else y


class WinogradStage(Stage):
    """A convolution, ReLU and, when `name` is a pool, 2x2x2 pooling, in plain PyTorch."""

    def __init__(self, name: str, layer: nn.Conv3d) -> None:
        super().__init__(name, layer.out_channels)
        self._convolution = WinogradConv(layer, pool=name.startswith("pool"))

    def __call__(self, x: Tensor) -> Tensor:
        return self._convolution(x[..., : self._convolution.weights.shape[1]])


class FirstStage(Stage):
    """conv1a, ReLU and pool1 in plain PyTorch, as a 2-D convolution over three stacked frames."""

    def __init__(self, name: str, layer: nn.Conv3d) -> None:
        super().__init__(name, layer.out_channels)
        # Three frames of three channels become nine channels of one frame: here, PyTorch's 2-D convolution takes 0.4 of
        # the time of its 3-D one.
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
            # Bias and ReLU keep the order of numbers: after the maximum they touch a quarter of them.
            torch.clamp_min(pooled + self._bias, 0, out=y[clip, first:last])

        share_out([(clip, first) for clip in range(n_clips) for first in range(0, frames, _FIRST_FRAMES)], compute)
        return y


class LinearStage(Stage):
    """A fully connected layer in plain PyTorch, in slices of its outputs."""

    def __init__(self, name: str, layer: nn.Linear, channels_before: int) -> None:
        super().__init__(name, layer.out_features)
        self._channels_before = channels_before
        self._weights = layer.weight.detach()
        self._bias = _bias(layer)

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim == 5:
            x = channels_first(x[..., : self._channels_before])
        flat = x.flatten(1).contiguous()
        y = flat.new_empty(len(flat), self.channels)

        def compute(outputs: slice) -> None:
            # Each clip by itself: a product for a whole batch may sum in another order.
            for clip, row in zip(flat, y, strict=True):
                torch.addmv(self._bias[outputs], self._weights[outputs], clip, out=row[outputs])

        # The same slices on any number of threads, as the matrix library sums each shape in its own order.
        share_out([slice(at, at + _LINEAR_OUTPUTS) for at in range(0, self.channels, _LINEAR_OUTPUTS)], compute)
        return y if self.name == "fc8" else y.relu_()


class Border:
    """Activations inside a border of zeros. The memory is kept from call to call.

    Tiles at the edge read the border as if it were input, so that the kernels need no case for edges. A stage writes
    its result inside the next stage's border, where it is read without a copy.
    """

    def __init__(self, channels: int, *, frames: int = 1, side: int = 1) -> None:
        self._channels = channels
        self._frames, self._side = frames, side
        self._kept = torch.empty(0)
        self._size: tuple[int, ...] = ()

    def inside(self, shape: tuple[int, ...]) -> Tensor:
        """Memory (N, T, H, W, channels) inside the border, for an activation of `shape`. Former contents are lost."""
        n_clips, *size, _ = shape
        # Reused without clearing: stages write the inside only, so that the border keeps its zeros.
        if len(self._kept) < n_clips or self._size != tuple(size):
            steps = (self._frames, self._side, self._side)
            padded = [-(-length // step) * step + 2 for length, step in zip(size, steps, strict=True)]
            shape = (n_clips, *padded, self._channels)
            self._kept, self._size = zeros(math.prod(shape)).view(shape), tuple(size)
        frames, height, width = size
        return self._kept[:n_clips, 1 : frames + 1, 1 : height + 1, 1 : width + 1]

    def twin(self) -> "Border":
        """A border of the same kind with memory of its own."""
        return Border(self._channels, frames=self._frames, side=self._side)

    def whole(self, shape: tuple[int, ...]) -> Tensor:
        """`inside(shape)` together with its border, (N, T', H', W', channels)."""
        inside = self.inside(shape)
        return self._kept[: len(inside)]

    def surround(self, x: Tensor) -> Tensor:
        """`x` with the border. Copies `x` inside, unless it was written there in the first place."""
        inside = self.inside(tuple(x.shape))
        if x.data_ptr() != inside.data_ptr():
            inside[..., : x.shape[-1]] = x
        return self._kept[: len(x)]


class CompiledConv(Stage):
    """`WinogradStage` by the compiled layers. Channels are rounded up to whole panels, the added ones hold zeros.

    ceil: pooling windows that reach over the far edge are cut, not dropped.
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
        bordered = self.border.surround(x)
        frames, *size = x.shape[1:4]
        if not has_ends(frames):
            self.convolve(bordered, x.shape[1:4], y, alone=True)
            return y
        end = END_FRAMES * y.shape[1] // frames
        self.convolve(bordered[:, END_FRAMES:], (frames - 2 * END_FRAMES, *size), y[:, end:-end])
        for clip in range(len(x)):
            # Both ends of a clip are given as two short clips: a view of the same memory, so that nothing is copied.
            ends = both_ends(bordered[clip, : frames + 2], END_FRAMES + 2)
            self.convolve(ends, (END_FRAMES, *size), both_ends(y[clip], end))
        return y

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the result, with whole panels of channels, for an input of this shape."""
        divisor, more = 2 if self._pool else 1, 1 if self._pool == CEIL else 0
        return (shape[0], *((length + more) // divisor for length in shape[1:4]), len(self.bias))

    def convolve(self, bordered: Tensor, size: Sequence[int], y: Tensor, *, alone: bool = False) -> None:
        """Compute `y` from a bordered input of `size` (T, H, W), in tiles that begin at its first frame.

        alone: the input is whole clips, with zeros before and after them in time.
        """
        frames = size[0]
        # A tile has `times` positions in time, each of which costs the same. Six give four frames, four give two, and
        # three are enough for a clip of two frames between zeros (conv5). The cheapest for this length is taken.
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
        # Tiles lie along rows only. A tile that spans several frames would save no more, and overlapping clips could
        # no longer share single frames (see `overlap`).
        rows = transform_row_weights(layer.weight.detach())  # (C_out, C_in, T, H, 6)
        by_position = _padded(rows.permute(4, 2, 3, 1, 0).flatten(1, 3), channels)
        self._weights = by_position.view(6, 27, -1, kernels.panel).permute(2, 0, 1, 3).contiguous()
        self._bias = _padded(_bias(layer), channels)

    def __call__(self, x: Tensor) -> Tensor:
        n_clips, *size, _ = x.shape
        y = self.allocate((n_clips, size[0], size[1] // 2, size[2] // 2, len(self._bias)))
        self.convolve(self.border.surround(x), size, y)
        return y

    def convolve(self, bordered: Tensor, size: Sequence[int], y: Tensor) -> None:
        """Compute `y` (N, T, H // 2, W // 2, C) from a bordered input of `size` (T, H, W)."""
        self._kernels.first(bordered, self._weights, self._bias, y, size=size)


class CompiledLinear(Stage):
    """A fully connected layer by the compiled kernel, which reads each weight once for four clips.

    Reading the weights is nearly all of its time: 134 MB in fc6.
    """

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
    """Whether a clip of this length is computed as `END_FRAMES` frames at either end and longer tiles between them.

    The frames between are then the same numbers in overlapping clips, which share them. A clip that comes alone is cut
    in the same way, although it costs a twelfth more than tiles of four throughout: no bit of a clip may change when a
    neighbour joins it.
    """
    return frames >= 16 and frames % 4 == 0


def both_ends(x: Tensor, frames: int) -> Tensor:
    """The first and the last `frames` frames of `x` (T, ...), as a view (2, frames, ...)."""
    return x.unfold(0, frames, len(x) - frames).movedim(-1, 1)


def _bias(layer: nn.Conv3d | nn.Linear) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach()


def _padded(x: Tensor, length: int) -> Tensor:
    """`x` with zeros up to `length` at the end of its last axis, contiguous."""
    return nn.functional.pad(x, (0, length - x.shape[-1])).contiguous()


def channels_first(x: Tensor) -> Tensor:
    """Activations (N, C, T, H, W) of channels-last ones; (N, D) as they are."""
    return x.permute(0, 4, 1, 2, 3) if x.ndim == 5 else x
