"""Choose the clips of every epoch, from seed, epoch and position alone, so that a resumed run draws the same.

    start = draw_start(n_frames=17, span_frames=16, generator)            # 0 or 1: the last valid start is drawn too
    crops = release_draws(seed=1, batch=0, n_clips=30)                     # rows: top, left, mirrored

The release reads clips at the starts in its list. It draws the crop and mirror of each clip from its own generator.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from c3dvideo.training.settings import TrainSettings

Ints = np.ndarray[Any, np.dtype[np.int64]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class FrameReader(Protocol):
    """Resized frames of the examples of a data set, by example number."""

    n_frames: Ints

    def clip(self, example: int, indices: Ints) -> Pixels:
        """The frames at `indices` of one example: uint8 (T, 3, H, W)."""


@dataclass(frozen=True)
class Draw:
    """One clip to train on: its place in the run (epoch, position in the epoch), its example and its first frame."""

    epoch: int
    position: int
    example: int
    start: int | None = None


def draw_start(n_frames: int, span_frames: int, generator: np.random.Generator) -> int:
    """A random first frame, from 0 to n_frames - span_frames inclusive; 0 if the video is shorter than the span."""
    return int(generator.integers(0, max(0, n_frames - span_frames) + 1))


def clip_indices(start: int, n_frames: int, *, clip_length: int, sampling_rate: int = 1) -> Ints:
    """The frame numbers of one clip, int64 (clip_length,). Past the end of a short video the last frame repeats."""
    indices: Ints = start + sampling_rate * np.arange(clip_length)
    return np.minimum(indices, n_frames - 1)


def release_starts(n_frames: int, span_frames: int) -> Ints:
    """Starts of the clips in the release's lists: one per span, without the incomplete tail."""
    return np.arange(0, n_frames - span_frames + 1, span_frames)


def spread_starts(n_frames: int, span_frames: int, n_clips: int) -> Ints:
    """At most `n_clips` distinct starts, evenly spaced from the first valid one to the last; one is the middle."""
    last = max(0, n_frames - span_frames)
    if n_clips == 1:
        return np.array([last // 2])
    return np.unique(np.linspace(0, last, n_clips).round().astype(np.int64))


def release_draws(seed: int, batch: int, n_clips: int, *, height_margin: int = 16, width_margin: int = 59) -> Ints:
    """The release's draws for batch number `batch` (from 0): int64 (n_clips, 3) of top, left and mirrored.

    One generator yields one number per batch, which seeds the generator of that batch. Margins are exclusive, as in the
    release: the last valid offset (16 for a frame of 128 rows and a crop of 112) is never drawn.
    """
    outer = _mersenne_twister(seed)
    outer.random_raw(batch)
    raw = _mersenne_twister(int(outer.random_raw())).random_raw(3 * n_clips).reshape(n_clips, 3)
    return (raw % np.array([height_margin, width_margin, 2], dtype=np.uint64)).astype(np.int64)


def mean_volume(clips: Iterable[Pixels], *, every: int = 10) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The mean clip (3, T, H, W) of uint8 clips (T, 3, H, W), as the release's tool computes it.

    It averages clip number i (from 0) if i > 0 and i is a multiple of `every`, and sums in float32. The first clip is
    therefore never counted. With at most `every` clips, the result is the first clip.
    """
    total, first, n, seen = None, None, 0, 0
    for number, clip in enumerate(clips):
        seen += 1
        wanted = number > 0 and number % every == 0
        if not wanted and number > 0:
            continue
        volume = clip.transpose(1, 0, 2, 3).astype(np.float32)
        if not wanted:
            first = volume
            continue
        total, n = volume if total is None else total + volume, n + 1
    if first is None:
        raise ValueError("the mean volume needs at least one clip; received none")
    return first if total is None else total / np.float32(n)


class ClipSamples(TorchDataset[dict[str, Any]]):
    """The clips of a data set, indexed by `Draw`: uint8 (T, 3, H, W), class index and example number."""

    def __init__(self, frames: FrameReader, targets: Ints, settings: TrainSettings) -> None:
        self.frames, self.targets, self.settings = frames, targets, settings

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        settings = self.settings
        n_frames, span = int(self.frames.n_frames[draw.example]), settings.clip_length * settings.sampling_rate
        start = draw.start
        if start is None:
            generator = np.random.default_rng((settings.seed, draw.epoch, draw.position))
            start = draw_start(n_frames, span, generator)
        indices = clip_indices(start, n_frames, clip_length=settings.clip_length, sampling_rate=settings.sampling_rate)
        return {
            "pixels": torch.from_numpy(self.frames.clip(draw.example, indices)),
            "target": int(self.targets[draw.example]),
            "example": draw.example,
        }


class TrainingBatches(Sampler[list[Draw]]):
    """The batches of one epoch for one of `world` processes; call `set_epoch` before each epoch.

    Every epoch is a new order of the same clips. "release" sampling takes each clip of the list once, "any" takes each
    video clips_per_video times. An update takes batch_size * accumulate * world clips. Clips of an epoch that do not
    fill an update are left out, unless the epoch has no full update. With `steps`, the last epoch is cut so that the
    run makes exactly that many updates.

    The processes share one order of clips: batch `number` is the same batch_size * world clips whatever their number.
    A last, smaller batch is shared as evenly as it can be, and left out when some process would get no clip of it.
    """

    def __init__(
        self, draws: list[tuple[int, int | None]], settings: TrainSettings, *, rank: int = 0, world: int = 1
    ) -> None:
        self.draws, self.settings, self.rank, self.world = draws, settings, rank, world
        self.weights: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self.epoch = 0
        self.updates = max(1, len(draws) // (settings.batch_size * settings.accumulate * world))
        self.n_updates = settings.steps or settings.epochs * self.updates
        self.n_epochs = -(-self.n_updates // self.updates)
        whole, rest = divmod(len(draws), settings.batch_size * world)
        # Batches; fewer than `accumulate` make an update if the epoch has no more clips.
        self.per_epoch = min(self.updates * settings.accumulate, max(1, whole + (rest >= world)))
        self.total = (self.n_epochs - 1) * self.per_epoch + self._length(self.n_epochs - 1)

    @property
    def sampler(self) -> "TrainingBatches":
        """This object: Lightning calls `set_epoch` on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch (from 0), which determines the order of the clips."""
        self.epoch = epoch

    def balance(self, targets: Ints) -> None:
        """Draw every class equally often from now on, with replacement."""
        classes = targets[[example for example, _ in self.draws]]
        counts = np.bincount(classes)
        shares = 1.0 / counts[classes]
        self.weights = shares / shares.sum()

    def __len__(self) -> int:
        return self._length(self.epoch)

    def _length(self, epoch: int) -> int:
        """The number of batches in one epoch."""
        left = self.n_updates - epoch * self.updates
        return min(self.per_epoch, max(0, left) * self.settings.accumulate)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order()
        for number in range(len(self)):
            first, last = self.share(number)
            yield [Draw(self.epoch, position, *self.draws[order[position]]) for position in range(first, last)]

    def share(self, number: int) -> tuple[int, int]:
        """First and last (exclusive) position in the epoch of this process's clips in batch `number`."""
        before, n_clips = number * self.settings.batch_size * self.world, self.n_clips(number)
        return before + self.rank * n_clips // self.world, before + (self.rank + 1) * n_clips // self.world

    def n_clips(self, number: int) -> int:
        """Clips of all processes together in batch `number` of an epoch."""
        size = self.settings.batch_size * self.world
        return min(size, len(self.draws) - number * size)

    def _order(self) -> Ints:
        """Indices into `draws` for this epoch, in training order."""
        generator, n = np.random.default_rng((self.settings.seed, self.epoch)), len(self.draws)
        return generator.permutation(n) if self.weights is None else generator.choice(n, n, p=self.weights)


def training_draws(
    frames: FrameReader, examples: Iterable[int], settings: TrainSettings, *, starts: list[int | None]
) -> list[tuple[int, int | None]]:
    """(example, start) of every clip in one epoch of `examples`; a start of None is drawn when the clip is read.

    starts: first frame of each example that a list file names as one clip, else None. "release" sampling leaves out
    videos that are shorter than a clip.
    """
    span = settings.clip_length * settings.sampling_rate
    draws: list[tuple[int, int | None]] = []
    for example in examples:
        start, n_frames = starts[example], int(frames.n_frames[example])
        if start is not None:
            draws += [(example, start)] if start + span <= n_frames else []
        elif settings.sampling == "release":
            draws += [(example, int(each)) for each in release_starts(n_frames, span)]
        else:
            draws += [(example, None)] * settings.clips_per_video
    return draws


def evaluation_batches(
    frames: FrameReader, examples: Iterable[int], n_clips: int, settings: TrainSettings, *, starts: list[int | None]
) -> list[list[Draw]]:
    """Batches with at most `n_clips` evenly spaced clips per example, or the one clip that a list file names."""
    span = settings.clip_length * settings.sampling_rate
    draws = []
    for example in examples:
        start = starts[example]
        spread = [start] if start is not None else spread_starts(int(frames.n_frames[example]), span, n_clips).tolist()
        draws += [Draw(0, 0, example, each) for each in spread]
    return [draws[first : first + settings.batch_size] for first in range(0, len(draws), settings.batch_size)]


def _mersenne_twister(seed: int) -> np.random.MT19937:
    """MT19937 with the seeding of the C++ standard library."""
    generator = np.random.MT19937()
    generator._legacy_seeding(seed)
    return generator
