"""`c3dvideo convert`: stored features as the files that other projects read."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.choices import CropLayout, Format, Rounding
from c3dvideo.cli.output import note, print_json
from c3dvideo.counts import count


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert")(convert)


def convert(
    features: Annotated[
        Path,
        typer.Argument(
            help="Folder that `c3dvideo extract` wrote, or shards made of it; s3:// too.", show_default=False
        ),
    ],
    *,
    to: Annotated[Format, typer.Option("--to", help="Format to write; docs/formats.md describes each.")],
    out: Annotated[Path, typer.Option("--out", help="File for activitynet, hdf5, parquet and --merge; else a folder.")],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            help="Layer to write where several are stored; caffe, parquet, shards, npz: repeatable, default all.",
        ),
    ] = None,
    keep_suffix: Annotated[
        bool,
        typer.Option("--keep-suffix", help="Name outputs a.mp4..., not a...; tall, parquet, shards and npz always do."),
    ] = False,
    pca: Annotated[
        int | None, typer.Option("--pca", help="activitynet: fit this many components, saved as OUT.pca.npz.")
    ] = None,
    pca_basis: Annotated[
        Path | None, typer.Option("--pca-basis", help="activitynet: project on the components saved in this file.")
    ] = None,
    rounding: Annotated[
        Rounding | None,
        typer.Option(
            "--rounding",
            help="ucf-crime: 32 segments as the Matlab original (default) or the Python port.",
        ),
    ] = None,
    crop_layout: Annotated[
        CropLayout | None,
        typer.Option(
            "--crop-layout", help="crops: one file per crop (xd-violence, default) or one of (T, crops, D) (rtfm)."
        ),
    ] = None,
    span_frames: Annotated[
        list[int] | None,
        typer.Option("--span-frames", help="tall: length of spans, repeatable; default 64 128 256 512, --merge 64."),
    ] = None,
    context: Annotated[
        bool, typer.Option("--context", help="tall: add the 128 frames before and after each span; 3 x D numbers.")
    ] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="tall: one HDF5 file with one data set (spans, D) per video.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that hold something else, such as another layer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write stored features as the files that other projects read.

    Exit code 3 when some videos could not be written in this format; they are listed with the reason.
    """
    from c3dvideo.features.convert import convert as convert_folder
    from c3dvideo.features.default_weights import note_on_features

    summary = convert_folder(
        features,
        to=to,
        out=out,
        layers=layer or (),
        keep_suffix=keep_suffix,
        pca=pca,
        pca_basis=pca_basis,
        rounding=rounding,
        crop_layout=crop_layout,
        span_frames=span_frames,
        context=context,
        merge=merge,
        overwrite=overwrite,
    )
    if as_json:
        print_json(asdict(summary))
    else:
        what = f"{count(summary.n_videos, 'video')}, {count(summary.n_clips, 'clip')}"
        typer.echo(f"{what}: {summary.format} in {summary.out}")
        if summary.pca_basis:
            typer.echo(f"PCA basis: {summary.pca_basis}")
    about_weights = note_on_features(features)
    if about_weights:
        note(about_weights)
    for name, message in summary.failures.items():
        note(f"not written: {name}: {message}")
    if summary.failures:
        raise typer.Exit(3)
