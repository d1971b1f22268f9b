"""`c3dvideo train`, and the kernel depth study that trains six networks.

The options of the training itself come from `TrainSettings`; those here say what to train on, where, and with what.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from c3dvideo.choices import Preset
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
from c3dvideo.cli.setting_options import with_settings
from c3dvideo.counts import count
from c3dvideo.extras import require_extra
from c3dvideo.training.settings import PRESETS, TrainSettings

_MACHINE = "Machine"

PresetOption = Annotated[Preset, typer.Option("--preset", help="Preset for every option that is not given.")]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        help="Folder for decoded frames, which runs can share; 'none' decodes at every use.",
        show_default="OUT/frames",
    ),
]
DEPTH_SETTINGS = (
    *("width", "fc_width", "crop_size", "dropout", "batch_norm", "flip", "epochs", "steps"),
    *("batch_size", "learning_rate", "seed"),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def preset_default(name: str) -> str | None:
    """The default of a setting in the help of `train`, for each preset where they differ."""
    texts = {}
    for preset, (scratch, tuned) in PRESETS.items():
        first, second = _value(scratch, name), _value(tuned, name)
        if first is not None:
            texts[preset] = first if first == second else f"{first}, with --init {second}"
    return _per_preset(texts)


def scratch_default(name: str) -> str | None:
    """The default of a setting where training always starts from scratch."""
    texts = {preset: _value(scratch, name) for preset, (scratch, _) in PRESETS.items()}
    return _per_preset({preset: text for preset, text in texts.items() if text is not None})


def _per_preset(texts: dict[str, str]) -> str | None:
    if len(texts) == len(PRESETS) and len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{preset}: {text}" for preset, text in texts.items()) or None


def _value(settings: TrainSettings, name: str) -> str | None:
    """One setting as text, or None where it has no effect."""
    value = getattr(settings, name)
    if value is None or value == () or (name == "epochs" and settings.steps is not None):
        return None
    if isinstance(value, bool):
        return name.replace("_", "-") if value else f"no-{name.replace('_', '-')}"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@with_settings(TrainSettings, defaults=preset_default)
def train(
    data: Data,
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.", show_default=False)],
    videos: Videos = None,
    layout: LayoutOption = "auto",
    fold: Fold = 1,
    validation_share: Annotated[
        float, typer.Option("--val", help="Share held out for validation, if DATA has no such part.")
    ] = 0.2,
    group_pattern: GroupPattern = None,
    allow_leaks: AllowLeaks = False,
    preset: PresetOption = "modern",
    init: Annotated[
        str | None,
        typer.Option(
            "--init", help="Weights to start from: folder, hub id or published name.", show_default="random weights"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in OUT after its last finished epoch.")
    ] = False,
    cache: Cache = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            max=1024,
            help="Processes that read clips.",
            show_default="none on a CPU, up to 8 on a GPU",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    accelerator: Annotated[
        str, typer.Option("--accelerator", help="auto, cpu, gpu, ... as in Lightning.", rich_help_panel=_MACHINE)
    ] = "auto",
    devices: Annotated[
        str, typer.Option("--devices", help="Number of devices, or a list such as 0,1.", rich_help_panel=_MACHINE)
    ] = "auto",
    n_nodes: Annotated[int, typer.Option("--nodes", help="Number of machines.", rich_help_panel=_MACHINE)] = 1,
    strategy: Annotated[str, typer.Option("--strategy", help="ddp, fsdp, ...", rich_help_panel=_MACHINE)] = "auto",
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Train C3D on labelled videos; OUT/weights is then a folder of weights for every other command.

    DATA without a validation part is split, whole source videos at a time. --resume continues a stopped run after its
    last finished epoch, with the same result as if it had never stopped. The network is the paper's unless narrowed;
    for a few hundred clips on a CPU start with --width 0.125 --crop-size 80 --epochs 40.
    """
    require_extra("train")
    from c3dvideo.training.train import train as run

    dataset = read(data, layout=layout, videos=videos, fold=fold, group_pattern=group_pattern)
    result = run(
        dataset,
        out,
        init=init,
        preset=preset,
        resume=resume,
        validation_share=validation_share,
        allow_leaks=allow_leaks,
        cache=cache,
        workers=workers,
        accelerator=accelerator,
        devices=int(devices) if devices.isdigit() else devices,
        n_nodes=n_nodes,
        strategy=strategy,
        note=note,
        **settings,
    )
    if not result.metrics:  # another process of the same run writes the results
        return
    if as_json:
        print_json({"weights": str(result.weights), **result.metrics})
    else:
        _print(result.metrics)
        typer.echo(f"weights in {result.weights}")
    if n_unreadable := len(result.metrics["unreadable"]):
        note(f"{count(n_unreadable, 'video')} could not be read, so left out; see metrics.json")
        raise typer.Exit(3)


def _print(metrics: dict[str, Any]) -> None:
    """One line per held-out part."""
    for part in ("val", "test"):
        if part not in metrics:
            continue
        numbers = metrics[part]
        typer.echo(
            f"{part}: {numbers['video_accuracy']:.1%} of {numbers['n_videos']} videos right "
            f"(largest class {numbers['majority_class_share']:.1%})"
        )
        if part == "val":
            typer.echo(
                "     the epoch was chosen on these videos, which makes this too high; the mean of the last "
                f"{numbers['last_epochs']} epochs is {numbers['mean_of_last_epochs']:.1%}"
            )


@with_settings(TrainSettings, defaults=scratch_default, names=DEPTH_SETTINGS)
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
            help="depth-1, depth-3, depth-5, depth-7, increasing or decreasing; repeatable.",
            show_default="all",
        ),
    ] = None,
    preset: PresetOption = "modern",
    cache: Cache = None,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Train networks that differ in their kernels' temporal depth, as in figure 2 of the paper, and plot the curves.

    Started again after a stop, it continues.
    """
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
        **settings,
    )
    if as_json:
        print_json([vars(result) for result in results])
    else:
        typer.echo("published (UCF101 split 1, small network): depth-3 about 45% of clips, above all others (figure 2)")
        typer.echo(f"curves in {out}/depth.png and {out}/depth.csv")
