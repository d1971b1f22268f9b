"""`c3dvideo similar`: compare two videos."""

from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.cli.evaluation_commands import PostProcessingOption
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note, print_json
from c3dvideo.cli.probe_commands import AsJson


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(similar)


def similar(
    first: Annotated[str, typer.Argument(metavar="A", help="A video.", show_default=False, callback=exists)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another video.", show_default=False, callback=exists)],
    *,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Weights folder, hub id or published name.", show_default="embedded"),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Layer to compare; repeatable, the first gives the cosine.", show_default="fc6"),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="Folder of features of other videos, by the same weights: what the cosine is compared with.",
            show_default="generated videos",
        ),
    ] = None,
    post_processing: PostProcessingOption = "none",
    show_all: Annotated[bool, typer.Option("--all", help="Print the 12 similarities of the ASLAN protocol.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare two videos: the cosine of their descriptors, and its place among pairs of unrelated videos."""
    from dataclasses import asdict

    from c3dvideo.evaluation import two_videos

    found = two_videos.similar(
        first,
        second,
        layers=layer or ["fc6"],
        weights=weights,
        reference=reference,
        post_processing=post_processing,
        device=device,
        note=note,
    )
    if as_json:
        print_json({"a": first, "b": second, **asdict(found)})
    else:
        typer.echo(found.text())
        if show_all:
            typer.echo(found.table())
