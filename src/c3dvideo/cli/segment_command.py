"""`c3dvideo segment`: where the content of videos changes, with times."""

from typing import TYPE_CHECKING, Annotated

import typer

from c3dvideo.choices import SegmentMethod
from c3dvideo.cli.extract_commands import (
    AsJson,
    DamagedOption,
    Device,
    PrecisionOption,
    ProfileName,
    StallSeconds,
    Weights,
    Workers,
    end_with_failures,
)
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note, print_json, rounded_seconds
from c3dvideo.extras import require_extra

if TYPE_CHECKING:
    from c3dvideo.probing.change_points import SegmentedVideo

# Those of `probing.change_points`, which imports PyTorch; a test compares both.
_STRIDE_FRAMES, _THRESHOLD, _OTHERS = 4, 0.5, {"colours": 0.3, "both": 0.55}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("segment")(segment)


def segment(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Videos, as `c3dvideo extract` takes them, or feature files (.npz) that it wrote.",
            metavar="VIDEO...",
            show_default=False,
            callback=exists,
        ),
    ],
    *,
    method: Annotated[
        SegmentMethod, typer.Option("--method", help="Compare what the network computes, colour histograms, or both.")
    ] = "descriptors",
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Penalty per boundary; higher gives fewer boundaries.",
            show_default=f"{_THRESHOLD}; " + ", ".join(f"{value} for {method}" for method, value in _OTHERS.items()),
        ),
    ] = None,
    stride_frames: Annotated[
        int, typer.Option("--stride-frames", min=1, help="Frames between clip starts; feature files keep their own.")
    ] = _STRIDE_FRAMES,
    layer: Annotated[str, typer.Option("--layer", help="Layer to compare.", show_default="fc6, or the only one")] = "",
    weights: Weights = None,
    profile: ProfileName = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    workers: Workers = None,
    damaged: DamagedOption = "error",
    stall_seconds: StallSeconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """Find where the content of videos changes: change points of the sequence of clip descriptors, with times.

    Exit code 3 when some videos could not be read.
    """
    require_extra("segment")
    from c3dvideo.probing.change_points import segment as segment_videos

    outcome = segment_videos(
        inputs,
        weights=weights,
        layer=layer,
        method=method,
        stride_frames=stride_frames,
        threshold=threshold,
        profile=profile,
        device=device,
        precision=precision,
        workers=workers,
        damaged=damaged,
        stall_seconds=stall_seconds,
        note=note,
    )
    if as_json:
        print_json(rounded_seconds(outcome.to_dict()))
    else:
        for video in outcome.videos:
            typer.echo(_table(video))
    end_with_failures(outcome.failures)


def _table(video: "SegmentedVideo") -> str:
    lines = [video.name, f"{'segment':>9} {'frames':>15} {'seconds':>19}   strength of its beginning"]
    strengths = ["", *(f"{boundary.strength:.2f}" for boundary in video.boundaries)]
    for index, (part, strength) in enumerate(zip(video.segments, strengths, strict=True)):
        timed = part.start_seconds is not None and part.end_seconds is not None
        seconds = f"{part.start_seconds:.2f}-{part.end_seconds:.2f}" if timed else ""
        lines.append(f"{index:9d} {f'{part.start_frame}-{part.end_frame}':>15} {seconds:>19}   {strength}".rstrip())
    return "\n".join(lines)
