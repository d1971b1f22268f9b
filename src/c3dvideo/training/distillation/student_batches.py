"""The clips of each step of a distillation run: moving stills and views of real clips, a function of seed and step.

batches = StudentBatches(media, settings, device=torch.device("cpu"))
batch = batches.batch(120)
batch.clips, batch.targets                       # (N, 3, 16, S, S) and the motion targets
batch.views                                      # where each came from, for the teacher
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from c3dvideo.training.distillation.distillation_media import FRAMES, Media
from c3dvideo.training.distillation.distillation_settings import DistilSettings
from c3dvideo.training.distillation.moving_stills import MovingStills, move_stills, view_clips

Kind = Literal["pictures", "clips"]
_GPU_SHARE = 0.25
"""Pictures stay in the memory of a GPU where they take no more than this share of what is free."""


@dataclass(frozen=True)
class Views:
    """Clips made of pictures or videos, and the numbers of those."""

    kind: Kind
    index: Tensor
    moving: MovingStills


@dataclass(frozen=True)
class StudentBatch:
    """The clips of a step: first moving stills, then views of real clips."""

    views: tuple[Views, ...]

    @property
    def clips(self) -> Tensor:
        """Float (N, 3, T, S, S), RGB, 0..255."""
        return torch.cat([views.moving.clips for views in self.views])

    @property
    def targets(self) -> dict[str, Tensor]:
        """The motion targets, int64 (N,) per task of MOTIONS."""
        parts = [views.moving.targets for views in self.views]
        return {task: torch.cat([part[task] for part in parts]) for task in parts[0]}


class StudentBatches:
    """Draws the batches of a run from its media."""

    def __init__(self, media: Media, settings: DistilSettings, *, device: torch.device) -> None:
        self.media, self.settings, self.device = media, settings, device
        self._pictures = media.pictures
        if device.type == "cuda" and media.pictures.nbytes < _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._pictures = media.pictures.to(device)

    def shares(self, n: int) -> tuple[int, int]:
        """How many of n clips are moving stills, and how many come from videos."""
        if not len(self.media.pictures):
            return 0, n
        n_clips = round(n * self.settings.video_share) if self.media.clip_keys else 0
        return n - n_clips, n_clips

    def batch(self, step: int, *, n: int | None = None, size: int | None = None) -> StudentBatch:
        """The clips of a step: n clips of size x size pixels, by default as many and as large as in the settings."""
        settings = self.settings
        size = size or settings.size
        n_stills, n_clips = self.shares(settings.n_distilled if n is None else n)
        seed = 1_000_003 * settings.seed + step
        numbers, generator = torch.Generator().manual_seed(seed), torch.Generator(self.device).manual_seed(seed)
        views = []
        if n_stills:
            index = torch.randint(len(self.media.pictures), (n_stills,), generator=numbers)
            stills = self._pictures[index.to(self._pictures.device)].to(self.device)
            views.append(Views("pictures", index, move_stills(stills, frames=FRAMES, size=size, generator=generator)))
        if n_clips:
            index = torch.randint(len(self.media.clip_keys), (n_clips,), generator=numbers)
            clips, middles = (each.to(self.device) for each in (self.media.clips(index), self.media.middles(index)))
            views.append(Views("clips", index, view_clips(clips, middles, size=size, generator=generator)))
        return StudentBatch(tuple(views))
