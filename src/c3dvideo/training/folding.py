"""Batch normalisation for training, folded into the weights for everything after: C3D itself has none.

with_batch_norm(network)        # in place: convolutions, fc6 and fc7 are followed by a normalisation
with_batch_norm(network, x)     # a trained network, x from its clips: it goes on computing what it did
...train...
plain = folded(network)         # a C3D with the same outputs (in evaluation mode) and no trace of it
"""

import copy
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from c3dvideo.network.c3d import C3D


class NormalisedConv3d(nn.Conv3d):
    """A convolution whose output is batch-normalised; the normalisation's shift takes the place of the bias."""

    def __init__(self, plain: nn.Conv3d) -> None:
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
    """A fully connected layer whose output is batch-normalised."""

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
    """Put a batch normalisation after every layer of `network` but the last and those to `skip`, in place.

    inputs: network input (N, 3, T, H, W) of typical clips, for a network that has learned something. Every
        normalisation then starts with the scale and shift that undo it, so that outputs stay what they were.
    """
    moments = _moments(network, inputs) if inputs is not None else {}
    for name, layer in list(network.named_layers()):
        if layer is network.head or name in skip:
            continue
        normalised = NormalisedConv3d(layer) if isinstance(layer, nn.Conv3d) else NormalisedLinear(layer)
        if name in moments:
            _start_from(normalised, *moments[name])
        setattr(network, name, normalised)


@torch.no_grad()
def _moments(network: C3D, inputs: Iterable[Tensor]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Mean and variance of what every layer computes from the inputs without its bias, and that bias."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def look(name: str, layer: nn.Module, y: Tensor) -> None:
        y = (y.movedim(1, -1).flatten(0, -2) - layer.get_parameter("bias")).double()
        found.setdefault(name, []).append((y.mean(0), y.square().mean(0)))

    hooks = [
        layer.register_forward_hook(lambda layer, _, y, name=name: look(name, layer, y))
        for name, layer in network.named_layers()
        if layer is not network.head
    ]
    for batch in inputs:
        network.activations(batch, ["fc7"])
    for hook in hooks:
        hook.remove()
    result = {}
    for name, parts in found.items():
        mean, square = (torch.stack(each).mean(0) for each in zip(*parts, strict=True))
        bias = network.get_submodule(name).get_parameter("bias").detach()
        result[name] = (mean.to(bias), (square - mean**2).clamp(min=0).to(bias), bias)
    return result


@torch.no_grad()
def _start_from(layer: NormalisedConv3d | NormalisedLinear, mean: Tensor, variance: Tensor, bias: Tensor) -> None:
    """Make the normalisation of `layer` add `bias` and nothing else to products of this mean and variance.

    Its weights are brought to the size of He's fillers, which a normalisation hides, since the learning rates are meant
    for that size: weights for pixels of 0 to 255 are a hundred times smaller.
    """
    norm = layer.norm
    assert norm.running_mean is not None and norm.running_var is not None
    factor = (2 / layer.weight[0].numel()) ** 0.5 / layer.weight.square().mean().sqrt().clamp(min=1e-12)
    layer.weight.mul_(factor)
    norm.running_mean.copy_(mean * factor)
    norm.running_var.copy_(variance * factor**2)
    norm.weight.copy_((norm.running_var + norm.eps).sqrt() / factor)
    norm.bias.copy_(mean + bias)


@torch.no_grad()
def folded(network: C3D) -> C3D:
    """A plain copy of `network`, on the CPU and in evaluation mode, with every normalisation in the weights."""
    copied = copy.deepcopy(network).cpu()
    for name, layer in list(copied.named_layers()):
        if isinstance(layer, NormalisedConv3d | NormalisedLinear):
            norm, plain = layer.norm, layer.plain()
            assert norm.running_mean is not None and norm.running_var is not None
            factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            plain.weight.copy_(layer.weight.double() * factor.view(-1, *[1] * (layer.weight.ndim - 1)))
            plain.bias.copy_(norm.bias.double() - norm.running_mean.double() * factor)  # type: ignore[union-attr]
            setattr(copied, name, plain)
    for parameter in copied.parameters():
        parameter.requires_grad_(True)
    return copied.eval()
