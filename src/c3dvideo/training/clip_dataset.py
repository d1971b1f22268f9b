"""Labelled clips as a torch `Dataset`, for a training loop of your own.

clips = ClipDataset("my_videos", split="train", profile=network.profile, random_start=True, cache="frames")
for inputs, targets in torch.utils.data.DataLoader(clips, batch_size=16, shuffle=True):
    loss = cross_entropy(network(inputs), targets)
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from c3dvideo.choices import Split
from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.read import read_dataset
from c3dvideo.errors import DatasetError
from c3dvideo.training.augment import Normalise, centre_batch
from c3dvideo.training.clip_loaders import centre_crop
from c3dvideo.training.frames import load_frames
from c3dvideo.training.sampling import clip_indices
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import CAFFE, Profile


class ClipDataset(TorchDataset[tuple[Tensor, int]]):
    """Pairs of a clip and its class index, of the videos of one split.

    data: a data set, or a path that `read_dataset` reads. split: "train", "val", "test", or "all" for every example.
    plan: which clips of a video are items; None is every 16 frames, where a video of fewer frames repeats its last one.
        An example of a list file that names its clip is that one clip.
    random_start: every video is one item instead, whose clip starts at a random frame, drawn anew at every access from
        torch's generator (which DataLoader seeds differently in every worker process).
    profile: how pixels become network input; take that of the network, `network.profile`. mean_volume: its mean clip,
        `network.mean_volume`, where the profile subtracts one; without it nothing is subtracted.
    pixels: yield uint8 (T, 3, H, W) of whole resized frames in the profile's channel order, for augmentation of your
        own. Otherwise items are network input, float32 (3, T, size, size), at the centre crop.
    cache: folder for decoded frames, which runs can share; None decodes at every access. workers: processes that
        decode into the cache; 0 decodes in this one.
    Attributes: `classes`, the names in the order of the class indices; `problems`, why a video was left out, by path.
    Raises DatasetError when there is no clip, StoreError when the cache cannot be written.

    >>> from c3dvideo import PROFILES
    >>> clips = ClipDataset("my_videos", split="all", profile=PROFILES["caffe_channel_mean"])
    >>> len(clips), clips.classes[-1]
    (120, 'waving_flag')
    >>> inputs, target = clips[0]
    >>> inputs.shape, clips.classes[target]
    (torch.Size([3, 16, 112, 112]), 'approaching_sign')
    """

    def __init__(
        self,
        data: str | Path | Dataset,
        *,
        split: Split = "train",
        plan: ClipPlan | None = None,
        random_start: bool = False,
        profile: Profile = CAFFE,
        mean_volume: "np.ndarray[Any, np.dtype[np.float32]] | None" = None,
        pixels: bool = False,
        cache: str | Path | None = None,
        workers: int = 1,
    ) -> None:
        dataset = data if isinstance(data, Dataset) else read_dataset(data)
        self.dataset = dataset if split == "all" else dataset.part(split)
        if not self.dataset.examples:
            raise DatasetError(f"no example is in the split {split!r}; choose another `split=`, such as 'all'")
        self.classes, self.profile = self.dataset.classes, profile
        self.plan = plan or ClipPlan(short="repeat_last")
        self._pixels, self._random_start = pixels, random_start
        self._frames = load_frames(self.dataset, profile, cache=cache, workers=workers)
        self._normalise, self._crop = Normalise.of(profile, mean_volume), centre_crop(profile)
        self._targets = self.dataset.targets()
        self._clips = self._planned()
        self.problems = self._frames.problems
        if not self._clips:
            raise DatasetError(f"no video of the split {split!r} has a clip of {self.plan.span_frames} frames")

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        example, indices = self._clips[number]
        if indices is None:
            last = max(0, int(self._frames.n_frames[example]) - self.plan.span_frames)
            indices = self._from(example, int(torch.randint(0, last + 1, ())))
        pixels = torch.from_numpy(np.ascontiguousarray(self._frames.clip(example, indices)))
        target = int(self._targets[example])
        return (pixels if self._pixels else centre_batch(pixels[None], self._normalise, self._crop)[0]), target

    def _planned(self) -> list[tuple[int, "np.ndarray[Any, np.dtype[np.int64]] | None"]]:
        """The example and the frames of every item; None where they are drawn at each access."""
        items: list[tuple[int, Any]] = []
        for number, example in enumerate(self.dataset.examples):
            n_frames = int(self._frames.n_frames[number])
            too_short = n_frames < self.plan.span_frames and self.plan.short == "error"
            if n_frames == 0 or too_short:
                continue
            if example.start_frame is not None:
                items += [(number, self._from(number, example.start_frame))] if example.start_frame < n_frames else []
            elif self._random_start:
                items.append((number, None))
            else:
                items += [(number, indices) for indices in self.plan.indices(n_frames)]
        return items

    def _from(self, example: int, start: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
        length, rate = self.plan.clip_length, self.plan.sampling_rate
        return clip_indices(start, int(self._frames.n_frames[example]), clip_length=length, sampling_rate=rate)
