"""The fused kernels against PyTorch: compiled where there is a GPU, else by Triton's interpreter in float32."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from c3dvideo.inference.scaling import Scaling

pytest.importorskip("triton")

from c3dvideo.inference.gpu.fused_kernels import conv1_filters, conv1_pool1, pool_bias_relu, prepare_clips

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# The interpreter multiplies bfloat16 as if it were an integer.
DTYPES = [torch.float32, torch.bfloat16, torch.float16] if torch.cuda.is_available() else [torch.float32]
POOLS = {
    "conv only": None,
    "pool1": nn.MaxPool3d((1, 2, 2)),
    "pool2": nn.MaxPool3d(2),
    "pool5 ceil": nn.MaxPool3d(2, ceil_mode=True),
    "pool5 symmetric": nn.MaxPool3d(2, padding=(0, 1, 1)),
}


def sums(n_clips: int, n_channels: int, size: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """What a convolution without a bias returns: channels-last."""
    y = torch.randn(n_clips, n_channels, *size).to(DEVICE, dtype)
    return y.to(memory_format=torch.channels_last_3d)


def all_finite(n_clips: int) -> Tensor:
    return torch.ones(n_clips, dtype=torch.uint8, device=DEVICE)


def bias_relu_pool(y: Tensor, bias: Tensor, pool: nn.MaxPool3d | None) -> Tensor:
    """The order of the paper, in float32, rounded once."""
    x = torch.relu(y.float() + bias.view(-1, 1, 1, 1))
    return (x if pool is None else pool(x)).to(y.dtype)


def reference_conv1(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    x, weight, bias = (each.double().cpu() for each in (x, weight, bias))
    return functional.max_pool3d(torch.relu(functional.conv3d(x, weight, bias, padding=1)), (1, 2, 2))


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found.double().cpu() - expected.double().cpu()).norm() / expected.double().norm())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n_channels", [4, 8, 12, 130])
@pytest.mark.parametrize("size", [(2, 7, 7), (3, 6, 9)], ids=str)
@pytest.mark.parametrize("rule", POOLS)
def test_pool_bias_relu_equals_pytorch(
    rule: str, size: tuple[int, int, int], n_channels: int, dtype: torch.dtype
) -> None:
    y, bias, finite = sums(3, n_channels, size, dtype), torch.randn(n_channels, device=DEVICE), all_finite(3)
    expected = bias_relu_pool(y, bias, POOLS[rule])
    found = pool_bias_relu(y, bias, finite, pool=POOLS[rule])
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert finite.tolist() == [1, 1, 1]


def test_without_a_pool_the_sums_are_overwritten() -> None:
    y = sums(2, 8, (2, 3, 3))
    assert pool_bias_relu(y, torch.zeros(8, device=DEVICE), all_finite(2)) is y
    assert y.min() == 0


def test_sums_in_another_order_are_reordered_first() -> None:
    y, bias = sums(2, 8, (2, 4, 4)).contiguous(), torch.randn(8, device=DEVICE)
    expected = bias_relu_pool(y, bias, POOLS["pool2"])
    assert torch.equal(pool_bias_relu(y, bias, all_finite(2), pool=POOLS["pool2"]), expected)


@pytest.mark.parametrize("rule", POOLS)
def test_a_clip_with_an_infinity_or_nan_is_marked(rule: str) -> None:
    y, bias, finite = sums(5, 12, (2, 7, 7)), torch.randn(12, device=DEVICE), all_finite(5)
    y[1, 11, 1, 5, 5] = float("nan")
    y[2, 0, 0, 0, 0] = float("inf")
    y[3] = float("-inf")  # zero after ReLU, as a finite negative number
    expected = bias_relu_pool(y, bias, POOLS[rule])
    found = pool_bias_relu(y, bias, finite, pool=POOLS[rule])
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(nan=-1), expected.nan_to_num(nan=-1))
    assert finite.tolist() == [1, 0, 0, 1, 1]


def test_what_the_pooling_ignores_is_not_checked() -> None:
    y, finite = sums(1, 8, (2, 3, 3)), all_finite(1)
    y[0, 0, 0, 2, 2] = float("nan")
    pool_bias_relu(y, torch.zeros(8, device=DEVICE), finite, pool=POOLS["pool2"])
    assert finite.tolist() == [1]


@pytest.mark.parametrize("mean_frames", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(6, 8), (7, 5)])
def test_prepared_clips_have_their_mean_subtracted_and_a_border_of_zeros(
    height: int, width: int, mean_frames: int
) -> None:
    pixels = torch.randint(0, 256, (4, 3, 3, height, width), dtype=torch.uint8, device=DEVICE)
    means = 100 + torch.rand(2, 3, mean_frames, height, width, device=DEVICE)
    scaling = Scaling(means, torch.tensor([1.0, 2.0, 3.0], device=DEVICE), scale=0.5)
    views = torch.tensor([0, 1, 1, 0], device=DEVICE)
    volume = prepare_clips(pixels, dtype=torch.float32, scaling=scaling, view_index=views)
    channels_last = scaling.apply(pixels, views).permute(0, 2, 3, 4, 1)
    # Rows and columns that the pooling ignores are read by the last filters only if they are inside the picture.
    expected = functional.pad(channels_last, (0, 1, 1, 1, 1, 1, 1, 1))[:, :, : volume.shape[2], : volume.shape[3]]
    assert torch.equal(volume, expected)
    assert volume.shape == (4, 5, 2 * (height // 2) + 2, 2 * (width // 2) + 2, 4)


def test_prepared_clips_without_scaling_are_network_input() -> None:
    x = torch.randn(2, 3, 2, 4, 4, device=DEVICE)
    volume = prepare_clips(x, dtype=torch.float32)
    assert torch.equal(volume[:, 1:-1, 1:-1, 1:-1, :3], x.permute(0, 2, 3, 4, 1))


def test_clips_and_means_in_any_memory_order() -> None:
    frames_last = torch.randint(0, 256, (2, 3, 4, 4, 2), dtype=torch.uint8, device=DEVICE).permute(0, 1, 4, 2, 3)
    scaling = Scaling(torch.rand(1, 3, 1, 1, 1, device=DEVICE).expand(1, 3, 1, 4, 4), torch.ones(3, device=DEVICE))
    volume = prepare_clips(frames_last, dtype=torch.float32, scaling=scaling)
    expected = scaling.apply(frames_last).permute(0, 2, 3, 4, 1)
    assert torch.equal(volume[:, 1:-1, 1:-1, 1:-1, :3], expected)


def test_rounding_to_tf32_keeps_ten_bits() -> None:
    x = torch.randn(1, 3, 1, 8, 8, device=DEVICE)
    rounded = prepare_clips(x, dtype=torch.float32, round_to_tf32=True)[:, 1:-1, 1:-1, 1:-1, :3]
    weight = torch.randn(8, 3, 3, 3, 3, device=DEVICE)
    filters = conv1_filters(weight, round_to_tf32=True)
    for numbers, exact in ((rounded, x.permute(0, 2, 3, 4, 1)), (filters, conv1_filters(weight))):
        assert not (numbers.contiguous().view(torch.int32) & 0x1FFF).any()
        assert (numbers - exact).abs().max() <= exact.abs().max() * 2**-11


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n_channels", [4, 12, 64, 72])
@pytest.mark.parametrize(
    ("n_clips", "size"), [(1, (1, 4, 4)), (2, (3, 9, 7)), (3, (2, 18, 20))], ids=["smallest", "odd", "several tiles"]
)
def test_conv1_pool1_equals_pytorch(
    n_clips: int, size: tuple[int, int, int], n_channels: int, dtype: torch.dtype
) -> None:
    x = torch.randn(n_clips, 3, *size, device=DEVICE).to(dtype)
    weight, bias = (torch.randn(n_channels, *rest, device=DEVICE) for rest in ((3, 3, 3, 3), ()))
    weight, finite = weight.to(dtype), all_finite(n_clips)
    volume = prepare_clips(x, dtype=dtype, round_to_tf32=dtype == torch.float32)
    found = conv1_pool1(volume, conv1_filters(weight, round_to_tf32=dtype == torch.float32), bias, finite)
    expected = reference_conv1(x, weight, bias)
    assert found.shape == expected.shape
    assert distance(found, expected) < {torch.float32: 5e-4, torch.bfloat16: 4e-3, torch.float16: 5e-4}[dtype]
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert finite.tolist() == [1] * n_clips


def test_conv1_pool1_subtracts_the_mean_before_it_pads() -> None:
    pixels = torch.randint(0, 256, (2, 3, 2, 8, 8), dtype=torch.uint8, device=DEVICE)
    scaling = Scaling(torch.full((1, 3, 1, 8, 8), 104.0, device=DEVICE), torch.ones(3, device=DEVICE))
    weight, bias = torch.randn(8, 3, 3, 3, 3, device=DEVICE), torch.randn(8, device=DEVICE)
    volume = prepare_clips(pixels, dtype=torch.float32, scaling=scaling, round_to_tf32=True)
    found = conv1_pool1(volume, conv1_filters(weight, round_to_tf32=True), bias, all_finite(2))
    assert distance(found, reference_conv1(scaling.apply(pixels), weight, bias)) < 5e-4


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, which the interpreter computes with
def test_conv1_pool1_marks_a_clip_that_overflows_and_no_other() -> None:
    x = torch.randn(3, 3, 2, 8, 8, device=DEVICE)
    x[1, 2, 1, 7, 7] = float("nan")
    x[2, 0, 0, 0, 0] = float("inf")
    weight, bias, finite = torch.randn(8, 3, 3, 3, 3, device=DEVICE), torch.randn(8, device=DEVICE), all_finite(3)
    found = conv1_pool1(prepare_clips(x, dtype=torch.float32), conv1_filters(weight), bias, finite)
    assert finite.tolist() == [1, 0, 0]
    assert found[0].isfinite().all()
    assert found[1].isnan().any()


def test_a_clip_does_not_depend_on_the_clips_beside_it() -> None:
    x = torch.randn(3, 3, 2, 10, 10, device=DEVICE)
    filters, bias = conv1_filters(torch.randn(8, 3, 3, 3, 3, device=DEVICE)), torch.randn(8, device=DEVICE)
    together = conv1_pool1(prepare_clips(x, dtype=torch.float32), filters, bias, all_finite(3))
    alone = conv1_pool1(prepare_clips(x[1:2], dtype=torch.float32), filters, bias, all_finite(1))
    assert torch.equal(together[1:2], alone)


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from c3dvideo.inference.gpu import fused_kernels

INTEGERS = set("n_tiles n_tiles_per_frame n_frames n_channels height width rows columns mean_frames".split())
INTEGERS |= {f"{a}_{b}" for a in ("pooled", "padding") for b in ("frames", "height", "width", "rows", "columns")}

def build(name, capability, dtype, options, **constants):
    kernel = getattr(fused_kernels, name)
    types = {"finite": "*u8", "bias": "*fp32", "means": "*fp32", "std": "*fp32", "clips": "*u8", "view_index": "*i64"}
    types |= {"scale": "fp32"} | {key: "i32" for key in INTEGERS} | {key: "constexpr" for key in constants}
    signature = {key: types.get(key, f"*{dtype}") for key in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, key in enumerate(signature) if signature[key].startswith("*")}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

def check(capability, dtype, options, positions, products):
    kernel = build("_conv1_pool1_kernel", capability, dtype, options, n_channels=64, rows=114, columns=114,
                   block_positions=positions, block_channels=64)
    print(capability, dtype, kernel.metadata.shared, kernel.asm["ptx"].count(products) > 0)

window = {"window_frames": 2, "window_rows": 2, "window_columns": 2, "is_clipped": True}
build("_pool_bias_relu_kernel", 90, "bf16", fused_kernels._UNFUSED, **window, block_positions=8, block_channels=128)
build("_prepare_kernel", 90, "fp32", fused_kernels._UNFUSED, is_scaled=True, round_to_tf32=True, block=512)
check(90, "bf16", fused_kernels._CONV1_16_BIT, 64, "wgmma.mma_async")
check(90, "fp32", fused_kernels._CONV1_32_BIT, 128, "wgmma.mma_async")
check(80, "fp16", fused_kernels._CONV1_16_BIT, 64, "mma.sync")
"""


def test_the_kernels_compile_for_tensor_cores_and_fit_into_shared_memory(tmp_path: Path) -> None:
    # The interpreter accepts what the compiler rejects. Compiling needs no GPU, but a process without the interpreter.
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {tuple(line.split()[:2]): line.split()[2:] for line in done.stdout.splitlines()}
    assert set(found) == {("90", "bf16"), ("90", "fp32"), ("80", "fp16")}
    for (_, dtype), (shared, has_products) in found.items():
        assert has_products == "True"
        assert int(shared) <= (170 if dtype == "fp32" else 62) * 1024
