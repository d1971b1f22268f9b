"""Batches of generated scenes, drawn and rendered in other processes ahead of the steps that use them.

    for batch in batches(settings, "clips", first=0):      # one a step; a function of the settings and the step alone
        batch.clips, batch.parts, batch.labels

Drawing a scene costs about as much as learning from it, so every batch is used twice: BLOCK batches in order, then the
same again in another order, seen by other cameras.
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
"""Task -> names of its classes, of research scenes and of people."""

NOT_ASKED = -1
BLOCK = 16
STILLS = (1, 5, 9, 13)
"""The frames of a scene that are shown as stills."""


@dataclass(frozen=True)
class Batch:
    """N clips; of stills, N is four times the number of scenes and T and t are 1.

    clips: uint8 (N, 3, T, S, S), RGB, where S is 1.25 crops. maps: uint8 (N, 1 or 2, t, S / 2, S / 2), of every second
    frame what it shows, numbers into `figures.PARTS`, and of clips where that is going, numbers into `maps.MOVES`.
    labels: int64 (N, n_tasks), the class of every task in `ALL_TASKS` or NOT_ASKED, which motion tasks are of stills
    and all others of clips. scenes: int64 (N,), which clips show the same scene.
    """

    clips: Tensor
    maps: Tensor
    labels: Tensor
    scenes: Tensor


def batches(settings: PretrainSettings, kind: Kind, *, first: int, n_workers: int | None = None) -> Iterator[Batch]:
    """The batches of the steps from `first` on, without end; n_workers: processes, one a core when None, 0 for
    none."""
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
    """The endless row of different batches."""

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
        labels[:, of_motion if self.kind == "stills" else ~of_motion] = NOT_ASKED
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
    """Scene `index` of a row in which so many show people and the others are research scenes."""
    people = np.random.default_rng([seed, index, 5]).uniform() < people_share
    return draw_people(seed=seed, index=index) if people else draw_scene(seed=seed, index=index)


def _stills(scene: Scene) -> Scene:
    """The scene at four moments only."""
    movement = scene.movement
    chosen = list(STILLS)
    return replace(
        scene, movement=replace(movement, objects=movement.objects[:, chosen], camera=movement.camera[chosen])
    )


def _classes(scene: Scene) -> list[int]:
    """The class number of every task; a class that a task does not know is not asked."""
    return [
        names.index(scene.labels[task]) if scene.labels.get(task) in names else NOT_ASKED
        for task, names in ALL_TASKS.items()
    ]
