"""Train the convolutions by gradient steps, first on still frames, then on clips too; resumable to the same weights.

network = learn(network, Path("run"), settings, clips, device)

A still frame costs a sixteenth of a clip and shows most of the appearance of faces, hands and textures. Still frames
use only the middle tap of every kernel. When clips join, the side taps start as motion detectors. Their input is the
previous and the next frame. Still frames stay in the mix, so that appearance is retained.
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
from c3dvideo.training.run_folder import load_state, save_state

_CHECKPOINT_EVERY = 100
"""Steps between two checkpoints."""
_SETTLING_BATCH = 16
"""Clips per batch when the final statistics of the normalisations are measured."""
_DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""(down, right): motion directions of the units that detect motion."""
_MOTION_MIDDLE = 0.3
"""Factor of the middle tap in those units."""


def learn(network: C3D, out: Path, settings: PretrainSettings, clips: Tensor, device: torch.device) -> C3D:
    """The network after all gradient steps of the settings, with batch normalisation folded into its weights.

    clips: uint8 (N, 3, 16, 112, 112), for the final statistics of the normalisations. The run resumes from the
    checkpoints out/stills.pt and out/clips.pt. out/log.jsonl gets one line per checkpoint.
    """
    keep_freed_memory()
    # A run that stops before its first checkpoint must start with the same random heads.
    torch.manual_seed(settings.seed)
    with_batch_norm(network, skip=("fc6", "fc7"))  # both are fitted later, in closed form
    heads = Heads(network, crop=settings.crop).to(device)
    network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    run = _Run(network=network, heads=heads, out=out, settings=settings, device=device)
    # A finished phase only loads its checkpoint, so that a resumed run passes through the same states.
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
    """Network, heads and settings that all steps of a run use."""

    network: C3D
    heads: Heads
    out: Path
    settings: PretrainSettings
    device: torch.device

    def take_steps(self, kinds: dict[Kind, int], n_steps: int) -> None:
        """Run one phase, from its checkpoint if there is one. Every step uses one batch of each kind.

        kinds: kind -> number of batches that earlier phases used. The first kind names the checkpoint. The learning
        rate rises for 50 steps and falls to zero.
        """
        modules = (*_convolutions(self.network), self.heads)
        parameters = [parameter for module in modules for parameter in module.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=self.settings.learning_rate, weight_decay=0.02)
        parts: dict[str, Any] = {"network": self.network, "heads": self.heads, "optimizer": optimizer}
        path, first = self.out / f"{next(iter(kinds))}.pt", 0
        if path.is_file():
            state = load_state(path)
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
                    # One backward pass per kind, so that memory holds the activations of one kind at a time.
                    loss, found = self._loss(kind, batch, step)
                    loss.backward()  # type: ignore[no-untyped-call]
                    row[kind] = {"loss": float(loss.detach()), **found}
                nn.utils.clip_grad_norm_(parameters, 5.0)
                optimizer.step()
                bar.note(", ".join(f"{kind} {row[kind]['loss']:.2f}" for kind in kinds))
                bar.advance()
                if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == n_steps:
                    # The checkpoint before the log line: a killed run then never logs a step twice.
                    save_state({"step": step + 1} | {name: part.state_dict() for name, part in parts.items()}, path)
                    with writing(self.out / "log.jsonl"), (self.out / "log.jsonl").open("a") as log:
                        log.write(json.dumps(row) + "\n")

    def _loss(self, kind: Kind, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch; see `batch_loss`."""
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
    """The weighted loss of two views of every clip of a batch, and the values to log; see `Heads`.

    step: step number. With the seed, it determines the views and the dropout in the heads.
    """
    clips, maps, labels, scenes = (x.to(device) for x in (batch.clips, batch.maps, batch.labels, batch.scenes))
    # Seeded per step, so that a resumed run draws the same views without stored generator states.
    generator = torch.Generator(device).manual_seed(100_000 * settings.seed + step)
    torch.manual_seed(100_000 * settings.seed + step)  # for the dropout in the heads
    pairs = [random_view(clips, maps, crop=settings.crop, generator=generator) for _ in range(2)]
    views, shown = (torch.cat(each) for each in zip(*pairs, strict=True))
    seen = {}
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        for name, value in _STEPS[kind](network, views):
            if name in heads.map_layers:  # before a pool, so that the steps yield it before ReLU
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
    """`fast_steps` up to pool5, for clips, float (N, 3, T, H, W) in RGB, 0..255."""
    x = network_input(clips).contiguous(memory_format=torch.channels_last_3d)
    for name, value in fast_steps(network, x):
        yield name, value
        if name == "pool5":
            return


def steps_of_stills(network: C3D, frames: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same for still frames, float (N, 3, 1, H, W), without pooling over time.

    Of a padded kernel, only the middle tap has input, so that 2-D convolutions give the same values.
    """
    x = network_input(frames)[:, :, 0].contiguous(memory_format=torch.channels_last)
    names = [name for name in network.steps if name.startswith(("conv", "pool"))]
    for name, following in zip(names, [*names[1:], ""], strict=True):
        layer = network.get_submodule(name)
        if name.startswith("pool"):
            with torch.autocast(x.device.type, enabled=False):  # autocast would convert the pool to float32
                x = torch.relu_(functional.max_pool2d(x, 2))
        else:
            assert isinstance(layer, NormalisedConv3d)
            middle = layer.weight[:, :, layer.weight.shape[2] // 2]
            x = _normalise(layer.norm, functional.conv2d(x, middle, padding=1))
            if not following.startswith("pool"):
                x = torch.relu_(x)
        yield name, x[:, :, None]


def _normalise(norm: nn.BatchNorm3d, x: Tensor) -> Tensor:
    """`norm` in training mode, for still frames (N, C, H, W)."""
    # Not norm(x), because BatchNorm3d rejects an input of four axes.
    return functional.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=True, momentum=0.1, eps=norm.eps
    )


_STEPS = {"stills": steps_of_stills, "clips": steps_of_clips}


@torch.no_grad()
def _start_side_taps(network: C3D) -> None:
    """Turn every second unit of each convolution into a motion detector; the others use the middle frame only.

    A motion detector has one direction. It adds the response of its pattern one pixel along that direction in the next
    frame and subtracts the response one pixel back in the previous frame. The middle frame has a smaller weight.
    """
    for layer in _convolutions(network):
        middle = layer.weight.shape[2] // 2
        pictures = layer.weight[:, :, middle].clone()
        layer.weight.zero_()  # still frames never trained the side taps
        layer.weight[:, :, middle] = pictures
        # A kernel of depth 1 has no side taps.
        for unit in range(1, len(layer.weight), 2) if middle else ():
            down, right = _DIRECTIONS[unit // 2 % len(_DIRECTIONS)]
            layer.weight[unit, :, middle + 1] = _moved(pictures[unit], down, right)
            layer.weight[unit, :, middle - 1] = -_moved(pictures[unit], -down, -right)
            layer.weight[unit, :, middle] *= _MOTION_MIDDLE


def _moved(pattern: Tensor, down: int, right: int) -> Tensor:
    """The pattern (C, h, w) shifted by -1, 0 or 1 pixel per axis, with zeros at the open border."""
    height, width = pattern.shape[-2:]
    return functional.pad(pattern, (1, 1, 1, 1))[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]


@torch.no_grad()
def _settle(network: C3D, clips: Tensor, device: torch.device) -> None:
    """Replace the running statistics of every normalisation by those of whole clips, without augmentation."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None  # a plain average, in which all batches count the same
    network.train()
    for part in torch.split(clips, _SETTLING_BATCH):
        network.activations(network_input(part.to(device)), ["pool5"])
    network.eval()
