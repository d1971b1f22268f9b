"""The gradient steps of a distillation run on one device; every step is a function of the seed and its number.

steps = StudentSteps(student, heads, targets, batches, settings)
steps.measure_mean()
row = steps.step(0)                              # one update; losses and measures
state = steps.state()                            # what a continued run needs: steps.load(state)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from c3dvideo.network.c3d import C3D
from c3dvideo.training.distillation.distillation_settings import DistilSettings
from c3dvideo.training.distillation.student_batches import StudentBatches
from c3dvideo.training.distillation.student_heads import StudentHeads
from c3dvideo.training.distillation.teacher_targets import Targets
from c3dvideo.training.forward import fast_steps
from c3dvideo.training.pretraining.batches import Batch
from c3dvideo.training.pretraining.gradients import batch_loss
from c3dvideo.training.pretraining.objectives import Heads
from c3dvideo.training.pretraining.pretraining_input import network_input
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings

_MEAN_BATCHES = 8
MEAN_STEPS, SETTLING_STEPS, START_STEPS = 10**8, 2 * 10**8, 3 * 10**8
"""First numbers of batches that no step sees: for the teacher's mean, for the end and for the start of a run."""


@dataclass(frozen=True, kw_only=True)
class GeneratedPart:
    """Generated clips of a run: the heads that predict their labels, and the settings of their losses."""

    heads: Heads
    settings: PretrainSettings


def student_activations(
    network: C3D, clips: Tensor, layers: Sequence[str], *, cells: Sequence[int]
) -> dict[str, Tensor]:
    """Activations of `layers`, pool5 and fc6 of clips (N, 3, T, S, S) in RGB, 0..255, with gradients, without dropout.

    cells: T, H and W of pool5 as fc6 takes it. pool5 of smaller clips is brought to that size, so that fc6 sees every
    part of the picture in its place.
    """
    x = network_input(clips).contiguous(memory_format=torch.channels_last_3d)
    found: dict[str, Tensor] = {}
    for name, value in fast_steps(network, x):
        if name in layers:
            found[name] = torch.relu(value)
        if name == "pool5":
            same = tuple(value.shape[2:]) == tuple(cells)
            found[name] = value if same else functional.interpolate(value, size=tuple(cells))
            found["fc6"] = torch.relu(network.fc6(found[name].flatten(1)))
            break
    return found


class StudentSteps:
    """Student, heads, optimiser and running average of a run; one `step` per update."""

    def __init__(
        self,
        student: C3D,
        heads: StudentHeads,
        targets: Targets,
        batches: StudentBatches,
        settings: DistilSettings,
        generated: GeneratedPart | None = None,
    ) -> None:
        self.student, self.heads, self.targets, self.batches = student, heads, targets, batches
        self.settings, self.generated, self.device = settings, generated, batches.device
        last = student.get_submodule(student.steps[student.steps.index("pool5") - 1])
        side = math.isqrt(student.fc6.in_features // len(last.get_parameter("weight")))
        self.cells = (1, side, side)
        modules = {"student": student, "heads": heads}
        self._modules: dict[str, nn.Module] = modules | ({"generated": generated.heads} if generated else {})
        learned = [
            parameter
            for module in self._modules.values()
            for name, parameter in module.named_parameters()
            if not name.startswith(("fc7", student.architecture["last_layer"]))
        ]
        self._learned = learned
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [each for each in learned if each.ndim > 1], "weight_decay": settings.weight_decay},
                {"params": [each for each in learned if each.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
        )
        self.average = AveragedModel(student, multi_avg_fn=self._into_average)

    def state(self) -> dict[str, Any]:
        """Everything that changes from step to step."""
        parts = {name: module.state_dict() for name, module in self._modules.items()}
        return parts | {"optimizer": self._optimizer.state_dict(), "average": self.average.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        for name, module in self._modules.items():
            module.load_state_dict(state[name])
        self._optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])

    @torch.no_grad()
    def measure_mean(self) -> None:
        """Set the mean that centres the teacher's vectors, from batches that no step uses."""
        found = [self.targets(self.batches.batch(MEAN_STEPS + number))[0] for number in range(_MEAN_BATCHES)]
        self.heads.mean.copy_(torch.cat(found).mean(0))

    def step(self, step: int, generated: Batch | None = None) -> dict[str, Any]:
        """One update; returns the losses and measures, those of generated clips under "generated"."""
        settings = self.settings
        warm = min(1.0, (step + 1) / settings.warmup_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * step / settings.n_steps))
        self._optimizer.zero_grad()
        batch = self.batches.batch(step)
        vectors, maps = self.targets(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            activations = student_activations(self.student, batch.clips, self.heads.map_layers, cells=self.cells)
        losses, found = self.heads(activations, vectors, maps if self.targets.has_map else None, batch.targets)
        loss = torch.stack([getattr(settings, f"{name}_weight") * value for name, value in losses.items()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        row: dict[str, Any] = {"loss": loss, **losses, **found}
        if self.generated is not None and generated is not None:
            part = self.generated
            other, measures = batch_loss(
                self.student, part.heads, part.settings, "clips", generated, step=step, device=self.device
            )
            (settings.generated_weight * other).backward()  # type: ignore[no-untyped-call]
            row["generated"] = {"loss": other.detach(), **measures}
        nn.utils.clip_grad_norm_(self._learned, 5.0)
        self._optimizer.step()
        self.average.update_parameters(self.student)
        return {name: value.detach() if isinstance(value, Tensor) else value for name, value in row.items()}

    @torch.no_grad()
    def _into_average(self, average: Any, current: Any, n_averaged: Any) -> None:
        """Move the average towards the weights, faster at first, so that short runs lose the first weights, too."""
        n = int(n_averaged)
        decay = min(self.settings.average, (1 + n) / (10 + n))
        torch._foreach_lerp_(average, current, 1 - decay)
