"""Gradient steps on the convolutions, first on single frames and then on clips as well; resumable to the same weights.

network = learn(network, Path("run"), settings, clips, device)

A frame costs a sixteenth of a clip, and most of what there is to know of faces, hands and textures is in one. On single
frames only the middle of every kernel is used; once clips join, the taps beside it, which see the frame before and
after, start as detectors of movement. Single frames go on then, beside every clip, so that looks are not forgotten.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from c3dvideo.files import writing
from c3dvideo.network.c3d import C3D
from c3dvideo.progress import progress
from c3dvideo.training.arithmetic import keep_freed_memory
from c3dvideo.training.folding import NormalisedConv3d, folded, with_batch_norm
from c3dvideo.training.forward import fast_steps
from c3dvideo.training.pretraining.batches import Batch, Kind, batches
from c3dvideo.training.pretraining.objectives import Heads
from c3dvideo.training.pretraining.pretraining_input import network_input
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings
from c3dvideo.training.pretraining.views import random_view
from c3dvideo.training.run_folder import save_state

_CHECKPOINT_EVERY = 100
_SETTLING_BATCH = 16
_WAYS = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""Down and right, the ways of the units that look for movement."""
_MOVERS_MIDDLE = 0.3
"""What is left of the middle tap in those units."""


def learn(network: C3D, out: Path, settings: PretrainSettings, clips: Tensor, device: torch.device) -> C3D:
    """The network after the settings's gradient steps, batch-normalised on the way and folded at the end.

    clips: uint8 (N, 3, 16, 112, 112), what the normalisations settle on. The checkpoints out/stills.pt and out/clips.pt
    are continued; out/log.jsonl gets a line with every checkpoint.
    """
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    with_batch_norm(network, skip=("fc6", "fc7"))
    heads = Heads(network, crop=settings.crop).to(device)
    network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    run = _Run(network=network, heads=heads, out=out, settings=settings, device=device)
    if settings.still_steps:
        run.take_steps({"stills": 0}, settings.still_steps)
        _start_side_taps(network)
    if settings.n_steps:
        run.take_steps({"clips": 0, "stills": settings.still_steps}, settings.n_steps)
    _settle(network, clips, device)
    return folded(network)


def _convolutions(network: C3D) -> list[NormalisedConv3d]:
    return [module for module in network.modules() if isinstance(module, NormalisedConv3d)]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What all steps of a run share."""

    network: C3D
    heads: Heads
    out: Path
    settings: PretrainSettings
    device: torch.device

    def take_steps(self, kinds: dict[Kind, int], n_steps: int) -> None:
        """One phase, from its checkpoint if there is one: every step sees a batch of each kind.

        kinds: of each, how many batches earlier phases have seen; the checkpoint is named after the first. The learning
        rate rises for 50 steps and falls to zero.
        """
        modules = (*_convolutions(self.network), self.heads)
        parameters = [parameter for module in modules for parameter in module.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=self.settings.learning_rate, weight_decay=0.02)
        parts: dict[str, Any] = {"network": self.network, "heads": self.heads, "optimizer": optimizer}
        path, first = self.out / f"{next(iter(kinds))}.pt", 0
        if path.is_file():
            state = torch.load(path, weights_only=True)
            first = int(state["step"])
            for name, part in parts.items():
                part.load_state_dict(state[name])
        self.network.train()
        self.heads.train()
        rows = [batches(self.settings, kind, first=seen + first) for kind, seen in kinds.items()]
        with progress(f"learning from {' and '.join(kinds)}", total=n_steps - first, unit="steps") as bar:
            for step, drawn in enumerate(islice(zip(*rows, strict=True), n_steps - first), start=first):
                warm = min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / n_steps))
                for group in optimizer.param_groups:
                    group["lr"] = self.settings.learning_rate * warm
                optimizer.zero_grad()
                row: dict[str, Any] = {"step": step + 1}
                for kind, batch in zip(kinds, drawn, strict=True):
                    loss, found = self._loss(kind, batch, step)
                    loss.backward()  # type: ignore[no-untyped-call]
                    row[kind] = {"loss": float(loss.detach()), **found}
                nn.utils.clip_grad_norm_(parameters, 5.0)
                optimizer.step()
                bar.note(", ".join(f"{kind} {row[kind]['loss']:.2f}" for kind in kinds))
                bar.advance()
                if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == n_steps:
                    save_state({"step": step + 1} | {name: part.state_dict() for name, part in parts.items()}, path)
                    with writing(self.out / "log.jsonl"), (self.out / "log.jsonl").open("a") as log:
                        log.write(json.dumps(row) + "\n")

    def _loss(self, kind: Kind, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of one step, see `batch_loss`."""
        return batch_loss(self.network, self.heads, self.settings, kind, batch, step=step, device=self.device)


def batch_loss(
    network: C3D,
    heads: Heads,
    settings: PretrainSettings,
    kind: Kind,
    batch: Batch,
    *,
    step: int,
    device: torch.device,
) -> tuple[Tensor, dict[str, float]]:
    """The weighted loss of two views of every clip of a batch, and what is found in it, see `Heads`.

    step: its number, from which the views and the dropout in the heads come.
    """
    clips, maps, labels, scenes = (x.to(device) for x in (batch.clips, batch.maps, batch.labels, batch.scenes))
    generator = torch.Generator(device).manual_seed(100_000 * settings.seed + step)
    torch.manual_seed(100_000 * settings.seed + step)  # of the dropout in the heads
    pairs = [random_view(clips, maps, crop=settings.crop, generator=generator) for _ in range(2)]
    views, shown = (torch.cat(each) for each in zip(*pairs, strict=True))
    seen = {}
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        for name, value in _STEPS[kind](network, views):
            if name in heads.map_layers:
                seen[name] = torch.relu(value)
            elif name == "pool5":
                seen[name] = value
        losses, found = heads(seen, shown, labels.repeat(2, 1), scenes.repeat(2), temperature=settings.temperature)
    weights = {
        "parts": settings.part_weight,
        "moves": settings.move_weight,
        "labels": settings.label_weight,
        "contrast": settings.contrast_weight,
    }
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum(), found


def steps_of_clips(network: C3D, clips: Tensor) -> Iterator[tuple[str, Tensor]]:
    """`fast_steps` to pool5 of clips, float (N, 3, T, H, W) in RGB, 0..255."""
    x = network_input(clips).contiguous(memory_format=torch.channels_last_3d)
    for name, value in fast_steps(network, x):
        yield name, value
        if name == "pool5":
            return


def steps_of_stills(network: C3D, frames: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same for single frames, float (N, 3, 1, H, W), whose time pools have nothing to choose from.

    Only the middle of a padded kernel meets a frame, so these are 2-D convolutions.
    """
    x = network_input(frames)[:, :, 0].contiguous(memory_format=torch.channels_last)
    names = [name for name in network.steps if name.startswith(("conv", "pool"))]
    for name, following in zip(names, [*names[1:], ""], strict=True):
        layer = network.get_submodule(name)
        if name.startswith("pool"):
            with torch.autocast(x.device.type, enabled=False):
                x = torch.relu_(functional.max_pool2d(x, 2))
        else:
            assert isinstance(layer, NormalisedConv3d)
            middle = layer.weight[:, :, layer.weight.shape[2] // 2]
            x = _normalise(layer.norm, functional.conv2d(x, middle, padding=1))
            if not following.startswith("pool"):
                x = torch.relu_(x)
        yield name, x[:, :, None]


def _normalise(norm: nn.BatchNorm3d, x: Tensor) -> Tensor:
    """The normalisation in training, of pictures."""
    return functional.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True, momentum=0.1, eps=norm.eps
    )


_STEPS = {"stills": steps_of_stills, "clips": steps_of_clips}


@torch.no_grad()
def _start_side_taps(network: C3D) -> None:
    """Let every second unit of each convolution look for movement; the others go on seeing the middle frame only.

    Such a unit subtracts what its pattern finds one place back in the frame before from what it finds one place further
    along its way in the frame after, and counts less what it finds in the middle.
    """
    for layer in _convolutions(network):
        middle = layer.weight.shape[2] // 2
        pictures = layer.weight[:, :, middle].clone()
        layer.weight.zero_()
        layer.weight[:, :, middle] = pictures
        for unit in range(1, len(layer.weight), 2) if middle else ():
            down, right = _WAYS[unit // 2 % len(_WAYS)]
            layer.weight[unit, :, middle + 1] = _moved(pictures[unit], down, right)
            layer.weight[unit, :, middle - 1] = -_moved(pictures[unit], -down, -right)
            layer.weight[unit, :, middle] *= _MOVERS_MIDDLE


def _moved(pattern: Tensor, down: int, right: int) -> Tensor:
    """The picture (C, h, w) moved by whole places, zero where nothing has come from."""
    height, width = pattern.shape[-2:]
    return functional.pad(pattern, (1, 1, 1, 1))[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]


@torch.no_grad()
def _settle(network: C3D, clips: Tensor, device: torch.device) -> None:
    """Replace the running statistics of every normalisation by those of whole, unchanged clips of 112 x 112."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    for part in torch.split(clips, _SETTLING_BATCH):
        network.activations(network_input(part.to(device)), ["pool5"])
    network.eval()
