"""Every setting of a training run in one value, and the presets: `modern` (default) and `release`.

    settings = make_settings("modern", width=0.25, epochs=60)

`c3dvideo train` takes its options from here: the help text and the group of each option are in the field's metadata.
This module imports no torch, so that the command line can list the options quickly.
"""

# ruff: noqa: RUF009 (the functions that give the defaults only call dataclasses.field)

from dataclasses import dataclass, field, fields, replace
from typing import Any

from c3dvideo.choices import (
    LARGEST_SEED,
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
from c3dvideo.errors import UsageError


def _network(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "group": "Network"})


def _clips(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "group": "Clips"})


def _updates(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "group": "Updates"})


def _machine(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "group": "Machine"})


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train. The defaults are those of the preset `modern` for training from scratch.

    Network, when training starts from scratch:
        network: "c3d" has eight convolutions; "c3d_small" has five, as in the paper's study of temporal depth.
        width: factor on all channel widths, and on fc6 and fc7 unless `fc_width` gives their width.
        temporal_depths, clip_length, crop_size: as in `C3D`. Frames are resized in proportion to the crop.
        filler: "he" scales each layer's weights to the number of its inputs; the others are the fillers of `C3D`.
        batch_norm: normalise after every convolution, fc6 and fc7 while training. The saved weights have the
            normalisation folded in, so the network stays C3D. Around pretrained weights, the normalisations start as
            the identity.
    When training starts from other weights:
        copy_layers: "all" copies every layer but the last, even when the classes are the same. "conv" copies the
            convolutions only, as the release's fine-tuning did, where the fc layers had changed names.
        freeze: layers whose weights do not change. layer_decay: factor on the learning rate per layer below the last.
    Clips:
        sampling: "any" draws each clip from every valid start. "release" takes the clips that the release's lists
            name (every 16 frames, incomplete tail dropped), in a new order per epoch.
        clips_per_video: clips drawn per video and epoch, for sampling "any".
        crops: "resized" draws area (`crop_area`) and aspect ratio; "any" draws every position of a fixed-size crop;
            "release" never draws the last row and column of positions (a quirk of its reader); "centre" draws nothing.
        colour: largest relative change of brightness, contrast and saturation.
        mixup, cutmix: alpha of their beta distribution; 0 is off, which is the default. When both are on, each
        pair of clips gets one of them.
        mean: "channel" subtracts the mean of every channel over the training clips and divides by its standard
            deviation; "volume" subtracts the release's mean clip; "weights" keeps the input of the weights to start
            from.
        balance: correct for unequal class sizes in the "loss", or by drawing rare classes more often ("sampling").
    Updates:
        epochs, or exactly `steps` updates; `steps` has precedence. batch_size is per device. `accumulate` batches make
            one update.
        schedule: "cosine" with `warmup` (a share of all updates), or "step": a tenth at `lr_stages` equal stages.
        ema: decay of the moving average of weights that is validated and saved; 0 for none.
        clip_gradient: largest gradient norm; 0 for no limit. patience: stop after so many epochs without a better
            validation accuracy; 0 for never.
        precision: of products and activations; weights and sums are float32. "auto" becomes "bf16" where the hardware
            multiplies it and "fp32" elsewhere when the run starts.
        validation_clips: clips per video while training; test_clips: clips per video for the final accuracy.
    """

    preset: str = "modern"
    seed: int = _updates(0, "Random seed.")

    network: NetworkName = _network("c3d", "Eight convolutions, or five.")
    width: float = _network(1.0, "Factor on all channel widths.")
    fc_width: int | None = _network(None, "Width of fc6 and fc7. Without it, 4096 (five convolutions: 2048) x width.")
    temporal_depths: tuple[int, ...] = _network((3, 3, 3, 3, 3), "Kernel length in time of each stage.")
    clip_length: int = _network(16, "Frames per clip.")
    crop_size: int = _network(112, "Height and width of a clip in pixels; frames are resized in proportion.")
    dropout: float = _network(0.5, "Dropout after fc6 and fc7.")
    filler: TrainFiller = _network("he", "How the first weights are drawn.")
    batch_norm: bool = _network(True, "Normalise while training; the saved weights have it folded in.")

    copy_layers: CopyLayers = _network("all", "What pretrained weights give: all but the last layer, or convolutions.")
    freeze: tuple[str, ...] = _network((), "Layer that keeps its weights; repeatable.")
    layer_decay: float = _network(1.0, "Factor on the learning rate per layer below the last.")

    sampling: Sampling = _clips("any", "Clips from any start, or from every 16th frame as the release.")
    sampling_rate: int = _clips(1, "Take every n-th frame.")
    clips_per_video: int = _clips(1, "Clips drawn per video and epoch.")
    crops: TrainCrops = _clips("resized", "How crops are drawn.")
    crop_area: tuple[float, float] = _clips((0.35, 1.0), "Least and largest share of the frame for resized crops.")
    flip: bool = _clips(True, "Mirror half of the clips; turn it off where left and right are labels.")
    colour: float = _clips(0.3, "Largest relative change of brightness, contrast and saturation.")
    mixup: float = _clips(0.0, "Alpha of mixup; 0 is off.")
    cutmix: float = _clips(0.0, "Alpha of cutmix; 0 is off.")
    mean: TrainMean = _clips("channel", "What is subtracted from the input.")
    balance: Balance = _clips("none", "Correct for unequal class sizes.")

    epochs: int = _updates(100, "Passes over the training videos.")
    steps: int | None = _updates(None, "Exact number of updates; has precedence over epochs.")
    batch_size: int = _updates(16, "Clips per batch and device.")
    accumulate: int = _updates(1, "Batches per update.")
    optimizer: Optimizer = _updates("adamw", "Update rule.")
    learning_rate: float = _updates(1e-3, "Highest learning rate.")
    momentum: float = _updates(0.9, "Momentum of sgd and release.")
    weight_decay: float = _updates(0.05, "Weight decay; biases have none.")
    schedule: Schedule = _updates("cosine", "How the learning rate falls.")
    warmup: float = _updates(0.05, "Share of updates in which the learning rate rises, for cosine.")
    lr_stages: int = _updates(3, "Equal stages of schedule step.")
    label_smoothing: float = _updates(0.1, "Share of each target that is spread over all classes.")
    ema: float = _updates(0.99, "Decay of the averaged weights; 0 is off.")
    clip_gradient: float = _updates(5.0, "Largest gradient norm; 0 is no limit.")
    patience: int = _updates(0, "Stop after so many epochs without a better validation accuracy; 0 is never.")
    validation_clips: int = _updates(2, "Clips per video while training.")
    test_clips: int = _updates(10, "Clips per video for the final accuracy.")

    precision: TrainPrecision = _machine("auto", "Arithmetic; auto is bf16 where the hardware multiplies it.")

    def __post_init__(self) -> None:
        for name in ("width", "epochs", "batch_size", "accumulate", "clips_per_video", "sampling_rate", "lr_stages"):
            if not getattr(self, name) > 0:
                raise UsageError(f"`{name}=` is {getattr(self, name)}; expected more than 0")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"`steps=` is {self.steps}; expected 1 or more")
        for name in ("dropout", "ema", "label_smoothing", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"`{name}=` is {getattr(self, name)}; expected from 0 to below 1")
        for name in ("mixup", "cutmix", "colour", "weight_decay", "clip_gradient", "patience", "seed"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"`{name}=` is {getattr(self, name)}; expected 0 or more")
        for name, largest in (("seed", LARGEST_SEED), ("batch_size", 100_000)):
            if getattr(self, name) > largest:
                raise UsageError(f"`{name}=` is {getattr(self, name)}; expected at most {largest}")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise UsageError(
                f"`crop_area=` is {self.crop_area}; expected two shares of the frame, 0 < least <= largest <= 1"
            )
        if not self.learning_rate > 0:
            raise UsageError(f"`learning_rate=` is {self.learning_rate}; expected more than 0")


MODERN = TrainSettings()
MODERN_FINE_TUNING = replace(
    MODERN, epochs=40, learning_rate=5e-4, layer_decay=0.8, batch_norm=False, mean="weights", crop_area=(0.5, 1.0)
)
RELEASE = TrainSettings(
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
PRESETS = {"modern": (MODERN, MODERN_FINE_TUNING), "release": (RELEASE, RELEASE_FINE_TUNING)}
"""Settings of each preset: from scratch, and for fine-tuning."""


def make_settings(preset: str = "modern", *, fine_tuning: bool = False, **changes: Any) -> TrainSettings:
    """The settings of `preset`, from scratch or for `fine_tuning`, with single fields changed.

    `epochs` given without `steps` replaces the preset's number of updates. Raises UsageError for an unknown name or a
    value that cannot be used.
    """
    if preset not in PRESETS:
        raise UsageError(f"`preset=` is {preset!r}; expected {' or '.join(PRESETS)}")
    known = [each.name for each in fields(TrainSettings)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise UsageError(f"there is no training setting {', '.join(unknown)}; expected one of {', '.join(known)}")
    if "epochs" in changes and "steps" not in changes:
        changes["steps"] = None
    fixed = sorted({"network", "width", "fc_width", "temporal_depths", "clip_length", "crop_size"} & set(changes))
    if fine_tuning and fixed:
        raise UsageError(
            f"{', '.join(f'`{name}=`' for name in fixed)} cannot be chosen with `init=`: those weights fix the network"
        )
    if not fine_tuning and "copy_layers" in changes:
        raise UsageError("`copy_layers=` says which layers to take from other weights; give those as `init=`")
    if not fine_tuning and changes.get("mean") == "weights":
        raise UsageError("`mean=` is 'weights', but `init=` names no weights; expected 'channel' or 'volume'")
    for name in ("temporal_depths", "freeze", "crop_area"):
        if name in changes:
            changes[name] = tuple(changes[name])
    return replace(PRESETS[preset][fine_tuning], **changes)
