"""Update weights: the release's own SGD, learning rates per layer and over time, the moving average of weights.

optimizer = make_optimizer(network, settings)
factor = learning_rate_factor(settings, n_updates=60_000)     # factor(0) is that of the first update
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from c3dvideo.errors import UsageError
from c3dvideo.network.c3d import C3D
from c3dvideo.training.settings import TrainSettings


class CaffeSGD(torch.optim.Optimizer):
    """Gradient descent of the authors' release, with the learning rate inside the velocity:

        V = momentum V + lr (gradient + weight_decay W);    W = W - V

    torch.optim.SGD multiplies V by lr only when it updates W. The results differ as soon as lr changes. The formula was
    found by matching recorded runs of the original program.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0005
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["velocity"] = torch.zeros_like(parameter)
                direction = parameter.grad.add(parameter, alpha=group["weight_decay"])
                state["velocity"].mul_(group["momentum"]).add_(direction, alpha=group["lr"])
                parameter.sub_(state["velocity"])
        return loss


def make_optimizer(network: C3D, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimizer of the settings for all layers not frozen, without weight decay of biases and normalisations."""
    groups = list(parameter_groups(network, settings))
    if settings.optimizer == "release":
        return CaffeSGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0
        )
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def parameter_groups(network: C3D, settings: TrainSettings) -> Iterator[dict[str, Any]]:
    """Two groups per layer that is not frozen: its weights, and its biases with the normalisation.

    The learning rate falls by the factor layer_decay per layer below the last. The "release" optimizer gives biases
    twice the learning rate of weights. Raises UsageError for an unknown layer in `freeze`.
    """
    layers = list(network.named_layers())
    unknown = sorted(set(settings.freeze) - {name for name, _ in layers})
    if unknown:
        raise UsageError(
            f"`freeze=` names {', '.join(unknown)}; the layers are {', '.join(name for name, _ in layers)}"
        )
    for height, (name, layer) in enumerate(reversed(layers)):
        if name in settings.freeze:
            continue
        lr = settings.learning_rate * settings.layer_decay**height
        weights = [layer.weight]
        others = [parameter for parameter in layer.parameters() if parameter is not layer.weight]
        bias_lr = 2 * lr if settings.optimizer == "release" else lr
        yield {"params": weights, "lr": lr, "weight_decay": settings.weight_decay, "name": f"{name}.weight"}
        yield {"params": others, "lr": bias_lr, "weight_decay": 0.0, "name": f"{name}.bias"}


def learning_rate_factor(settings: TrainSettings, n_updates: int) -> Callable[[int], float]:
    """A function that returns the factor of every learning rate at update 0, 1, ... of `n_updates`.

    "step": a factor of 0.1 per `n_updates // lr_stages` updates (20,000 in the release). The release's solver counts
    updates from 1, so update number 20,000 is the first with the lower rate. "cosine": a linear warm-up, then half a
    cosine that falls to 0.01.
    """
    if settings.schedule == "step":
        stepsize = max(1, n_updates // settings.lr_stages)
        return lambda update: step_factor(update, stepsize=stepsize)
    warmup = round(settings.warmup * n_updates)

    def cosine(update: int) -> float:
        if update < warmup:
            return (update + 1) / (warmup + 1)
        progress = min(1.0, (update - warmup) / max(1, n_updates - warmup))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))

    return cosine


def step_factor(update: int, *, stepsize: int) -> float:
    """The release's step schedule (gamma 0.1) at `update`, counted from 0."""
    return float(0.1 ** ((update + 1) // stepsize))


class MovingAverage(AveragedModel):
    """The moving average of a network's weights and buffers.

    The weight of the average grows over the first updates, up to `decay`. Random initial weights thus fade quickly.
    Buffers are averaged too: the running statistics of a normalisation belong to the averaged weights.
    """

    def __init__(self, network: C3D, *, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self._decay = decay
        self._n_averaged: int | None = None

    def update_parameters(self, model: torch.nn.Module) -> None:
        """Include the weights of `model`.

        The method of the base class reads its counter from the device twice per update, and the host would wait for the
        device each time. Here the counter is read once; it is kept on the device too, for checkpoints.
        """
        if self._n_averaged is None:
            self._n_averaged = int(self.n_averaged)
        averages = (*self.module.parameters(), *self.module.buffers())
        values = (*model.parameters(), *model.buffers())
        for average, value in zip(averages, values, strict=True):
            average.detach().copy_(moving_average(average.detach(), value.detach(), self._n_averaged, self._decay))
        self._n_averaged += 1
        self.n_averaged += 1


def moving_average(average: Tensor, value: Tensor, n_averaged: int, decay: float) -> Tensor:
    """The next value of one averaged parameter or buffer, after `n_averaged` values."""
    if n_averaged == 0 or not average.is_floating_point():
        return value  # an integer is the number of batches that a normalisation has counted
    return torch.lerp(value, average, min((1 + n_averaged) / (10 + n_averaged), decay))
