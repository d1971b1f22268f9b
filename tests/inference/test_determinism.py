"""On a CPU, a clip has the same bits whatever its batch, order, threads, and the caller's settings of PyTorch are."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.cpu.sharing import share_out
from c3dvideo.inference.engine import Engine, make_engine

LAYERS = ["conv1a", "pool3", "pool5", "fc6", "fc7", "prob"]


@pytest.fixture(autouse=True)
def settings_of_pytorch() -> Iterator[None]:
    n_threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(n_threads)
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def network() -> C3D:
    """Wide enough for the matrix library to cut its products differently for different numbers of threads."""
    torch.manual_seed(20150712)
    stages = ((16,), (32,), (64, 64), (64, 64), (64, 64))
    network = C3D(num_classes=5, stages=stages, fc_width=1024, filler="xavier").eval()
    network.mean_volume = np.full((3, 16, 128, 171), 100.0, np.float32)
    return network


@pytest.fixture(params=["compiled", "plain", "direct"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled" and kernels.load() is None:
        pytest.skip(kernels.why_missing())
    if request.param == "plain":
        monkeypatch.setattr(kernels, "load", lambda: None)
    return request.param


def make(network: C3D, kind: str, **options: object) -> Engine:
    name = "direct" if kind == "direct" else "winograd"
    return make_engine(network, layers=LAYERS, device="cpu", engine=name, **options)  # type: ignore[arg-type]


def clips_of(n_clips: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n_clips, 3, 16, 112, 112), dtype=np.uint8)


def test_neither_batch_nor_order_changes_a_bit(network: C3D, kind: str) -> None:
    engine = make(network, kind)
    clips = clips_of(9)
    together = engine(clips)
    order = np.random.default_rng(1).permutation(9)
    shuffled = [engine(clips[part]) for part in np.split(order, [1, 3])]
    for name, array in together.items():
        assert np.array_equal(np.concatenate([part[name] for part in shuffled]), array[order]), name


def test_the_number_of_threads_does_not_change_a_bit(network: C3D, kind: str) -> None:
    clips = clips_of(2)
    torch.set_num_threads(1)
    expected = make(network, kind)(clips)
    for n_threads in (2, 3, 4):
        torch.set_num_threads(n_threads)
        found = make(network, kind)(clips)
        assert torch.get_num_threads() == n_threads
        for name, array in expected.items():
            assert np.array_equal(found[name], array), (name, n_threads)


def test_a_network_with_other_kernels_does_not_depend_on_threads(kind: str) -> None:
    """Convolutions that Winograd does not compute are left to PyTorch."""
    stages = ((16,), (32,), (64,), (64,), (64,))
    network = C3D(num_classes=5, stages=stages, temporal_depths=(3, 1, 5, 1, 3), fc_width=256, filler="xavier").eval()
    network.mean_volume = np.full((3, 16, 128, 171), 100.0, np.float32)
    clips = clips_of(2)
    found = []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        found.append(make(network, kind)(clips))
    for name, array in found[0].items():
        assert np.array_equal(found[1][name], array), name


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_the_precision_that_a_program_chose_for_pytorch_does_not_change_a_bit(
    network: C3D, kind: str, precision: str
) -> None:
    """ "medium" makes a CPU with AMX multiply float32 in bfloat16; many training scripts set it."""
    clips = clips_of(1)
    expected = make(network, kind)(clips)
    torch.set_float32_matmul_precision(precision)
    found = make(network, kind)(clips)
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name
    assert torch.get_float32_matmul_precision() == precision


def test_shared_work_is_computed_by_one_thread_each() -> None:
    torch.set_num_threads(3)
    seen: list[int] = []
    share_out(range(6), lambda _: seen.append(torch.get_num_threads()))
    assert seen == [1] * 6
    assert torch.get_num_threads() == 3
