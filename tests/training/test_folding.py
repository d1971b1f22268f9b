"""Batch normalisation around a network that has learned something."""

import copy

import torch
from torch import Tensor

from c3dvideo.network.c3d import C3D
from c3dvideo.training.folding import NormalisedConv3d, folded, with_batch_norm


def trained() -> tuple[C3D, Tensor]:
    """A small network with weights and biases of very different sizes, and input for it."""
    torch.manual_seed(0)
    stages = ((4,), (5,), (6, 6), (7, 7), (8, 8))
    network = C3D(num_classes=3, stages=stages, fc_width=9, crop_size=32, dropout=0.0, filler="xavier").eval()
    with torch.no_grad():
        network.conv1a.weight.mul_(0.01)
        network.conv3b.bias.add_(0.3)
    return network, 50 * torch.randn(6, 3, 16, 32, 32)


def test_outputs_stay_what_they_were() -> None:
    network, clips = trained()
    expected = network(clips)
    normalised = copy.deepcopy(network)
    with_batch_norm(normalised, [clips[:3], clips[3:]])
    assert all(isinstance(normalised.get_submodule(f"conv{name}"), NormalisedConv3d) for name in ("1a", "3b", "5b"))
    torch.testing.assert_close(normalised.eval()(clips), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(folded(normalised)(clips), expected, rtol=1e-4, atol=1e-5)
    # The very clips it was fitted on, as one batch: their own statistics are the running ones.
    torch.testing.assert_close(normalised.train()(clips), expected, rtol=1e-4, atol=1e-5)


def test_weights_get_the_size_that_learning_rates_are_meant_for() -> None:
    network, clips = trained()
    with_batch_norm(network, [clips])
    for name, layer in network.named_layers():
        if layer is not network.head:
            size = float(layer.weight.detach().square().mean().sqrt()) * (layer.weight[0].numel() / 2) ** 0.5
            assert abs(size - 1) < 1e-4, name


def test_layers_to_skip_stay_plain() -> None:
    network, clips = trained()
    before = network.conv1a
    with_batch_norm(network, [clips], skip=("conv1a", "fc6"))
    assert network.conv1a is before and type(network.fc6) is torch.nn.Linear
    assert isinstance(network.conv2a, NormalisedConv3d)
