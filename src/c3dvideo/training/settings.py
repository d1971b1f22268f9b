"""Every choice of a training run in one value, and the presets: `modern` (default) and `release`.

    recipe = make_recipe("modern", width=0.25, epochs=60)

A recipe is stored in the run's folder as `recipe.json`; two runs with the same data and recipe are the same run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from c3dvideo.choices import (
    Balance,
    CopyLayers,
    NetworkName,
    Optimizer,
    Sampling,
    Schedule,
    TrainCrops,
    TrainFiller,
    TrainMean,
    TrainPrecision,
)
from c3dvideo.datasets.examples import Dataset
from c3dvideo.errors import UsageError

LAST, RECIPE = "last.ckpt", "recipe.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The defaults are the preset `modern` from scratch.

    Network, when it starts from scratch:
        network: "c3d" (eight convolutions) or "c3d_small" (five, the paper's depth study).
        width: factor on all channel widths, and on fc6 and fc7 unless `fc_width` gives their width.
        temporal_depths, clip_length, crop_size: as in `C3D`; frames are resized in proportion to the crop.
        filler: "he" (scaled to the layer's inputs), or the fillers of `C3D`.
        batch_norm: normalise after every convolution, fc6 and fc7 while training; the saved weights have it folded in,
            so that the network stays C3D. Around other weights to start from, normalisations begin by changing nothing.
    When it starts from other weights:
        copy_layers: "all" but the last (that too when the classes are the same ones), or only the convolutions, "conv":
            what the release's fine-tuning did, because its fc layers changed names.
        freeze: layers that keep their weights. layer_decay: factor on the learning rate a layer down from the last.
    Clips:
        sampling: "any" draws clips from every valid start; "release" takes the clips that the release's lists name
            (every 16 frames, incomplete tail dropped), in a new order every epoch.
        clips_per_video: how often a video is drawn an epoch ("any").
        crops: "resized" draws area (crop_area) and shape; "any" draws every position of a fixed-size crop; "release"
            never draws the last row and column of positions (a quirk of its reader); "centre" draws nothing.
        colour: largest relative change of brightness, contrast and saturation. mixup, cutmix: the alpha of their beta
            distribution, 0 for off; a batch gets one of both.
        mean: "channel" (mean and standard deviation of every channel over the training clips), "volume" (the release's
            mean clip). With other weights to start from: "weights" takes theirs.
        balance: make up for unequal class sizes, in the "loss" or by drawing rare classes more often ("sampling").
    Updates:
        epochs, or `steps` updates, which then decides. batch_size is a device's; `accumulate` batches make an update.
        schedule: "cosine" with `warmup` (a share of all updates), or "step": a tenth at `lr_stages` equal stages.
        ema: decay of the moving average of weights that is validated and saved; 0 for none.
        clip_gradient: largest gradient norm; 0 for any. patience: epochs without a better validation accuracy after
            which to stop; 0 for never.
        precision: of products and activations; weights and sums are float32. "auto" is settled as a run starts: "bf16"
            where the hardware multiplies it, else "fp32".
        validation_clips: clips a video while training; test_clips: clips a video for the final accuracy.
    """

    preset: str = "modern"
    seed: int = 0

    network: NetworkName = "c3d"
    width: float = 1.0
    fc_width: int | None = None
    temporal_depths: tuple[int, ...] = (3, 3, 3, 3, 3)
    clip_length: int = 16
    crop_size: int = 112
    dropout: float = 0.5
    filler: TrainFiller = "he"
    batch_norm: bool = True

    copy_layers: CopyLayers = "all"
    freeze: tuple[str, ...] = ()
    layer_decay: float = 1.0

    sampling: Sampling = "any"
    sampling_rate: int = 1
    clips_per_video: int = 1
    crops: TrainCrops = "resized"
    crop_area: tuple[float, float] = (0.35, 1.0)
    flip: bool = True
    colour: float = 0.3
    mixup: float = 0.0
    cutmix: float = 0.0
    mean: TrainMean = "channel"
    balance: Balance = "none"

    epochs: int = 100
    steps: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.05
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    lr_stages: int = 3
    label_smoothing: float = 0.1
    ema: float = 0.99
    clip_gradient: float = 5.0
    precision: TrainPrecision = "auto"
    patience: int = 0
    validation_clips: int = 2
    test_clips: int = 10

    def __post_init__(self) -> None:
        for name in ("width", "epochs", "batch_size", "accumulate", "clips_per_video", "sampling_rate", "lr_stages"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; expected more than 0")
        for name in ("dropout", "ema", "label_smoothing", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected from 0 to below 1")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise UsageError(f"crop_area is {self.crop_area}; expected two shares of the picture, 0 < low <= high <= 1")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise UsageError(
                f"learning_rate {self.learning_rate} and weight_decay {self.weight_decay} must not be below 0"
            )


MODERN = Recipe()
MODERN_FINE_TUNING = replace(
    MODERN, epochs=40, learning_rate=5e-4, layer_decay=0.8, batch_norm=False, mean="weights", crop_area=(0.5, 1.0)
)
RELEASE = Recipe(
    preset="release",
    filler="gaussian",
    batch_norm=False,
    sampling="release",
    crops="release",
    colour=0.0,
    mean="volume",
    steps=60_000,
    batch_size=30,
    optimizer="release",
    learning_rate=0.003,
    weight_decay=0.005,
    schedule="step",
    lr_stages=3,
    label_smoothing=0.0,
    ema=0.0,
    clip_gradient=0.0,
    precision="fp32",
)
RELEASE_FINE_TUNING = replace(
    RELEASE, copy_layers="conv", steps=20_000, learning_rate=0.0001, weight_decay=0.0005, lr_stages=4
)


def make_recipe(preset: str = "modern", *, fine_tuning: bool = False, **changes: Any) -> Recipe:
    """The recipe called `preset`, from scratch or for `fine_tuning`, with single choices changed.

    `epochs` given without `steps` replaces the preset's number of updates. Raises UsageError for an unknown name.
    """
    presets = {
        "modern": MODERN_FINE_TUNING if fine_tuning else MODERN,
        "release": RELEASE_FINE_TUNING if fine_tuning else RELEASE,
    }
    if preset not in presets:
        raise UsageError(f"preset is {preset!r}; expected {' or '.join(presets)}")
    known = [field.name for field in fields(Recipe)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise UsageError(f"a recipe has no {', '.join(unknown)}; it has {', '.join(known)}")
    if "epochs" in changes and "steps" not in changes:
        changes["steps"] = None
    fixed = sorted({"network", "width", "fc_width", "temporal_depths", "clip_length", "crop_size"} & set(changes))
    if fine_tuning and fixed:
        raise UsageError(f"{', '.join(fixed)} cannot be chosen: the weights to start from have their own")
    if not fine_tuning and "copy_layers" in changes:
        raise UsageError("copy_layers says what is taken from other weights, but none to start from were given")
    if not fine_tuning and changes.get("mean") == "weights":
        raise UsageError("mean is 'weights', but no weights to start from were given; expected channel or volume")
    for name in ("temporal_depths", "freeze", "crop_area"):
        if name in changes:
            changes[name] = tuple(changes[name])
    return replace(presets[preset], **changes)


def differences(stored: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """What differs between a recipe read from JSON and `recipe`, as `name: stored -> new`."""
    now = json.loads(json.dumps(asdict(recipe)))
    names = sorted(set(stored) | set(now))
    return [f"{n}: {stored.get(n)} -> {now.get(n)}" for n in names if stored.get(n) != now.get(n)]


def stored_recipe(out: Path) -> dict[str, Any]:
    """The recipe of the run in `out`; raises UsageError when there is none that could be resumed."""
    file = out / RECIPE
    if not (out / "checkpoints" / LAST).exists() or not file.exists():
        raise UsageError(f"{out} holds no run to resume: there is no checkpoints/{LAST}")
    recipe: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["recipe"]
    return recipe


def open_run(out: Path, recipe: Recipe, dataset: Dataset, *, resume: bool) -> None:
    """Make the run's folder, or check that what lies in it is this run."""
    last = out / "checkpoints" / LAST
    data = hashlib.sha256(json.dumps([asdict(example) for example in dataset.examples]).encode()).hexdigest()
    if resume:
        changed = differences(stored_recipe(out), recipe)
        if changed:
            raise UsageError(f"{out} was started with another recipe ({'; '.join(changed)}); resume with the same")
        if json.loads((out / RECIPE).read_text(encoding="utf-8"))["data"] != data:
            raise UsageError(f"{out} was started with other data or another split; resume with the same")
        return
    if last.exists():
        raise UsageError(f"{out} already holds a run; go on with it (--resume) or choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(json.dumps({"recipe": asdict(recipe), "data": data}, indent=2) + "\n", encoding="utf-8")
