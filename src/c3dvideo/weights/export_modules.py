"""What an exported file computes, as PyTorch modules: the network up to its deepest layer, and the preprocessing.

    module = Exportable(network, ["fc6"], with_preprocessing=True)
    module(frames)["fc6"]                      # frames: uint8 (N, 16, H, W, 3), RGB as decoded, of any height and width

The modules use plain tensor operations only, and no shape that depends on the number or the size of the frames, so that
every exporter keeps those dynamic.
"""

from collections.abc import Sequence
from copy import copy
from typing import cast

import torch
from torch import Tensor, nn

from c3dvideo.errors import UsageError
from c3dvideo.inference.scaling import Scaling
from c3dvideo.network.c3d import C3D
from c3dvideo.video.preprocess import Profile

_WEIGHT_BITS = 2048  # OpenCV's weights are whole 2048ths


class Exportable(nn.Module):
    """The named activations of clips, by name: what the exporters trace.

    Without preprocessing the input is float32 (N, 3, T, crop, crop), scaled and with the mean subtracted; with it,
    uint8 (N, T, H, W, 3), RGB. Raises UsageError for an unknown layer and for a profile that cannot be exported.
    """

    def __init__(self, network: C3D, layers: Sequence[str], *, with_preprocessing: bool = False) -> None:
        super().__init__()
        self.layers = network.check_layers(layers)
        self._steps = network.steps[: max(map(network.steps.index, self.layers)) + 1]
        self.network = _cut(network, self._steps)
        self.preprocessing = Preprocessing(network) if with_preprocessing else None
        self.eval()

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """Activations by layer."""
        x = clips if self.preprocessing is None else self.preprocessing(clips)
        found = {}
        for name in self._steps:
            x = self.network.step(name, x)
            found[name] = x
        return {name: found[name] for name in self.layers}


def _cut(network: C3D, steps: Sequence[str]) -> C3D:
    """The same network without the layers after `steps`, whose weights some formats would store too."""
    names = {network.architecture["last_layer"] if name == "fc8" else name for name in steps}
    shallow = copy(network)
    shallow.__dict__["_modules"] = {name: layer for name, layer in network.named_children() if name in names}
    return shallow.eval()


class Preprocessing(nn.Module):
    """Network input, float32 (N, 3, T, crop, crop), of decoded frames, uint8 (N, T, H, W, 3), RGB: the centre crop.

    The integers are those of `video.resize`, which are OpenCV's.
    """

    def __init__(self, network: C3D) -> None:
        super().__init__()
        profile = network.profile
        if profile.interpolation != "opencv_bilinear":
            raise UsageError(
                f"profile {profile.name!r} resizes by {profile.interpolation}, which no exported graph computes here; "
                "export without preprocessing and resize the frames before"
            )
        self.profile = profile
        scaling = Scaling.of(network, profile.views("centre"), torch.device("cpu"))
        self.scale = scaling.scale
        self.register_buffer("mean", scaling.means)
        self.register_buffer("std", scaling.std.view(3, 1, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Scaled clips with the mean subtracted."""
        pixels = resized_crop(frames, self.profile)
        if self.profile.channel_order == "bgr":
            pixels = pixels.flip(-1)
        x = pixels.permute(0, 4, 1, 2, 3).to(torch.float32)
        return (x * self.scale - cast(Tensor, self.mean)) / cast(Tensor, self.std)


def resized_crop(frames: Tensor, profile: Profile) -> Tensor:
    """The centre crop of resized frames, int32 (N, T, crop, crop, 3), of uint8 (N, T, H, W, 3)."""
    (height, height_to), (width, width_to) = _sizes(frames, profile)
    top = _corner(profile, height_to, profile.crop_top)
    left = _corner(profile, width_to, profile.crop_left)
    above, below, upper, lower = _taps(height, height_to, top, profile.crop_size, clamp_weights=False)
    first, second, one, other = _taps(width, width_to, left, profile.crop_size, clamp_weights=True)

    def across(rows: Tensor) -> Tensor:
        lines = frames.index_select(2, rows)
        by_column = (1, 1, 1, -1, 1)
        before = lines.index_select(3, first).to(torch.int32) * one.view(by_column)
        after = lines.index_select(3, second).to(torch.int32) * other.view(by_column)
        return _shift_right(before + after, 4)

    by_row = (1, 1, -1, 1, 1)
    high = _shift_right(across(above) * upper.view(by_row), 16)
    low = _shift_right(across(below) * lower.view(by_row), 16)
    return _shift_right(high + low + 2, 2)


def _sizes(frames: Tensor, profile: Profile) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Decoded and resized height, and decoded and resized width, as float64 scalars."""
    height, width = (torch.scalar_tensor(frames.shape[axis], dtype=torch.float64) for axis in (2, 3))
    if profile.resize == "stretch":
        sizes = (profile.resize_height, profile.resize_width)
        tall, wide = (torch.scalar_tensor(size, dtype=torch.float64) for size in sizes)
        return (height, tall), (width, wide)
    factor = profile.resize_height / torch.minimum(height, width)
    return (height, torch.floor(height * factor + 0.5)), (width, torch.floor(width * factor + 0.5))


def _corner(profile: Profile, resized: Tensor, corner: int | None) -> Tensor:
    if corner is not None:
        return torch.scalar_tensor(corner, dtype=torch.float64)
    return torch.floor((resized - profile.crop_size) / 2)


def _taps(
    length: Tensor, resized: Tensor, start: Tensor, n: int, *, clamp_weights: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two source positions of `n` resized positions from `start`, and their weights in 2048ths.

    As `video.resize._opencv_taps`: a column beyond the border has all its weight on the border.
    """
    wanted = torch.arange(n, dtype=torch.float64) + start
    positions = ((wanted + 0.5) * (1 / (resized / length)) - 0.5).to(torch.float32)
    whole = torch.floor(positions)
    fraction = positions - whole
    last = (length - 1).to(torch.float32)
    if clamp_weights:
        fraction = torch.where((whole < 0) | (whole >= last), torch.zeros_like(fraction), fraction)
    first = torch.minimum(torch.clamp(whole, min=0), last).to(torch.int64)
    second = torch.minimum(torch.clamp(whole + 1, min=0), last).to(torch.int64)
    before, after = (torch.round(part * _WEIGHT_BITS).to(torch.int32) for part in (1 - fraction, fraction))
    return first, second, before, after


def _shift_right(x: Tensor, n_bits: int) -> Tensor:
    """x >> n_bits of numbers that are not negative; ONNX shifts unsigned integers only."""
    return torch.div(x, 1 << n_bits, rounding_mode="floor")
