"""The logic of the GPU engine on a CPU: batches of one size, repair of overflows, and memory that runs out.

Only the copies are replaced; `test_engine_gpu.py` has what needs a GPU.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from c3dvideo import C3D
from c3dvideo.choices import Precision
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.inference.direct import DirectNetwork
from c3dvideo.inference.direct_engine import DirectEngine
from c3dvideo.inference.gpu import gpu_engine
from c3dvideo.inference.gpu.gpu_engine import GpuEngine


class PlainCopies:
    """`HostCopies` without a GPU."""

    def __init__(self, device: torch.device) -> None:
        pass

    def on_device(self) -> AbstractContextManager[None]:
        return nullcontext()

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype)

    def send(self, x: Tensor) -> Tensor:
        return x.clone()

    def receive(self, x: Tensor) -> Tensor:
        return x.clone()

    def timer(self) -> Callable[[], Callable[[], float]]:
        return lambda: lambda: 0.5


class SmallMemory:
    """A network that has memory for `most_clips` clips per call."""

    def __init__(self, network: gpu_engine.DeviceNetwork, most_clips: int) -> None:
        self.sizes: list[int] = []
        self._network, self._most_clips = network, most_clips

    def __call__(self, pixels: Tensor, views: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        self.sizes.append(len(pixels))
        if len(pixels) > self._most_clips:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.06 GiB.")
        return self._network(pixels, views)


@pytest.fixture(autouse=True)
def plain_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_engine, "HostCopies", PlainCopies)


def clips_of(n_clips: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n_clips, 3, 16, 112, 112), dtype=np.uint8)


def engines(
    network: C3D, *, layers: list[str], precision: Precision = "fp32", batch_clips: int = 4
) -> tuple[GpuEngine, DirectEngine]:
    views = network.profile.views("centre")
    device = torch.device("cpu")
    return (
        GpuEngine(network, layers=layers, views=views, device=device, precision=precision, batch_clips=batch_clips),
        DirectEngine(network, layers=layers, views=views, precision="fp32"),
    )


def limit_memory(engine: GpuEngine, most_clips: int) -> SmallMemory:
    small = SmallMemory(engine._networks[engine.precision], most_clips)
    engine._networks[engine.precision] = small
    return small


def test_every_call_has_the_same_number_of_clips(narrow_network: C3D) -> None:
    engine, exact = engines(narrow_network, layers=["pool5", "fc6"], batch_clips=4)
    calls = limit_memory(engine, 4)
    clips = clips_of(6)
    found = engine(clips)
    assert calls.sizes == [4, 4]
    for name, array in exact(clips).items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4 * float(np.abs(array).max()))
    assert engine(clips_of(0))["pool5"].shape == (0, 8, 1, 4, 4)
    assert engine.busy_seconds == 1  # two batches, which the clock of these tests says took half a second each


def test_views_reach_the_network(narrow_network: C3D) -> None:
    narrow_network.mean_volume = np.random.default_rng(1).normal(100, 9, (3, 16, 128, 171)).astype(np.float32)
    views = narrow_network.profile.views("five")
    options: dict[str, Any] = {"layers": ["fc6"], "views": views, "precision": "fp32"}
    clips, index = clips_of(3), np.array([4, 0, 2])
    found = GpuEngine(narrow_network, device=torch.device("cpu"), batch_clips=2, **options)(clips, index)["fc6"]
    expected = DirectEngine(narrow_network, **options)(clips, index)["fc6"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))


def test_clips_that_overflow_are_computed_again_in_fp32(narrow_network: C3D) -> None:
    with torch.no_grad():
        narrow_network.conv2a.weight *= 1e4
    clips = clips_of(5)
    clips[[1, 4]] = 100  # the mean: these do not overflow
    engine, exact = engines(narrow_network, layers=["conv3a"], precision="fp16")
    np.testing.assert_allclose(engine(clips)["conv3a"], exact(clips)["conv3a"], rtol=1e-4, atol=1e-2)
    assert engine.n_overflows == 3


def test_numbers_that_are_not_finite_are_refused(narrow_network: C3D) -> None:
    with torch.no_grad():
        narrow_network.conv3a.weight[0, 0, 0, 0, 0] = float("nan")
    for precision in ("fp32", "bf16"):
        engine, _ = engines(narrow_network, layers=["fc6"], precision=precision)  # type: ignore[arg-type]
        with pytest.raises(WeightsError, match="not finite for clip 0"):
            engine(clips_of(1))


def test_the_batch_halves_when_memory_runs_out_and_one_warning_says_so(narrow_network: C3D) -> None:
    engine, exact = engines(narrow_network, layers=["fc6"], batch_clips=8)
    calls = limit_memory(engine, 2)
    clips = clips_of(7)
    with pytest.warns(RuntimeWarning, match="cpu ran out of memory with 8 clips per call; continuing with 4") as said:
        found = engine(clips)["fc6"]
    assert len(said) == 1
    assert calls.sizes == [8, 4, 2, 2, 2, 2]
    assert engine.batch_clips == 2
    assert engine.description()["batch_clips"] == 2
    np.testing.assert_allclose(found, exact(clips)["fc6"], rtol=1e-4, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(engine(clips)["fc6"], found)
    assert set(calls.sizes[6:]) == {2}


def test_memory_that_runs_out_between_batches_loses_no_clip(narrow_network: C3D) -> None:
    engine, _ = engines(narrow_network, layers=["fc6"], batch_clips=4)
    clips = clips_of(8)
    expected = engine(clips)["fc6"]
    calls = limit_memory(engine, 4)
    inner = engine._networks["fp32"]

    def runs_out_once(pixels: Tensor, views: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if calls.sizes == [4]:
            calls.sizes.append(0)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(pixels, views)

    engine._networks["fp32"] = runs_out_once
    with pytest.warns(RuntimeWarning, match="with 4 clips per call; continuing with 2"):
        found = engine(clips)["fc6"]
    assert calls.sizes == [4, 0, 2, 2]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_memory_for_not_one_clip_is_an_error(narrow_network: C3D) -> None:
    engine, _ = engines(narrow_network, layers=["fc6"], batch_clips=1)
    limit_memory(engine, 0)
    with pytest.raises(UsageError, match=r"no memory for one clip in fp32; .* another `device=` or `precision=`"):
        engine(clips_of(1))


def test_memory_for_not_even_the_weights_is_an_error(narrow_network: C3D, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(gpu_engine, "network_on_gpu", no_memory)
    with pytest.raises(UsageError, match="no memory for the weights in fp32"):
        engines(narrow_network, layers=["fc6"])


def deterministic_engine(network: C3D, **options: Any) -> GpuEngine:
    views = network.profile.views("centre")
    given: dict[str, Any] = {"layers": ["fc6"], "views": views, "device": torch.device("cpu"), "precision": "fp16"}
    return GpuEngine(network, deterministic=True, **{**given, **options})


def test_a_deterministic_engine_has_fixed_batches_and_algorithms(
    narrow_network: C3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the free memory differs from run to run")

    monkeypatch.setattr(torch.cuda, "mem_get_info", asked)
    engine = deterministic_engine(narrow_network)
    assert engine.batch_clips == 32
    assert engine.description()["deterministic"] is True
    during: list[tuple[bool, bool]] = []
    compute = DirectNetwork.compute

    def watched(self: DirectNetwork, clips: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        during.append((torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic))
        return compute(self, clips)

    monkeypatch.setattr(DirectNetwork, "compute", watched)
    deterministic_engine(narrow_network, precision="bf16", batch_clips=2)(clips_of(1))
    plain, _ = engines(narrow_network, layers=["fc6"], precision="bf16", batch_clips=2)
    plain(clips_of(1))
    assert during == [(False, True), (True, False)]


def test_a_deterministic_engine_refuses_to_halve_its_batch(narrow_network: C3D) -> None:
    engine = deterministic_engine(narrow_network, batch_clips=4)
    limit_memory(engine, 2)
    with pytest.raises(UsageError, match=r"no memory for 4 clips per call in fp16; choose a smaller `batch_size=`"):
        engine(clips_of(4))
    assert engine.batch_clips == 4
