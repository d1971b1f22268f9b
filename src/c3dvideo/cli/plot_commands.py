"""`c3dvideo plot`: pictures of what the other commands wrote."""

from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.choices import MapMethod
from c3dvideo.cli.needs import exists, is_picture
from c3dvideo.cli.output import print_json
from c3dvideo.cli.probe_commands import AsJson, FromFolders, Labels, Seed, read_and_note
from c3dvideo.counts import count
from c3dvideo.errors import UsageError

Out = Annotated[Path, typer.Option("--out", help="Picture to write: .png or .svg.", callback=is_picture)]
Title = Annotated[str, typer.Option("--title", help="Title above the picture.", show_default="none")]
Layer = Annotated[str, typer.Option("--layer", help="Layer to read.", show_default="fc6, or the only one")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Draw what the other commands wrote, as PNG or SVG.")
    for name, command in (
        ("map", plot_map),
        ("confusion", confusion),
        ("compactness", compactness),
        ("training", training),
        ("similarity", similarity),
        ("timeline", timeline),
    ):
        group.command(name)(command)
    app.add_typer(group, name="plot")


def plot_map(
    source: Annotated[
        Path,
        typer.Argument(
            help="map.csv that `c3dvideo evaluate map` wrote, or a folder of features.",
            show_default=False,
            callback=exists,
        ),
    ],
    *,
    out: Out,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    method: Annotated[MapMethod, typer.Option("--method", help="Projection of a folder of features.")] = "tsne",
    layer: Layer = "",
    seed: Seed = 0,
    title: Title = "",
    as_json: AsJson = False,
) -> None:
    """Draw a map of videos coloured by class. Of a folder of features, the map is computed first."""
    from c3dvideo.evaluation import result_plots

    if source.is_dir():
        from c3dvideo.evaluation.feature_map import project, write_map

        labelled = read_and_note([source], labels, labels_from_folders, [layer] if layer else None, "")
        points = project(labelled.matrix, method=method, seed=seed)
        write_map(labelled, points, out, title=title)
        _finish(out, len(points), "point", as_json)
        return
    if labels is not None or labels_from_folders:
        raise UsageError(f"{source} has its own labels; --labels and --labels-from-folders need a folder of features")
    _finish(out, result_plots.plot_map(source, out, title=title), "point", as_json)


def confusion(
    source: Annotated[
        Path,
        typer.Argument(
            help="Run folder of `c3dvideo train`, report (folder or JSON), or CSV of counts.",
            show_default=False,
            callback=exists,
        ),
    ],
    *,
    out: Out,
    title: Title = "",
    as_json: AsJson = False,
) -> None:
    """Draw a confusion matrix, with the name of every class."""
    from c3dvideo.evaluation import result_plots

    _finish(out, result_plots.plot_confusion(source, out, title=title), "class", as_json)


def compactness(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Reports of `c3dvideo evaluate compactness` (folders, JSON or CSV).",
            show_default=False,
            callback=exists,
        ),
    ],
    *,
    out: Out,
    title: Title = "",
    as_json: AsJson = False,
) -> None:
    """Draw accuracy over dimensions, one curve per report, beside the paper's Figure 5."""
    from c3dvideo.evaluation import result_plots

    _finish(out, result_plots.plot_compactness(sources, out, title=title), "curve", as_json)


def training(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Run folders of `c3dvideo train`, or their log.csv.", show_default=False, callback=exists),
    ],
    *,
    out: Out,
    title: Title = "",
    as_json: AsJson = False,
) -> None:
    """Draw accuracy and loss of a training run, or the validation accuracy of several."""
    from c3dvideo.evaluation import result_plots

    _finish(out, result_plots.plot_training(sources, out, title=title), "epoch", as_json)


def similarity(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="One or two feature files (.npz), a folder of features, or similarity.json.",
            show_default=False,
            callback=exists,
        ),
    ],
    *,
    out: Out,
    layer: Layer = "",
    centre: Annotated[bool, typer.Option("--centre", help="Subtract the mean vector before comparing.")] = False,
    title: Title = "",
    as_json: AsJson = False,
) -> None:
    """Draw cosines: of two videos clip by clip, or of all videos of a folder; of similarity.json, the ROC curve."""
    from c3dvideo.evaluation import result_plots

    n_rows = result_plots.plot_similarity(sources, out, layer=layer, centre=centre, title=title)
    _finish(out, n_rows, "row", as_json)


def timeline(
    source: Annotated[
        Path,
        typer.Argument(
            help="What `c3dvideo predict --json`, `segment --json` or `watch` printed, as a file.",
            show_default=False,
            callback=exists,
        ),
    ],
    *,
    out: Out,
    title: Title = "",
    as_json: AsJson = False,
) -> None:
    """Draw the classes, or the segments, of videos along their time."""
    from c3dvideo.evaluation import result_plots

    _finish(out, result_plots.plot_timeline(source, out, title=title), "video", as_json)


def _finish(out: Path, n: int, noun: str, as_json: bool) -> None:
    if as_json:
        print_json({"picture": str(out), count(2, noun).split(maxsplit=1)[1]: n})
    else:
        typer.echo(f"{out}: {count(n, noun)}")
