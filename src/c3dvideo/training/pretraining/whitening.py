"""Fit layers in closed form: whitened principal directions of a layer's input, rotated at random.

    fit_convolutions(network, clips, seed=0)        # conv1a ... conv5b, one after the other
    fit_layer(layer, inputs, generator=generator)   # one fully connected layer

Each layer needs a sample of its inputs, their covariance and one eigenvalue problem: no gradients, minutes on a CPU.
The leading directions carry most of the variance. Division by their standard deviations gives rare signals (edges,
changes in time) the same scale as common ones (brightness). The random rotation spreads all directions evenly over the
units, so that ReLU removes the same share of each. Early layers whiten almost fully, and their units are active on half
of their inputs.

Repeated maximum pooling loses the information of early layers. From stage 3 on, some units therefore carry it: one box
filter per channel. The next stage whitens their outputs with the others. The input of fc6 then contains averages from
pool2, pool3 and pool4, within C3D's own topology.
"""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from c3dvideo.network.c3d import C3D

SAMPLES_PER_INPUT = 3
"""A covariance of D inputs is estimated from three times as many samples, and at least 8192."""
_SLICE = 8
"""Clips per forward pass."""

CARRY_FROM_STAGE = 3
"""From this stage on, the first units of a convolution carry a smoothed copy of the stage's input."""


@torch.no_grad()
def fit_convolutions(
    network: C3D,
    clips: Tensor,
    *,
    ridges: Sequence[float] = (0.02,) * 5,
    active: Sequence[float] = (0.5,) * 5,
    seed: int = 0,
    skip: Collection[str] = (),
) -> Iterator[str]:
    """Fit all convolutions of `network` in place from clips, float (N, 3, T, H, W); yields the name of each when done.

    ridges, active: one per stage, see `whitened_units`. skip: layers that are already fitted and stay unchanged. The
    random numbers of a layer depend on the seed and its position alone, so that `skip` does not change the others.
    """
    x = clips
    names = [name for name in network.steps if name.startswith(("conv", "pool"))]
    entering = 0
    for place, name in enumerate(names):
        if name.startswith("conv") and name.endswith("a"):
            entering = x.shape[1]
        if name.startswith("conv") and name not in skip:
            layer = network.get_submodule(name)
            assert isinstance(layer, nn.Conv3d)
            generator = torch.Generator().manual_seed(1000 * seed + place)
            stage = int(name[4])
            carried = min(entering, layer.out_channels) if stage >= CARRY_FROM_STAGE else 0
            options = {"ridge": ridges[stage - 1], "active": active[stage - 1]}
            fit_convolution(layer, x, generator=generator, carried=carried, **options)
            yield name
        # In slices, to bound the memory for temporary tensors.
        x = torch.cat([network.step(name, part) for part in torch.split(x, _SLICE)])


@torch.no_grad()
def fit_convolution(
    layer: nn.Conv3d, inputs: Tensor, *, generator: torch.Generator, carried: int = 0, ridge: float, active: float
) -> None:
    """Fit one padded convolution of odd kernel in place from its inputs (N, C, T, H, W).

    carried: number of first units that are fixed: unit i is the mean of input channel i over the kernel. Through them,
        averages of early layers reach the last one.
    """
    assert layer.bias is not None
    depth, height, width = layer.kernel_size
    layer.weight.zero_()
    layer.bias.zero_()
    for unit in range(carried):
        layer.weight[unit, unit] = 1 / (depth * height * width)
    new = layer.out_channels - carried
    if not new:
        return
    n_samples = max(8192, SAMPLES_PER_INPUT * layer.in_channels * depth * height * width)
    patches = sample_patches(inputs, (depth, height, width), n_samples, generator)
    weight, bias = whitened_units(patches, new, generator, ridge=ridge, active=active)
    # Patches have their channels last, Conv3d has them first.
    layer.weight[carried:] = weight.view(new, depth, height, width, layer.in_channels).permute(0, 4, 1, 2, 3)
    layer.bias[carried:] = bias


@torch.no_grad()
def fit_layer(
    layer: nn.Linear,
    inputs: Tensor,
    *,
    generator: torch.Generator,
    ridge: float = 0.02,
    active: float = 0.5,
    n_directions: int | None = None,
) -> None:
    """Fit one fully connected layer in place from its inputs (N, D); see `whitened_units`."""
    weight, bias = whitened_units(
        inputs, layer.out_features, generator, ridge=ridge, active=active, n_directions=n_directions
    )
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


@torch.no_grad()
def gather_layer(layer: nn.Linear, inputs: Tensor) -> None:
    """Make every unit the mean of an equal share of neighbouring inputs, divided by its standard deviation, in place.

    inputs: (N, D), after ReLU; D is a multiple of the number of units. Weak channels then have the same scale as strong
    ones. In measurements, this kept more information than any mixture of the inputs.
    """
    share = inputs.shape[1] // layer.out_features
    means = inputs.view(len(inputs), layer.out_features, share).mean(dim=2)
    spread = means.std(dim=0)
    # The added tenth of the mean spread avoids division by zero and bounds the gain of weak channels.
    scale = 1 / (share * (spread + 0.1 * spread.mean()))
    layer.weight.zero_()
    layer.bias.zero_()
    columns = torch.arange(inputs.shape[1]).view(layer.out_features, share)
    layer.weight.scatter_(1, columns, scale[:, None].expand_as(columns))


def sample_patches(inputs: Tensor, kernel: tuple[int, int, int], n_samples: int, generator: torch.Generator) -> Tensor:
    """Random neighbourhoods (n_samples, depth * height * width * C) of inputs (N, C, T, H, W), padded with zeros."""
    around = [size // 2 for size in reversed(kernel) for _ in range(2)]
    padded = functional.pad(inputs, around).permute(0, 2, 3, 4, 1)
    n_clips, _, *sizes = inputs.shape
    clip = torch.randint(n_clips, (n_samples, 1, 1, 1), generator=generator)
    first = [torch.randint(size, (n_samples, 1, 1, 1), generator=generator) for size in sizes]
    steps = [
        torch.arange(size).view([-1 if axis == place else 1 for axis in range(3)]) for place, size in enumerate(kernel)
    ]
    parts = [
        padded[clip[rows], *(start[rows] + step for start, step in zip(first, steps, strict=True))].flatten(1)
        for rows in torch.split(torch.arange(n_samples), 1024)  # bounds the temporary index tensors
    ]
    return torch.cat(parts)


def whitened_units(
    samples: Tensor,
    n_units: int,
    generator: torch.Generator,
    *,
    ridge: float = 0.02,
    active: float = 0.5,
    n_directions: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Weight (n_units, D) and bias (n_units,) whose outputs on the samples (N, D) have unit variance.

    ridge: added to every variance, as a share of the mean variance of the kept directions. A value far above 1 turns
        whitening off.
    active: share of the samples on which each output is positive.
    n_directions: number of principal directions that the units use, at most the number of units, of inputs and of
        samples less one; None is that maximum.
    """
    n_samples, n_inputs = samples.shape
    mean = samples.mean(dim=0)
    centred = samples - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / n_samples)
    # The covariance of n centred samples has a rank of at most n - 1.
    kept = min(n_units, n_inputs, n_samples - 1, n_directions or n_inputs)
    # eigh sorts in ascending order, and rounding can make the smallest variances negative.
    variances, directions = variances.flip(0)[:kept].clamp(min=0), directions.flip(1)[:, :kept]
    whiten = directions / (variances + ridge * variances.mean()).sqrt()
    # Part of a larger orthogonal matrix: rows or columns stay orthonormal if there are more units than directions.
    larger = max(n_units, kept)
    rotation = torch.linalg.qr(torch.randn(larger, larger, generator=generator))[0][:n_units, :kept]
    weight = rotation @ whiten.T
    outputs = centred @ weight.T
    spread = outputs.std(dim=0).clamp(min=1e-6)  # a constant output must not divide by zero
    threshold = (outputs / spread).sort(dim=0).values[int((1 - active) * (n_samples - 1))]
    return weight / spread[:, None], -(mean @ weight.T) / spread - threshold
