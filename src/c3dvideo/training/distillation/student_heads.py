"""What the student predicts while it learns from a teacher: vectors, maps, neighbours and motion.

heads = StudentHeads(network, teacher_width=1280)
losses, found = heads(activations, vectors, maps, targets)       # one number per loss; measures for the log
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from c3dvideo.network.c3d import C3D
from c3dvideo.training.distillation.moving_stills import MOTIONS, NO_TARGET

_MOTION_LAYERS = ("pool5", "fc6")
_TEACHER_TEMPERATURE = 0.1


class StudentHeads(nn.Module):
    """Linear read-outs of a student's layers.

    The teacher's vector is predicted from fc6, its map from the last convolutions of stages 4 and 5, and the motion of
    camera and patch from pool5 and fc6. The similarities of fc6 within a batch follow those of the teacher's vectors,
    because search and retrieval compare fc6 itself and not a prediction made from it.
    """

    mean: Tensor

    def __init__(self, network: C3D, *, teacher_width: int) -> None:
        super().__init__()
        steps = network.steps
        self.map_layers = [steps[steps.index(f"pool{stage}") - 1] for stage in (4, 5)]
        self.vector = nn.Linear(network.fc6.out_features, teacher_width)
        self.maps = nn.ModuleDict(
            {
                name: nn.Conv2d(len(network.get_submodule(name).get_parameter("weight")), teacher_width, 1)
                for name in self.map_layers
            }
        )
        widths = {"pool5": network.fc6.in_features, "fc6": network.fc6.out_features}
        n_classes = sum(map(len, MOTIONS.values()))
        self.motion = nn.ModuleDict({name: nn.Linear(widths[name], n_classes) for name in _MOTION_LAYERS})
        self.contrast_scale = nn.Parameter(torch.tensor(2.5))
        self.relation_scale = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("mean", torch.zeros(teacher_width))

    def forward(
        self, activations: Mapping[str, Tensor], vectors: Tensor, maps: Tensor | None, targets: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses "vector", "contrast", "relation", "map" and "motion", and measures for the log.

        activations: of `map_layers`, pool5 (N, C, T, 4, 4) and fc6 (N, D), after ReLU. vectors: float (N, W).
        maps: float (N, W, h, w), or None for no loss "map". targets: int64 (N,) per task of MOTIONS, NO_TARGET for
        none; where no clip has a target, there is no loss "motion".
        """
        fc6 = activations["fc6"].float()
        wanted = functional.normalize(vectors - self.mean, dim=1)
        predicted = functional.normalize(self.vector(fc6), dim=1)
        losses = {"vector": 1 - (predicted * wanted).sum(1).mean()}
        found = {"cosine": 1 - losses["vector"].detach()}
        losses["contrast"], found["matched"] = _contrast(predicted, wanted, self.contrast_scale.exp())
        losses["relation"] = _relation(fc6, wanted, self.relation_scale.exp())
        if maps is not None:
            losses["map"], cosines = self._maps(activations, maps)
            found |= cosines
        motion, accuracies = self._motion(activations, targets)
        if motion is not None:
            losses["motion"] = motion
        return losses, found | accuracies

    def _maps(self, activations: Mapping[str, Tensor], maps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One minus the mean cosine over places and layers, and the cosine of each layer."""
        centred = functional.normalize(maps - self.mean[:, None, None], dim=1)
        cosines = {}
        for name in self.map_layers:
            seen = functional.adaptive_avg_pool2d(activations[name].float().mean(2), (maps.shape[-2], maps.shape[-1]))
            cosines[f"map {name}"] = functional.cosine_similarity(self.maps[name](seen), centred, dim=1).mean()
        return 1 - torch.stack(list(cosines.values())).mean(), {n: value.detach() for n, value in cosines.items()}

    def _motion(
        self, activations: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Cross-entropy over the tasks and layers, and the accuracy of each task, over the clips that have the task."""
        parts_of_loss, accuracies = [], {}
        for layer, read_out in self.motion.items():
            logits = read_out(activations[layer].float().flatten(1))
            parts = torch.split(logits, [len(names) for names in MOTIONS.values()], dim=1)
            for task, part in zip(MOTIONS, parts, strict=True):
                present = targets[task] != NO_TARGET
                if not present.any():
                    continue
                parts_of_loss.append(functional.cross_entropy(part, targets[task], ignore_index=NO_TARGET))
                right = part.argmax(1) == targets[task]
                accuracies[f"{task} {layer}"] = (right & present).sum() / present.sum()
        return torch.stack(parts_of_loss).sum() / len(self.motion) if parts_of_loss else None, accuracies


def _contrast(predicted: Tensor, wanted: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of finding one's own teacher vector in the batch, and back; and how often it is the nearest."""
    similarity = predicted @ wanted.T * scale
    own = torch.arange(len(predicted), device=predicted.device)
    loss = (functional.cross_entropy(similarity, own) + functional.cross_entropy(similarity.T, own)) / 2
    return loss, (similarity.argmax(1) == own).float().mean()


def _relation(fc6: Tensor, wanted: Tensor, scale: Tensor) -> Tensor:
    """Divergence of fc6's neighbours in the batch from the teacher's: softmax over the cosines with all other clips."""
    unit = functional.normalize(fc6, dim=1)
    others = ~torch.eye(len(fc6), dtype=torch.bool, device=fc6.device)
    student = (unit @ unit.T * scale)[others].view(len(fc6), -1).log_softmax(1)
    teacher = (wanted @ wanted.T / _TEACHER_TEMPERATURE)[others].view(len(fc6), -1).log_softmax(1)
    return functional.kl_div(student, teacher, log_target=True, reduction="batchmean")
