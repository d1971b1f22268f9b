"""`c3dvideo extract` and `c3dvideo predict`: videos in; features, or classes with a timeline, out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from c3dvideo.choices import (
    ChannelOrder,
    Crops,
    Damaged,
    EngineName,
    Interpolation,
    Pool,
    Pool5,
    PrecisionChoice,
    Resize,
    Short,
    Tail,
)
from c3dvideo.cli.needs import exists, needs
from c3dvideo.cli.output import note, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from c3dvideo.features.extract import ExtractSummary
    from c3dvideo.features.failures import Failure
    from c3dvideo.probing.predict import Prediction

Three = tuple[float, float, float]

_MOST_NAMES = 10  # in a list on stderr

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Video files, folders (searched recursively), frame folders, a CSV with a column `path`, "
        "or - for a list on stdin.",
        show_default=False,
        callback=exists,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Weights folder, hub id, a name from `c3dvideo weights list`, or an exported .onnx file.",
        show_default="embedded",
    ),
]
StrideFrames = Annotated[int, typer.Option("--stride-frames", help="Frames between clip starts.")]
ClipLength = Annotated[int, typer.Option("--clip-length", help="Frames of a clip; the network fixes it.")]
SamplingRate = Annotated[int, typer.Option("--sampling-rate", help="Take every n-th frame.")]
TailPolicy = Annotated[Tail, typer.Option("--tail", help="Frames after the last whole clip.")]
ShortPolicy = Annotated[Short, typer.Option("--short", help="Videos shorter than one clip.")]
CropsOption = Annotated[Crops, typer.Option("--crops", help="Views of every clip.")]
ProfileName = Annotated[
    str | None,
    typer.Option("--profile", help="How pixels become network input.", show_default="that of the weights"),
]


def _own(name: str, text: str) -> Any:
    """An option that replaces one value of the profile."""
    panel = "Own profile values"
    return typer.Option(name, help=text, rich_help_panel=panel, show_default="that of the profile")


ChannelOrderOption = Annotated[ChannelOrder | None, _own("--channel-order", "Order of the colour channels.")]
ResizeOption = Annotated[Resize | None, _own("--resize", "Stretch frames, or keep their aspect ratio.")]
ResizeHeight = Annotated[int | None, _own("--resize-height", "Pixels; with short_side, of the shorter side.")]
ResizeWidth = Annotated[int | None, _own("--resize-width", "Pixels; with short_side, as --resize-height.")]
InterpolationOption = Annotated[Interpolation | None, _own("--interpolation", "How frames are resized.")]
CropTop = Annotated[int | None, _own("--crop-top", "First row of the centre crop.")]
CropLeft = Annotated[int | None, _own("--crop-left", "First column of the centre crop.")]
MeanValues = Annotated[Three | None, _own("--mean-values", "Mean to subtract, one per channel, in channel order.")]
Std = Annotated[Three | None, _own("--std", "Standard deviation to divide by, one per channel.")]
Scale = Annotated[float | None, _own("--scale", "Factor on 0-255 pixels.")]
Pool5Option = Annotated[Pool5 | None, _own("--pool5", "Padding of pool5.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
PrecisionOption = Annotated[
    PrecisionChoice, typer.Option("--precision", help="Arithmetic of the network; auto: fp16 on a GPU, fp32 on a CPU.")
]
EngineOption = Annotated[
    EngineName,
    typer.Option("--engine", help="How convolutions are computed; onnx: by an exported file."),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, max=100_000, help="Clips per call of the network.", show_default="by device"),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        max=1024,
        help="Processes that decode; 0: none, decode where the network runs.",
        show_default="one per core beside a GPU, else one per four cores",
    ),
]
DamagedOption = Annotated[
    Damaged, typer.Option("--damaged", help="Damaged videos: fail, or keep the clips before the damage.")
]
StallSeconds = Annotated[
    float, typer.Option("--stall-seconds", min=0.1, help="Seconds without progress after which a video fails.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _of_probe(name: str, text: str, default: str) -> Any:
    """An option whose default is what the probe was fitted with."""
    return typer.Option(name, help=text, show_default=f"that of the probe, else {default}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("extract")(extract)
    app.command("predict")(predict)


def extract(
    inputs: Inputs,
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder of features, new or to be continued.", show_default=False)],
    weights: Weights = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Activation to store; repeatable.", show_default="fc6")
    ] = None,
    pool: Annotated[
        Pool | None,
        typer.Option("--pool", help="mean: one L2-normalised descriptor per video.", show_default=False),
    ] = None,
    stride_frames: StrideFrames = 16,
    clip_length: ClipLength = 16,
    sampling_rate: SamplingRate = 1,
    tail: TailPolicy = "drop",
    short: ShortPolicy = "error",
    crops: CropsOption = "centre",
    profile: ProfileName = None,
    channel_order: ChannelOrderOption = None,
    resize: ResizeOption = None,
    resize_height: ResizeHeight = None,
    resize_width: ResizeWidth = None,
    interpolation: InterpolationOption = None,
    crop_top: CropTop = None,
    crop_left: CropLeft = None,
    mean_values: MeanValues = None,
    scale: Scale = None,
    std: Std = None,
    pool5: Pool5Option = None,
    device: Annotated[
        str,
        typer.Option("--device", help="auto, cpu, cuda, or one or more of cuda:0,cuda:1,...; one process each."),
    ] = "auto",
    precision: PrecisionOption = "auto",
    engine: EngineOption = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    damaged: DamagedOption = "error",
    stall_seconds: StallSeconds = 60.0,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Have every run on a GPU give the same bits; on a CPU every run does."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="3/16: the third of 16 parts, for machines that share OUT.", show_default=False),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            help="Extract on a Ray cluster: auto (that of this machine), host:port, or local (start one here).",
            show_default=False,
            callback=needs("cluster"),
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn videos into features: OUT/sub/a.mp4.npz for every sub/a.mp4.

    Started again, it does only what is missing or has changed. Videos that fail are listed in OUT/failures.jsonl, and
    the exit code is then 3. With several GPUs, each is driven by a process of its own.
    """
    from c3dvideo.features.extract import extract as extract_videos
    from c3dvideo.video.clips import ClipPlan

    summary = extract_videos(
        inputs,
        out,
        weights=weights,
        layers=layer or ["fc6"],
        pool=pool,
        plan=ClipPlan(
            clip_length=clip_length, stride_frames=stride_frames, sampling_rate=sampling_rate, tail=tail, short=short
        ),
        crops=crops,
        profile=profile,
        profile_changes=_given(
            channel_order=channel_order,
            resize=resize,
            resize_height=resize_height,
            resize_width=resize_width,
            interpolation=interpolation,
            crop_top=crop_top,
            crop_left=crop_left,
            mean=mean_values,
            scale=scale,
            std=std,
            pool5=pool5,
        ),
        device=device,
        precision=precision,
        engine=engine,
        batch_size=batch_size,
        workers=workers,
        damaged=damaged,
        stall_seconds=stall_seconds,
        deterministic=deterministic,
        shard=shard,
        cluster=cluster,
        note=note,
    )
    if as_json:
        print_json(summary.to_dict())
    else:
        typer.echo(str(summary))
    _list_failures(summary.failures, f"; all in {summary.out}/failures.jsonl")
    if summary.lost_processes:
        _end_incomplete(summary)
    _end(summary.failures)


def predict(
    inputs: Inputs,
    *,
    weights: Weights = None,
    probe: Annotated[
        Path | None, typer.Option("--probe", help="Score with this probe, not with fc8.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to list per video.")] = 5,
    stride_frames: Annotated[int | None, _of_probe("--stride-frames", "Frames between clip starts.", "16")] = None,
    clip_length: Annotated[int | None, _of_probe("--clip-length", "Frames of a clip.", "16")] = None,
    sampling_rate: Annotated[int | None, _of_probe("--sampling-rate", "Take every n-th frame.", "1")] = None,
    tail: Annotated[Tail | None, _of_probe("--tail", "Frames after the last whole clip.", "drop")] = None,
    short: Annotated[Short | None, _of_probe("--short", "Videos shorter than one clip.", "error")] = None,
    crops: Annotated[Crops | None, _of_probe("--crops", "Views of every clip.", "centre")] = None,
    profile: ProfileName = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    engine: EngineOption = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    damaged: DamagedOption = "error",
    stall_seconds: StallSeconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """Predict the classes of videos: of each as a whole (the mean over its clips) and along its time.

    Exit code 3 when some videos could not be read.
    """
    from c3dvideo.probing.predict import predict as predict_videos

    outcome = predict_videos(
        inputs,
        weights=weights,
        probe=probe,
        top=top,
        plan_changes=_given(
            clip_length=clip_length, stride_frames=stride_frames, sampling_rate=sampling_rate, tail=tail, short=short
        ),
        crops=crops,
        profile=profile,
        device=device,
        precision=precision,
        engine=engine,
        batch_size=batch_size,
        workers=workers,
        damaged=damaged,
        stall_seconds=stall_seconds,
        note=note,
    )
    if as_json:
        print_json(outcome.to_dict())
    else:
        for prediction in outcome.predictions:
            _print_prediction(prediction)
    end_with_failures(outcome.failures)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _list_failures(failures: "Sequence[Failure]", where: str = "") -> None:
    n_partial = sum(failure.stage == "partial" for failure in failures)
    for failure in failures[:_MOST_NAMES]:
        what = "partial" if failure.stage == "partial" else f"failed ({failure.stage})"
        note(f"{what}: {failure.name}: {failure.message}")
    if failures:
        note(f"{len(failures) - n_partial} failed" + f", {n_partial} partial" * bool(n_partial) + where)


def _end(failures: "Sequence[Failure]") -> None:
    if failures:
        raise typer.Exit(3)


def end_with_failures(failures: "Sequence[Failure]") -> None:
    """List the failures on stderr, and exit with 3 when there are any."""
    _list_failures(failures)
    _end(failures)


def _end_incomplete(summary: "ExtractSummary") -> None:
    """Report what a run did not do because processes of it died, and exit with 1."""
    for name in summary.not_done[:_MOST_NAMES]:
        note(f"not done: {name}")
    note(
        f"c3dvideo: {'; '.join(summary.lost_processes)}; {len(summary.not_done)} videos are not done, "
        "the same command does them"
    )
    raise typer.Exit(1)


def _print_prediction(prediction: "Prediction") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    table = Table(title=prediction.name, title_justify="left", box=None)
    for heading in ("clip", "seconds", "class", "score"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for rank in prediction.top:
        table.add_row("whole video", "", rank.label, f"{rank.score:.4f}")
    for index, clip in enumerate(prediction.timeline):
        table.add_row(str(index), _seconds(clip.start_seconds, clip.end_seconds), clip.label, f"{clip.score:.4f}")
    console.print(table)


def _seconds(start: float | None, end: float | None) -> str:
    return "" if start is None or end is None else f"{start:.2f}-{end:.2f}"
