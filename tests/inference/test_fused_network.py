"""The network of fused kernels against `DirectNetwork`: every pool5 rule, every layer, and on a GPU every precision."""

import os
from typing import Any

import pytest
import torch

from c3dvideo import C3D
from c3dvideo.choices import Pool5, Precision
from c3dvideo.inference.direct import DirectNetwork
from c3dvideo.inference.gpu import fused_network
from c3dvideo.inference.gpu.fused_network import TOLERANCES, FusedNetwork, why_unfused
from c3dvideo.inference.scaling import Scaling

CPU = torch.device("cpu")


SIZE = {"clip_length": 8, "crop_size": 34}  # small, since the interpreter is slow; 17 columns are odd


def small_network(**architecture: Any) -> C3D:
    stages = ((4,), (4,), (8, 8), (8, 8), (8, 8))
    return C3D(
        **{"num_classes": 5, "stages": stages, "fc_width": 16, "filler": "xavier", **SIZE, **architecture}
    ).eval()


def pixels_of(network: C3D, n_clips: int, device: torch.device = CPU) -> torch.Tensor:
    size = network.architecture["crop_size"]
    length = network.architecture["clip_length"]
    return torch.randint(0, 256, (n_clips, 3, length, size, size), dtype=torch.uint8).to(device)


def scaling_of(network: C3D, device: torch.device = CPU) -> Scaling:
    """Two views whose means differ."""
    size = network.architecture["crop_size"]
    means = torch.tensor([90.0, 120.0]).view(2, 1, 1, 1, 1).expand(2, 3, 1, size, size)
    return Scaling(means.contiguous().to(device), torch.ones(3, device=device))


def check_against_direct(
    network: C3D, layers: list[str], precision: Precision, *, device: torch.device = CPU, n_clips: int = 2
) -> None:
    pixels, scaling = pixels_of(network, n_clips, device), scaling_of(network, device)
    views = torch.arange(n_clips, device=device) % 2
    expected, _ = DirectNetwork(network, layers, device=device, precision=precision)(scaling.apply(pixels, views))
    fused = FusedNetwork(network, layers, device=device, precision=precision, scaling=scaling)
    found, finite = fused(pixels, views)
    assert list(found) == layers
    assert finite.tolist() == [True] * n_clips
    for name, x in expected.items():
        assert found[name].shape == x.shape
        assert found[name].dtype == torch.float32
        assert float((found[name] - x).norm() / x.norm()) < TOLERANCES[precision], name


class TestInterpreted:
    """By Triton's interpreter; `TestOnGpu` compiles."""

    @pytest.fixture(autouse=True)
    def interpreter(self) -> None:
        pytest.importorskip("triton")
        if torch.cuda.is_available():
            pytest.skip("kernels are compiled where there is a GPU")

    @pytest.mark.parametrize("pool5", ["ceil", "symmetric", "floor"])
    def test_every_pool5_rule(self, pool5: Pool5) -> None:
        network = small_network(pool5=pool5, crop_size=48, clip_length=16)
        check_against_direct(network, ["pool5", "fc6", "prob"], "fp32", n_clips=1)

    def test_every_layer(self) -> None:
        network = small_network()
        check_against_direct(network, list(network.steps), "fp32")

    def test_conv1a_and_pool1_as_one_kernel(self) -> None:
        # A CPU multiplies float32 exactly in "tf32" too: only conv1a's factors are rounded.
        network = small_network()
        pixels, scaling = pixels_of(network, 2), scaling_of(network)
        exact, _ = DirectNetwork(network, ["pool1", "fc6"], device=CPU, precision="fp32")(scaling.apply(pixels))
        fused = FusedNetwork(network, ["pool1", "fc6"], device=CPU, precision="tf32", scaling=scaling)
        found, _ = fused(pixels)
        for name, x in exact.items():
            assert 0 < float((found[name] - x).norm() / x.norm()) < TOLERANCES["tf32"]

    def test_network_input_instead_of_pixels(self) -> None:
        network = small_network()
        pixels, scaling = pixels_of(network, 2), scaling_of(network)
        fused = FusedNetwork(network, ["fc6"], device=CPU, precision="tf32", scaling=scaling)
        assert torch.equal(fused(scaling.apply(pixels))[0]["fc6"], fused(pixels)[0]["fc6"])

    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, which the interpreter computes with
    def test_one_clip_is_not_finite(self) -> None:
        network = small_network()
        x = torch.randn(3, 3, 8, 34, 34)
        x[1] = float("inf")
        for precision in ("fp32", "tf32"):
            _, finite = FusedNetwork(network, ["fc6"], device=CPU, precision=precision)(x)
            assert finite.tolist() == [True, False, True]

    def test_another_temporal_depth_of_conv1a(self) -> None:
        check_against_direct(small_network(temporal_depths=(1, 3, 3, 3, 5)), ["pool1", "fc6"], "tf32")

    def test_two_convolutions_before_pool1(self) -> None:
        check_against_direct(small_network(stages=((4, 4), (4,), (8,), (8,), (8,))), ["fc6"], "tf32")

    def test_the_network_given_stays_as_it_was(self) -> None:
        network = small_network()
        before = {name: x.clone() for name, x in network.state_dict().items()}
        FusedNetwork(network, ["fc6"], device=CPU, precision="tf32")(torch.randn(1, 3, 8, 34, 34))
        assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


class TestWhyUnfused:
    """`__wrapped__` is the function without its memory of earlier answers."""

    @pytest.fixture
    def hopper(self, monkeypatch: pytest.MonkeyPatch) -> torch.device:
        """A GPU as PyTorch would describe it; it is not there, so that nothing runs on it."""
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        return torch.device("cuda:7")

    def test_a_cpu(self) -> None:
        assert "NVIDIA" in why_unfused(CPU)

    def test_an_old_gpu_needs_no_warning(self, hopper: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        assert "Ampere" in why_unfused.__wrapped__(hopper)

    def test_a_missing_triton_is_a_warning(self, hopper: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fused_network, "find_spec", lambda name: None)
        with pytest.warns(RuntimeWarning, match="cuda:7 without fused kernels: Triton is not installed"):
            assert "pip install triton" in why_unfused.__wrapped__(hopper)

    def test_a_kernel_that_cannot_be_built_is_a_warning(self, hopper: torch.device) -> None:
        pytest.importorskip("triton")
        with pytest.warns(RuntimeWarning, match="cuda:7 without fused kernels: Triton cannot build a kernel"):
            assert why_unfused.__wrapped__(hopper)


@pytest.mark.gpu
class TestOnGpu:
    @pytest.fixture(autouse=True)
    def gpu(self) -> torch.device:
        if not torch.cuda.is_available():
            message = "no CUDA device"
            if os.environ.get("C3DVIDEO_REQUIRE_CUDA") == "1":
                pytest.fail(f"{message}, and C3DVIDEO_REQUIRE_CUDA=1 says that there must be one")
            pytest.skip(message)
        return torch.device("cuda")

    def test_the_kernels_run_here(self, gpu: torch.device) -> None:
        assert why_unfused(gpu) == ""

    @pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
    @pytest.mark.parametrize("pool5", ["ceil", "symmetric", "floor"])
    def test_equals_direct_convolution(self, gpu: torch.device, pool5: Pool5, precision: Precision) -> None:
        network = C3D(num_classes=5, pool5=pool5, filler="xavier", fc_width=256).eval()
        check_against_direct(network, ["pool1", "pool5", "fc6", "prob"], precision, device=gpu, n_clips=3)

    @pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
    def test_every_layer_of_a_narrow_network(self, gpu: torch.device, precision: Precision) -> None:
        network = small_network()
        check_against_direct(network, list(network.steps), precision, device=gpu)

    def test_fp32_repeats_every_bit(self, gpu: torch.device) -> None:
        network = small_network(crop_size=112, clip_length=16)
        x = torch.randn(4, 3, 16, 112, 112, device=gpu)
        fused = FusedNetwork(network, ["fc6"], device=gpu, precision="fp32")
        assert torch.equal(fused(x)[0]["fc6"], fused(x)[0]["fc6"])

    @pytest.mark.parametrize("factor", [1, 1e3, 1e5])
    def test_marks_the_same_overflows_as_direct_convolution(self, gpu: torch.device, factor: float) -> None:
        network = small_network()
        with torch.no_grad():
            network.conv2a.weight *= factor
        x = torch.randn(4, 3, 8, 34, 34, device=gpu) * torch.tensor([1, 10, 100, 1000], device=gpu).view(4, 1, 1, 1, 1)
        _, expected = DirectNetwork(network, ["prob"], device=gpu, precision="fp16")(x)
        _, found = FusedNetwork(network, ["prob"], device=gpu, precision="fp16")(x)
        assert found.tolist() == expected.tolist()
