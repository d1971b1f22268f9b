"""What a pre-training run learns from how much, and what its network expects of its input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from c3dvideo.choices import PretrainPrecision
from c3dvideo.errors import UsageError
from c3dvideo.video.preprocess import Profile

NARROW_STAGES = ((16,), (32,), (64, 64), (128, 128), (128, 128))
PROFILE = Profile(name="embedded", channel_order="rgb", mean=(110.0, 105.0, 100.0))


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe:
    """Everything that decides what comes out, written to the card's provenance.

    people_share, clip_people_share: of the single frames, and of the clips, that show people; the others are research
        scenes. What is fitted in closed form sees as many people as single frames do.

    Closed form: filter_clips are what the convolutions are fitted on, fc_clips those for fc6 and fc7,
    everyday_clips clips of each everyday class for fc8, n_directions the principal directions of fc6 that fc7 looks at.
    ridges, active: how little each stage whitens and how often its units are active, see `whitening`.

    Gradients: still_steps steps on single frames, then n_steps on clips and single frames, batch_size scenes of each,
    every frame and clip in two views of crop x crop pixels. Frames are asked for looks, clips for motion. The four
    weights scale the losses, see `objectives`; `temperature` divides the similarities. precision: "auto" is bf16 where
    the hardware multiplies it, and stored as what was chosen.
    """

    seed: int = 0
    stages: tuple[tuple[int, ...], ...] = NARROW_STAGES
    temporal_depths: tuple[int, ...] = (3, 3, 3, 3, 3)
    fc_width: int = 1024
    filter_clips: int = 64
    fc_clips: int = 512
    everyday_clips: int = 40
    n_directions: int = 200
    ridges: tuple[float, ...] = (0.02,) * 5
    active: tuple[float, ...] = (0.5,) * 5
    still_steps: int = 0
    n_steps: int = 0
    batch_size: int = 32
    crop: int = 64
    people_share: float = 0.75
    clip_people_share: float = 0.4
    learning_rate: float = 2e-3
    part_weight: float = 1.0
    move_weight: float = 3.0
    label_weight: float = 0.5
    contrast_weight: float = 0.2
    temperature: float = 0.2
    precision: PretrainPrecision = "auto"

    def __post_init__(self) -> None:
        if min(self.filter_clips, self.fc_clips, self.everyday_clips, self.n_directions, self.batch_size) < 2:
            raise UsageError("filter_clips, fc_clips, everyday_clips, n_directions and batch_size must be 2 or more")
        if self.stages[-1][-1] * 16 % self.fc_width:
            cells = self.stages[-1][-1] * 16
            raise UsageError(f"fc_width is {self.fc_width}; fc6 gathers the {cells} cells of pool5 in equal shares")
        if self.crop % 32 or self.crop < 32:
            raise UsageError(f"crop is {self.crop}; it must be a multiple of 32")


def network_input(clips: Tensor) -> Tensor:
    """Float clips with the profile's mean subtracted, from (N, 3, T, H, W) in RGB, 0..255."""
    return clips.float() - torch.tensor(PROFILE.mean, device=clips.device).view(1, 3, 1, 1, 1)
