"""`c3dvideo export`: a network as one file that other runtimes load."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c3dvideo.choices import ExportFormat
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note, print_json
from c3dvideo.extras import require_extra

if TYPE_CHECKING:
    from c3dvideo.weights.export_check import ExportCheck


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def _runtime(value: ExportFormat) -> ExportFormat:
    """A callback that checks for the runtime of the format."""
    if value in ("onnx", "openvino"):
        require_extra("onnx" if value == "onnx" else "openvino")
    return value


def export(
    *,
    out: Annotated[Path, typer.Option("--out", help="File to write: .onnx, .xml, .pt2 or .pt.", show_default=False)],
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="Weights folder, hub id, or a name from `c3dvideo weights list`.",
            show_default="embedded",
        ),
    ] = None,
    to: Annotated[ExportFormat, typer.Option("--to", help="Format of the file.", callback=_runtime)] = "onnx",
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Output of the file; repeatable.", show_default="fc6")
    ] = None,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing", help="Take uint8 RGB frames (N, 16, H, W, 3) as decoded, and resize them inside."
        ),
    ] = False,
    int8: Annotated[
        list[str] | None,
        typer.Option(
            "--int8",
            help="onnx: 8-bit integers, calibrated with clips of these videos; repeatable.",
            show_default=False,
            callback=exists,
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="How pixels become network input.", show_default="that of the weights"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare the file with PyTorch and measure its speed.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write the network up to a layer as one file for ONNX Runtime, OpenVINO, or PyTorch without this package.

    The input is `clips`: float32 (N, 3, 16, 112, 112) with the mean subtracted, or frames. The outputs have the names
    of the layers. What is printed: the largest difference to PyTorch, and seconds per clip.
    """
    from c3dvideo.features.prepare_network import prepare_network
    from c3dvideo.weights.calibration import calibration_clips
    from c3dvideo.weights.export import export as write
    from c3dvideo.weights.export_check import check_export

    network = prepare_network(weights, profile)
    layers = network.check_layers(layer or ["fc6"])
    clips = calibration_clips(network, int8, with_preprocessing=with_preprocessing, note=note) if int8 else None
    write(network, out, to=to, layers=layers, with_preprocessing=with_preprocessing, calibration=clips)
    checked = check_export(network, out, to=to, layers=layers, with_preprocessing=with_preprocessing) if check else None
    if as_json:
        print_json({"out": str(out), "to": to, "layers": layers} | (asdict(checked) if checked else {}))
    else:
        typer.echo(f"{out}: {', '.join(layers)}, {out.stat().st_size / 1e6:.1f} MB")
        if checked:
            _print_check(checked)


def _print_check(check: "ExportCheck") -> None:
    from rich.console import Console
    from rich.table import Table

    differences = Table("clips", "layer", "largest difference", "largest value", "relative L2", box=None)
    for one in check.differences:
        numbers = (f"{one.largest:.1e}", f"{one.largest_value:.2f}", f"{one.relative:.1e}")
        differences.add_row(one.clips, one.layer, *numbers)
    speeds = Table("computed by", "seconds per clip", "clips per second", box=None)
    for speed in check.speeds:
        speeds.add_row(speed.name, f"{speed.seconds_per_clip:.4f}", f"{1 / speed.seconds_per_clip:.1f}")
    console = Console(soft_wrap=True)
    console.print(differences)
    console.print(speeds)
