"""What is drawn: every valid start and crop, the release's own, whole epochs, mixing, colour; the frame cache."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.errors import DatasetError, StoreError
from c3dvideo.training import augment, sampling
from c3dvideo.training.frames import load_frames
from c3dvideo.training.initial import scratch_profile
from c3dvideo.training.optim import learning_rate_factor
from c3dvideo.training.settings import make_settings
from c3dvideo.video.preprocess import CAFFE


class Counted:
    """Frames that only know their number."""

    def __init__(self, *n_frames: int) -> None:
        self.n_frames = np.array(n_frames)

    def clip(self, example: int, indices: np.ndarray) -> np.ndarray:
        return np.tile((10 * example + indices).astype(np.uint8)[:, None, None, None], (1, 3, 2, 2))


def test_every_valid_start_is_drawn_the_last_too() -> None:
    generator = np.random.default_rng(0)
    assert {sampling.draw_start(17, 16, generator) for _ in range(50)} == {0, 1}
    assert {sampling.draw_start(20, 16, generator) for _ in range(200)} == {0, 1, 2, 3, 4}
    assert {sampling.draw_start(5, 16, generator) for _ in range(9)} == {0}


def test_every_valid_crop_is_drawn_by_the_modern_rule() -> None:
    settings, generator = make_settings(crops="any"), torch.Generator().manual_seed(0)
    draws = np.concatenate(
        [augment.draw_crops(500, (16, 59), settings, centre=(8, 29), generator=generator) for _ in range(8)]
    )
    assert set(draws[:, 0]) == set(range(17)) and set(draws[:, 1]) == set(range(60)) and set(draws[:, 2]) == {0, 1}
    settings = make_settings(crops="centre", flip=False)
    assert augment.draw_crops(2, (16, 59), settings, centre=(8, 29), generator=generator).tolist() == [[8, 29, 0]] * 2


@given(st.integers(1, 100), st.integers(1, 12))
def test_spread_starts_are_valid_different_and_reach_both_ends(n_frames: int, n_clips: int) -> None:
    starts = sampling.spread_starts(n_frames, 16, n_clips)
    assert len(set(starts)) == len(starts) <= n_clips
    assert starts.min() >= 0 and starts.max() <= max(0, n_frames - 16)
    if n_clips > 1:
        assert starts[0] == 0 and starts[-1] == max(0, n_frames - 16)


def test_short_videos_repeat_their_last_frame() -> None:
    assert sampling.clip_indices(0, 3, clip_length=5).tolist() == [0, 1, 2, 2, 2]
    assert sampling.clip_indices(1, 9, clip_length=4, sampling_rate=2).tolist() == [1, 3, 5, 7]


def test_release_sampling_takes_each_listed_clip_once_an_epoch() -> None:
    frames, settings = Counted(40, 15, 16), make_settings("release", batch_size=2)
    draws = sampling.training_draws(frames, [0, 1, 2], settings, starts=[None, None, None])
    assert draws == [(0, 0), (0, 16), (2, 0)]  # 15 frames are too few; the tail of 8 is dropped
    assert sampling.training_draws(frames, [0, 2], settings, starts=[24, None, 1]) == [(0, 24)]
    modern = make_settings(clips_per_video=2)
    assert sampling.training_draws(frames, [0, 1], modern, starts=[None] * 3) == [(0, None)] * 2 + [(1, None)] * 2


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 3), st.integers(1, 3))
def test_an_epoch_shows_no_clip_twice_on_all_devices_together(
    n: int, batch_size: int, world: int, accumulate: int
) -> None:
    settings = make_settings(batch_size=batch_size, accumulate=accumulate)
    shown: list[int] = []
    for rank in range(world):
        batches = sampling.TrainingBatches([(i, None) for i in range(n)], settings, rank=rank, world=world)
        batches.set_epoch(3)
        listed = list(batches)
        assert len(listed) == len(batches)
        shown += [draw.example for batch in listed for draw in batch]
    assert len(set(shown)) == len(shown)
    if n >= batch_size * world * accumulate:
        assert len(shown) == n // (batch_size * world * accumulate) * batch_size * world * accumulate


def test_epochs_differ_and_repeat_with_the_seed() -> None:
    def order(epoch: int, **changes: Any) -> list[int]:
        batches = sampling.TrainingBatches([(i, None) for i in range(20)], make_settings(batch_size=5, **changes))
        batches.set_epoch(epoch)
        return [draw.example for batch in batches for draw in batch]

    assert order(0) == order(0) != order(1)
    assert order(0) != order(0, seed=1)


def test_steps_are_exact_and_shorten_the_last_epoch() -> None:
    def lengths(n_clips: int = 40, **changes: Any) -> tuple[int, list[int]]:
        batches = sampling.TrainingBatches([(i, None) for i in range(n_clips)], make_settings(batch_size=4, **changes))
        counts = []
        for epoch in range(batches.n_epochs):
            batches.set_epoch(epoch)
            counts.append(len(list(batches)))
            assert counts[-1] == len(batches)
        assert batches.total == sum(counts)
        return batches.n_updates, counts

    assert lengths(epochs=3) == (30, [10, 10, 10])
    assert lengths(steps=25) == (25, [10, 10, 5])
    assert lengths(steps=20) == (20, [10, 10])
    assert lengths(steps=4, accumulate=2) == (4, [8])  # the 5 updates of an epoch are cut to 4
    assert lengths(steps=6, accumulate=2) == (6, [10, 2])
    assert lengths(steps=3, n_clips=3) == (3, [1, 1, 1])
    assert lengths(steps=2, n_clips=10, accumulate=4) == (2, [3, 3])  # too few clips: each epoch is one update


def test_the_release_makes_60_000_updates_in_stages_of_20_000() -> None:
    """On 2,431 batches per epoch, about the size of UCF101, whole epochs would make 60,775."""
    settings = make_settings("release")
    batches = sampling.TrainingBatches([(i, 0) for i in range(2431 * 30 + 7)], settings)
    assert batches.n_updates == 60_000 and batches.updates == 2431 and batches.n_epochs == 25
    batches.set_epoch(24)
    assert len(batches) == 60_000 - 24 * 2431
    factor = learning_rate_factor(settings, batches.n_updates)
    falls = [update for update in range(1, 60_000) if factor(update) < factor(update - 1)]
    assert falls == [19_999, 39_999, 59_999]  # counted from 0; the solver counts from 1


def test_balanced_sampling_shows_classes_equally_often() -> None:
    batches = sampling.TrainingBatches([(i, None) for i in range(100)], make_settings(batch_size=10))
    batches.balance(np.array([0] * 90 + [1] * 10))
    rare = 0
    for epoch in range(20):
        batches.set_epoch(epoch)
        rare += sum(draw.example >= 90 for batch in batches for draw in batch)
    assert 0.45 < rare / 2000 < 0.55


def test_samples_are_functions_of_seed_epoch_and_position() -> None:
    samples = sampling.ClipSamples(Counted(40), np.array([2]), make_settings())
    one, same, other = (samples[sampling.Draw(epoch, 5, 0)] for epoch in (0, 0, 1))
    assert torch.equal(one["pixels"], same["pixels"]) and not torch.equal(one["pixels"], other["pixels"])
    assert one["pixels"].shape == (16, 3, 2, 2) and one["target"] == 2


def test_resized_crop_of_the_whole_frame_is_the_frame_and_flips() -> None:
    clips = torch.rand(2, 3, 4, 12, 12)
    whole = torch.tensor([[0.0, 0.0, 12.0, 12.0]] * 2)
    cut = augment.resized_crop(clips, whole, 12, torch.tensor([False, True]))
    assert torch.allclose(cut[0], clips[0], atol=1e-5) and torch.allclose(cut[1], clips[1].flip(-1), atol=1e-5)
    corner = augment.resized_crop(clips, torch.tensor([[2.0, 4.0, 6.0, 6.0]] * 2), 6, torch.tensor([False, False]))
    assert torch.allclose(corner, clips[..., 2:8, 4:10], atol=1e-5)


def test_boxes_stay_in_the_frame() -> None:
    boxes = augment.draw_boxes(2000, 128, 171, (0.2, 1.0), torch.Generator().manual_seed(0))
    top, left, height, width = boxes.T
    assert top.min() >= 0 and left.min() >= 0
    assert (top + height).max() <= 128.001 and (left + width).max() <= 171.001
    assert height.min() > 40 and (top < 1).any() and (top + height > 127).any()


def test_colour_changes_a_whole_clip_alike() -> None:
    clips = torch.full((2, 3, 4, 5, 5), 100.0) + torch.arange(3).view(1, 3, 1, 1, 1)
    changed = augment.jitter_colour(clips, 0.5, [torch.Generator().manual_seed(0)] * 2)
    assert not torch.allclose(changed[0], changed[1], atol=1.0)
    assert all(torch.allclose(changed[:, :, 0], changed[:, :, t]) for t in range(4))
    assert changed.min() >= 0 and changed.max() <= 255


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "both"])
def test_mixing_keeps_targets_in_step_with_pixels(kind: str) -> None:
    settings = make_settings(**({"mixup": 1.0, "cutmix": 1.0} if kind == "both" else {kind: 1.0}))
    labels = torch.arange(4)
    clips = labels.float().view(4, 1, 1, 1, 1).expand(4, 3, 2, 16, 16)
    for seed in range(20):
        one_hot = torch.nn.functional.one_hot(labels, 4).float()
        mixed, targets = augment.mix(
            clips, one_hot, settings, [torch.Generator().manual_seed(seed)] * 4, positions=range(4)
        )
        assert torch.allclose(targets.sum(1), torch.ones(4))
        assert torch.allclose(mixed.mean(dim=(1, 2, 3, 4)), targets @ torch.arange(4.0), atol=1e-4)


def generated(root: Path, moving_square: Callable[..., Path], n: int = 3) -> Dataset:
    for number in range(n):
        moving_square(root / f"{number}.mp4", n_frames=8 + number, height=48, width=64, seed=number)
    return Dataset(tuple(Example(f"{number}.mp4", "x") for number in range(n)), ("x",), root=root)


def test_cache_holds_what_decoding_gives(tmp_path: Path, moving_square: Callable[..., Path]) -> None:
    dataset, profile = generated(tmp_path / "v", moving_square), scratch_profile(make_settings(crop_size=32))
    (tmp_path / "v/bad.mp4").write_bytes(b"not a video")
    examples = (*dataset.examples, Example("bad.mp4", "x"), Example("0.mp4", "x", start_seconds=0.08, end_seconds=0.2))
    dataset = Dataset(examples, ("x",), root=dataset.root)
    cached = load_frames(dataset, profile, cache=tmp_path / "cache", workers=2)
    direct = load_frames(dataset, profile, cache=None)
    assert cached.n_frames.tolist() == direct.n_frames.tolist() == [8, 9, 10, 0, 3]
    assert list(cached.problems) == list(direct.problems) == ["bad.mp4"]
    for example in (0, 1, 2, 4):
        indices = np.array([0, 1, 1, 2])
        assert (cached.clip(example, indices) == direct.clip(example, indices)).all()
    assert (cached.clip(4, np.arange(3)) == cached.clip(0, np.arange(2, 5))).all()
    with pytest.raises(DatasetError, match=r"bad\.mp4 could not be read"):
        cached.clip(3, np.arange(2))


def test_cache_outlives_a_kill_and_serves_other_data_sets(
    tmp_path: Path, moving_square: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, profile = generated(tmp_path / "v", moving_square), scratch_profile(make_settings(crop_size=32))
    expected = load_frames(dataset, profile).clip(1, np.arange(9))
    cache = tmp_path / "cache"
    load_frames(Dataset(dataset.examples[:1], ("x",), root=dataset.root), profile, cache=cache)
    (pixels,), (index,) = cache.glob("*.u8"), cache.glob("*.jsonl")
    with pixels.open("ab") as file, index.open("a") as lines:  # killed while it wrote
        file.write(b"half a video")
        lines.write('{"key": "x", "off')
    (cache / ".decoding").mkdir()
    (cache / ".decoding/0").write_bytes(b"half a video")
    load_frames(dataset, profile, cache=cache)
    assert not (cache / ".decoding").exists()
    monkeypatch.setattr("c3dvideo.training.frame_decoding.excerpt_frames", None)  # nothing is decoded twice
    again = load_frames(dataset, profile, cache=cache)
    assert (again.clip(1, np.arange(9)) == expected).all()


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe no text\n",
        b'{"key": "x", "offset": 0\n',
        b'{"key": "x", "offset": 900000000000, "n_frames": 4}\n',
        b'{"key": "x", "offset": -3, "n_frames": 4}\n',
        b'{"key": "x", "offset": "0", "n_frames": 4}\n',
        b'{"key": "x", "offset": 0, "n_frames": 1e999}\n',
        b'{"key": "x", "offset": 10, "n_frames": 9}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=["no text", "cut", "far", "negative", "text", "infinite", "overlapping", "deep"],
)
def test_a_damaged_index_is_mended(tmp_path: Path, moving_square: Callable[..., Path], damage: bytes) -> None:
    """Of two entries that claim the same frames neither is believed, and what is not believed is decoded again."""
    dataset, profile = generated(tmp_path / "v", moving_square), scratch_profile(make_settings(crop_size=32))
    expected = load_frames(dataset, profile)
    cache = tmp_path / "cache"
    load_frames(dataset, profile, cache=cache)
    (index,) = cache.glob("*.jsonl")
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(lines[0] + damage + b"".join(lines[1:]))
    for _ in range(2):
        found = load_frames(dataset, profile, cache=cache)
        assert found.n_frames.tolist() == [8, 9, 10]
        for example, n_frames in enumerate(found.n_frames):
            whole = np.arange(n_frames)
            assert (found.clip(example, whole) == expected.clip(example, whole)).all()
    assert damage not in index.read_bytes()
    assert next(cache.glob("*.u8")).stat().st_size < 60 * 5439


def test_when_no_video_can_be_read_the_first_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    dataset = Dataset((Example("a.mp4", "x"), Example("gone.mp4", "x")), ("x",), root=tmp_path)
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(DatasetError, match=r"none of the 2 videos can be read; (a|gone)\.mp4: "):
            load_frames(dataset, CAFFE, cache=cache)


def test_a_full_disk_is_named(
    tmp_path: Path, moving_square: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, profile = generated(tmp_path / "v", moving_square), scratch_profile(make_settings(crop_size=32))

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("c3dvideo.training.frames._append", full)
    with pytest.raises(
        StoreError, match=r"frames cannot be kept in .*cache: the disk is full\. A frame takes 5,439 bytes"
    ):
        load_frames(dataset, profile, cache=tmp_path / "cache")
