"""Render batches of generated scenes in other processes, ahead of the steps that use them.

    for batch in batches(settings, "clips", first=0):      # one per step; depends on settings and step alone
        batch.clips, batch.parts, batch.labels

Rendering a scene costs about as much as a gradient step on it. Every batch is therefore used twice: BLOCK batches in
order, then the same batches in another order and with other views.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from c3dvideo.machine import n_cores
from c3dvideo.synthetic import (
    MOTION_TASKS,
    PEOPLE_TASKS,
    TASKS,
    Scene,
    draw_people,
    draw_scene,
    render,
    render_maps,
    render_parts,
)
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings

Kind = Literal["stills", "clips"]

ALL_TASKS = TASKS | PEOPLE_TASKS
"""Task -> names of its classes, for research scenes and for people."""

NO_TARGET = -1
"""Label of a task that a clip has no class for."""
BLOCK = 16
"""Different batches before the first is used again."""
STILLS = (1, 5, 9, 13)
"""The frames of a scene that serve as stills."""


@dataclass(frozen=True)
class Batch:
    """N clips, or N stills: four per scene, with T and t equal to 1.

    clips: uint8 (N, 3, T, S, S), RGB, where S is 1.25 crops. maps: uint8 (N, 1 or 2, t, S / 2, S / 2), for every second
    frame the part at each location, an index into `figures.PARTS`, and for clips its motion, an index into
    `maps.MOVES`. labels: int64 (N, n_tasks), the class of every task in `ALL_TASKS`, or NO_TARGET. Stills have no
    target for motion tasks, clips none for all other tasks. scenes: int64 (N,), the scene of each clip in the batch.
    """

    clips: Tensor
    maps: Tensor
    labels: Tensor
    scenes: Tensor


def batches(settings: PretrainSettings, kind: Kind, *, first: int, n_workers: int | None = None) -> Iterator[Batch]:
    """The batches of step `first` and all later steps, without end.

    n_workers: processes that render; None is one per core, 0 renders in this process.
    """
    workers = n_cores() if n_workers is None else n_workers
    block = first // (2 * BLOCK)
    source: DataLoader[Batch] = DataLoader(
        _Drawn(settings, kind),
        batch_size=None,
        sampler=range(BLOCK * block, np.iinfo(np.int32).max),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
    )
    fresh, step = iter(source), 2 * BLOCK * block
    while True:
        kept: list[Batch] = []
        for place in (*range(BLOCK), *np.random.default_rng([settings.seed, block]).permutation(BLOCK)):
            if place == len(kept):
                kept.append(next(fresh))
            if step >= first:
                yield kept[place]
            step += 1
        block += 1


class _Drawn(Dataset[Batch]):
    """The endless sequence of different batches."""

    def __init__(self, settings: PretrainSettings, kind: Kind) -> None:
        self.settings, self.kind = settings, kind

    def __getitem__(self, number: int) -> Batch:
        size, side = self.settings.batch_size, self.settings.crop * 5 // 4
        half = side // 2
        seed = 10 * self.settings.seed + {"clips": 2, "stills": 4}[self.kind]
        people = self.settings.people_share if self.kind == "stills" else self.settings.clip_people_share
        scenes = [draw_any(seed, number * size + place, people) for place in range(size)]
        labels = torch.tensor([_classes(scene) for scene in scenes])
        of_motion = torch.tensor([task in MOTION_TASKS for task in ALL_TASKS])
        labels[:, of_motion if self.kind == "stills" else ~of_motion] = NO_TARGET
        if self.kind == "clips":
            return Batch(
                clips=render(scenes, height=side, width=side),
                maps=torch.stack(
                    [render_maps(scene, height=half, width=half, frames=slice(1, None, 2)) for scene in scenes]
                ),
                labels=labels,
                scenes=torch.arange(size),
            )
        scenes = [_stills(scene) for scene in scenes]
        return Batch(
            clips=render(scenes, height=side, width=side).transpose(1, 2).flatten(0, 1)[:, :, None],
            maps=torch.cat([render_parts(scene, height=half, width=half) for scene in scenes])[:, None, None],
            labels=labels.repeat_interleave(len(STILLS), dim=0),
            scenes=torch.arange(size).repeat_interleave(len(STILLS)),
        )


def draw_any(seed: int, index: int, people_share: float) -> Scene:
    """Scene `index` of a random sequence: people with probability `people_share`, else a research scene."""
    people = np.random.default_rng([seed, index, 5]).uniform() < people_share
    return draw_people(seed=seed, index=index) if people else draw_scene(seed=seed, index=index)


def _stills(scene: Scene) -> Scene:
    """The scene with the frames in `STILLS` only."""
    movement = scene.movement
    chosen = list(STILLS)
    return replace(
        scene, movement=replace(movement, objects=movement.objects[:, chosen], camera=movement.camera[chosen])
    )


def _classes(scene: Scene) -> list[int]:
    """The class number of every task, or NO_TARGET if the scene has no class of that task."""
    return [
        names.index(scene.labels[task]) if scene.labels.get(task) in names else NO_TARGET
        for task, names in ALL_TASKS.items()
    ]
