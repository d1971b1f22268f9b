"""Three Triton kernels for the work between the large matrix products of C3D on an NVIDIA GPU.

    finite = torch.ones(len(clips), dtype=torch.uint8, device=clips.device)
    volume = prepare_clips(clips, dtype=torch.bfloat16, scaling=scaling)   # clips: uint8 (N, 3, T, H, W)
    x = conv1_pool1(volume, filters, bias, finite)                         # conv1a, bias, ReLU and pool1
    x = pool_bias_relu(conv3d(x, weight), bias, finite, pool=pool2)        # after every other convolution

Activations are channels-last in memory (N, T, H, W, C). The maximum over a pooling window comes first, because adding
a bias and ReLU keep the order of numbers: they then touch a quarter or an eighth of them. `finite[n]` becomes 0 when
an activation of clip n, after ReLU and pooling, is infinite or NaN, as a float16 overflow makes it. NaN passes through
every maximum, as in PyTorch.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from c3dvideo.inference.scaling import Scaling

_ALL = tl.constexpr(tl.PropagateNan.ALL)
# PyTorch rounds a product before it adds. Measured on an H100: 168 registers leave room for three programs of 64
# positions per multiprocessor, so that two compute while one loads; float32 leaves room for one, of twice the size.
_UNFUSED = {"enable_fp_fusion": False}
_CONV1_16_BIT = {"num_warps": 4, "num_stages": 1, "maxnreg": 168, **_UNFUSED}
_CONV1_32_BIT = {"num_warps": 8, "num_stages": 1, **_UNFUSED}


def prepare_clips(
    clips: Tensor,
    *,
    dtype: torch.dtype,
    scaling: Scaling | None = None,
    view_index: Tensor | None = None,
    round_to_tf32: bool = False,
) -> Tensor:
    """Input of `conv1_pool1`: clips (N, 3, T, H, W) as a volume (N, T + 2, rows, columns, 4) with a border of zeros.

    scaling, view_index: for uint8 clips, their scaling and the view of each (int64 (N,), 0 by default). Without
        scaling, the values of the clips are taken as they are.
    round_to_tf32: round float32 to the nearest number that the tensor cores keep. They would cut off the low bits.
    There are H + 2 rows and W + 2 columns; one less where H or W is odd, because the pooling ignores the last one.
    """
    clips = clips.contiguous()
    n_clips, _, n_frames, height, width = clips.shape
    rows, columns = 2 * (height // 2) + 2, 2 * (width // 2) + 2
    volume = torch.empty(n_clips, n_frames + 2, rows, columns, 4, dtype=dtype, device=clips.device)
    if view_index is None:
        view_index = torch.zeros(n_clips, dtype=torch.int64, device=clips.device)
    means, std, scale = (clips, clips, 1.0) if scaling is None else (scaling.means, scaling.std, scaling.scale)
    block = 512
    _prepare_kernel[(triton.cdiv((n_frames + 2) * rows * columns, block), n_clips)](
        clips, view_index, means.contiguous(), std, volume, scale, n_frames, height, width, means.shape[2],
        rows, columns, is_scaled=scaling is not None, round_to_tf32=round_to_tf32, block=block, **_UNFUSED,
    )  # fmt: skip
    return volume


def conv1_fits(weight: Tensor, device: torch.device) -> bool:
    """Whether `conv1_pool1` can compute a conv1a with this weight on `device`."""
    if weight.shape[1:] != (3, 3, 3, 3):
        return False
    if device.type != "cuda":
        return True  # Triton's interpreter
    major, _ = torch.cuda.get_device_capability(device)
    # Float32 needs 168 KB of shared memory, which Hopper has. Capability 10 keeps sums in a memory of their own, where
    # eighteen products do not fit.
    return major in (8, 9, 12) if weight.dtype.itemsize == 2 else major == 9


def conv1_filters(weight: Tensor, *, round_to_tf32: bool = False) -> Tensor:
    """The weight of conv1a (C, 3, 3, 3, 3) as the right factor of `conv1_pool1`, (9 * 16, C, 2).

    Rows are 3 frames x 3 rows x 4 columns x 4 channels of input. The last axis is the left and the right column of a
    pooling window. Both depend on the same four input columns, so that each filter is there twice, once shifted by one.
    """
    n_channels = len(weight)
    filters = weight.new_zeros(3, 3, 4, 4, n_channels, 2)
    for column in range(2):
        filters[:, :, column : column + 3, :3, :, column] = weight.permute(2, 3, 4, 1, 0)
    filters = filters.view(144, n_channels, 2)
    if round_to_tf32:
        bits = filters.view(torch.int32)
        filters = ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)
    return filters


def conv1_pool1(volume: Tensor, filters: Tensor, bias: Tensor, finite: Tensor) -> Tensor:
    """Activation of pool1 from the volume of `prepare_clips`: channels-last (N, C, T, H // 2, W // 2).

    Computes conv1a (3x3x3), bias, ReLU and a maximum over 1x2x2. filters: from `conv1_filters`, in the volume's dtype;
    float32 is multiplied in TF32, and all sums are float32.
    """
    n_clips, volume_frames, rows, columns, _ = volume.shape
    n_frames, height, width, n_channels = volume_frames - 2, rows // 2 - 1, columns // 2 - 1, filters.shape[1]
    pooled = _channels_last((n_clips, n_channels, n_frames, height, width), like=volume)
    is_16_bit = volume.dtype.itemsize == 2
    block_positions = 64 if is_16_bit else 128
    block_channels = min(64, max(8, triton.next_power_of_2(n_channels)))
    n_tiles_per_frame = triton.cdiv(height * width, block_positions)
    n_tiles = n_clips * n_frames * n_tiles_per_frame
    n_programs = min(n_tiles, (3 if is_16_bit else 1) * _n_multiprocessors(volume.device))
    _conv1_pool1_kernel[(n_programs, triton.cdiv(n_channels, block_channels))](
        volume, filters, bias, pooled, finite, n_tiles, n_tiles_per_frame, n_frames, n_channels,
        rows=rows, columns=columns, block_positions=block_positions, block_channels=block_channels,
        **(_CONV1_16_BIT if is_16_bit else _CONV1_32_BIT),
    )  # fmt: skip
    return pooled


def pool_bias_relu(y: Tensor, bias: Tensor, finite: Tensor, *, pool: nn.MaxPool3d | None = None) -> Tensor:
    """ReLU(max(y) + bias) for y (N, C, T, H, W), channels-last: max over each window of `pool`.

    bias: float32 (C,), added in float32. pool: its windows touch and do not overlap, as those of C3D. Without a pool
        every number is its own maximum, and y itself is changed and returned if it is channels-last.
    """
    y = y.contiguous(memory_format=torch.channels_last_3d)
    n_clips, n_channels, *size = y.shape
    if pool is None:
        window, padding, pooled_size, pooled = [1, 1, 1], [0, 0, 0], size, y
    else:
        window, padding = _three(pool.kernel_size), _three(pool.padding)
        pooled_size = [_n_windows(*each, ceil=pool.ceil_mode) for each in zip(size, window, padding, strict=True)]
        pooled = _channels_last((n_clips, n_channels, *pooled_size), like=y)
    is_clipped = any(n * k > length for n, k, length in zip(pooled_size, window, size, strict=True)) or any(padding)
    n_positions = pooled_size[0] * pooled_size[1] * pooled_size[2]
    block_channels = min(128, triton.next_power_of_2(n_channels))
    block_positions = 1024 // block_channels
    grid = (triton.cdiv(n_positions, block_positions), triton.cdiv(n_channels, block_channels), n_clips)
    _pool_bias_relu_kernel[grid](
        y, bias, pooled, finite, n_channels, *size, *pooled_size, *padding,
        window_frames=window[0], window_rows=window[1], window_columns=window[2], is_clipped=is_clipped,
        block_positions=block_positions, block_channels=block_channels, **_UNFUSED,
    )  # fmt: skip
    return pooled


def _n_windows(length: int, window: int, padding: int, *, ceil: bool) -> int:
    """Pooling windows along an axis, each beginning where the one before it ends."""
    rest = length + 2 * padding - window
    return (-(-rest // window) if ceil else rest // window) + 1


def _three(size: Any) -> list[int]:
    return [size] * 3 if isinstance(size, int) else list(size)


def _channels_last(shape: tuple[int, ...], *, like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last_3d)


def _n_multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@triton.jit
def _prepare_kernel(
    clips, view_index, means, std, volume, scale, n_frames, height, width, mean_frames, rows, columns,
    is_scaled: tl.constexpr, round_to_tf32: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program writes `block` positions of the volume of one clip."""
    clip = tl.program_id(1).to(tl.int64)
    position = tl.program_id(0) * block + tl.arange(0, block)
    channel = tl.arange(0, 4)
    # The volume begins with a frame, a row and a column of its border.
    frame = position // (rows * columns) - 1
    row = position // columns % rows - 1
    column = position % columns - 1
    is_inside = (frame >= 0) & (frame < n_frames) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    mask = is_inside[:, None] & (channel < 3)[None, :]
    pixel = (row * width + column)[:, None]
    at = (channel[None, :] * n_frames + frame[:, None]) * (height * width) + pixel
    value = tl.load(clips + clip * 3 * n_frames * height * width + at, mask, other=0).to(tl.float32)
    if is_scaled:
        view = tl.load(view_index + clip)
        at = (channel[None, :] * mean_frames + (frame % mean_frames)[:, None]) * (height * width) + pixel
        mean = tl.load(means + view * 3 * mean_frames * height * width + at, mask, other=0)
        divisor = tl.load(std + channel, channel < 3, other=1)
        # `/` is an approximation in Triton; this rounds as PyTorch does.
        value = tl.div_rn(value * scale - mean, tl.broadcast_to(divisor[None, :], mean.shape))
    if round_to_tf32:
        bits = value.to(tl.uint32, bitcast=True)
        value = ((bits + 0xFFF + ((bits >> 13) & 1)) & 0xFFFFE000).to(tl.float32, bitcast=True)
    n_positions = (n_frames + 2) * rows * columns
    at = (clip * n_positions + position) * 4
    mask = (position < n_positions)[:, None] & (channel < 4)[None, :]
    tl.store(volume + at[:, None] + channel[None, :], value.to(volume.dtype.element_ty), mask)


@triton.jit
def _pool_bias_relu_kernel(
    y, bias, pooled, finite, n_channels, n_frames, height, width, pooled_frames, pooled_height, pooled_width,
    padding_frames, padding_rows, padding_columns,
    window_frames: tl.constexpr, window_rows: tl.constexpr, window_columns: tl.constexpr, is_clipped: tl.constexpr,
    block_positions: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """One program writes `block_positions` pooled positions of `block_channels` channels of one clip."""
    clip = tl.program_id(2).to(tl.int64)
    position = tl.program_id(0) * block_positions + tl.arange(0, block_positions)
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    is_there = position < pooled_frames * pooled_height * pooled_width
    mask = is_there[:, None] & (channel < n_channels)[None, :]
    frame = position // (pooled_height * pooled_width) * window_frames - padding_frames
    row = position // pooled_width % pooled_height * window_rows - padding_rows
    column = position % pooled_width * window_columns - padding_columns
    source = y + clip * n_frames * height * width * n_channels + channel[None, :]
    best = tl.full((block_positions, block_channels), float("-inf"), y.dtype.element_ty)
    for k in tl.static_range(window_frames * window_rows * window_columns):
        z = frame + k // (window_rows * window_columns)
        r = row + k // window_columns % window_rows
        c = column + k % window_columns
        at = ((z * height + r) * width + c) * n_channels
        inside = mask
        if is_clipped:
            is_input = (z >= 0) & (z < n_frames) & (r >= 0) & (r < height) & (c >= 0) & (c < width)
            inside = mask & is_input[:, None]
        best = tl.maximum(best, tl.load(source + at[:, None], inside, other=float("-inf")), propagate_nan=_ALL)
    shift = tl.load(bias + channel, channel < n_channels, other=0)
    best = tl.maximum(best.to(tl.float32) + shift[None, :], 0.0, propagate_nan=_ALL).to(y.dtype.element_ty)
    at = (clip * pooled_frames * pooled_height * pooled_width + position) * n_channels
    tl.store(pooled + at[:, None] + channel[None, :], best, mask)
    _mark(finite + clip, best, mask)


@triton.jit
def _conv1_pool1_kernel(
    volume, filters, bias, pooled, finite, n_tiles, n_tiles_per_frame, n_frames, n_channels: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, block_positions: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """One program computes every n-th tile of `block_positions` pooled positions and `block_channels` channels.

    A pooling window covers two columns and two rows of the convolution. Its columns are outputs of the same four input
    columns: one product, twice as wide. Its rows are two products, which share two of their three input rows.
    """
    height: tl.constexpr = rows // 2 - 1
    width: tl.constexpr = columns // 2 - 1
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    shift = tl.load(bias + channel, channel < n_channels, other=0)
    weights = (
        _filters(filters, 0, n_channels, block_channels),
        _filters(filters, 1, n_channels, block_channels),
        _filters(filters, 2, n_channels, block_channels),
    )
    for tile in range(tl.program_id(0), n_tiles, tl.num_programs(0)):
        frame = (tile // n_tiles_per_frame).to(tl.int64)  # of all clips
        clip = frame // n_frames
        position = tile % n_tiles_per_frame * block_positions + tl.arange(0, block_positions)
        is_there = position < height * width
        source = tl.minimum(position, height * width - 1)
        corner = (source // width * (2 * columns) + source % width * 2) * 4
        taps = volume + (frame + 2 * clip) * (rows * columns * 4) + corner[:, None] + tl.arange(0, 16)[None, :]
        # All loads come before the products: they are under way together.
        inputs = (_rows(taps, 0, rows, columns), _rows(taps, 1, rows, columns), _rows(taps, 2, rows, columns))
        upper = tl.zeros((block_positions, 2 * block_channels), tl.float32)
        lower = tl.zeros((block_positions, 2 * block_channels), tl.float32)
        for depth in tl.static_range(3):
            for row in tl.static_range(3):
                upper = tl.dot(inputs[depth][row], weights[depth][row], upper, input_precision="tf32")
        for depth in tl.static_range(3):
            for row in tl.static_range(3):
                lower = tl.dot(inputs[depth][row + 1], weights[depth][row], lower, input_precision="tf32")
        best = tl.maximum(upper, lower, propagate_nan=_ALL)
        left, right = tl.split(tl.reshape(best, (block_positions, block_channels, 2)))
        best = tl.maximum(left, right, propagate_nan=_ALL) + shift[None, :]
        best = tl.maximum(best, 0.0, propagate_nan=_ALL).to(pooled.dtype.element_ty)
        mask = is_there[:, None] & (channel < n_channels)[None, :]
        at = (frame * (height * width) + position) * n_channels
        tl.store(pooled + at[:, None] + channel[None, :], best, mask)
        _mark(finite + clip, best, mask)


@triton.jit
def _filters(filters, depth: tl.constexpr, n_channels: tl.constexpr, block_channels: tl.constexpr):
    """The three rows of one frame of the filters, each (16, 2 * block_channels)."""
    column = tl.arange(0, 2 * block_channels)
    channel = tl.program_id(1) * block_channels + column // 2
    at = (depth * 48 + tl.arange(0, 16))[:, None] * (2 * n_channels) + (channel * 2 + column % 2)[None, :]
    mask = (channel < n_channels)[None, :]
    return (
        tl.load(filters + at, mask, other=0),
        tl.load(filters + at + 32 * n_channels, mask, other=0),
        tl.load(filters + at + 64 * n_channels, mask, other=0),
    )


@triton.jit
def _rows(taps, depth: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr):
    """The four rows of one frame of the input, each (block_positions, 16): four pixels of four channels."""
    at = taps + depth * (rows * columns * 4)
    return (tl.load(at), tl.load(at + columns * 4), tl.load(at + columns * 8), tl.load(at + columns * 12))


@triton.jit
def _mark(finite, activation, mask):
    """Write 0 to `finite` when an activation (positions, channels) is infinite or NaN. Rows need no common decision."""
    is_bad = tl.max((mask & ~(activation.to(tl.float32) < float("inf"))).to(tl.int32), axis=1)
    tl.store(finite + tl.zeros_like(is_bad), tl.zeros_like(is_bad).to(tl.uint8), is_bad > 0)
