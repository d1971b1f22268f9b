"""`c3dvideo plan`: the hours, storage and bottleneck of a run, before it is started."""

from typing import TYPE_CHECKING, Annotated

import typer

from c3dvideo.choices import LARGEST_SEED
from c3dvideo.cli.extract_commands import (
    AsJson,
    BatchSize,
    ClipLength,
    CropsOption,
    Device,
    EngineOption,
    Inputs,
    PrecisionOption,
    SamplingRate,
    ShortPolicy,
    StrideFrames,
    TailPolicy,
    Weights,
    Workers,
)
from c3dvideo.cli.output import note, print_json

if TYPE_CHECKING:
    from c3dvideo.features.plan import Plan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    inputs: Inputs,
    *,
    weights: Weights = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Activation to store; repeatable.", show_default="fc6")
    ] = None,
    stride_frames: StrideFrames = 16,
    clip_length: ClipLength = 16,
    sampling_rate: SamplingRate = 1,
    tail: TailPolicy = "drop",
    short: ShortPolicy = "error",
    crops: CropsOption = "centre",
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    engine: EngineOption = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    sample_seconds: Annotated[float, typer.Option("--sample-seconds", min=0.5, help="About how long to measure.")] = 20,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed: which videos are measured.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Predict what `extract` with the same options will take: hours, storage and bottleneck, here and on many machines.

    A few of the videos are decoded and computed to measure this machine; nothing is stored.
    """
    from c3dvideo.features.plan import make_plan
    from c3dvideo.video.clips import ClipPlan

    found = make_plan(
        inputs,
        sample_seconds=sample_seconds,
        seed=seed,
        note=note,
        weights=weights,
        layers=layer or ["fc6"],
        plan=ClipPlan(
            clip_length=clip_length, stride_frames=stride_frames, sampling_rate=sampling_rate, tail=tail, short=short
        ),
        crops=crops,
        device=device,
        precision=precision,
        engine=engine,
        batch_size=batch_size,
        workers=workers,
    )
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)


def _print(found: "Plan") -> None:
    run = found.simulated
    rates = found.rates
    typer.echo(
        f"videos       {found.n_videos:,} with {found.n_clips:,} clips, {found.video_hours:,.2f} hours, median "
        f"{found.median_seconds:.1f} s ({found.n_sampled} measured)"
    )
    batch = found.machine.batch_clips
    per_batch = rates.batch + rates.clip * batch
    typer.echo(
        f"measured     a decoder {1 / rates.frame:,.0f} frames/s, the network {batch / per_batch:,.1f} clips/s, "
        f"{1000 * rates.write:.1f} ms to write a file" + _busy(found.machine.free_cores, found.machine.cores)
    )
    typer.echo(
        f"whole run    {_duration(found.seconds)} on {found.device}, decoder processes: {found.machine.n_decoders}; "
        f"bottleneck: {found.bottleneck} (network busy {run.network_busy:.0%}, decoders {run.decoders_busy:.0%}, "
        f"writer {run.writer_busy:.0%})"
    )
    for name, layer in found.storage.items():
        typer.echo(
            f"storage      {name}: {_size(layer.fp32_bytes)} in fp32, {_size(layer.fp16_bytes)} in fp16, "
            f"{_size(layer.pca500_bytes)} after PCA to 500"
        )
    typer.echo("\nvideos like these          machines      hours  device-hours    stored  bottleneck")
    for row in found.many:
        typer.echo(
            f"{row.n_videos:>11,}  {row.kind:<14} {row.n_machines:>6,} {row.hours:>10,.1f} {row.device_hours:>13,.0f} "
            f"{_size(row.stored_tb * 1e12):>9}  {row.bottleneck}"
        )


def _busy(free: float | None, cores: int) -> str:
    """The share of the cores that other programs left, where it is less than all."""
    return "" if free is None or free >= cores else f"; other programs leave {free:.1f} of {cores} cores"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} hours"


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:,.1f} {unit}"
