"""`c3dvideo watch`: the classes of a camera, a stream or a file as if live, one JSON line per clip."""

import json
from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.cli.extract_commands import Device, PrecisionOption, ProfileName, SamplingRate, Weights
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note


def _exists_or_camera(source: str) -> str:
    """The source; raises UsageError for a file that does not exist. A number is a camera."""
    return source if source.isdecimal() else str(exists(source))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch")(watch)


def watch(
    source: Annotated[
        str,
        typer.Argument(
            help="RTSP or HTTP address, camera (0, /dev/video0), or a file, which is played at its own speed.",
            show_default=False,
            callback=_exists_or_camera,
        ),
    ],
    *,
    weights: Weights = None,
    probe: Annotated[
        Path | None, typer.Option("--probe", help="Score with this probe, not with fc8.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes per line.")] = 3,
    stride_frames: Annotated[int, typer.Option("--stride-frames", min=1, help="Frames between clips.")] = 8,
    sampling_rate: SamplingRate = 1,
    smooth_seconds: Annotated[
        float, typer.Option("--smooth-seconds", min=0, help="Time constant of the mean over time; 0: no smoothing.")
    ] = 1.0,
    profile: ProfileName = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    stall_seconds: Annotated[
        float, typer.Option("--stall-seconds", min=0.1, help="Connect again when nothing comes for so long.")
    ] = 10.0,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=0, help="Stop after so long.", show_default="never")
    ] = None,
) -> None:
    """Classify a live source clip by clip: JSON lines on stdout, notes and a summary on stderr.

    Frames are dropped rather than classified late, and counted. A source that ends or fails is opened again, after
    waits that grow to 30 seconds. Ctrl-C ends it.
    """
    from contextlib import closing

    from c3dvideo.probing.watch import WatchSummary
    from c3dvideo.probing.watch import watch as watch_source

    summary = WatchSummary(latencies=[])
    try:
        with closing(
            watch_source(
                source,
                weights=weights,
                probe=probe,
                top=top,
                stride_frames=stride_frames,
                sampling_rate=sampling_rate,
                smooth_seconds=smooth_seconds,
                profile=profile,
                device=device,
                precision=precision,
                stall_seconds=stall_seconds,
                max_seconds=max_seconds,
                summary=summary,
                note=note,
            )
        ) as clips:  # type: ignore[type-var]
            for seen in clips:
                typer.echo(json.dumps(seen.to_dict(), ensure_ascii=False))
    except KeyboardInterrupt:
        note("stopped")
    note(summary.text())
