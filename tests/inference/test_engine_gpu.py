"""The engine on a GPU. Skipped without one; a failure without one when C3DVIDEO_REQUIRE_CUDA=1."""

import os

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.inference.engine import make_engine

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        message = "no CUDA device"
        if os.environ.get("C3DVIDEO_REQUIRE_CUDA") == "1":
            pytest.fail(f"{message}, and C3DVIDEO_REQUIRE_CUDA=1 says that there must be one")
        pytest.skip(message)


def clips_of(n_clips: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n_clips, 3, 16, 112, 112), dtype=np.uint8)


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("tf32", 5e-3), ("fp16", 5e-3), ("bf16", 3e-2)])
def test_every_precision_equals_the_cpu(narrow_network: C3D, precision: str, bound: float) -> None:
    layers = ["conv1a", "pool1", "conv3b", "pool5", "fc6", "prob"]
    exact = make_engine(narrow_network, layers=layers, device="cpu")(clips_of(3))
    found = make_engine(narrow_network, layers=layers, device="cuda", precision=precision)(clips_of(3))
    for name, array in exact.items():
        assert found[name].shape == array.shape
        assert distance(found[name], array) < bound, name


def test_a_clip_does_not_depend_on_its_batch(narrow_network: C3D) -> None:
    engine = make_engine(narrow_network, layers=["fc6"], device="cuda")
    clips = clips_of(engine.batch_clips + 3)
    together = engine(clips)["fc6"]
    assert np.array_equal(np.concatenate([engine(clips[:5])["fc6"], engine(clips[5:])["fc6"]]), together)


def test_several_submissions_in_flight(narrow_network: C3D) -> None:
    engine = make_engine(narrow_network, layers=["fc6"], device="cuda")
    batches = [clips_of(8) // divisor for divisor in (1, 2, 3, 4)]
    expected = [engine(batch)["fc6"] for batch in batches]
    waits = [engine.submit(batch) for batch in batches]
    for batch in batches:
        batch[:] = 0
    for wait, array in zip(waits, expected, strict=True):
        assert np.array_equal(wait()["fc6"], array)


def test_overflow_is_computed_again(narrow_network: C3D) -> None:
    with torch.no_grad():
        narrow_network.conv2a.weight *= 1e4
    exact = make_engine(narrow_network, layers=["fc6"], device="cuda")(clips_of(2))["fc6"]
    engine = make_engine(narrow_network, layers=["fc6"], device="cuda", precision="fp16")
    found = engine(clips_of(2))["fc6"]
    assert engine.n_overflows == 2
    assert distance(found, exact) < 1e-5


def test_the_network_given_stays_where_it_was(narrow_network: C3D) -> None:
    make_engine(narrow_network, layers=["fc6"], device="cuda", precision="bf16")(clips_of(1))
    parameter = next(narrow_network.parameters())
    assert parameter.device.type == "cpu"
    assert parameter.dtype == torch.float32
    assert parameter.shape[1] == 3


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_deterministic_engines_give_the_same_bits(narrow_network: C3D, precision: str) -> None:
    """Two engines, other batches, and another process's worth of memory in use."""
    clips = clips_of(40)
    options = {"layers": ["pool1", "fc6"], "device": "cuda", "precision": precision, "deterministic": True}
    first = make_engine(narrow_network, **options)(clips)
    in_use = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    second = make_engine(narrow_network, **options)
    parts = [second(clips[:7]), second(clips[7:])]
    for name, array in first.items():
        assert np.array_equal(np.concatenate([part[name] for part in parts]), array), name
    assert in_use.numel() == 1 << 28


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.0), ("tf32", 1e-3), ("fp16", 1e-3), ("bf16", 1e-2)])
def test_engines_that_try_algorithms_differ_by_little(narrow_network: C3D, precision: str, bound: float) -> None:
    """The largest relative distance of a clip between engines of two batch sizes; two of fp32 give the same bits."""
    clips = clips_of(24)
    options = {"layers": ["fc6"], "device": "cuda", "precision": precision}
    first = make_engine(narrow_network, batch_clips=16, **options)(clips)["fc6"]
    second = make_engine(narrow_network, batch_clips=16 if precision == "fp32" else 8, **options)(clips)["fc6"]
    assert max(distance(one, other) for one, other in zip(second, first, strict=True)) <= bound
