"""Linear read-out of layers: it finds a rule where there is one, and none where there cannot be one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.errors import UsageError
from c3dvideo.probing.readout import decode_labels, linear_accuracy
from c3dvideo.synthetic import TASKS
from c3dvideo.training.pretraining.pretraining_input import PROFILE
from c3dvideo.training.pretraining.whitening import fit_convolutions


def fitted(temporal_depth: int) -> C3D:
    torch.manual_seed(0)
    network = C3D(
        num_classes=2, stages=((8,), (8,), (8,), (8,), (8,)), fc_width=4, crop_size=48, clip_length=8,
        temporal_depths=(temporal_depth,) * 5,
    )  # fmt: skip
    network.profile = replace(PROFILE, crop_size=48, crop_top=None, crop_left=None)
    list(fit_convolutions(network, 50 * torch.randn(4, 3, 8, 48, 48).cumsum(dim=2)))
    return network.eval()


def test_ridge_finds_a_linear_rule_and_none_in_noise() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 20))
    assert linear_accuracy(features, (features[:, 3] > 0).astype(int)) > 0.8
    assert linear_accuracy(features, rng.integers(0, 2, 300)) < 0.62


def test_every_task_gets_a_row_and_controls_differ() -> None:
    network = fitted(3)
    rows = decode_labels(network, layers=["pool2", "fc6"], n_clips=50)
    tasks = [task for task in TASKS if (("fc6", task) in {(row.layer, row.task) for row in rows})]
    assert {"horizontal", "rotation", "shape", "colour"} <= set(tasks)
    assert [(row.layer, row.task) for row in rows] == [(layer, task) for layer in ("pool2", "fc6") for task in tasks]
    assert all(0 <= row.accuracy <= 1 and 0 < row.chance < 1 and row.n_clips >= 10 for row in rows)
    assert rows != decode_labels(network, layers=["pool2", "fc6"], n_clips=50, frames="one repeated")
    assert decode_labels(network, layers=["fc6"], tasks=["rotation", "horizontal"], n_clips=50) == [
        row for task in ("rotation", "horizontal") for row in rows if (row.layer, row.task) == ("fc6", task)
    ]
    assert decode_labels(network, layers=["fc6"], tasks=[], n_clips=50) == []
    with pytest.raises(UsageError, match="unknown task: mood; there are "):
        decode_labels(network, layers=["fc6"], tasks=["mood"])
    with pytest.raises(UsageError, match="too few"):
        decode_labels(network, layers=["fc6"], n_clips=10)
    with pytest.raises(UsageError, match="'reversed'"):
        decode_labels(network, layers=["fc6"], frames="reversed")


def test_a_network_without_temporal_kernels_cannot_tell_a_clip_from_its_reverse() -> None:
    clips = torch.rand(2, 3, 8, 48, 48) * 200 - 100
    flat, deep = fitted(1), fitted(3)
    with torch.inference_mode():
        (flat_on, flat_back), (deep_on, deep_back) = (
            [network.activations(each, ["pool5"])["pool5"] for each in (clips, clips.flip(2))]
            for network in (flat, deep)
        )
    assert torch.allclose(flat_on, flat_back, atol=1e-5)
    assert (deep_on - deep_back).abs().max() > 1e-3
