"""Load the clips of a training run: the examples for training, validation and test, and a data loader for each.

clips = Clips(dataset, frames, settings, workers=0)
probabilities, targets = predict_split(network, clips, "val", n_clips=10, device=torch.device("cpu"))
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.splits import check_for_training
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D
from c3dvideo.progress import track
from c3dvideo.training.arithmetic import takes_gpu
from c3dvideo.training.augment import Normalise, centre_batch
from c3dvideo.training.forward import fast_logits
from c3dvideo.training.frame_decoding import stored_size
from c3dvideo.training.frames import Frames
from c3dvideo.training.sampling import (
    ClipSamples,
    Ints,
    Pixels,
    TrainingBatches,
    clip_indices,
    evaluation_batches,
    training_draws,
)
from c3dvideo.training.settings import TrainSettings
from c3dvideo.video.preprocess import Profile, corner

_MOST_READING = 8


class Clips:
    """The clips of a run: the examples for training, validation and test, and a data loader for each."""

    def __init__(self, dataset: Dataset, frames: Frames, settings: TrainSettings, workers: int) -> None:
        readable = tuple(
            replace(e, split=e.split if n else "") for e, n in zip(dataset.examples, frames.n_frames, strict=True)
        )
        try:
            check_for_training(replace(dataset, examples=readable))
        except DatasetError as error:
            raise DatasetError(
                f"{error}, after leaving out {len(frames.problems)} videos that cannot be read"
            ) from error
        self.examples, self.frames, self.settings, self.workers = readable, frames, settings, workers
        self.targets = dataset.targets()
        self.starts = [example.start_frame for example in readable]
        self.samples = ClipSamples(frames, self.targets, settings)
        self.draws = training_draws(frames, self.of("train"), settings, starts=self.starts)
        if not self.draws:
            raise DatasetError(
                f"no training video has the {settings.clip_length * settings.sampling_rate} frames of one clip; use a "
                "smaller `sampling_rate=`, or `preset=modern`, which repeats the last frame of a short video"
            )

    def check_enough_for(self, world: int) -> None:
        """Raise UsageError when an epoch has fewer clips than the run has processes."""
        if len(self.draws) < world:
            raise UsageError(
                f"an epoch has {len(self.draws)} training clips, too few for {world} processes; give at most "
                f"`devices={len(self.draws)}`, or more `clips_per_video=`"
            )

    def of(self, split: str) -> list[int]:
        """Example numbers of the readable examples of a split."""
        return [number for number, example in enumerate(self.examples) if example.split == split]

    def in_order(self, *, step: int = 1) -> Iterator[Pixels]:
        """The clip of every `step`-th draw, in data set order. A draw without a start begins at the first frame."""
        length, rate = self.settings.clip_length, self.settings.sampling_rate
        for example, start in self.draws[::step]:
            n_frames = int(self.frames.n_frames[example])
            yield self.frames.clip(example, clip_indices(start or 0, n_frames, clip_length=length, sampling_rate=rate))

    def typical_input(self, network: C3D) -> Iterator[Tensor]:
        """Network input of at most 64 training clips, evenly spaced in the data set, in batches of eight."""
        normalise, crop = Normalise.of(network.profile, network.mean_volume), centre_crop(network.profile)
        clips = list(self.in_order(step=-(-len(self.draws) // 64)))
        for first in range(0, len(clips), 8):
            yield centre_batch(torch.from_numpy(np.stack(clips[first : first + 8])), normalise, crop)

    def training_batches(self, *, rank: int = 0, world: int = 1) -> TrainingBatches:
        """The training batches for process `rank` of `world`."""
        batches = TrainingBatches(self.draws, self.settings, rank=rank, world=world)
        if self.settings.balance == "sampling":
            batches.balance(self.targets)
        return batches

    def evaluation(self, split: str, n_clips: int, *, rank: int = 0, world: int = 1) -> DataLoader[dict[str, Any]]:
        """A loader of at most `n_clips` clips per video, for the videos of one process; see `evaluated_by`.

        A process without videos gets the first one, which does not count: Lightning would leave out the whole
        validation of a process whose loader is empty, and the others would wait for its results.
        """
        chosen = self.evaluated_by(split, rank=rank, world=world) or self.of(split)[:1]
        return self.loader(evaluation_batches(self.frames, chosen, n_clips, self.settings, starts=self.starts))

    def evaluated_by(self, split: str, *, rank: int, world: int) -> list[int]:
        """Example numbers of the videos of a split that process `rank` of `world` evaluates; each video has one."""
        return self.of(split)[rank::world]

    def loader(self, batches: Any) -> DataLoader[dict[str, Any]]:
        """A loader of the clips in `batches`, which yields lists of `Draw`."""
        parallel = {"persistent_workers": True, "multiprocessing_context": "spawn"} if self.workers else {}
        return DataLoader(
            self.samples,
            batch_sampler=batches,
            num_workers=self.workers,
            # A GPU copies from pinned memory by itself, while the host prepares the next update.
            pin_memory=torch.cuda.is_available(),
            **parallel,  # type: ignore[arg-type]
        )

    def class_weights(self, n_classes: int) -> Tensor:
        """One weight per class, inverse to its number of training clips; the mean weight over all clips is 1."""
        counts = np.bincount(self.targets[[example for example, _ in self.draws]], minlength=n_classes)
        present = np.count_nonzero(counts)
        return torch.tensor(counts.sum() / (present * np.maximum(counts, 1)), dtype=torch.float32)


def reading_processes(wanted: int | None, *, accelerator: str) -> int:
    """How many processes read clips: `wanted`, or for None those that keep the device busy.

    On a CPU none, because the network can use every core. A GPU takes a batch of 30 clips (31 MB of frames) many times
    per second, so up to eight of its share of the cores read ahead.
    """
    if wanted is not None:
        return wanted
    if not takes_gpu(accelerator):
        return 0
    return min(_MOST_READING, max(1, n_cores() // torch.cuda.device_count() - 1))


def centre_crop(profile: Profile) -> tuple[int, int, int]:
    """Size, top and left of the profile's centre crop in the stored frames."""
    return profile.crop_size, *corner(profile.views("centre")[0], stored_size(profile), profile.crop_size)


def add_probabilities(sums: dict[int, Tensor], network: C3D, inputs: Tensor, batch: dict[str, Any]) -> None:
    """Add the class probabilities of each clip of a batch to the sum of its example, on the CPU."""
    probabilities = torch.softmax(fast_logits(network, inputs).float(), dim=1).cpu()
    for example, row in zip(batch["example"].tolist(), probabilities, strict=True):
        sums[example] = sums.get(example, torch.zeros_like(row)) + row


def mean_probabilities(sums: dict[int, Tensor], targets: Ints) -> tuple[Tensor, Tensor]:
    """Mean class probabilities (n, classes) and class index (n,) of every example."""
    totals = torch.stack([sums[example] for example in sorted(sums)])
    return totals / totals.sum(1, keepdim=True), torch.from_numpy(targets)[sorted(sums)]


@torch.inference_mode()
def predict_split(
    network: C3D, clips: Clips, split: str, n_clips: int, *, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Mean class probabilities (n, classes) and class index (n,) of the videos of a split, from centre crops."""
    network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    normalise = Normalise.of(network.profile, network.mean_volume).to(device)
    crop = centre_crop(network.profile)
    sums: dict[int, Tensor] = {}
    for batch in track(clips.evaluation(split, n_clips), f"evaluating {split}", unit="batches"):
        add_probabilities(
            sums, network, centre_batch(batch["pixels"].to(device, non_blocking=True), normalise, crop), batch
        )
    network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return mean_probabilities(sums, clips.targets)
