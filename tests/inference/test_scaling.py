"""Pixels to network input: the mean of each clip's view, scale and standard deviation of the profile."""

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.inference.engine import make_engine
from c3dvideo.inference.scaling import Scaling
from c3dvideo.video.preprocess import PROFILES, input_mean

CPU = torch.device("cpu")


def clips_of(n_clips: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n_clips, 3, 16, 112, 112), dtype=np.uint8)


def test_each_clip_loses_the_mean_of_its_view(narrow_network: C3D) -> None:
    narrow_network.mean_volume = np.random.default_rng(1).normal(100, 9, (3, 16, 128, 171)).astype(np.float32)
    views = narrow_network.profile.views("ten")
    clips, index = clips_of(3), np.array([2, 0, 9])
    expected = np.stack([input_mean(narrow_network.profile, narrow_network.mean_volume, views[view]) for view in index])
    scaling = Scaling.of(narrow_network, views, CPU)
    found = scaling.apply(torch.from_numpy(clips), torch.from_numpy(index)).numpy()
    assert np.array_equal(found, clips.astype(np.float32) - expected)
    ten = make_engine(narrow_network, layers=["fc6"], views=views, device="cpu")(clips, index)["fc6"]
    for clip, view in enumerate(index):
        one = make_engine(narrow_network, layers=["fc6"], views=[views[view]], device="cpu")
        assert np.array_equal(one(clips[clip : clip + 1])["fc6"], ten[clip : clip + 1])


def test_scale_and_std_of_a_profile(narrow_network: C3D) -> None:
    profile = next(each for each in PROFILES.values() if each.scale != 1 and each.mean != "volume")
    narrow_network.profile = profile
    clips = clips_of(1)
    mean, std = (np.float32(each).reshape(3, 1, 1, 1) for each in (profile.mean, profile.std))
    expected = (clips.astype(np.float32) * np.float32(profile.scale) - mean) / std
    scaling = Scaling.of(narrow_network, profile.views("centre"), CPU)
    np.testing.assert_allclose(scaling.apply(torch.from_numpy(clips)).numpy(), expected, rtol=1e-6, atol=1e-6)


def test_a_mean_constant_in_time_fits_stretches_of_any_length(narrow_network: C3D) -> None:
    views = narrow_network.profile.views("centre")
    constant = Scaling.of(narrow_network, views, CPU)
    assert constant.means.shape == (1, 3, 1, 112, 112)
    stretch = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (1, 3, 40, 112, 112), dtype=np.uint8))
    assert torch.equal(constant.apply(stretch), stretch - 100.0)
    assert narrow_network.mean_volume is not None
    narrow_network.mean_volume[:, 3] += 1
    assert Scaling.of(narrow_network, views, CPU).means.shape == (1, 3, 16, 112, 112)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected \(views, 3, T or 1, H, W\)"):
        Scaling(torch.zeros(3, 1, 1, 1), torch.ones(3))
