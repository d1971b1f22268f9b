"""The engine: what it chooses, what it computes, and that no clip's numbers depend on its neighbours."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from c3dvideo import C3D, compiled
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.cpu.winograd_network import WinogradNetwork
from c3dvideo.inference.direct import DirectNetwork, pad_first, pool_first
from c3dvideo.inference.engine import make_engine
from c3dvideo.video.preprocess import input_mean


@pytest.fixture(params=["compiled", "plain"])
def library(request: pytest.FixtureRequest) -> kernels.Kernels | None:
    if request.param == "plain":
        return None
    found = kernels.load()
    if found is None:
        pytest.skip(kernels.why_missing())
    return found


def clips_of(n_clips: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n_clips, 3, 16, 112, 112), dtype=np.uint8)


def network_input(network: C3D, clips: np.ndarray) -> torch.Tensor:
    mean = input_mean(network.profile, network.mean_volume, network.profile.views()[0])
    return torch.from_numpy(clips.astype(np.float32) - mean)


@torch.no_grad()
def test_every_layer_equals_the_network(narrow_network: C3D, library: kernels.Kernels | None) -> None:
    x = network_input(narrow_network, clips_of(2))
    expected = narrow_network.activations(x, narrow_network.steps)
    together = WinogradNetwork(narrow_network, narrow_network.steps, kernels=library)(x)
    assert list(together) == list(expected)
    for name, y in expected.items():
        alone = WinogradNetwork(narrow_network, [name], kernels=library)(x)[name]
        for found in (together[name], alone):
            assert found.shape == y.shape
            assert found.is_contiguous()
            torch.testing.assert_close(found, y, rtol=2e-5, atol=2e-5 * float(y.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize(
    "architecture",
    [
        {"temporal_depths": (1, 3, 5, 3, 7)},
        {"pool5": "symmetric"},
        {"pool5": "floor", "last_layer": "out"},
        {"stages": ((3, 5), (4,), (6,), (7,), (9,)), "crop_size": 64, "clip_length": 24},
    ],
)
def test_other_architectures(architecture: dict, library: kernels.Kernels | None) -> None:
    base = {"stages": ((4,), (4,), (8,), (8,), (8,)), "fc_width": 16, "num_classes": 5, "filler": "xavier"}
    network = C3D(**{**base, **architecture}).eval()
    length, size = network.architecture["clip_length"], network.architecture["crop_size"]
    x = torch.randn(2, 3, length, size, size)
    expected = network.activations(x, ["pool2", "prob", "fc8"])
    found = WinogradNetwork(network, ["pool2", "prob", "fc8"], kernels=library)(x)
    for name, y in expected.items():
        torch.testing.assert_close(found[name], y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("engine", ["winograd", "direct"])
def test_a_clip_does_not_depend_on_its_batch(narrow_network: C3D, engine: str) -> None:
    runner = make_engine(narrow_network, layers=["pool5", "fc6", "prob"], device="cpu", engine=engine)
    clips = clips_of(11)
    together = runner(clips)
    pieces = [runner(clips[first:last]) for first, last in ((0, 1), (1, 4), (4, 6), (6, 11))]
    backwards = runner(clips[::-1])
    for name, array in together.items():
        assert array.dtype == np.float32
        assert np.array_equal(np.concatenate([piece[name] for piece in pieces]), array)
        assert np.array_equal(backwards[name][::-1], array)


def test_threads_do_not_change_a_bit(narrow_network: C3D) -> None:
    library = kernels.load()
    if library is None:
        pytest.skip(kernels.why_missing())
    x = network_input(narrow_network, clips_of(2))
    expected = WinogradNetwork(narrow_network, ["fc6"], kernels=library)(x)["fc6"]
    for n_threads in (1, 3, 8):
        other = kernels.Kernels(library.library, n_threads=n_threads)
        assert torch.equal(WinogradNetwork(narrow_network, ["fc6"], kernels=other)(x)["fc6"], expected)


def test_clips_may_be_overwritten_once_submitted(narrow_network: C3D) -> None:
    for engine in ("winograd", "direct"):
        runner = make_engine(narrow_network, layers=["fc6"], device="cpu", engine=engine)
        clips = clips_of(2)
        expected = runner(clips)["fc6"]
        wait = runner.submit(clips)
        clips[:] = 0
        assert np.array_equal(wait()["fc6"], expected)


def test_no_clips_give_empty_arrays(narrow_network: C3D) -> None:
    found = make_engine(narrow_network, layers=["pool5", "fc6"], device="cpu")(clips_of(0))
    assert found["fc6"].shape == (0, 16)
    assert found["pool5"].shape == (0, 8, 1, 4, 4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close(narrow_network: C3D, precision: str) -> None:
    clips = clips_of(2)
    exact = make_engine(narrow_network, layers=["fc6"], device="cpu")(clips)["fc6"]
    found = make_engine(narrow_network, layers=["fc6"], device="cpu", precision=precision)(clips)["fc6"]
    difference = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-6 < difference < 0.03


def test_overflow_in_fp16_is_computed_again_in_fp32(narrow_network: C3D) -> None:
    with torch.no_grad():
        narrow_network.conv2a.weight *= 1e4  # overflows, and ReLU would hide it:
        narrow_network.conv3a.weight.abs_().neg_()
        narrow_network.conv3a.bias.fill_(1e9)
    clips = clips_of(3)
    clips[1] = 100  # the mean: this clip does not overflow in conv2a
    exact = make_engine(narrow_network, layers=["conv3a"], device="cpu", engine="direct")(clips)["conv3a"]
    engine = make_engine(narrow_network, layers=["conv3a"], device="cpu", precision="fp16")
    assert np.array_equal(engine(clips)["conv3a"], exact)
    assert engine.n_overflows > 0


@pytest.mark.parametrize("engine", ["winograd", "direct"])
def test_numbers_that_are_not_finite_are_refused(narrow_network: C3D, engine: str) -> None:
    with torch.no_grad():
        narrow_network.conv3a.weight[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match="not finite for clip 0"):
        make_engine(narrow_network, layers=["fc6"], device="cpu", engine=engine)(clips_of(1))


@torch.no_grad()
def test_gpu_rewrites_are_exact(narrow_network: C3D) -> None:
    """conv1a widened to 8 channels, and pooling before bias and ReLU, as on a GPU."""
    x = network_input(narrow_network, clips_of(1))
    expected = narrow_network.activations(x, ["pool1"])["pool1"]
    pad_first(narrow_network)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 0, 0, 5))
    found = pool_first(narrow_network.conv1a, narrow_network.pool1, padded)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_direct_network_merging_as_on_a_gpu(narrow_network: C3D) -> None:
    x = network_input(narrow_network, clips_of(2))
    layers = ["conv2a", "pool2", "conv3b", "pool5", "fc8"]
    expected = narrow_network.activations(x, layers)
    direct = DirectNetwork(narrow_network, layers, device=torch.device("cpu"), precision="fp32", for_gpu=True)
    found, finite = direct(x)
    assert finite.all()
    for name, y in expected.items():
        torch.testing.assert_close(found[name], y, rtol=1e-4, atol=1e-5 * float(y.abs().max()))


def test_the_switches_of_pytorch_are_put_back(narrow_network: C3D) -> None:
    def switches() -> tuple:
        cudnn = torch.backends.cudnn
        return (
            torch.backends.cuda.matmul.fp32_precision,
            cudnn.conv.fp32_precision,
            cudnn.benchmark,
            cudnn.deterministic,
        )

    before = switches()
    for precision in ("fp32", "bf16"):
        make_engine(narrow_network, layers=["pool1"], device="cpu", engine="direct", precision=precision)(clips_of(1))
        assert switches() == before


def test_what_is_chosen_and_said(narrow_network: C3D) -> None:
    auto = make_engine(narrow_network, layers=["fc6"], device="cpu").description()
    assert auto["engine"] == "winograd"
    assert auto["kernels"] == (kernels.load() is not None)
    assert auto["device"] == "cpu"
    direct = make_engine(narrow_network, layers=["fc6"], device="cpu", precision="bf16").description()
    assert (direct["engine"], direct["kernels"], direct["precision"]) == ("direct", False, "bf16")


def test_a_batch_is_what_the_caller_chose(narrow_network: C3D) -> None:
    engine = make_engine(narrow_network, layers=["fc6"], device="cpu", batch_clips=3)
    assert engine.batch_clips == 3
    assert engine.description() == make_engine(narrow_network, layers=["fc6"], device="cpu").description()
    with pytest.raises(UsageError, match="`batch_clips=` is 0"):
        make_engine(narrow_network, layers=["fc6"], device="cpu", batch_clips=0)


def test_wrong_clips_are_refused(narrow_network: C3D) -> None:
    engine = make_engine(narrow_network, layers=["fc6"], device="cpu")
    with pytest.raises(UsageError, match="takes uint8"):
        engine(clips_of(1).astype(np.float32))
    with pytest.raises(UsageError, match="16, 112, 112"):
        engine(clips_of(1)[:, :, :8])


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def forget() -> None:
        compiled.attempt.cache_clear()
        kernels.attempt.cache_clear()

    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    forget()
    try:
        assert kernels.load() is None
        assert kernels.why_missing()
        monkeypatch.setenv("C3DVIDEO_COMPILE", "0")
        forget()
        assert "C3DVIDEO_COMPILE" in kernels.why_missing()
    finally:
        forget()


def test_engines_in_several_threads_do_not_disturb_each_other(narrow_network: C3D) -> None:
    """As in a server: two engines, one of them called from two threads at a time."""
    engines = [make_engine(narrow_network, layers=["pool3", "fc6"], device="cpu") for _ in range(2)]
    batches = [clips_of(3, seed) for seed in range(3)]
    expected = [engines[0](clips) for clips in batches]
    n_threads = torch.get_num_threads()
    with ThreadPoolExecutor(3) as pool:
        runs = [
            (index, pool.submit(engines[index % 2], batches[index])) for _ in range(6) for index in range(len(batches))
        ]
        for index, run in runs:
            found = run.result()
            for name, array in expected[index].items():
                assert np.array_equal(found[name], array)
    assert torch.get_num_threads() == n_threads
