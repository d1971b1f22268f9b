"""3-D convolution by Winograd's minimal filtering: a sixth of the multiplications, the same result up to rounding.

    layer = WinogradConv(network.conv3b, pool=True)
    pooled = layer(clips)                      # (N, T, H, W, C): conv3b + ReLU + pool3 in one pass

The output of a 3x3x3 convolution with stride 1 and padding 1 is cut into tiles of 2 frames x 4 rows x 4 columns. A tile
depends on 4 x 6 x 6 inputs, its positions. Per pair of channels it needs one product per position, 144, where direct
convolution needs 27 per output, 864 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016:
F(4x4, 3x3), here with F(2, 3) along time). All products of one position, over tiles and channels, form one matrix
product.

Everything here is plain PyTorch, in float32 or float64. `kernels` holds the compiled form of `WinogradConv`, with tiles
of four frames where that saves products. Activations are channels-last, (N, T, H, W, C), so that one position of all
tiles is a dense matrix (tiles, channels).
"""

import math
from functools import cache
from threading import local
from typing import TypeGuard

import torch
from torch import Tensor, nn

from c3dvideo.inference.cpu.sharing import share_out

TILE_FRAMES, TILE_SIDE = 2, 4
POSITIONS = (TILE_FRAMES + 2) * (TILE_SIDE + 2) ** 2
_CHUNK_NUMBERS = 4_000_000  # in the transformed input or output of a chunk: the workspace of a thread stays small
_GROUP_TILES = 16  # at least so many tiles per matrix product: fewer rows leave the matrix library slow

# F(4, 3) at the points 0, 1/sqrt(2), -1/sqrt(2), sqrt(2), -sqrt(2) and infinity. Its errors are a third of those at the
# usual points 0, 1, -1, 2, -2, as the powers of the points stay closer to 1. F(2, 3) at 0, 1, -1 and infinity.
_ROOT = math.sqrt(2)
_SPACE_WEIGHT = (
    (1, 0, 0),
    (-2 / 3, -_ROOT / 3, -1 / 3),
    (-2 / 3, _ROOT / 3, -1 / 3),
    (1 / 6, _ROOT / 6, 1 / 3),
    (1 / 6, -_ROOT / 6, 1 / 3),
    (0, 0, 1),
)
_SPACE_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, _ROOT / 2, -_ROOT / 2, _ROOT, -_ROOT, 0),
    (0, 1 / 2, 1 / 2, 2, 2, 0),
    (0, _ROOT / 4, -_ROOT / 4, 2 * _ROOT, -2 * _ROOT, 1),
)
_TIME_WEIGHT = ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1))


def takes(layer: object) -> TypeGuard[nn.Conv3d]:
    """Whether `layer` is a convolution that this module computes: 3x3x3, stride 1, padding 1, zeros."""
    return (
        isinstance(layer, nn.Conv3d)
        and layer.kernel_size == (3, 3, 3)
        and layer.stride == layer.dilation == (1, 1, 1)
        and layer.padding == (1, 1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
    )


def transform_weights(weight: Tensor) -> Tensor:
    """Weights (C_out, C_in, 3, 3, 3) at the 144 positions: (144, C_in, C_out), position = (column, row, time)."""
    # In float64, rounded once at the end: errors of the weights would be the same in every tile and not average out.
    space, time = (torch.tensor(each, dtype=torch.float64) for each in (_SPACE_WEIGHT, _TIME_WEIGHT))
    matrix = torch.einsum("ax,by,ct->abctyx", space, space, time).reshape(POSITIONS, 27)
    moved = weight.new_empty(POSITIONS, weight.shape[1], weight.shape[0])
    for start in range(0, len(weight), 32):  # in slices: the float64 of all of conv5b would take 300 MB
        piece = weight[start : start + 32].double().permute(2, 3, 4, 1, 0)
        moved[:, :, start : start + 32] = (matrix @ piece.reshape(27, -1)).view(POSITIONS, *piece.shape[3:])
    return moved


def transform_row_weights(weight: Tensor) -> Tensor:
    """Weights (C_out, C_in, T, H, 3) at the 6 positions of a tile along its row, (C_out, C_in, T, H, 6)."""
    return (weight.double() @ torch.tensor(_SPACE_WEIGHT, dtype=torch.float64).T).to(weight.dtype)


class WinogradConv:
    """A convolution, ReLU and, with `pool`, 2x2x2 max pooling, on channels-last activations.

    The result for a clip depends in no bit on the clips beside it: matrix products have the same shape whatever the
    number of clips, so that the matrix library always sums in the same order.
    """

    def __init__(self, layer: nn.Conv3d, *, pool: bool = False, relu: bool = True) -> None:
        self.weights = transform_weights(layer.weight.detach())
        bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_channels)
        self.bias = bias.detach().clone()
        self.pool = pool
        self.relu = relu

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Activations (N, T, H, W, C_out), with pooling (N, T // 2, H // 2, W // 2, C_out), of (N, T, H, W, C_in)."""
        n_clips, frames, height, width, _ = x.shape
        n_times, n_rows, n_columns = (-(-frames // TILE_FRAMES), -(-height // TILE_SIDE), -(-width // TILE_SIDE))
        divisor = 2 if self.pool else 1
        y = x.new_empty(n_clips, frames // divisor, height // divisor, width // divisor, self.weights.shape[2])
        tiles_per_time = n_rows * n_columns
        most = max(1, _CHUNK_NUMBERS // (POSITIONS * tiles_per_time * max(self.weights.shape[1:])))
        times = -(-n_times // -(-n_times // most))  # of nearly equal chunks, so that the last is not a small rest
        clips = max(1, _GROUP_TILES // (n_times * tiles_per_time)) if times == n_times else 1
        shape = (clips, times * TILE_FRAMES + 2, n_rows * TILE_SIDE + 2, n_columns * TILE_SIDE + 2, x.shape[4])

        def compute(work: tuple[int, int]) -> None:
            clip, first = work
            group = x[clip : clip + clips]
            before, after = max(0, first - 1), min(frames, first + times * TILE_FRAMES + 1)
            # Always the full shape: a group with fewer clips is filled up with zeros.
            padded = _buffer("padded", shape, x).zero_()
            inside = padded[: len(group), before - first + 1 : after - first + 1, 1 : height + 1, 1 : width + 1]
            inside.copy_(group[:, before:after])
            tiles = self._tiles(padded, times, n_rows, n_columns)
            found = y[clip : clip + clips, first // divisor : (first + times * TILE_FRAMES) // divisor]
            found.copy_(tiles[: len(group), : found.shape[1], : found.shape[2], : found.shape[3]])

        step = times * TILE_FRAMES
        share_out([(clip, first) for clip in range(0, n_clips, clips) for first in range(0, frames, step)], compute)
        return y

    def _tiles(self, padded: Tensor, times: int, rows: int, columns: int) -> Tensor:
        """The output of whole tiles, (clips, frames, rows, columns, C_out), from their zero-padded input."""
        clips, channels_in, channels_out = len(padded), *self.weights.shape[1:]
        n_tiles = clips * times * rows * columns
        early, even, odd, late = (padded[:, shift : shift + 2 * times - 1 : 2] for shift in range(4))
        moved = _buffer("moved", (4, *early.shape), padded)
        torch.sub(early, odd, out=moved[0])
        torch.add(even, odd, out=moved[1])
        torch.sub(odd, even, out=moved[2])
        torch.sub(even, late, out=moved[3])
        by_row = _buffer("by_row", (6, 4, clips, times, rows, moved.shape[4], channels_in), padded)
        _transform_side([moved[:, :, :, row : row + TILE_SIDE * rows - 3 : TILE_SIDE] for row in range(6)], by_row)
        inputs = _buffer("inputs", (6, 6, 4, clips, times, rows, columns, channels_in), padded)
        _transform_side(
            [by_row[:, :, :, :, :, column : column + TILE_SIDE * columns - 3 : TILE_SIDE] for column in range(6)],
            inputs,
        )
        products = _buffer("products", (POSITIONS, n_tiles, channels_out), padded)
        torch.bmm(inputs.view(POSITIONS, n_tiles, channels_in), self.weights, out=products)
        # Columns and rows at once, as one matrix product with the small operand on the left.
        outputs = _buffer("outputs", (16, 4 * n_tiles * channels_out), padded)
        torch.mm(_output_matrix(padded.dtype), products.view(36, -1), out=outputs)
        # Axes now: column in tile, row in tile, position in time, clip, tile in time, tile row, tile column, channel.
        cells = outputs.view(4, 4, 4, clips, times, rows, columns, channels_out)
        middle, spread = cells[:, :, 1] + cells[:, :, 2], cells[:, :, 1] - cells[:, :, 2]
        frames = (middle.add_(cells[:, :, 0]), spread.sub_(cells[:, :, 3]))
        if self.pool:  # before bias and ReLU, which keep the order of numbers: they then touch an eighth of them
            window = torch.maximum(*frames)
            window = torch.maximum(window[0::2], window[1::2])
            y = torch.maximum(window[:, 0::2], window[:, 1::2])[None]
        else:
            y = torch.stack(frames)
        y += self.bias
        if self.relu:
            y.relu_()
        frames_out, side = y.shape[:2]
        return y.permute(3, 4, 0, 5, 2, 6, 1, 7).reshape(
            clips, times * frames_out, rows * side, columns * side, channels_out
        )


class _Workspace(local):
    """Buffers of one thread, kept from call to call: fresh memory costs a page fault per 4 KB."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, torch.dtype], Tensor] = {}


_workspace = _Workspace()


def _buffer(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Memory of the calling thread, under a name. Former contents are lost."""
    size = math.prod(shape)
    kept = _workspace.kept.get((name, like.dtype))
    if kept is None or kept.numel() < size:
        kept = _workspace.kept[name, like.dtype] = like.new_empty(size)
    return kept[:size].view(shape)


def _transform_side(lines: list[Tensor], out: Tensor) -> None:
    """The input transform along one axis of space: six lines of every tile become `out[0]` to `out[5]`."""
    # Element-wise steps and not a 6 x 6 matrix product, for which the matrix library would copy its wide operand first.
    torch.sub(lines[4], lines[2], alpha=2.5, out=out[0]).add_(lines[0])
    torch.sub(lines[5], lines[3], alpha=2.5, out=out[5]).add_(lines[1])
    for near, far, factor, root in ((1, 2, 2.0, _ROOT / 2), (3, 4, 0.5, _ROOT)):
        even = torch.sub(lines[4], lines[2], alpha=factor, out=out[near])
        odd = torch.sub(lines[3], lines[1], alpha=factor, out=out[far]).mul_(root)
        torch.sub(even, odd, out=odd)
        even.mul_(2).sub_(odd)


@cache
def _output_matrix(dtype: torch.dtype) -> Tensor:
    """The output transform of columns and rows at once, (16, 36)."""
    one = torch.tensor(_SPACE_OUTPUT, dtype=dtype)
    return torch.kron(one, one)
