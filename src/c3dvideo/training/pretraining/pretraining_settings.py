"""Settings of a pre-training run: network, clips, steps and losses.

    settings = PretrainSettings(still_steps=1500, n_steps=2500)

`c3dvideo pretrain` takes its options from the fields that have a help text. This module imports no torch.
"""

from dataclasses import dataclass, field
from typing import Any

from c3dvideo.choices import LARGEST_SEED, PretrainPrecision
from c3dvideo.errors import UsageError

NARROW_STAGES = ((16,), (32,), (64, 64), (128, 128), (128, 128))


def _option(default: Any, text: str, **metadata: str) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """All settings of a pre-training run, which are stored in the provenance of the weights.

    people_share, clip_people_share: share of the still frames, and of the clips, that show people. The others show
        research scenes. The clips for the closed form have the same share of people as the still frames.

    Closed form: the convolutions are fitted on filter_clips clips, fc6 and fc7 on fc_clips, fc8 on everyday_clips clips
    of each everyday class. n_directions: number of principal directions of fc6 that fc7 uses. ridges: ridge of the
    whitening per stage; a larger one whitens less. active: share of inputs on which units are active. See `whitening`.

    Gradients: still_steps steps on still frames, then n_steps on clips and still frames, with batch_size scenes of
    each. Every frame and clip yields two views of crop x crop pixels. Still frames train appearance, clips train
    motion. The four weights scale the losses, see `objectives`. temperature: divisor of the similarities in the
    contrastive loss. precision: "auto" is bf16 if the hardware multiplies it, else fp32; the choice is stored.
    """

    seed: int = _option(0, "Random seed.")
    stages: tuple[tuple[int, ...], ...] = NARROW_STAGES
    temporal_depths: tuple[int, ...] = (3, 3, 3, 3, 3)
    fc_width: int = 1024
    filter_clips: int = _option(64, "Clips for fitting the convolutions.")
    fc_clips: int = _option(512, "Clips for fitting fc6 and fc7.")
    everyday_clips: int = 40
    n_directions: int = 200
    ridges: tuple[float, ...] = (0.02,) * 5
    active: tuple[float, ...] = (0.5,) * 5
    still_steps: int = _option(0, "Gradient steps on still frames, after the closed form.")
    n_steps: int = _option(
        0, "Gradient steps on clips and still frames, after the steps on still frames.", flag="--steps"
    )
    batch_size: int = _option(32, "Scenes per gradient step.")
    crop: int = _option(64, "Side of a view in gradient steps, in pixels; a multiple of 32.")
    people_share: float = 0.75
    clip_people_share: float = 0.4
    learning_rate: float = _option(2e-3, "Highest learning rate of AdamW.")
    part_weight: float = 1.0
    move_weight: float = 3.0
    label_weight: float = 0.5
    contrast_weight: float = 0.2
    temperature: float = 0.2
    precision: PretrainPrecision = "auto"

    def __post_init__(self) -> None:
        for name in ("filter_clips", "fc_clips", "everyday_clips", "n_directions", "batch_size"):
            if getattr(self, name) < 2:
                raise UsageError(f"`{name}=` is {getattr(self, name)}; expected 2 or more")
        for name in ("still_steps", "n_steps", "seed"):
            if getattr(self, name) < 0:
                raise UsageError(f"`{name.removeprefix('n_')}=` is {getattr(self, name)}; expected 0 or more")
        if self.seed > LARGEST_SEED:
            raise UsageError(f"`seed=` is {self.seed}; expected at most {LARGEST_SEED}")
        if not self.learning_rate > 0:
            raise UsageError(f"`learning_rate=` is {self.learning_rate}; expected more than 0")
        if self.stages[-1][-1] * 16 % self.fc_width:
            cells = self.stages[-1][-1] * 16
            raise UsageError(
                f"`fc_width=` is {self.fc_width}; expected a divisor of {cells}, because fc6 averages equal shares of "
                "the cells of pool5"
            )
        if self.crop % 32 or self.crop < 32:
            raise UsageError(f"`crop=` is {self.crop}; expected a multiple of 32")
