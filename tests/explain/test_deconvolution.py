"""Deconvolution and guided back-propagation: back to where the activation came from, by the rules of their papers."""

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.errors import UsageError
from c3dvideo.explain.deconvolution import deconvolve, guided_backprop
from c3dvideo.explain.layered import network_input

Squares = tuple[np.ndarray, np.ndarray, np.ndarray]


def deconvolved_by_hand(network: C3D, x: torch.Tensor, layer: str, unit: int) -> torch.Tensor:
    """Zeiler and Fergus (2014) step by step: switches of the pooling, ReLU, transposed convolution."""
    sizes, switches = {}, {}
    steps = network.steps[: network.steps.index(layer) + 1]
    for name in steps:
        sizes[name] = x.shape
        if name.startswith("pool"):
            pool = network.get_submodule(name)
            x, switches[name] = torch.nn.functional.max_pool3d(
                x, pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode, return_indices=True
            )
        else:
            x = torch.relu(network.get_submodule(name)(x))
    strongest = x[0, unit].flatten().argmax()
    signal = torch.zeros_like(x)
    signal[0, unit].view(-1)[strongest] = 1
    for name in reversed(steps):
        if name.startswith("pool"):
            back = torch.zeros(sizes[name]).flatten(2)
            back.scatter_add_(2, switches[name].flatten(2), signal.flatten(2))
            signal = back.view(sizes[name])
        else:
            module = network.get_submodule(name)
            signal = torch.nn.functional.conv_transpose3d(torch.relu(signal), module.weight, padding=module.padding)
    return signal


@pytest.mark.parametrize("layer", ["conv1a", "conv2a", "pool2", "conv3b", "conv5b"])
def test_deconvolution_is_that_of_its_paper(layer: str, trained: C3D, squares: Squares) -> None:
    clip = squares[0][:1]
    x = network_input(trained, clip)
    with torch.no_grad():
        responses = trained.activations(x, [layer])[layer].flatten(2).amax(dim=2)[0]
        unit = int(responses.argmax())
        expected = deconvolved_by_hand(trained, x, layer, unit).numpy()
    found = deconvolve(trained, clip, layer=layer, unit=unit)
    assert np.abs(found).max() > 0
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6 * float(np.abs(expected).max()))


def test_a_unit_without_response_gives_zeros(trained: C3D, squares: Squares, make_network: object) -> None:
    network = make_network(0).eval()  # type: ignore[operator]
    network.load_state_dict(trained.state_dict())
    with torch.no_grad():
        network.get_submodule("conv2a").bias[3] = -1e6
    assert not deconvolve(network, squares[0][:2], layer="conv2a", unit=3).any()


def test_guided_gradients_pass_only_where_signal_and_gradient_are_positive(trained: C3D, squares: Squares) -> None:
    """Of one convolution with its ReLU, against the definition; of the network, against plain gradients."""
    clips, _, places = squares
    guided = guided_backprop(trained, clips, target="right")
    assert guided.shape == clips.shape
    x = network_input(trained, clips).requires_grad_()
    (plain,) = torch.autograd.grad(trained(x)[:, 1].sum(), x)
    assert not np.allclose(guided, plain.numpy(), atol=1e-6)
    mass = np.abs(guided).sum(axis=1)
    share = float(((mass * places).sum(axis=(1, 2, 3)) / mass.sum(axis=(1, 2, 3))).mean())
    assert share > 2 * places.mean()


@pytest.mark.parametrize(
    ("layer", "unit", "message"),
    [
        ("conv5b", 16, "0 to 15"),
        ("conv5b", -1, "0 to 15"),
        ("fc8", 0, "are classes"),
        ("prob", 0, "are classes"),
        ("conv7", 0, "unknown layer"),
    ],
)
def test_an_unknown_unit_is_refused(layer: str, unit: int, message: str, trained: C3D, squares: Squares) -> None:
    with pytest.raises(UsageError, match=message):
        deconvolve(trained, squares[0][:1], layer=layer, unit=unit)


def test_units_of_fully_connected_layers_have_projections(trained: C3D, squares: Squares) -> None:
    with torch.no_grad():
        unit = int(trained.activations(network_input(trained, squares[0][:1]), ["fc6"])["fc6"][0].argmax())
    assert np.abs(deconvolve(trained, squares[0][:1], layer="fc6", unit=unit)).max() > 0
