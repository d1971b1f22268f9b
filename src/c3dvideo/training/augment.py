"""Turn a batch of uint8 clips into network input: crop, flip, colour and mixing, on any device.

    generators = clip_generators(seed=0, epoch=3, positions=[16, 17])
    inputs, targets = train_batch(pixels, labels, normalise, settings, n_classes=7, crop=(112, 8, 29), generators=...)

Every clip has a CPU generator of its own, seeded by its place in the run. What is drawn for a clip is therefore the
same on every device, in every batch size and in whichever process. A mean volume is cropped and mirrored with the clip.
This equals the release, which subtracts the mean first, and needs fewer steps.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from c3dvideo.training.sampling import Ints
from c3dvideo.training.settings import TrainSettings
from c3dvideo.video.preprocess import Profile


@dataclass(frozen=True)
class Normalise:
    """(pixels * scale - mean) / std over resized frames; mean is (3, T, H, W) or (3, 1, 1, 1), std (3, 1, 1, 1)."""

    scale: float
    mean: Tensor
    std: Tensor

    @staticmethod
    def of(profile: Profile, volume: "np.ndarray[Any, np.dtype[np.float32]] | None") -> "Normalise":
        """The normalisation of `profile`, with its mean volume if it has one."""
        if profile.mean == "volume":
            mean = torch.from_numpy(np.zeros((3, 1, 1, 1), np.float32) if volume is None else volume.copy())
        else:
            mean = torch.tensor(profile.mean).view(3, 1, 1, 1)
        return Normalise(profile.scale, mean, torch.tensor(profile.std).view(3, 1, 1, 1))

    def to(self, device: torch.device) -> "Normalise":
        """The same normalisation on a device."""
        return Normalise(self.scale, self.mean.to(device), self.std.to(device))

    def __call__(self, clips: Tensor) -> Tensor:
        """Normalised float clips (N, 3, T, H, W) of full resized frames."""
        clips = clips if self.scale == 1.0 else clips * self.scale
        return (clips - self.mean) / self.std

    def cut(self, clips: Tensor, cut: Callable[[Tensor], Tensor]) -> Tensor:
        """Normalised clips that `cut` has already cropped. A mean volume is cropped in the same way."""
        if self.mean[0].numel() == 1:
            return self(clips)
        mean = cut(self.mean.expand(len(clips), *self.mean.shape))
        return ((clips if self.scale == 1.0 else clips * self.scale) - mean) / self.std


def train_batch(
    pixels: Tensor,
    labels: Tensor,
    normalise: Normalise,
    settings: TrainSettings,
    *,
    n_classes: int,
    crop: tuple[int, int, int],
    generators: Sequence[torch.Generator],
    draws: Ints | None = None,
    positions: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Network input (N, 3, T, size, size) and target distributions (N, n_classes) of uint8 clips (N, T, 3, H, W).

    crop: size, top and left of the centre crop. generators: one per clip. draws: top, left, mirrored of every clip, as
    the release draws them. positions: of the clips in their epoch, which determine the pairs that are mixed; None
    counts from 0.
    """
    size, top, left = crop
    n, height, width = len(pixels), pixels.shape[-2], pixels.shape[-1]
    targets = functional.one_hot(labels, n_classes).float()
    cut: Callable[[Tensor], Tensor]
    if settings.crops == "resized":
        boxes = torch.cat([draw_boxes(1, height, width, settings.crop_area, one) for one in generators])
        flips = torch.cat([draw_flips(1, settings, one) for one in generators])
        cut = partial(resized_crop, boxes=boxes, size=size, flips=flips)
    else:
        if draws is None:
            margins = (height - size, width - size)
            drawn = [draw_crops(1, margins, settings, centre=(top, left), generator=one) for one in generators]
            draws = np.concatenate(drawn)
        cut = partial(fixed_crop, draws=draws, size=size)
    clips = cut(as_float(pixels))
    if settings.colour:
        clips = jitter_colour(clips, settings.colour, generators)
    places = range(n) if positions is None else positions
    return mix(normalise.cut(clips, cut), targets, settings, generators, positions=places)


def clip_generators(*, seed: int, epoch: int, positions: Iterable[int]) -> list[torch.Generator]:
    """One CPU generator per clip, seeded by its position in its epoch."""
    # The last number separates these generators from the one that draws a clip's first frame.
    seeds = [int(np.random.SeedSequence((seed, epoch, position, 1)).generate_state(1)[0]) for position in positions]
    return [torch.Generator().manual_seed(one) for one in seeds]


def dropout_factors(
    widths: dict[str, int], probability: float, generators: Sequence[torch.Generator]
) -> dict[str, Tensor]:
    """Dropout of every clip: for each layer of `widths`, float32 (N, width) of 0 or 1 / (1 - probability)."""
    factors = {}
    for name, width in widths.items():
        kept = torch.stack([torch.rand(width, generator=one) >= probability for one in generators])
        factors[name] = kept.float() / (1 - probability)
    return factors


def centre_batch(pixels: Tensor, normalise: Normalise, crop: tuple[int, int, int]) -> Tensor:
    """Network input (N, 3, T, size, size): the centre crop of uint8 clips (N, T, 3, H, W)."""
    size, top, left = crop
    return normalise(as_float(pixels))[..., top : top + size, left : left + size].contiguous()


def as_float(pixels: Tensor) -> Tensor:
    """uint8 (N, T, 3, H, W) as float32 (N, 3, T, H, W), values 0 to 255."""
    return pixels.transpose(1, 2).float()


def jitter_colour(clips: Tensor, strength: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Clips (N, 3, T, H, W) in 0 to 255 with brightness, contrast and saturation each changed by up to +-strength.

    All frames of a clip change alike. Contrast scales around the clip's mean, saturation around each pixel's mean.
    """
    drawn = torch.stack([torch.rand(3, generator=one) for one in generators], dim=1)
    factors = 1 + strength * (2 * drawn - 1)
    brightness, contrast, saturation = send(factors, clips.device).view(3, -1, 1, 1, 1, 1)
    grey = clips.mean(dim=1, keepdim=True)
    changed: Tensor = (clips * saturation).add_(grey.mul_(1 - saturation))
    middle = changed.mean(dim=(1, 2, 3, 4), keepdim=True)
    return changed.mul_(brightness * contrast).add_(brightness * (1 - contrast) * middle).clamp_(0, 255)


def draw_crops(
    n: int, margins: tuple[int, int], settings: TrainSettings, *, centre: tuple[int, int], generator: torch.Generator
) -> Ints:
    """Top, left and mirrored of n crops, int64 (n, 3): positions from 0 to the margins, both ends included."""
    draws = np.empty((n, 3), np.int64)
    if settings.crops == "centre":
        draws[:, 0], draws[:, 1] = centre
    else:
        draws[:, 0] = torch.randint(0, margins[0] + 1, (n,), generator=generator).numpy()
        draws[:, 1] = torch.randint(0, margins[1] + 1, (n,), generator=generator).numpy()
    draws[:, 2] = draw_flips(n, settings, generator).numpy()
    return draws


def draw_flips(n: int, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """One bool per clip: whether it is mirrored, with probability 0.5; all False without `settings.flip`."""
    return torch.rand(n, generator=generator) < (0.5 if settings.flip else 0.0)


def fixed_crop(clips: Tensor, draws: Ints, size: int) -> Tensor:
    """The crop of `size` at (top, left) of every clip, mirrored where the third column of `draws` is 1."""
    cut = []
    for clip, (top, left, mirrored) in zip(clips, draws.tolist(), strict=True):
        part = clip[..., top : top + size, left : left + size]
        cut.append(part.flip(-1) if mirrored else part)
    return torch.stack(cut)


def draw_boxes(n: int, height: int, width: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Random boxes inside the frame, float (n, 4): top, left, height, width.

    area: range of a box's area, as a share of height x height. The ratio of width to height is from 3:4 to 4:3, so that
    pictures are stretched by at most a third.
    """
    share = torch.empty(n).uniform_(*area, generator=generator)
    aspect = torch.empty(n).uniform_(math.log(3 / 4), math.log(4 / 3), generator=generator).exp()
    full = float(height) ** 2
    box_height = (share * full / aspect).sqrt().clamp(max=height)
    box_width = (share * full * aspect).sqrt().clamp(max=width)
    place = torch.rand(2, n, generator=generator)
    return torch.stack((place[0] * (height - box_height), place[1] * (width - box_width), box_height, box_width), dim=1)


def resized_crop(clips: Tensor, boxes: Tensor, size: int, flips: Tensor) -> Tensor:
    """Every clip's box resized to (size, size), bilinear, mirrored where `flips` is True."""
    n, channels, frames, height, width = clips.shape
    top, left, box_height, box_width = boxes.T
    sign = 1.0 - 2.0 * flips.float()
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = sign * box_width / width, (2 * left + box_width) / width - 1
    theta[:, 1, 1], theta[:, 1, 2] = box_height / height, (2 * top + box_height) / height - 1
    grid = functional.affine_grid(send(theta, clips.device), [n, 1, size, size], align_corners=False).to(clips.dtype)
    flat = clips.reshape(n, channels * frames, height, width)
    cut = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.view(n, channels, frames, size, size)


def send(values: Tensor, device: torch.device) -> Tensor:
    """Small values that were drawn on the CPU, on `device`, without waiting until it has computed what it has to do."""
    pinned = values.pin_memory() if device.type == "cuda" else values  # copies of other memory wait in any case
    return pinned.to(device, non_blocking=True)


def mix(
    clips: Tensor,
    targets: Tensor,
    settings: TrainSettings,
    generators: Sequence[torch.Generator],
    *,
    positions: Iterable[int],
) -> tuple[Tensor, Tensor]:
    """Every clip mixed with its neighbour in the epoch: as a whole (mixup), or a box through all frames (cutmix).

    Positions 2k and 2k + 1 are a pair, so that the pairs depend on neither batch size nor processes; a clip whose
    neighbour is in another batch stays as it is. The share that a pair keeps comes from beta(alpha, alpha). If both
    kinds are set, each pair gets one of them at random.
    """
    if settings.mixup <= 0 and settings.cutmix <= 0:
        return clips, targets
    row_at = {position: row for row, position in enumerate(positions)}
    pairs = [(row, row_at[place + 1]) for place, row in row_at.items() if place % 2 == 0 and place + 1 in row_at]
    mixed, shares = clips.clone(), targets.clone()
    for one, other in pairs:
        kept, box = _draw_mix(clips.shape[-1], settings, generators[one])
        # Rows one by one: an index made of a list would be copied to the device, which waits for it.
        for row, partner in ((one, other), (other, one)):
            if box is None:
                mixed[row] = kept * clips[row] + (1 - kept) * clips[partner]
            else:
                mixed[row][..., box[0], box[1]] = clips[partner][..., box[0], box[1]]
            shares[row] = kept * targets[row] + (1 - kept) * targets[partner]
    return mixed, shares


def _draw_mix(
    side: int, settings: TrainSettings, generator: torch.Generator
) -> tuple[float, tuple[slice, slice] | None]:
    """The share of a clip that is kept, and the rows and columns that cutmix takes from the other (None for mixup)."""
    both = settings.mixup > 0 and settings.cutmix > 0
    cut = settings.cutmix > 0 and (not both or bool(torch.rand((), generator=generator) < 0.5))
    alpha = settings.cutmix if cut else settings.mixup
    gamma = torch._standard_gamma(torch.full((2,), float(alpha)), generator=generator)
    kept = float(gamma[0] / gamma.sum())
    if not cut:
        return kept, None
    length = round(side * math.sqrt(1 - kept))
    top, left = torch.randint(0, side - length + 1, (2,), generator=generator).tolist()
    return 1 - length**2 / side**2, (slice(top, top + length), slice(left, left + length))
