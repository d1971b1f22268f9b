"""Labelled clips as a `LightningDataModule`, for a Trainer and a network of your own.

data = ClipDataModule("my_videos", profile=network.profile, batch_size=16)
Trainer(max_epochs=10).fit(your_module, datamodule=data)
"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from c3dvideo.choices import Split
from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.read import read_dataset
from c3dvideo.training.clip_dataset import ClipDataset
from c3dvideo.training.lightning_api import LightningDataModule
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import CAFFE, Profile

Batch = tuple[Tensor, Tensor]

_SPLITS: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


class ClipDataModule(LightningDataModule):
    """The data loaders of a data set whose examples have splits: batches of clips and class indices.

    Training clips start at a random frame and are shuffled; those of validation and test are the clips of the plan, in
    order. data, plan, profile, mean_volume, pixels, cache: as of `ClipDataset`. batch_size: clips per batch. workers:
    processes that load, per loader. Attributes after `setup`: `classes` and `datasets`, by split.

    >>> from c3dvideo import PROFILES
    >>> from c3dvideo.datasets.read import read_dataset
    >>> from c3dvideo.datasets.splits import split_by_group
    >>> videos = split_by_group(read_dataset("my_videos/labels.csv"), fractions={"test": 0.4})
    >>> data = ClipDataModule(videos, profile=PROFILES["caffe_channel_mean"], batch_size=4)
    >>> data.setup("test")
    >>> inputs, targets = next(iter(data.test_dataloader()))
    >>> inputs.shape, len(data.classes)
    (torch.Size([4, 3, 16, 112, 112]), 8)
    """

    def __init__(
        self,
        data: str | Path | Dataset,
        *,
        plan: ClipPlan | None = None,
        profile: Profile = CAFFE,
        mean_volume: "np.ndarray[Any, np.dtype[np.float32]] | None" = None,
        pixels: bool = False,
        cache: str | Path | None = None,
        batch_size: int = 16,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self._data = data
        self._options: dict[str, Any] = {
            "plan": plan,
            "profile": profile,
            "mean_volume": mean_volume,
            "pixels": pixels,
            "cache": cache,
        }
        self.batch_size, self.workers = batch_size, workers
        self.datasets: dict[Split, ClipDataset] = {}
        self.classes: tuple[str, ...] = ()

    def setup(self, stage: str | None = None) -> None:
        """Decode what the splits of a stage need: "fit", "validate", "test" or "predict"; None takes every split.

        Raises DatasetError for a split without examples or clips.
        """
        dataset = self._data if isinstance(self._data, Dataset) else read_dataset(self._data)
        self.classes = dataset.classes
        wanted = _SPLITS[stage] if stage else ("train", "val", "test")
        for split in wanted:
            if split not in self.datasets:
                self.datasets[split] = ClipDataset(dataset, split=split, random_start=split == "train", **self._options)

    def train_dataloader(self) -> "DataLoader[Batch]":
        """Batches of the training split, shuffled; an incomplete last one is left out where there are others."""
        clips = self.datasets["train"]
        return self._loader("train", shuffle=True, drop_last=len(clips) >= self.batch_size)

    def val_dataloader(self) -> "DataLoader[Batch]":
        """Batches of the validation split, in order."""
        return self._loader("val")

    def test_dataloader(self) -> "DataLoader[Batch]":
        """Batches of the test split, in order."""
        return self._loader("test")

    predict_dataloader = test_dataloader

    def _loader(self, split: Split, **options: Any) -> "DataLoader[Batch]":
        return DataLoader(
            self.datasets[split],  # type: ignore[arg-type]
            batch_size=self.batch_size,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            **options,
        )
