"""Settings of a distillation run: which clips make a step, and what is learned from them.

    settings = DistilSettings(n_steps=2000, batch_size=64, size=64)

`c3dvideo distil` takes its options from the fields that have a help text. This module imports no torch.
"""

from dataclasses import dataclass, field
from typing import Any

from c3dvideo.choices import LARGEST_SEED, PretrainPrecision, TeacherTargets
from c3dvideo.errors import UsageError


def _option(default: Any, text: str, **metadata: str) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


@dataclass(frozen=True, kw_only=True)
class DistilSettings:
    """Every setting of a distillation run; they are written to the provenance of the weights.

    A step takes batch_size clips of size x size pixels: `generated` of them are views of generated clips, video_share
    of the others come from videos, and the rest are moving stills. Where there are only pictures or only videos,
    video_share has no effect. clips_per_video: clips kept of each video, evenly spaced.

    targets: "views" runs the teacher on every clip's middle frame; "cached" runs it once per picture and samples that
        map. "auto" is "views" on a GPU and "cached" on a CPU, and is stored as what was chosen, like `precision`.
    average: limit of the decay of the running average of the weights, which is what the run ends with.
    *_weight: factors of the losses, see `student_heads`; generated_weight is that of the generated clips' losses.
    settling_clips: clips of 112 x 112 pixels from which the normalisations take their final statistics.
    fc_clips, everyday_clips: generated clips for fc7, and for each class of fc8, as in `PretrainSettings`.
    """

    seed: int = _option(0, "Random seed.")
    n_steps: int = _option(4000, "Gradient steps.", flag="--steps")
    batch_size: int = _option(64, "Clips per gradient step.")
    size: int = _option(64, "Pixels of a training view; a multiple of 16 from 32 to 112.")
    generated: float = _option(0.2, "Share of the clips of a step that are generated, with their motion targets.")
    video_share: float = _option(0.5, "Share of the other clips that come from videos, where there are pictures too.")
    clips_per_video: int = _option(8, "Clips of 16 frames kept per video, evenly spaced.")
    targets: TeacherTargets = field(
        default="auto", metadata={"help": "'views': run the teacher on every view; 'cached': once per picture."}
    )
    learning_rate: float = _option(2e-3, "Highest learning rate of AdamW.")
    weight_decay: float = 0.02
    warmup_steps: int = 200
    average: float = 0.999
    vector_weight: float = 1.0
    contrast_weight: float = 0.3
    relation_weight: float = 1.0
    map_weight: float = 1.0
    motion_weight: float = 0.3
    generated_weight: float = 0.15
    settling_clips: int = 256
    fc_clips: int = 512
    everyday_clips: int = 40
    precision: PretrainPrecision = field(
        default="auto", metadata={"help": "Arithmetic of the student; auto: bf16 where the hardware multiplies it."}
    )

    def __post_init__(self) -> None:
        for name in ("settling_clips", "fc_clips", "everyday_clips"):
            self._check(getattr(self, name) >= 2, name, "2 or more")
        self._check(self.batch_size >= 4, "batch_size", "4 or more, because each clip is compared with the others")
        for name in ("n_steps", "clips_per_video"):
            self._check(getattr(self, name) >= 1, name, "1 or more")
        self._check(0 <= self.seed <= LARGEST_SEED, "seed", f"0 to {LARGEST_SEED}")
        self._check(self.learning_rate > 0, "learning_rate", "more than 0")
        self._check(self.size % 16 == 0 and 32 <= self.size <= 112, "size", "a multiple of 16 from 32 to 112")
        self._check(0 <= self.generated <= 0.8, "generated", "0 to 0.8: appearance comes from the other clips")
        self._check(0 <= self.video_share <= 1, "video_share", "0 to 1")

    @property
    def n_generated(self) -> int:
        """Generated scenes per step; every scene is seen in two views. 0 for none, otherwise at least two."""
        return max(2, round(self.batch_size * self.generated / 2)) if self.generated else 0

    @property
    def n_distilled(self) -> int:
        """Clips per step with a target of the teacher."""
        return max(2, self.batch_size - 2 * self.n_generated)

    def _check(self, right: bool, name: str, wanted: str) -> None:
        if not right:
            shown = name.removeprefix("n_")
            raise UsageError(f"`{shown}=` is {getattr(self, name)}; expected {wanted}")
