"""Compute the losses of gradient steps: parts and motion at every location, labels of the scene, and its identity.

heads = Heads(network, crop=64)
losses, found = heads(activations, maps, labels, scenes, temperature=0.2)      # one loss per objective
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from c3dvideo.network.c3d import C3D
from c3dvideo.synthetic.figures import PARTS
from c3dvideo.synthetic.maps import MOVES
from c3dvideo.training.pretraining.batches import ALL_TASKS, NO_TARGET

_PART_WEIGHTS = {"background": 0.4, "thing": 0.6, "skin": 1, "hair": 1, "eye": 4, "mouth": 4, "beard": 2, "hand": 2,
                 "tool": 3, "clothes": 0.8, "flame": 4}  # fmt: skip
"""Weight of each part in the loss. Small parts weigh more, because they cover few locations."""

_STILL_WEIGHT = 0.3
"""Weight of locations without motion. It is below 1, because most locations have none."""


class Heads(nn.Module):
    """Linear heads for parts and motion on the last convolution of stages 3 to 5, and heads for labels and identity on
    pool5."""

    def __init__(self, network: C3D, *, crop: int) -> None:
        super().__init__()
        steps = network.steps
        self.map_layers = [steps[steps.index(f"pool{stage}") - 1] for stage in (3, 4, 5)]
        widths = {name: len(network.get_submodule(name).get_parameter("weight")) for name in self.map_layers}
        part_weights = [_PART_WEIGHTS[part] for part in PARTS]
        move_weights = [_STILL_WEIGHT if move == "still" else 1 for move in MOVES]
        self.parts = nn.ModuleDict({name: _MapHead(width, part_weights) for name, width in widths.items()})
        self.moves = nn.ModuleDict({name: _MapHead(width, move_weights) for name, width in widths.items()})
        n_inputs = widths[self.map_layers[-1]] * (crop // 32) ** 2
        self.trunk = nn.Sequential(
            nn.Linear(n_inputs, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.2)
        )
        self.labels = nn.Linear(512, sum(map(len, ALL_TASKS.values())))
        self.point = nn.Sequential(nn.Linear(512, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128))

    def forward(
        self, activations: Mapping[str, Tensor], maps: Tensor, labels: Tensor, scenes: Tensor, *, temperature: float
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The losses "parts", "moves" (clips only), "labels" and "contrast", and the values to log.

        The log gets the loss per map and layer, the accuracy per task and the accuracy of the contrastive loss.

        activations: those of `map_layers` and pool5 for N views. maps: int64 (N, 1 or 2, t, h, w), see `random_view`.
        labels: int64 (N, n_tasks), scenes: int64 (N,), see `Batch`.
        """
        losses: dict[str, Tensor] = {}
        found: dict[str, float] = {}
        objectives = (("parts", self.parts, PARTS), ("moves", self.moves, MOVES))
        for (what, heads, names), shown in zip(objectives, maps.unbind(1), strict=False):
            shares = functional.one_hot(shown, len(names)).movedim(-1, 1).float()
            of_layers = {name: heads[name](activations[name], shares) for name in self.map_layers}
            losses[what] = torch.stack(list(of_layers.values())).sum()
            found |= {f"{what} {name}": float(loss.detach()) for name, loss in of_layers.items()}
        hidden = self.trunk(activations["pool5"].float().flatten(1))
        losses["labels"], accuracies = _label_loss(self.labels(hidden), labels)
        losses["contrast"], found["contrast"] = _contrast(self.point(hidden), scenes, temperature)
        return losses, found | accuracies


class _MapHead(nn.Module):
    """A linear head that predicts a map; returns its weighted cross-entropy with the share of each class per cell."""

    weights: Tensor

    def __init__(self, n_channels: int, weights: Sequence[float]) -> None:
        super().__init__()
        self.read_out = nn.Conv3d(n_channels, len(weights), 1)
        self.register_buffer("weights", torch.tensor(weights).float(), persistent=False)

    def forward(self, activation: Tensor, shares: Tensor) -> Tensor:
        """The loss of activations (N, C, T, H, W) with the target shares (N, n_classes, t, h, w)."""
        logits = self.read_out(activation).float()
        target = functional.adaptive_avg_pool3d(shares, logits.shape[2:])
        weighted = target * self.weights.view(1, -1, 1, 1, 1)
        loss: Tensor = -(weighted * logits.log_softmax(dim=1)).sum() / weighted.sum()
        return loss


def _label_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy summed over tasks, weighted by the share of views with a target, and the accuracy per task."""
    loss, accuracies = logits.new_zeros(()), {}
    parts = torch.split(logits, [len(names) for names in ALL_TASKS.values()], dim=1)
    for task, part, target in zip(ALL_TASKS, parts, labels.T, strict=True):
        has_target = target != NO_TARGET
        if has_target.any():
            loss = loss + functional.cross_entropy(part[has_target], target[has_target], reduction="sum") / len(target)
            accuracies[task] = float((part[has_target].argmax(1) == target[has_target]).float().mean())
    return loss, accuracies


def _contrast(points: Tensor, scenes: Tensor, temperature: float) -> tuple[Tensor, float]:
    """The contrastive loss, and the share of views whose nearest other view shows the same scene."""
    points = functional.normalize(points, dim=1)
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    similarity = (points @ points.T / temperature).masked_fill(itself, -torch.inf)
    partner = (scenes[:, None] == scenes) & ~itself
    likely = similarity.log_softmax(dim=1).masked_fill(~partner, 0)
    loss = -(likely.sum(1) / partner.sum(1)).mean()
    return loss, float(partner.gather(1, similarity.argmax(1)[:, None]).float().mean())
