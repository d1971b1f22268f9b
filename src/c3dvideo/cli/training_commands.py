"""`c3dvideo train`, and the kernel depth study that trains six networks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from c3dvideo.choices import (
    Balance,
    CopyLayers,
    NetworkName,
    Optimizer,
    Preset,
    Sampling,
    Schedule,
    TrainCrops,
    TrainFiller,
    TrainMean,
    TrainPrecision,
)
from c3dvideo.cli.dataset_commands import (
    AllowLeaks,
    AsJson,
    Data,
    Fold,
    GroupPattern,
    LayoutOption,
    Videos,
    read,
)
from c3dvideo.cli.output import note, print_json
from c3dvideo.extras import require_extra

_NETWORK, _CLIPS, _UPDATES, _MACHINE = "Network", "Clips", "Updates", "Machine"


def _choice(name: str, text: str, panel: str, **options: Any) -> Any:
    """An option of the recipe: left out, the preset decides."""
    return typer.Option(name, help=text, rich_help_panel=panel, show_default=False, **options)


PresetOption = Annotated[
    Preset,
    typer.Option("--preset", help="Where every choice below comes from that is not given: today's, or the authors'."),
]
Val = Annotated[float, typer.Option("--val", help="Share held out for validation, if DATA has no such part.")]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache", help="Folder for decoded frames, shared by runs; 'none' decodes at every use.", show_default=False
    ),
]
Width = Annotated[float | None, _choice("--width", "Factor on all channel widths.", _NETWORK)]
FcWidth = Annotated[int | None, _choice("--fc-width", "Width of fc6 and fc7.", _NETWORK)]
CropSize = Annotated[int | None, _choice("--crop-size", "Pixels of a clip's side; frames shrink with it.", _NETWORK)]
Dropout = Annotated[float | None, _choice("--dropout", "After fc6 and fc7.", _NETWORK)]
BatchNorm = Annotated[
    bool | None,
    _choice("--batch-norm/--no-batch-norm", "Normalise while training; folded into the saved weights.", _NETWORK),
]
Flip = Annotated[
    bool | None, _choice("--flip/--no-flip", "Mirror half of the clips; not where left and right are labels.", _CLIPS)
]
Epochs = Annotated[int | None, _choice("--epochs", "Passes over the training videos.", _UPDATES)]
Steps = Annotated[int | None, _choice("--steps", "Updates, instead of epochs.", _UPDATES)]
Batch = Annotated[int | None, _choice("--batch-size", "Clips a batch and device.", _UPDATES)]
LearningRate = Annotated[float | None, _choice("--learning-rate", "The highest.", _UPDATES)]
SeedOption = Annotated[int | None, _choice("--seed", "Of everything that is drawn.", _UPDATES)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    data: Data,
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.", show_default=False)],
    videos: Videos = None,
    layout: LayoutOption = "auto",
    fold: Fold = 1,
    val: Val = 0.2,
    group_pattern: GroupPattern = None,
    allow_leaks: AllowLeaks = False,
    preset: PresetOption = "modern",
    init: Annotated[
        str | None,
        typer.Option("--init", help="Weights to start from: folder, hub id or published name.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished epoch of OUT.")] = False,
    cache: Cache = None,
    network: Annotated[NetworkName | None, _choice("--network", "Eight convolutions, or five.", _NETWORK)] = None,
    width: Width = None,
    fc_width: FcWidth = None,
    crop_size: CropSize = None,
    clip_length: Annotated[int | None, _choice("--clip-length", "Frames of a clip.", _NETWORK)] = None,
    temporal_depths: Annotated[
        tuple[int, int, int, int, int] | None,
        _choice("--temporal-depths", "Kernel length in time of each stage.", _NETWORK),
    ] = None,
    dropout: Dropout = None,
    filler: Annotated[TrainFiller | None, _choice("--filler", "How weights are drawn.", _NETWORK)] = None,
    batch_norm: BatchNorm = None,
    copy_layers: Annotated[
        CopyLayers | None,
        _choice("--copy-layers", "What --init gives: all but the last layer, or convolutions.", _NETWORK),
    ] = None,
    freeze: Annotated[
        list[str] | None, _choice("--freeze", "Layer that keeps its weights; repeatable.", _NETWORK)
    ] = None,
    layer_decay: Annotated[
        float | None, _choice("--layer-decay", "Factor on the learning rate a layer down.", _NETWORK)
    ] = None,
    sampling: Annotated[Sampling | None, _choice("--sampling", "Any start, or the release's every 16.", _CLIPS)] = None,
    sampling_rate: Annotated[int | None, _choice("--sampling-rate", "Take every n-th frame.", _CLIPS)] = None,
    clips_per_video: Annotated[int | None, _choice("--clips-per-video", "Draws an epoch.", _CLIPS)] = None,
    crops: Annotated[TrainCrops | None, _choice("--crops", "How crops are drawn.", _CLIPS)] = None,
    crop_area: Annotated[
        tuple[float, float] | None, _choice("--crop-area", "Least and largest share for resized crops.", _CLIPS)
    ] = None,
    flip: Flip = None,
    colour: Annotated[
        float | None, _choice("--colour", "Largest change of brightness, contrast, saturation.", _CLIPS)
    ] = None,
    mixup: Annotated[float | None, _choice("--mixup", "Alpha; 0 is off.", _CLIPS)] = None,
    cutmix: Annotated[float | None, _choice("--cutmix", "Alpha; 0 is off.", _CLIPS)] = None,
    mean: Annotated[TrainMean | None, _choice("--mean", "What is taken off the input.", _CLIPS)] = None,
    balance: Annotated[Balance | None, _choice("--balance", "Make up for rare classes.", _CLIPS)] = None,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_size: Batch = None,
    accumulate: Annotated[int | None, _choice("--accumulate", "Batches an update.", _UPDATES)] = None,
    optimizer: Annotated[Optimizer | None, _choice("--optimizer", "How weights move.", _UPDATES)] = None,
    learning_rate: LearningRate = None,
    momentum: Annotated[float | None, _choice("--momentum", "Of sgd and release.", _UPDATES)] = None,
    weight_decay: Annotated[float | None, _choice("--weight-decay", "Of weights, not biases.", _UPDATES)] = None,
    schedule: Annotated[Schedule | None, _choice("--schedule", "How the learning rate falls.", _UPDATES)] = None,
    warmup: Annotated[float | None, _choice("--warmup", "Share of updates of rising rate.", _UPDATES)] = None,
    lr_stages: Annotated[int | None, _choice("--lr-stages", "Equal stages of schedule step.", _UPDATES)] = None,
    label_smoothing: Annotated[float | None, _choice("--label-smoothing", "Share given to all.", _UPDATES)] = None,
    ema: Annotated[float | None, _choice("--ema", "Decay of averaged weights; 0 is off.", _UPDATES)] = None,
    clip_gradient: Annotated[float | None, _choice("--clip-gradient", "Largest norm; 0 is any.", _UPDATES)] = None,
    patience: Annotated[
        int | None, _choice("--patience", "Epochs without gain before stopping; 0 is never.", _UPDATES)
    ] = None,
    validation_clips: Annotated[
        int | None, _choice("--validation-clips", "Clips a video while training.", _UPDATES)
    ] = None,
    test_clips: Annotated[int | None, _choice("--test-clips", "Clips a video at the end.", _UPDATES)] = None,
    seed: SeedOption = None,
    precision: Annotated[
        TrainPrecision | None,
        _choice("--precision", "Arithmetic; auto is bf16 where the hardware multiplies it.", _MACHINE),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that read clips.", rich_help_panel=_MACHINE)] = 0,
    accelerator: Annotated[str, typer.Option("--accelerator", help="Lightning's.", rich_help_panel=_MACHINE)] = "auto",
    devices: Annotated[str, typer.Option("--devices", help="Number or list.", rich_help_panel=_MACHINE)] = "auto",
    nodes: Annotated[int, typer.Option("--nodes", help="Machines.", rich_help_panel=_MACHINE)] = 1,
    strategy: Annotated[str, typer.Option("--strategy", help="ddp, fsdp, ...", rich_help_panel=_MACHINE)] = "auto",
    as_json: AsJson = False,
) -> None:
    """Train C3D on labelled videos; OUT/weights is then a folder of weights for every other command.

    DATA without a validation part is split, whole source videos at a time. A run that was stopped goes on with
    --resume from its last finished epoch, and ends as if it had never stopped. The network is the paper's unless
    narrowed; for a few hundred clips on a CPU start with --width 0.125 --crop-size 80 --epochs 40.
    """
    given = _recipe(locals())
    require_extra("train")
    from c3dvideo.training.train import train as run

    dataset = read(data, layout=layout, videos=videos, fold=fold, group_pattern=group_pattern)
    result = run(
        dataset,
        out,
        init=init,
        preset=preset,
        resume=resume,
        validation_share=val,
        allow_leaks=allow_leaks,
        cache=cache,
        workers=workers,
        accelerator=accelerator,
        devices=int(devices) if devices.isdigit() else devices,
        n_nodes=nodes,
        strategy=strategy,
        **given,
    )
    if as_json:
        print_json({"weights": str(result.weights), **result.metrics})
        return
    if not result.metrics:  # another process of the same run writes the results
        return
    for part in ("val", "test"):
        if part in result.metrics:
            numbers = result.metrics[part]
            typer.echo(
                f"{part}: {numbers['video_accuracy']:.1%} of {numbers['n_videos']} videos right "
                f"(largest class {numbers['majority_class_share']:.1%})"
            )
    unreadable = result.metrics["unreadable"]
    if unreadable:
        note(f"{len(unreadable)} videos could not be read and were left out; see metrics.json")
    typer.echo(f"weights in {result.weights}")
    if unreadable:
        raise typer.Exit(3)


def depth(
    data: Data,
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.", show_default=False)],
    videos: Videos = None,
    layout: LayoutOption = "auto",
    fold: Fold = 1,
    group_pattern: GroupPattern = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="depth-1, depth-3, depth-5, depth-7, increasing or decreasing; repeatable. [default: all]",
            show_default=False,
        ),
    ] = None,
    preset: PresetOption = "modern",
    cache: Cache = None,
    width: Width = None,
    fc_width: FcWidth = None,
    crop_size: CropSize = None,
    dropout: Dropout = None,
    batch_norm: BatchNorm = None,
    flip: Flip = None,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_size: Batch = None,
    learning_rate: LearningRate = None,
    seed: SeedOption = None,
    as_json: AsJson = False,
) -> None:
    """Train networks that differ in their kernels' temporal depth, as in figure 2 of the paper, and plot the curves.

    Stopped and started again, it goes on where it was.
    """
    given = _recipe(locals())
    require_extra("train")
    from c3dvideo.evaluation.temporal_depth import DEPTHS, depth_study

    dataset = read(data, layout=layout, videos=videos, fold=fold, group_pattern=group_pattern)
    results = depth_study(
        dataset,
        out,
        names=only or tuple(DEPTHS),
        preset=preset,
        cache=cache,
        note=None if as_json else typer.echo,
        **given,
    )
    if as_json:
        print_json([vars(result) for result in results])
    else:
        typer.echo("published (UCF101 split 1, small network): depth-3 about 45% of clips, above all others (figure 2)")
        typer.echo(f"curves in {out}/depth.png and {out}/depth.csv")


def _recipe(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are fields of a recipe and were given."""
    from dataclasses import fields

    from c3dvideo.training.settings import Recipe

    names = {field.name for field in fields(Recipe)} - {"preset"}
    return {name: value for name, value in options.items() if name in names and value not in (None, [])}
