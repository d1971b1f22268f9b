"""`c3dvideo probe`: fit a linear SVM on stored features, and score one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c3dvideo.choices import LARGEST_SEED
from c3dvideo.cli.needs import is_picture
from c3dvideo.cli.output import note, print_json
from c3dvideo.errors import UsageError

if TYPE_CHECKING:
    from c3dvideo.probing.labelled import Labelled

Features = Annotated[
    list[Path],
    typer.Argument(
        help="Folders that `c3dvideo extract` wrote, or other features per video: a folder of .npy, a .csv, an .npy. "
        "Several are concatenated.",
        show_default=False,
    ),
]
Labels = Annotated[Path | None, typer.Option("--labels", help="CSV path,label[,split][,group].", show_default=False)]
FromFolders = Annotated[
    bool, typer.Option("--labels-from-folders", help="Take the folder of a video as its class; no CSV needed.")
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer", help="Layer to read; once for all FEATURES or once for each.", show_default="fc6, or the only one"
    ),
]
GroupPattern = Annotated[
    str,
    typer.Option(
        "--group-pattern",
        help=r"Regular expression; its first group names the source of a video, e.g. 'v_(\w+_g\d+)_'.",
        show_default="the group column, or customary file names",
    ),
]
Penalty = Annotated[
    float | None,
    typer.Option("--penalty", "-C", help="The SVM's C.", show_default="chosen by cross-validation"),
]
Folds = Annotated[int, typer.Option("--folds", help="Folds of the cross-validation; whole sources are held out.")]
Standardise = Annotated[
    bool,
    typer.Option("--standardise", help="Give every column zero mean and unit variance first (the paper does not)."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Fit and measure linear classifiers on stored features.")
    group.command("fit")(fit)
    group.command("score")(score)
    app.add_typer(group, name="probe")


def fit(
    features: Features,
    *,
    out: Annotated[Path, typer.Option("--out", help="File to write, e.g. probe.npz.")],
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    layer: Layers = None,
    split: Annotated[
        str,
        typer.Option("--split", help="Rows of the labels to use.", show_default="train where there is one, else all"),
    ] = "",
    group_pattern: GroupPattern = "",
    penalty: Penalty = None,
    folds: Folds = 5,
    standardise: Standardise = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a linear SVM (one against the rest) on the mean, L2-normalised descriptor of every video."""
    from c3dvideo.probing.probe import fit_probe

    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; a probe is one file, such as {out / 'probe.npz'}")
    labelled = read_and_note(features, labels, labels_from_folders, layer, group_pattern)
    labelled = labelled.preferred_part(split, ["train"])
    probe = fit_probe(labelled, penalty=penalty, folds=folds, standardise=standardise, seed=seed)
    probe.save(out)
    if as_json:
        description = {"probe": str(out), "classes": probe.classes, "penalty": probe.penalty, **probe.fitted_on}
        print_json({**description, "cross_validation": probe.accuracies})
        return
    for tried, accuracy in probe.accuracies.items():
        note(f"C = {tried:<8g} accuracy {accuracy:.3f} over {probe.fitted_on['folds']} folds")
    typer.echo(
        f"{out}: {len(probe.classes)} classes from {probe.fitted_on['n_videos']} videos of "
        f"{probe.fitted_on['n_groups']} sources, {' + '.join(probe.layers)}, C = {probe.penalty:g}"
    )


def score(
    features: Features,
    *,
    probe: Annotated[Path, typer.Option("--probe", help="File that `probe fit` wrote.")],
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    layer: Layers = None,
    split: Annotated[
        str, typer.Option("--split", help="Rows of the labels to use.", show_default="test, else val, else all")
    ] = "",
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw the confusion matrix (.png or .svg).", callback=is_picture),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a probe: its accuracy, overall and per class, and the confusion matrix."""
    import numpy as np

    from c3dvideo.plots import draw_confusion
    from c3dvideo.probing.probe import Probe
    from c3dvideo.probing.probe_score import score_probe, score_text

    fitted = Probe.load(probe)
    if len(features) != len(fitted.parts):
        raise UsageError(f"{probe} was fitted on {len(fitted.parts)} sources side by side; {len(features)} are given")
    labelled = read_and_note(features, labels, labels_from_folders, layer or list(fitted.layers), "")
    report = score_probe(fitted, labelled.preferred_part(split, ["test", "val"]))
    report |= {"unlabelled": labelled.unlabelled, "featureless": labelled.featureless}
    if picture is not None:
        draw_confusion(picture, np.array(report["confusion"]), report["classes"])
    if as_json:
        print_json(report)
        return
    typer.echo(score_text(report))


def read_and_note(
    features: list[Path], labels: Path | None, from_folders: bool, layers: list[str] | None, group_pattern: str
) -> "Labelled":
    """Descriptors beside their labels; a note on stderr counts videos that have only one of the two."""
    from c3dvideo.probing.labelled import note_leftovers, read_labelled

    if (labels is None) != from_folders:
        raise UsageError("there are no labels: give --labels LABELS.csv or --labels-from-folders")
    labelled = read_labelled(features, labels=labels, layers=layers or (), group_pattern=group_pattern)
    for line in note_leftovers(labelled):
        note(f"note: {line}")
    return labelled
