"""Batch normalisation over the batches of all processes of a run, on a GPU or a CPU.

    share_batch_norms(network, torch.device("cpu"))     # in place; the names of all arrays stay as they are

With statistics of one process's clips alone, a run on two devices would train another network than a run on one device
with batches of twice the size.
"""

from typing import Any

import torch
from torch import Tensor, nn


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation with the mean and variance over all processes, for devices that `nn.SyncBatchNorm` refuses.

    Takes inputs of any number of dimensions, (N, C, ...). In evaluation mode it is plain batch normalisation.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept what the layer that this one replaces has accepted."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return super().forward(values)
        normalised, mean, variance, n = _Normalise.apply(  # type: ignore[no-untyped-call]
            values.float(),  # under autocast the statistics would have 8 bits
            self.weight,
            self.bias,
            self.eps,
        )
        self._keep(mean, variance, n)
        return normalised.to(values.dtype)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        """Move the running statistics, whose variance is the unbiased one as in PyTorch's own layer."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * n / (n - 1).clamp(min=1), self.momentum)


class _Normalise(torch.autograd.Function):
    """Values normalised over all processes, with the mean, the variance and the number of values per channel.

    The gradient is written out, because that of the single steps loses digits where a variance is small.
    """

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        # Sums in float64, as in PyTorch's layer on a CPU: a channel that hardly varies is divided by a tiny deviation,
        # which would turn the rounding of a mean in float32 into its output.
        count = torch.tensor([float(x.numel() // x.shape[1])], dtype=torch.float64, device=x.device)
        sums = _over_processes(torch.cat([x.sum(axes, dtype=torch.float64), count]))
        n, mean = sums[-1].float(), (sums[:-1] / sums[-1]).float()
        # A second sum, of squares around the mean: a difference of two large sums would lose half of the digits.
        centred = x - _along_channels(mean, x)
        variance = (_over_processes(centred.square().sum(axes, dtype=torch.float64)) / sums[-1]).float()
        inverse = torch.rsqrt(variance + eps)
        unit = centred * _along_channels(inverse, x)
        context.save_for_backward(unit, weight, inverse, n)
        context.mark_non_differentiable(mean, variance, n)
        return unit * _along_channels(weight, x) + _along_channels(bias, x), mean, variance, n

    @staticmethod
    def backward(context: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        unit, weight, inverse, n = context.saved_tensors
        axes = [axis for axis in range(unit.ndim) if axis != 1]
        of_bias = gradient.sum(axes, dtype=torch.float64)
        of_weight = (gradient * unit).sum(axes, dtype=torch.float64)
        # All clips have moved the statistics, so the gradients of all of them count; those of weight and bias are
        # summed with those of the other parameters.
        mean, along = (_over_processes(torch.stack((of_bias, of_weight))) / n).float()
        inner = gradient - _along_channels(mean, unit) - unit * _along_channels(along, unit)
        return inner * _along_channels(weight * inverse, unit), of_weight.float(), of_bias.float(), None


def _over_processes(values: Tensor) -> Tensor:
    """The sum over all processes."""
    torch.distributed.all_reduce(values)
    return values


def share_batch_norms(network: nn.Module, device: torch.device) -> None:
    """Let every batch normalisation of `network` take its statistics over all processes, in place."""
    if device.type == "cuda":  # PyTorch's own layer has a fused kernel there
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm3d):
                setattr(module, name, _shared(child))


def _shared(norm: nn.BatchNorm1d | nn.BatchNorm3d) -> SharedBatchNorm:
    shared = SharedBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    # The very same parameters, so that nothing that holds them already loses its hold.
    shared.weight, shared.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(shared, name, buffer)
    return shared.train(norm.training)


def _along_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))
