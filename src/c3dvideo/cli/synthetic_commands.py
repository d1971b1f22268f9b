"""`c3dvideo synthesize` and `c3dvideo pretrain`: generated clips, and a network that has seen nothing else."""

from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.cli.output import print_json
from c3dvideo.errors import UsageError


def synthesize(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for the videos and labels.csv.")],
    task: Annotated[
        str,
        typer.Option(
            "--task",
            help="'everyday': classes that people have names for; 'all': research clips with every label; or one "
            "task, such as rotation, frequency or colour: clips that have that label. Tasks such as touch, tool, shot "
            "or hair give people.",
        ),
    ] = "everyday",
    n_clips: Annotated[int, typer.Option("--clips", min=1, help="Videos to write.")] = 64,
    n_frames: Annotated[
        int | None, typer.Option("--frames", help="Frames a video.", show_default="50 everyday, else 16")
    ] = None,
    height: Annotated[int, typer.Option("--height", help="Pixels; a multiple of 8.")] = 120,
    width: Annotated[int, typer.Option("--width", help="Pixels; a multiple of 8.")] = 160,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other videos.")] = 0,
) -> None:
    """Write generated videos and a table of their labels: for tests, demonstrations and teaching."""
    from c3dvideo import synthetic

    if task == "everyday":
        if n_clips % len(synthetic.EVERYDAY):
            raise UsageError(
                f"--clips is {n_clips}; the {len(synthetic.EVERYDAY)} everyday classes need a multiple of that"
            )
        table = synthetic.write_dataset(
            out,
            clips_per_class=n_clips // len(synthetic.EVERYDAY),
            n_frames=n_frames or 50,
            height=height,
            width=width,
            seed=seed,
        )
    else:
        table = synthetic.synthesize(
            out,
            n_clips=n_clips,
            task=None if task == "all" else task,
            n_frames=n_frames or 16,
            height=height,
            width=width,
            seed=seed,
        )
    typer.echo(f"{n_clips} videos and {table}")


def pretrain(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an unfinished one is continued.")],
    still_steps: Annotated[
        int, typer.Option("--still-steps", min=0, help="Gradient steps on single frames, after the closed form.")
    ] = 0,
    steps: Annotated[
        int, typer.Option("--steps", min=0, help="Gradient steps on clips and single frames, after those.")
    ] = 0,
    crop: Annotated[int, typer.Option("--crop", help="Pixels of a view in gradient steps; a multiple of 32.")] = 64,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Scenes a gradient step.")] = 32,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of AdamW, at its peak.")] = 2e-3,
    full_width: Annotated[
        bool, typer.Option("--full-width", help="The paper's widths (64 to 512, fc 4096); wants a GPU.")
    ] = False,
    filter_clips: Annotated[int, typer.Option("--filter-clips", min=2, help="Clips that the filters see.")] = 64,
    fc_clips: Annotated[int, typer.Option("--fc-clips", min=2, help="Clips that fc6 and fc7 see.")] = 512,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a weights folder from generated clips alone.

    The shipped one was made with --still-steps 1500 --steps 2500.
    """
    from c3dvideo.network.c3d import STAGES
    from c3dvideo.training.pretraining import NARROW_STAGES, PretrainRecipe
    from c3dvideo.training.pretraining import pretrain as run

    recipe = PretrainRecipe(
        seed=seed,
        stages=STAGES if full_width else NARROW_STAGES,
        fc_width=4096 if full_width else 1024,
        filter_clips=filter_clips,
        fc_clips=fc_clips,
        still_steps=still_steps,
        n_steps=steps,
        crop=crop,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    network = run(out, recipe=recipe, device=device)
    weights = out / "weights"
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    if as_json:
        print_json({"weights": str(weights), "parameters": n_parameters, "classes": list(network.classes)})
    else:
        typer.echo(f"{weights}: {n_parameters / 1e6:.2f} million weights")


def decode(
    weights: Annotated[
        list[str],
        typer.Argument(help="Weights to compare: folders or names.", metavar="WEIGHTS...", show_default=False),
    ],
    layers: Annotated[
        list[str] | None, typer.Option("--layer", help="Layer to read; default: the five pools, fc6.")
    ] = None,
    *,
    n_clips: Annotated[int, typer.Option("--clips", min=50, help="Generated clips to read from.")] = 600,
    frames: Annotated[
        str, typer.Option("--frames", help="'in order', or a control: 'shuffled', 'one repeated'.")
    ] = "in order",
    out: Annotated[Path | None, typer.Option("--out", help="CSV file for the table; default: stdout.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Read motion and look of generated clips off every layer, linearly."""
    import csv
    import sys
    from contextlib import nullcontext
    from dataclasses import asdict

    from c3dvideo.probing.readout import as_frames, decode_labels
    from c3dvideo.weights.load import load_weights

    wanted = layers or ["pool1", "pool2", "pool3", "pool4", "pool5", "fc6"]
    rows = [
        {"weights": name, "frames": frames, **asdict(row)}
        for name in weights
        for row in decode_labels(load_weights(name), layers=wanted, n_clips=n_clips, frames=as_frames(frames))
    ]
    if as_json:
        print_json(rows)
        return
    with out.open("w", newline="", encoding="utf-8") if out else nullcontext(sys.stdout) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(synthesize)
    app.command()(pretrain)
    app.command("decode-labels")(decode)
