"""How weights move: the release's own SGD, learning rates a layer and over time, and the moving average of weights.

optimizer = make_optimizer(network, recipe)
factor = learning_rate_factor(recipe, n_updates=60_000)     # of the update counted from 0
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from c3dvideo.errors import UsageError
from c3dvideo.network.c3d import C3D
from c3dvideo.training.settings import Recipe


class CaffeSGD(torch.optim.Optimizer):
    """Gradient descent as the authors' release does it, with the learning rate inside the velocity:

        V = momentum V + lr (gradient + weight_decay W);    W = W - V

    torch.optim.SGD multiplies V by lr only when it moves W, which differs as soon as lr changes. Found by matching
    recorded runs of the original program.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0005
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one update of every parameter that has a gradient."""
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


def make_optimizer(network: C3D, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over the weights that are to be trained, biases and normalisation without decay."""
    groups = list(parameter_groups(network, recipe))
    if recipe.optimizer == "release":
        return CaffeSGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def parameter_groups(network: C3D, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """One group for the weights of every layer and one for its biases and normalisation, frozen layers left out.

    The learning rate falls by the factor layer_decay a layer from the last one down; the release's biases learn twice
    as fast as its weights. No bias decays.
    """
    layers = list(network.named_layers())
    unknown = sorted(set(recipe.freeze) - {name for name, _ in layers})
    if unknown:
        raise UsageError(f"cannot freeze {', '.join(unknown)}; the layers are {', '.join(n for n, _ in layers)}")
    for height, (name, layer) in enumerate(reversed(layers)):
        if name in recipe.freeze:
            continue
        lr = recipe.learning_rate * recipe.layer_decay**height
        weights = [layer.weight]
        others = [parameter for parameter in layer.parameters() if parameter is not layer.weight]
        bias_lr = 2 * lr if recipe.optimizer == "release" else lr
        yield {"params": weights, "lr": lr, "weight_decay": recipe.weight_decay, "name": f"{name}.weight"}
        yield {"params": others, "lr": bias_lr, "weight_decay": 0.0, "name": f"{name}.bias"}


def learning_rate_factor(recipe: Recipe, n_updates: int) -> Callable[[int], float]:
    """What every learning rate is multiplied with at update 0, 1, ... of `n_updates`.

    "step": a tenth after every `n_updates // lr_stages` updates. The release counts updates from 1 when it looks the
    rate up, so that the first reduced one is update number stepsize, not the one after it. "cosine": a linear warm-up,
    then half a cosine down to a hundredth.
    """
    if recipe.schedule == "step":
        stepsize = max(1, n_updates // recipe.lr_stages)
        return lambda update: step_factor(update, stepsize=stepsize)
    warmup = round(recipe.warmup * n_updates)

    def cosine(update: int) -> float:
        if update < warmup:
            return (update + 1) / (warmup + 1)
        progress = min(1.0, (update - warmup) / max(1, n_updates - warmup))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))

    return cosine


def step_factor(update: int, *, stepsize: int) -> float:
    """The release's step schedule (gamma 0.1) at `update`, counted from 0."""
    return float(0.1 ** ((update + 1) // stepsize))


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move every parameter and buffer of `average` towards that of `network`, by 1 - decay."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    for mean, value in pairs:
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
