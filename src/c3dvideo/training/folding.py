"""Add batch normalisation for training and fold it into the weights afterwards: C3D itself has none.

with_batch_norm(network)        # in place: adds a normalisation after each convolution, fc6 and fc7
with_batch_norm(network, x)     # a trained network: with input x of typical clips, its outputs stay the same
...train...
plain = folded(network)         # a C3D without normalisation and with the same outputs in evaluation mode
"""

import copy
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from c3dvideo.network.c3d import C3D


class NormalisedConv3d(nn.Conv3d):
    """A convolution followed by batch normalisation, whose shift replaces the bias."""

    def __init__(self, plain: nn.Conv3d) -> None:
        # Without bias: the normalisation subtracts the mean, so that a bias would have no effect.
        shape = (plain.in_channels, plain.out_channels, plain.kernel_size)
        super().__init__(*shape, padding=plain.padding, bias=False)  # type: ignore[arg-type]
        self.weight = plain.weight
        self.norm = nn.BatchNorm3d(plain.out_channels)

    def forward(self, clips: Tensor) -> Tensor:
        return self.norm(super().forward(clips))  # type: ignore[no-any-return]

    def plain(self) -> nn.Conv3d:
        """The same layer without normalisation, its weights still to be set."""
        shape = (self.in_channels, self.out_channels, self.kernel_size)
        return nn.Conv3d(*shape, padding=self.padding)  # type: ignore[arg-type]


class NormalisedLinear(nn.Linear):
    """A fully connected layer followed by batch normalisation, whose shift replaces the bias."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=False)
        self.weight = plain.weight
        self.norm = nn.BatchNorm1d(plain.out_features)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(super().forward(features))  # type: ignore[no-any-return]

    def plain(self) -> nn.Linear:
        """The same layer without normalisation, its weights still to be set."""
        return nn.Linear(self.in_features, self.out_features)


def with_batch_norm(network: C3D, inputs: Iterable[Tensor] | None = None, *, skip: Collection[str] = ()) -> None:
    """Add batch normalisation after every layer of `network` except the last and those in `skip`, in place.

    inputs: batches of network input (N, 3, T, H, W) of typical clips, for a trained network. Every normalisation then
        starts with the scale and shift that cancel it, so that the outputs stay the same. None: default statistics.
    """
    moments = _moments(network, inputs) if inputs is not None else {}
    for name, layer in list(network.named_layers()):  # a list, because the loop replaces the layers
        # Logits stay unnormalised: their scale is the confidence of the softmax.
        if layer is network.head or name in skip:
            continue
        normalised = NormalisedConv3d(layer) if isinstance(layer, nn.Conv3d) else NormalisedLinear(layer)
        if name in moments:
            _start_from(normalised, *moments[name])
        setattr(network, name, normalised)


@torch.no_grad()
def _moments(network: C3D, inputs: Iterable[Tensor]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Mean and variance of every layer's output without bias, over all inputs, and the bias."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def record(name: str, layer: nn.Module, y: Tensor) -> None:
        # float64, because the variance below is a difference of two large numbers.
        y = (y.movedim(1, -1).flatten(0, -2) - layer.get_parameter("bias")).double()
        found.setdefault(name, []).append((y.mean(0), y.square().mean(0)))

    hooks = [
        layer.register_forward_hook(lambda layer, _, y, name=name: record(name, layer, y))
        for name, layer in network.named_layers()
        if layer is not network.head
    ]
    for batch in inputs:
        network.activations(batch, ["fc7"])  # fc8 gets no normalisation, so its output is not needed
    for hook in hooks:
        hook.remove()
    result = {}
    for name, parts in found.items():
        mean, square = (torch.stack(each).mean(0) for each in zip(*parts, strict=True))
        bias = network.get_submodule(name).get_parameter("bias").detach()
        # Rounding can make the variance of a constant unit negative.
        result[name] = (mean.to(bias), (square - mean**2).clamp(min=0).to(bias), bias)
    return result


@torch.no_grad()
def _start_from(layer: NormalisedConv3d | NormalisedLinear, mean: Tensor, variance: Tensor, bias: Tensor) -> None:
    """Set the normalisation of `layer` so that it only adds `bias` to outputs with this mean and variance.

    The weights are scaled to the size of He's initialisation, which the learning rates are chosen for. Weights for
    pixels of 0 to 255 are a hundred times smaller. The normalisation cancels the factor.
    """
    norm = layer.norm
    assert norm.running_mean is not None and norm.running_var is not None
    factor = (2 / layer.weight[0].numel()) ** 0.5 / layer.weight.square().mean().sqrt().clamp(min=1e-12)
    layer.weight.mul_(factor)
    norm.running_mean.copy_(mean * factor)
    norm.running_var.copy_(variance * factor**2)
    # With `eps`, because the normalisation adds it too: only then does the division cancel exactly.
    norm.weight.copy_((norm.running_var + norm.eps).sqrt() / factor)
    norm.bias.copy_(mean + bias)


@torch.no_grad()
def folded(network: C3D) -> C3D:
    """A copy of `network` on the CPU, in evaluation mode, with every normalisation folded into weights and biases."""
    copied = copy.deepcopy(network).cpu()
    for name, layer in list(copied.named_layers()):
        if isinstance(layer, NormalisedConv3d | NormalisedLinear):
            norm, plain = layer.norm, layer.plain()
            assert norm.running_mean is not None and norm.running_var is not None
            # One rounding to float32 at the end instead of one per operation.
            factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            plain.weight.copy_(layer.weight.double() * factor.view(-1, *[1] * (layer.weight.ndim - 1)))
            plain.bias.copy_(norm.bias.double() - norm.running_mean.double() * factor)  # type: ignore[union-attr]
            setattr(copied, name, plain)
    # Layers that were frozen in training are copied as frozen; the result can be trained further.
    for parameter in copied.parameters():
        parameter.requires_grad_(True)
    return copied.eval()
