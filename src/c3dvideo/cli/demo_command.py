"""`c3dvideo demo`: every step from videos to a page that shows what can be computed from their features."""

from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.choices import LARGEST_SEED
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note, print_json
from c3dvideo.counts import count


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for all output.")] = Path("demo"),
    videos: Annotated[
        Path | None,
        typer.Option(
            "--videos",
            help="Your own folder of videos, with or without one folder per class.",
            show_default="generated videos",
            callback=exists,
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="Weights folder, hub id or published name.", show_default="embedded")
    ] = None,
    clips_per_class: Annotated[
        int, typer.Option("--clips-per-class", min=4, help="Videos to generate per motion.")
    ] = 24,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show on one HTML page what C3D features give for generated videos, or for your own.

    A classifier with its accuracy and chance level, the most similar videos, and a map. Exit code 3 when some videos
    could not be read.
    """
    from dataclasses import asdict

    from c3dvideo.demo import demo as run_demo

    def say(step: str, text: str) -> None:
        typer.echo(f"{step:<11} {text}", err=as_json)

    result = run_demo(
        out, videos=videos, weights=weights, clips_per_class=clips_per_class, device=device, seed=seed, say=say
    )
    if as_json:
        print_json(asdict(result) | {"page": str(result.page)})
    if result.n_failed:
        note(f"{count(result.n_failed, 'video')} failed, see {out / 'features' / 'failures.jsonl'}")
        raise typer.Exit(3)
