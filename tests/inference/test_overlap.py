"""Overlapping clips: shared work gives the bits of separate work, at every shift, for any mixture of clips."""

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.inference.cpu import kernels
from c3dvideo.inference.cpu.chains import find_chains, join_clips
from c3dvideo.inference.cpu.overlap import SHIFTS
from c3dvideo.inference.cpu.winograd_network import WinogradNetwork
from c3dvideo.inference.engine import make_engine
from c3dvideo.video.preprocess import PROFILES


@pytest.fixture
def library() -> kernels.Kernels:
    found = kernels.load()
    if found is None:
        pytest.skip(kernels.why_missing())
    return found


def video(n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, n_frames, 112, 112), dtype=np.uint8)


def clips_every(frames: np.ndarray, shift: int) -> np.ndarray:
    return np.stack([frames[:, start : start + 16] for start in range(0, frames.shape[1] - 15, shift)])


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("n_clips", [2, 5])
def test_shared_equals_separate_in_every_bit(
    narrow_network: C3D, library: kernels.Kernels, shift: int, n_clips: int
) -> None:
    fast = WinogradNetwork(narrow_network, ["pool5", "fc6"], kernels=library)
    frames = torch.randn(3, 16 + shift * (n_clips - 1), 112, 112)
    starts = range(0, shift * n_clips, shift)
    separate = fast(frames[:, start : start + 16] for start in starts)
    assert fast.shares(shift)
    for _ in range(2):  # the second time with workspaces that were used
        shared = fast.run([(frames, starts)])
        for name, array in separate.items():
            assert torch.equal(shared[name], array)


@pytest.mark.parametrize("stages", [((4,), (4,), (8,), (8,), (8,)), ((4,), (4, 5), (8,), (8,), (8,))])
def test_networks_of_other_depths(stages: tuple, library: kernels.Kernels) -> None:
    network = C3D(num_classes=5, stages=stages, fc_width=16, filler="xavier").eval()
    fast = WinogradNetwork(network, ["fc6"], kernels=library)
    assert fast.shares(4) == (len(stages[1]) == 1)
    if fast.shares(4):
        frames = torch.randn(3, 24, 112, 112)
        separate = fast(frames[:, start : start + 16] for start in (0, 4, 8))["fc6"]
        assert torch.equal(fast.run([(frames, (0, 4, 8))])["fc6"], separate)


def test_early_layers_are_not_shared_when_wanted(narrow_network: C3D, library: kernels.Kernels) -> None:
    assert not WinogradNetwork(narrow_network, ["pool2", "fc6"], kernels=library).shares(4)
    assert not WinogradNetwork(narrow_network, ["fc6"], kernels=None).shares(4)
    fast = WinogradNetwork(narrow_network, ["conv3a", "fc6"], kernels=library)
    frames = torch.randn(3, 20, 112, 112)
    separate, shared = fast([frames[:, :16], frames[:, 4:]]), fast.run([(frames, (0, 4))])
    assert torch.equal(shared["conv3a"], separate["conv3a"])


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("shift", [4, 8])
def test_engine_finds_what_overlaps(narrow_network: C3D, library: kernels.Kernels, shift: int, mixed: bool) -> None:
    """Videos, views and strangers in batches of any size: the numbers of an engine that shares nothing."""
    del library
    narrow_network.profile = PROFILES["caffe_channel_mean"]
    views = narrow_network.profile.views("five")
    plain = make_engine(narrow_network, layers=["fc6"], views=views, device="cpu")
    engine = make_engine(narrow_network, layers=["fc6"], views=views, device="cpu", shift_frames=shift)
    assert engine.description()["shares_overlap"]
    assert not plain.description()["shares_overlap"]
    one, other = clips_every(video(16 + 10 * shift), shift), clips_every(video(16 + 2 * shift, seed=1), shift)
    clips = np.concatenate([one, other, one[:1], one[2:4]])
    index = np.zeros(len(clips), np.int64)
    index[3] = 1
    index[7:9] = 2
    if mixed:  # as from several decoders at work, or several views a clip
        order = np.random.default_rng(3).permutation(len(clips))
        clips, index = clips[order], index[order]
    expected = plain(clips, index)["fc6"]
    assert np.array_equal(engine(clips, index)["fc6"], expected)
    assert np.array_equal(
        np.concatenate([engine(clips[:6], index[:6])["fc6"], engine(clips[6:], index[6:])["fc6"]]), expected
    )


def test_a_mean_that_changes_in_time_shares_nothing(narrow_network: C3D, library: kernels.Kernels) -> None:
    del library
    narrow_network.mean_volume = np.random.default_rng(0).normal(100, 9, (3, 16, 128, 171)).astype(np.float32)
    engine = make_engine(narrow_network, layers=["fc6"], device="cpu", shift_frames=8)
    assert not engine.description()["shares_overlap"]
    narrow_network.mean_volume[:] = narrow_network.mean_volume[:, :1]
    constant = make_engine(narrow_network, layers=["fc6"], device="cpu", shift_frames=8)
    assert constant.description()["shares_overlap"]
    clips = clips_every(video(40), 8)
    plain = make_engine(narrow_network, layers=["fc6"], device="cpu")
    assert np.array_equal(constant(clips)["fc6"], plain(clips)["fc6"])


def test_chains_are_found_across_neighbours() -> None:
    one, other = clips_every(video(48), 8), clips_every(video(32, seed=1), 8)
    mixed = torch.from_numpy(np.stack([one[0], other[0], one[1], one[2], other[1], one[4]]))
    assert find_chains(mixed, np.zeros(6, np.int64), 8) == [[0, 2, 3], [1, 4], [5]]
    still = torch.full((10, 3, 16, 112, 112), 9, dtype=torch.uint8)
    assert find_chains(still, np.zeros(10, np.int64), 8) == [list(range(8)), [8, 9]]
    assert torch.equal(join_clips(mixed, [0, 2, 3], 8), torch.from_numpy(video(48)[:, :32]))
