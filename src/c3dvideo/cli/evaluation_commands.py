"""`c3dvideo evaluate`: the paper's protocols beside the published figures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from c3dvideo.choices import Classifier, MapMethod, PostProcessing, PublishedSplits
from c3dvideo.cli.needs import needs
from c3dvideo.cli.output import note, print_json
from c3dvideo.cli.probe_commands import (
    AsJson,
    Features,
    Folds,
    FromFolders,
    GroupPattern,
    Labels,
    Layers,
    Penalty,
    Seed,
    Standardise,
    read_and_note,
)
from c3dvideo.cli.training_commands import depth

Folder = Annotated[Path, typer.Argument(help="Folder that `c3dvideo extract` wrote.", show_default=False)]
Layer = Annotated[str, typer.Option("--layer", help="Layer to read.", show_default="fc6, or the only one")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder for the report (JSON), tables and pictures.", show_default=False)
]
OutWithPictures = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder for the report (JSON), tables and pictures.", show_default=False, callback=needs("plots")
    ),
]
PostProcessingOption = Annotated[
    PostProcessing,
    typer.Option(
        "--post-processing", help="'centre' subtracts a mean descriptor before comparing; see docs/evaluation.md."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Run the paper's protocols on stored features.")
    for command in (recognition, retrieval, similarity, scenes, objects, compactness, depth):
        group.command()(command)
    group.command("map")(draw_map)
    app.add_typer(group, name="evaluate")


def recognition(
    features: Features,
    *,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    official: Annotated[
        PublishedSplits | None,
        typer.Option(
            "--official", help="Take labels and the three splits from the data set's own files.", show_default=False
        ),
    ] = None,
    splits: Annotated[
        Path | None, typer.Option("--splits", help="Folder of those split files.", show_default=False)
    ] = None,
    by: Annotated[
        Classifier, typer.Option("--by", help="Classify by a linear SVM on descriptors, or by the network's prob.")
    ] = "svm",
    layer: Layers = None,
    n_clips: Annotated[
        int, typer.Option("--clips", min=0, help="With --by network: random clips per video (Sports-1M: 10); 0 is all.")
    ] = 10,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes",
            help="With --by network: class names in output order, as a file with one per line or a weights folder.",
            show_default="the labels, sorted",
        ),
    ] = None,
    group_pattern: GroupPattern = "",
    penalty: Penalty = None,
    folds: Folds = 5,
    standardise: Standardise = False,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure action recognition: clip@1, video@1 and video@5 (Tables 2 and 3).

    Averaged over the official splits, or by the split of the labels, or over folds of whole sources. video@5 needs ten
    classes or more.
    """
    from c3dvideo.evaluation import action_recognition as protocol
    from c3dvideo.evaluation.official_splits import read_official_splits

    if official is None:
        parts = [read_and_note(features, labels, labels_from_folders, layer, group_pattern)]
    else:
        parts = read_official_splits(features, official, splits=splits, layers=layer or (), note=note)
    report = protocol.evaluate_recognition(
        parts,
        features,
        by=by,
        classes=classes,
        n_clips=n_clips or None,
        penalty=penalty,
        folds=folds,
        standardise=standardise,
        seed=seed,
    )
    _finish(report, out, as_json)


def retrieval(
    features: Features,
    *,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    layer: Layers = None,
    group_pattern: GroupPattern = "",
    post_processing: PostProcessingOption = "none",
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="Folder of features that gives the mean.", show_default="FEATURES"),
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval across sources: whether a video finds other videos of its class by the cosine of descriptors.

    Mean average precision and precision at 1, overall and per class, beside a random ranking. Nothing is trained.
    """
    from c3dvideo.evaluation.retrieval import evaluate_retrieval
    from c3dvideo.probing.reference import read_reference

    labelled = read_and_note(features, labels, labels_from_folders, layer, group_pattern)
    mean = None if reference is None else read_reference(reference, labelled.parts[0].layer).mean
    _finish(evaluate_retrieval(labelled, post_processing=post_processing, mean=mean, seed=seed), out, as_json)


def similarity(
    features: Folder,
    *,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="ASLAN's View2.mat, or a CSV first,second,same,fold.", show_default=False),
    ] = None,
    layer: Layers = None,
    group_pattern: GroupPattern = "",
    folds: Annotated[int, typer.Option("--folds", help="Folds of drawn pairs; no two share a class.")] = 10,
    pairs_per_fold: Annotated[
        int, typer.Option("--pairs-per-fold", min=2, help="Drawn pairs per fold, half of them of one class.")
    ] = 600,
    penalty: Annotated[float, typer.Option("--penalty", "-C", help="The SVM's C.")] = 1.0,
    seed: Seed = 0,
    out: OutWithPictures = None,
    as_json: AsJson = False,
) -> None:
    """Measure action similarity: whether two videos show the same action, by the ASLAN protocol (Table 4).

    Twelve similarities per layer and a linear SVM; accuracy +- standard error and the area under the ROC curve. Pairs
    are those of --pairs, or are drawn from labelled videos. The layers are those of prob, fc7, fc6, pool5 that are
    stored.
    """
    from c3dvideo.evaluation import action_similarity as protocol

    if pairs is not None:
        report = protocol.evaluate_published(features, pairs, layers=layer or (), penalty=penalty, note=note)
    else:
        found = {
            name: read_and_note([features], labels, labels_from_folders, [name], group_pattern)
            for name in layer or protocol.stored_layers(features)
        }
        report = protocol.evaluate_labelled(
            found, folds=folds, pairs_per_fold=pairs_per_fold, penalty=penalty, seed=seed
        )
    _finish(report, out, as_json)


def scenes(
    features: Features,
    *,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    layer: Layers = None,
    group_pattern: GroupPattern = "",
    penalty: Penalty = None,
    seed: Seed = 0,
    out: OutWithPictures = None,
    as_json: AsJson = False,
) -> None:
    """Measure scene recognition: every source tested by a linear SVM of all others (YUPENN, Maryland; Table 5)."""
    from c3dvideo.evaluation.scene_recognition import evaluate_scenes

    labelled = read_and_note(features, labels, labels_from_folders, layer, group_pattern)
    _finish(evaluate_scenes(labelled, penalty=penalty, seed=seed), out, as_json)


def objects(
    features: Folder,
    *,
    frame_labels: Annotated[
        Path,
        typer.Option(
            "--frame-labels",
            help="A folder <train|test>/<video>.txt with one label per line and one line per frame, or a CSV "
            "path,start_frame,end_frame,label,split.",
        ),
    ],
    layer: Layer = "",
    penalty: Penalty = None,
    folds: Folds = 5,
    seed: Seed = 0,
    out: OutWithPictures = None,
    as_json: AsJson = False,
) -> None:
    """Measure object recognition, window by window, on the data set's own split (section 6).

    A window of 16 frames has the most frequent label of its frames; a window in which that label covers fewer than 8
    frames is left out.
    """
    from c3dvideo.datasets.annotations import read_frame_labels
    from c3dvideo.evaluation.object_recognition import evaluate_objects

    report = evaluate_objects(
        features, read_frame_labels(frame_labels), layer=layer, penalty=penalty, folds=folds, seed=seed
    )
    _finish(report, out, as_json)
    note(f"{report['n']} test windows; {report['n_dropped']} windows without an object are left out")


def compactness(
    features: Features,
    *,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    dimensions: Annotated[
        list[int] | None,
        typer.Option("--dimensions", help="Dimensions to keep; repeatable.", min=1, show_default="10, 50, 100, 500"),
    ] = None,
    layer: Layers = None,
    group_pattern: GroupPattern = "",
    penalty: Penalty = None,
    folds: Folds = 5,
    seed: Seed = 0,
    out: OutWithPictures = None,
    as_json: AsJson = False,
) -> None:
    """Measure the accuracy after PCA to few dimensions: the curve of Figure 5 as table, CSV and picture."""
    from c3dvideo.evaluation import compactness as protocol

    labelled = read_and_note(features, labels, labels_from_folders, layer, group_pattern)
    report = protocol.evaluate_compactness(
        labelled, dimensions=dimensions or protocol.DIMENSIONS, penalty=penalty, folds=folds, seed=seed
    )
    _finish(report, out, as_json)


def draw_map(
    features: Features,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Picture to write (.png or .svg; its table lies beside it), or a folder for map.png and map.csv.",
            callback=needs("plots"),
        ),
    ],
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    method: Annotated[MapMethod, typer.Option("--method", help="Projection to the plane.")] = "tsne",
    n_clips: Annotated[
        int, typer.Option("--clips", min=0, help="Random clips to draw; 0 draws one point per video.")
    ] = 0,
    layer: Layers = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Draw a map of descriptors coloured by class, in which similar videos lie close together (Figure 6)."""
    from c3dvideo.evaluation.feature_map import check_map_path, project, random_clips, write_map

    check_map_path(out)
    labelled = read_and_note(features, labels, labels_from_folders, layer, "")
    if n_clips:
        labelled = random_clips(features[0], labelled, n_clips=n_clips, seed=seed)
    points = project(labelled.matrix, method=method, seed=seed)
    picture, table = write_map(labelled, points, out)
    if as_json:
        print_json({"task": "map", "method": method, "n_points": len(points), "picture": str(picture)})
    else:
        typer.echo(f"{len(points)} points: {picture}, {table}")


def _finish(report: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Print the report, then write it: what was measured is not lost when a disk is full."""
    from c3dvideo.evaluation.evaluation_report import report_text, write_report

    if as_json:
        print_json(report)
    else:
        typer.echo(report_text(report))
    if out is not None:
        write_report(report, out)
