"""`c3dvideo explain`: which pixels and frames an activation or a class comes from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from c3dvideo.choices import ExplainMethod
from c3dvideo.cli.extract_commands import (
    AsJson,
    DamagedOption,
    Device,
    ProfileName,
    StallSeconds,
    Weights,
    end_with_failures,
)
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note, print_json
from c3dvideo.counts import count
from c3dvideo.extras import require_extra

if TYPE_CHECKING:
    from c3dvideo.explain.explain_run import Explanations


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Videos, as `c3dvideo extract` takes them; for units and deconvolution also folders of features.",
            metavar="VIDEO...",
            show_default=False,
            callback=exists,
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for moving pictures and contact sheets.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help=f"Kind of explanation, repeatable: {', '.join(get_args(ExplainMethod))}.",
            show_default="gradcam",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--class", help="Class to explain, by name or number.", show_default="the best of each clip"),
    ] = None,
    probe: Annotated[
        Path | None, typer.Option("--probe", help="Explain the classes of this probe, not fc8's.", show_default=False)
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            help="Layer of the Grad-CAM maps, or layer whose units are shown.",
            show_default="conv5b; conv4b for maps of the embedded weights",
        ),
    ] = None,
    unit: Annotated[
        list[int] | None,
        typer.Option("--unit", min=0, help="Unit to show; repeatable.", show_default="the four most selective"),
    ] = None,
    n_clips: Annotated[int, typer.Option("--clips", min=1, max=64, help="Strongest clips per unit.")] = 8,
    weights: Weights = None,
    profile: ProfileName = None,
    device: Device = "auto",
    damaged: DamagedOption = "error",
    stall_seconds: StallSeconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """Show which pixels and frames a class, or a unit of a layer, comes from.

    gradcam, gradcam++ and guided: OUT/a.mp4.gradcam.LAYER.CLASS.mp4 beside the input, and a contact sheet. units,
    deconvolution: the clips that a unit responds to most, and their projections to the pixels. filters: the first
    layer. Exit code 3 when some videos could not be read.
    """
    require_extra("explain")
    from c3dvideo.explain.explain_run import explain as explain_videos

    done = explain_videos(
        inputs or [],
        out,
        methods=method or ["gradcam"],
        weights=weights,
        probe=probe,
        target=target,
        layer=layer,
        units=unit or (),
        n_clips=n_clips,
        profile=profile,
        device=device,
        damaged=damaged,
        stall_seconds=stall_seconds,
        note=note,
    )
    if as_json:
        print_json(done.to_dict())
    else:
        for line in _lines(done):
            typer.echo(line)
    end_with_failures(done.failures)


def _lines(done: "Explanations") -> list[str]:
    lines = [] if done.filters is None else [f"filters: {done.filters}"]
    for video in done.videos:
        lines += [
            f"{video.name}: {count(len(video.clips), 'clip')}",
            *(f"  {kind}: {path}" for kind, path in video.files.items()),
        ]
    for unit in done.units:
        lines.append(f"{unit.layer} unit {unit.unit}: {count(len(unit.clips), 'clip')}")
        lines += [f"  {kind}: {path}" for kind, path in unit.files.items()]
    return lines
