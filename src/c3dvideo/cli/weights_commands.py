"""`c3dvideo weights`: import published files, check folders, list what there is."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.choices import Pool5Order
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note, print_json

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Import, check and list weights.")
    group.command("import")(import_)
    group.command("check")(check)
    group.command("list")(list_)
    app.add_typer(group, name="weights")


def import_(
    file: Annotated[
        Path, typer.Argument(help="Weights file of any published format.", show_default=False, callback=exists)
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Weights folder to write.")],
    mean: Annotated[Path | None, typer.Option("--mean", help="Mean volume: .binaryproto, .npy or .npy.bz2.")] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Profile to use instead of the one that belongs to the file.")
    ] = None,
    classes: Annotated[Path | None, typer.Option("--classes", help="File of class names, one per line.")] = None,
    fc6_rows: Annotated[
        Pool5Order | None,
        typer.Option("--fc6-rows", help="Order of the rows of wd1 in a TensorFlow file, where it is not hwc."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert published weights (Caffe, PyTorch, Lasagne, Keras, TensorFlow, ONNX) to a weights folder."""
    from c3dvideo.network.folder import fingerprint, save_folder
    from c3dvideo.weights.import_weights import import_weights

    network = import_weights(file, mean=mean, profile=profile, classes=classes, fc6_rows=fc6_rows)
    save_folder(network, out)
    for line in network.provenance["notes"]:
        note(f"note: {line}")
    summary = {
        "out": str(out),
        "layout": network.provenance["layout"],
        "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "num_classes": network.architecture["num_classes"],
        "profile": network.profile.name,
        "pool5": network.architecture["pool5"],
        "fingerprint": fingerprint(network),
        "notes": network.provenance["notes"],
    }
    if as_json:
        print_json(summary)
    else:
        typer.echo(
            f"{out}: {summary['layout']}, {summary['n_parameters']:,} parameters, {summary['num_classes']} classes, "
            f"profile {summary['profile']}, pool5 {summary['pool5']}, fingerprint {summary['fingerprint'][:16]}"
        )


def check(
    folder: Annotated[Path, typer.Argument(help="Weights folder.", show_default=False, callback=exists)],
    *,
    against: Annotated[
        Path | None, typer.Option("--against", help="Another weights folder that must hold the same arrays.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify shapes, finite values and the fingerprint of every array; exit code 1 when anything is wrong."""
    from c3dvideo.weights.check_weights import check_folder

    report = check_folder(folder, against=against)
    if as_json:
        print_json(asdict(report))
    else:
        for array in report.arrays:
            shape = "x".join(map(str, array.shape))
            typer.echo(f"{array.name:<16} {shape:<18} {array.mean:>12.5g} {array.std:>12.5g}  {array.sha256[:16]}")
        for fault in report.faults:
            typer.echo(f"wrong: {fault}")
        verdict = f"{len(report.faults)} faults" if report.faults else f"whole, fingerprint {report.fingerprint}"
        typer.echo(f"{folder}: {report.n_parameters:,} parameters, profile {report.profile}: {verdict}")
    if report.faults:
        raise typer.Exit(1)


def list_(*, as_json: Json = False) -> None:
    """List the embedded weights and the published files: where they are, what is known of them, their licences."""
    from c3dvideo.weights.published import EMBEDDED_ENTRY, PUBLISHED

    if as_json:
        print_json([asdict(entry) for entry in (EMBEDDED_ENTRY, *PUBLISHED.values())])
        return
    typer.echo(f"{EMBEDDED_ENTRY.name}: {EMBEDDED_ENTRY.what}")
    typer.echo("    use      the default; --weights embedded")
    typer.echo(f"    licence  {EMBEDDED_ENTRY.licence}")
    for entry in PUBLISHED.values():
        way = (
            "cannot be imported"
            if not entry.importable
            else f"--weights {entry.name}"
            if entry.is_network and entry.fetchable
            else "c3dvideo weights import FILE"
            if entry.is_network
            else "c3dvideo weights import --mean FILE"
        )
        typer.echo(f"{entry.name}: {entry.what}")
        typer.echo(f"    use      {way}")
        typer.echo(f"    size     {f'{entry.size:,} bytes' if entry.size else 'not published'}")
        typer.echo(f"    hash     {f'{entry.hash.kind} {entry.hash.digits}' if entry.hash else 'not published'}")
        typer.echo(f"    licence  {entry.licence}")
        for url in entry.urls:
            typer.echo(f"    url      {url}")
