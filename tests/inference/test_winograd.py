"""Winograd against direct convolution: any size, batch, layout, dtype and magnitude, in PyTorch and compiled."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.cpu.stages import CompiledConv, CompiledFirst, CompiledLinear, FirstStage, Stage, WinogradStage
from c3dvideo.inference.cpu.winograd import WinogradConv, takes, transform_weights

# Up to 16 and 20 frames, whose ends are computed apart.
FRAMES = st.one_of(st.integers(1, 9), st.sampled_from([16, 18, 20]))
SIZES = st.tuples(st.integers(1, 3), FRAMES, st.integers(1, 11), st.integers(1, 11))


def make(channels_in: int, channels_out: int, seed: int) -> nn.Conv3d:
    torch.manual_seed(seed)
    return nn.Conv3d(channels_in, channels_out, 3, padding=1)


@torch.no_grad()
def direct(layer: nn.Conv3d, x: Tensor, *, pool: bool) -> Tensor:
    """Convolution, ReLU and pooling of channels-last x in float64, channels last."""
    bias = None if layer.bias is None else layer.bias.double()
    y = nn.functional.conv3d(x.double().permute(0, 4, 1, 2, 3), layer.weight.double(), bias, padding=1).relu()
    return (nn.functional.max_pool3d(y, 2) if pool else y).permute(0, 2, 3, 4, 1)


def stages(name: str, layer: nn.Conv3d) -> list[Stage]:
    library = kernels.load()
    return [WinogradStage(name, layer), *([CompiledConv(name, layer, library)] if library else [])]


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-300))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 5), st.integers(1, 40), st.booleans(), st.integers(0, 2**20))
def test_equals_direct(size: tuple[int, ...], channels_in: int, channels_out: int, pool: bool, seed: int) -> None:
    layer = make(channels_in, channels_out, seed)
    if pool:
        size = (size[0], *(length + 1 for length in size[1:]))
    x = torch.randn(*size, channels_in)
    expected = direct(layer, x, pool=pool)
    for stage in stages("pool2" if pool else "conv2a", layer):
        found = stage(x)[..., :channels_out]
        assert found.shape == expected.shape
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=3e-5)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([2, 4, 16]), st.integers(60, 150), st.integers(1, 70), st.booleans(), st.integers(0, 2**20))
def test_many_channels(frames: int, channels_in: int, channels_out: int, pool: bool, seed: int) -> None:
    """More than one run of input channels and one panel of outputs, and what is left over of both."""
    layer = make(channels_in, channels_out, seed)
    x = torch.randn(1, frames, 5, 6, channels_in)
    expected = direct(layer, x, pool=pool)
    for stage in stages("pool2" if pool else "conv2a", layer):
        torch.testing.assert_close(stage(x)[..., :channels_out].double(), expected, rtol=1e-5, atol=1e-4)
        assert not stage(x)[..., channels_out:].any()


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
@pytest.mark.parametrize("frames", [2, 8, 16])
def test_neither_threads_nor_their_shares_change_a_bit(frames: int, n_threads: int) -> None:
    library = kernels.load()
    if library is None:
        pytest.skip(kernels.why_missing())
    layer, x = make(70, 100, 0), torch.randn(2, frames, 30, 27, 70)
    alone, shared = (kernels.Kernels(library.library, n_threads=n) for n in (1, n_threads))
    assert torch.equal(CompiledConv("pool2", layer, alone)(x), CompiledConv("pool2", layer, shared)(x))


def test_weights_need_not_be_contiguous() -> None:
    layer = make(20, 40, 0)
    x = torch.randn(1, 4, 6, 6, 20)
    expected = [stage(x).clone() for stage in stages("conv3a", layer)]
    layer.to(memory_format=torch.channels_last_3d)
    for stage, y in zip(stages("conv3a", layer), expected, strict=True):
        assert torch.equal(stage(x), y)


@settings(max_examples=15, deadline=None)
@given(SIZES, st.integers(0, 2**20))
def test_pooling_with_windows_cut_at_the_border(size: tuple[int, ...], seed: int) -> None:
    library = kernels.load()
    if library is None:
        pytest.skip(kernels.why_missing())
    layer = make(3, 5, seed)
    x = torch.randn(*size, 3)
    y = direct(layer, x, pool=False).permute(0, 4, 1, 2, 3)
    expected = nn.functional.max_pool3d(y, 2, ceil_mode=True).permute(0, 2, 3, 4, 1)
    found = CompiledConv("pool5", layer, library, ceil=True)(x)[..., :5]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=3e-5)


@settings(max_examples=15, deadline=None)
@given(SIZES, st.integers(0, 2**20))
def test_float64_is_exact_to_its_own_rounding(size: tuple[int, ...], seed: int) -> None:
    layer = make(3, 5, seed).double()
    x = torch.randn(*size, 3, dtype=torch.float64)
    found = WinogradConv(layer)(x)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, direct(layer, x, pool=False), rtol=1e-12, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(5)), st.integers(1, 3), st.integers(0, 2**20))
def test_strides_do_not_matter(order: list[int], step: int, seed: int) -> None:
    layer = make(4, 6, seed)
    shape = (2, 3, 5, 6, 4)
    whole = torch.randn(*(shape[axis] * step for axis in order))[tuple(slice(None, None, step) for _ in order)]
    x = whole.permute(*np.argsort(order).tolist())
    assert x.shape == shape
    for stage in stages("conv2a", layer):
        assert torch.equal(stage(x), stage(x.contiguous()))


@pytest.mark.parametrize("frames", [2, 3, 4, 16])
@pytest.mark.parametrize("scale", [1e-41, 1e-37, 1e-20, 1e15, 1e30])
def test_tiny_and_huge_numbers_keep_their_precision(scale: float, frames: int) -> None:
    layer = make(8, 8, 0)
    layer.bias = None
    x = torch.randn(1, frames, 6, 6, 8) * scale
    expected = direct(layer, x, pool=False)
    for stage in stages("conv2a", layer):
        assert error(stage(x)[..., :8], expected) < (1e-2 if scale < 1e-38 else 2e-6)


@pytest.mark.parametrize("frames", [2, 4, 5, 16])
@pytest.mark.parametrize("pool", [False, True])
def test_what_is_not_finite_is_never_hidden(pool: bool, frames: int) -> None:
    layer = make(3, 4, 0)
    for value in (float("nan"), 3e38, float("inf")):
        x = torch.full((1, frames, 4, 4, 3), value)
        for stage in stages("pool2" if pool else "conv2a", layer):
            assert not stage(x)[..., :4].isfinite().all()


def test_the_error_is_that_of_direct_float32() -> None:
    layer = make(256, 64, 0)
    x = torch.randn(1, 4, 14, 14, 256).relu()
    expected = direct(layer, x, pool=False)
    with torch.no_grad():
        plain = layer(x.permute(0, 4, 1, 2, 3)).relu().permute(0, 2, 3, 4, 1)
    for stage in stages("conv2a", layer):
        assert error(stage(x), expected) < max(4 * error(plain, expected), 2.5e-6)


@pytest.mark.parametrize("n_clips", [1, 2, 3, 5, 9])
def test_a_clip_does_not_depend_on_its_neighbours(n_clips: int) -> None:
    layer = make(16, 32, 0)
    x = torch.randn(n_clips, 2, 7, 7, 16)
    for stage in stages("conv5a", layer):
        together = stage(x).clone()
        for clip in range(n_clips):
            assert torch.equal(stage(x[clip : clip + 1]), together[clip : clip + 1])
        assert torch.equal(stage(x.flip(0)), together.flip(0))


def test_a_border_that_was_used_stays_zero() -> None:
    library = kernels.load()
    if library is None:
        pytest.skip(kernels.why_missing())
    stage = CompiledConv("conv5a", make(3, 4, 0), library)
    x = torch.randn(2, 3, 7, 6, 3)
    first = stage(x).clone()
    stage(torch.full((2, 3, 7, 6, 3), 7.0))
    stage(torch.full((3, 4, 5, 9, 3), 7.0))
    assert torch.equal(stage(x), first)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(2, 17), st.integers(2, 17), st.integers(1, 40), st.integers(0, 2**20))
def test_first_layer_with_its_pooling(frames: int, height: int, width: int, channels: int, seed: int) -> None:
    layer = make(3, channels, seed)
    x = torch.randn(2, frames, height, width, 3)
    y = layer(x.permute(0, 4, 1, 2, 3)).relu()
    expected = nn.functional.max_pool3d(y, (1, 2, 2)).permute(0, 2, 3, 4, 1).detach()
    library = kernels.load()
    both = [FirstStage("pool1", layer), *([CompiledFirst("pool1", layer, library)] if library else [])]
    for stage in both:
        torch.testing.assert_close(stage(x)[..., :channels], expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.integers(1, 20), st.sampled_from(["fc6", "fc8"]))
def test_compiled_linear(n_clips: int, depth: int, outputs: int, name: str) -> None:
    library = kernels.load()
    if library is None:
        pytest.skip(kernels.why_missing())
    layer = nn.Linear(depth, outputs)
    x = torch.randn(n_clips, depth)
    found = CompiledLinear(name, layer, depth, library)(x)
    expected = layer(x).detach()
    torch.testing.assert_close(found, expected.relu() if name == "fc6" else expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(CompiledLinear(name, layer, depth, library)(x[-1:]), found[-1:])


def test_weights_are_transformed_exactly() -> None:
    """An input of one pixel reads the weights themselves back out."""
    layer = make(1, 1, 0).double()
    layer.bias = None
    x = torch.zeros(1, 3, 3, 3, 1, dtype=torch.float64)
    x[0, 1, 1, 1] = 1
    found = WinogradConv(layer, relu=False)(x)[0, ..., 0]
    torch.testing.assert_close(found, layer.weight.detach()[0, 0].flip(0, 1, 2), rtol=1e-13, atol=1e-13)
    assert transform_weights(layer.weight.detach()).shape == (144, 1, 1)


def test_takes_only_what_it_computes() -> None:
    assert takes(nn.Conv3d(2, 3, 3, padding=1))
    assert not takes(nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1)))
    assert not takes(nn.Conv3d(2, 3, 3, padding=1, stride=2))
    assert not takes(nn.Conv3d(2, 4, 3, padding=1, groups=2))
    assert not takes(nn.Linear(2, 3))
    assert not takes(None)
