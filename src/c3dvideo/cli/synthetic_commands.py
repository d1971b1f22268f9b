"""`c3dvideo synthesize`, `pretrain` and `decode-labels`: generated clips, and weights trained on them alone."""

from pathlib import Path
from typing import Annotated, Any

import typer

from c3dvideo.choices import LARGEST_SEED, FrameOrder
from c3dvideo.cli.output import print_json
from c3dvideo.cli.setting_options import with_settings
from c3dvideo.errors import UsageError
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings


def synthesize(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for the videos and labels.csv.")],
    task: Annotated[
        str,
        typer.Option(
            "--task",
            help="'everyday': eight classes of everyday motion. 'all': clips with every label. Or one task, such as "
            "rotation, frequency or colour: clips with that label; touch, tool, shot or hair show people.",
        ),
    ] = "everyday",
    n_clips: Annotated[int, typer.Option("--clips", min=1, help="Videos to write.")] = 64,
    n_frames: Annotated[
        int | None, typer.Option("--frames", help="Frames per video.", show_default="50 everyday, else 16")
    ] = None,
    height: Annotated[int, typer.Option("--height", help="Pixels; a multiple of 8.")] = 120,
    width: Annotated[int, typer.Option("--width", help="Pixels; a multiple of 8.")] = 160,
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed.")] = 0,
) -> None:
    """Write generated videos and a table of their labels, for tests, demonstrations and teaching."""
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


def _default(name: str) -> str:
    return str(getattr(PretrainSettings(), name))


@with_settings(PretrainSettings, defaults=_default)
def pretrain(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an unfinished one is continued.")],
    full_width: Annotated[
        bool, typer.Option("--full-width", help="The paper's widths (64 to 512, fc 4096); needs a GPU.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    **settings: Any,
) -> None:
    """Train a network on generated clips only and write a weights folder.

    The start of the embedded weights was made with --still-steps 1500 --steps 2500.
    """
    from c3dvideo.network.c3d import STAGES
    from c3dvideo.training.pretraining.pretraining_run import pretrain as run

    widths: dict[str, Any] = {"stages": STAGES, "fc_width": 4096} if full_width else {}
    network = run(out, settings=PretrainSettings(**widths, **settings), device=device)
    weights = out / "weights"
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    if as_json:
        print_json({"weights": str(weights), "parameters": n_parameters, "classes": list(network.classes)})
    else:
        typer.echo(f"{weights}: {n_parameters / 1e6:.2f} million weights")


def decode(
    weights: Annotated[
        list[str],
        typer.Argument(help="Folders or names of weights to compare.", metavar="WEIGHTS...", show_default=False),
    ],
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Layer to read; repeatable.", show_default="the five pools and fc6"),
    ] = None,
    *,
    n_clips: Annotated[int, typer.Option("--clips", min=50, help="Number of generated clips.")] = 600,
    frames: Annotated[
        FrameOrder, typer.Option("--frames", help="'in order', or a control: 'shuffled', 'one repeated'.")
    ] = "in order",
    out: Annotated[Path | None, typer.Option("--out", help="CSV file for the table.", show_default="stdout")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Fit linear classifiers of motion and appearance of generated clips on each layer, and print their accuracies."""
    import csv
    import sys
    from contextlib import nullcontext
    from dataclasses import asdict

    from c3dvideo.files import atomic_text
    from c3dvideo.probing.readout import decode_labels
    from c3dvideo.weights.load import load_weights

    wanted = layers or ["pool1", "pool2", "pool3", "pool4", "pool5", "fc6"]
    rows = [
        {"weights": name, "frames": frames, **asdict(row)}
        for name in weights
        for row in decode_labels(load_weights(name), layers=wanted, n_clips=n_clips, frames=frames)
    ]
    if as_json:
        print_json(rows)
        return
    with atomic_text(out) if out else nullcontext(sys.stdout) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(synthesize)
    app.command()(pretrain)
    app.command("decode-labels")(decode)
