"""Labelled clips for a training loop of one's own: the clips of the plan, the input of the network, any DataLoader."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from c3dvideo import C3D, ClipDataset, ClipPlan, read_clips
from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.errors import DatasetError


@pytest.fixture
def videos(tmp_path: Path, moving_square: Callable[..., Path]) -> Dataset:
    rows = [("a/0.mp4", "train", 20), ("b/1.mp4", "train", 6), ("a/2.mp4", "val", 9)]
    for seed, (path, _, n_frames) in enumerate(rows):
        moving_square(tmp_path / path, n_frames=n_frames, height=48, width=64, seed=seed)
    return Dataset(tuple(Example(path, path[0], split) for path, split, _ in rows), ("a", "b"), root=tmp_path)


def test_items_are_the_clips_that_extraction_sees(videos: Dataset, tiny_network: C3D) -> None:
    plan = ClipPlan(clip_length=8, stride_frames=4, short="repeat_last")
    clips = ClipDataset(videos, plan=plan, profile=tiny_network.profile, mean_volume=tiny_network.mean_volume)
    assert clips.classes == ("a", "b") and len(clips) == 5 and not clips.problems
    assert [target for _, target in (clips[number] for number in range(5))] == [0, 0, 0, 0, 1]
    source, views = videos.root / "a/0.mp4", tiny_network.profile.views("centre")
    read = list(read_clips(source, plan=plan, profile=tiny_network.profile, views=views))
    for number, clip in enumerate(read):
        mean = tiny_network.mean_volume[:, :, 2:34, 8:40]  # type: ignore[index]
        expected = clip.pixels[0].astype(np.float32) - mean
        assert clips[number][0].shape == (3, 8, 32, 32) and clips[number][0].dtype == torch.float32
        assert np.array_equal(clips[number][0].numpy(), expected)


def test_batches_enter_the_network(videos: Dataset, tiny_network: C3D, tmp_path: Path) -> None:
    plan = ClipPlan(clip_length=8, stride_frames=8, short="loop")
    options = {"plan": plan, "profile": tiny_network.profile, "mean_volume": tiny_network.mean_volume}
    clips = ClipDataset(videos, split="all", cache=tmp_path / "frames", **options)
    (batch,) = DataLoader(clips, batch_size=len(clips))
    assert tiny_network(batch[0]).shape == (len(clips), 5) and batch[1].tolist() == [0, 0, 1, 0]


def test_random_starts_reach_every_valid_frame(videos: Dataset, tiny_network: C3D) -> None:
    plan = ClipPlan(clip_length=8, short="repeat_last")
    clips = ClipDataset(videos, plan=plan, random_start=True, pixels=True, profile=tiny_network.profile)
    whole = ClipDataset(
        videos, plan=ClipPlan(clip_length=20), pixels=True, profile=tiny_network.profile
    )  # the short video has no clip of 20 frames
    assert len(clips) == 2 and len(whole) == 1
    frames = whole[0][0]
    assert frames.shape == (20, 3, 36, 48) and frames.dtype == torch.uint8
    starts = set()
    for _ in range(120):
        pixels, target = clips[0]
        (start,) = [first for first in range(13) if torch.equal(frames[first : first + 8], pixels)]
        starts.add(start)
        assert target == 0
    assert starts == set(range(13))


def test_what_gives_no_clip_is_an_error(videos: Dataset, tiny_network: C3D) -> None:
    with pytest.raises(DatasetError, match="no example is in the split 'test'"):
        ClipDataset(videos, split="test")
    with pytest.raises(DatasetError, match="no video of the split 'val' has a clip of 16 frames"):
        ClipDataset(videos, split="val", plan=ClipPlan(), profile=tiny_network.profile)
    (videos.root / "a/0.mp4").write_bytes(b"no video")
    assert list(ClipDataset(videos, profile=tiny_network.profile).problems) == ["a/0.mp4"]
