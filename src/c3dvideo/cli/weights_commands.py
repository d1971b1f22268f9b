"""`c3dvideo weights`: import published files, check folders, list what there is, publish your own."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.choices import Pool5Order, Port
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note, print_json
from c3dvideo.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Import, check, list and publish weights.")
    group.command("import")(import_)
    group.command("check")(check)
    group.command("list")(list_)
    group.command("publish")(publish)
    group.command("export")(export)
    app.add_typer(group, name="weights")


def _exists_or_name(value: str) -> str:
    """The name of published or the embedded weights, or a path that exists."""
    from c3dvideo.weights.published import EMBEDDED_ENTRY, PUBLISHED

    names = [EMBEDDED_ENTRY.name, *(entry.name for entry in PUBLISHED.values() if entry.is_network and entry.fetchable)]
    return value if value in names else str(exists(value))


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
    folder: Annotated[
        str,
        typer.Argument(
            help="Weights folder, or a name from `c3dvideo weights list`.", show_default=False, callback=_exists_or_name
        ),
    ],
    *,
    against: Annotated[
        Path | None, typer.Option("--against", help="Another weights folder that must hold the same arrays.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify shapes, finite values and the fingerprint of every array; exit code 1 when anything is wrong."""
    from c3dvideo.weights.check_weights import check_folder
    from c3dvideo.weights.load import weights_folder

    report = check_folder(folder if Path(folder).exists() else weights_folder(folder) or folder, against=against)
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


def publish(
    folder: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    *,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Weights folder, hub id, or published name.", show_default="embedded"),
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option("--repo", help="Also upload to this hub id, owner/name.", show_default="upload nothing"),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence, such as apache-2.0.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="What the network was trained on.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="A measured figure, as in 'UCF101 split 1, video@1=0.82'; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a folder with a model card that a model hub shows, and upload it when `--repo` is given."""
    from c3dvideo.weights.load import load_weights
    from c3dvideo.weights.publish import publish as write

    network = load_weights(weights)
    figures = dict(_figure(text) for text in metric or ())
    address = write(network, folder, repo=repo, private=private, licence=licence, data=data, metrics=figures)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    if as_json:
        print_json({"folder": str(folder), "files": files, "address": address})
    else:
        typer.echo(f"{folder}: {', '.join(files)}")
        typer.echo(address or "nothing was uploaded; give --repo owner/name to upload it")


def export(
    weights: Annotated[str, typer.Argument(help="Weights folder, hub id, or published name.", show_default=False)],
    *,
    to: Annotated[Port, typer.Option("--to", help="Project whose names the arrays take.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="File to write, for torch.load.", show_default=False)],
) -> None:
    """Write a state dict under the names of another PyTorch project, which its own load_state_dict takes.

    Other projects prepare pixels differently; their features differ from these unless they use this profile and pool5.
    """
    from c3dvideo.weights.formats.pickles import write_torch
    from c3dvideo.weights.formats.port_names import port_state_dict
    from c3dvideo.weights.load import load_weights

    network = load_weights(weights)
    arrays = port_state_dict(network, to)
    write_torch(arrays, out)
    typer.echo(f"{out}: {len(arrays)} arrays under the names of {to}")
    note(f"profile {network.profile.name}, pool5 {network.architecture['pool5']}: keep both when you use this file")


def _figure(text: str) -> tuple[str, float | str]:
    """The name and the value of "name=value"."""
    name, equals, value = text.rpartition("=")
    if not equals or not name.strip():
        raise UsageError(f"`metric=` is {text!r}; expected NAME=VALUE")
    try:
        return name.strip(), float(value)
    except ValueError:
        return name.strip(), value.strip()
