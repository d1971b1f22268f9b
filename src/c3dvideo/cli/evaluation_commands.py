"""`c3dvideo evaluate`: the paper's protocols, each beside the published figures; and `c3dvideo similar`."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from c3dvideo.choices import Classifier, MapMethod, PublishedSplits
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
from c3dvideo.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from c3dvideo.probing.descriptors import Labelled

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


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="The paper's protocols on stored features, beside its figures.")
    for command in (recognition, similarity, scenes, objects, compactness, depth, draw_map):
        group.command("map" if command is draw_map else command.__name__)(command)
    app.add_typer(group, name="evaluate")
    app.command("similar")(similar)


def recognition(
    features: Features,
    *,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    official: Annotated[
        PublishedSplits | None,
        typer.Option(
            "--official", help="Labels and the three splits from the data set's own files.", show_default=False
        ),
    ] = None,
    splits: Annotated[
        Path | None, typer.Option("--splits", help="Folder of those split files.", show_default=False)
    ] = None,
    by: Annotated[Classifier, typer.Option("--by", help="Descriptor + linear SVM, or the network's own prob.")] = "svm",
    layer: Layers = None,
    n_clips: Annotated[
        int, typer.Option("--clips", min=0, help="network: random clips a video, as on Sports-1M; 0 takes all.")
    ] = 10,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes",
            help="network: class names in output order, a file with one a line or a weights folder.",
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
    """Clip@1, video@1 and video@5, averaged over the official splits, the labels' own split, or folds of sources."""
    from c3dvideo.evaluation import action_recognition as protocol

    if official is None:
        parts = [read_and_note(features, labels, labels_from_folders, layer, group_pattern)]
    else:
        parts = _official(features, layer, official, splits)
    if by == "network":
        tested = [labelled.preferred_part("", ["test", "val"]) for labelled in parts]
        reports = [
            protocol.evaluate_predictions(
                features[0],
                each.examples,
                _class_names(classes, each.labels.tolist()),
                n_clips=n_clips or None,
                seed=seed,
            )
            for each in tested
        ]
    else:
        reports = [
            protocol.evaluate_descriptors(
                protocol.partitions(labelled, folds=folds, seed=seed),
                clip_folder=features[0] if len(features) == 1 and features[0].is_dir() else None,
                penalty=penalty,
                folds=folds,
                standardise=standardise,
                seed=seed,
            )
            for labelled in parts
        ]
    report = protocol.average(reports)
    _finish(report, protocol.METRICS, out, as_json)


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
    folds: Annotated[int, typer.Option("--folds", help="Folds of generated pairs; no two share a class.")] = 10,
    pairs_per_fold: Annotated[int, typer.Option("--pairs-per-fold", min=2, help="Half same, half not.")] = 600,
    penalty: Annotated[float, typer.Option("--penalty", "-C", help="The SVM's C.")] = 1.0,
    seed: Seed = 0,
    out: OutWithPictures = None,
    as_json: AsJson = False,
) -> None:
    """Do two videos show the same action? 12 similarities a layer, a linear SVM, accuracy +- standard error, AUC.

    Pairs come from --pairs, or are drawn from labelled videos. Layers are those of prob, fc7, fc6, pool5 that are
    stored.
    """
    from c3dvideo.datasets.layouts import read_aslan
    from c3dvideo.evaluation import action_similarity as protocol
    from c3dvideo.plots import draw_roc
    from c3dvideo.probing.descriptors import read_descriptors

    chosen = layer or protocol.stored_layers(features)
    if pairs is not None:
        tables = {name: read_descriptors([features], layers=[name]) for name in chosen}
        names = next(iter(tables.values())).names
        made, missing = protocol.published_pairs(read_aslan(pairs), names)
        if missing:
            note(f"note: {len(missing)} videos of the pairs have no features: {', '.join(missing[:3])}")
        matrices = {name: table.matrix for name, table in tables.items()}
    else:
        found = {name: read_and_note([features], labels, labels_from_folders, [name], group_pattern) for name in chosen}
        made = protocol.generate_pairs(found[chosen[0]], folds=folds, pairs_per_fold=pairs_per_fold, seed=seed)
        matrices = {name: labelled.matrix for name, labelled in found.items()}
    report = protocol.evaluate_pairs(protocol.pair_vectors(matrices, made), made, layers=chosen, penalty=penalty)
    if out is not None:
        curve = report["roc"]
        label = f"ours, AUC {report['auc']:.3f}"
        draw_roc(out / "roc.png", {label: (curve["false_positive"], curve["true_positive"])})
    _finish(report, ("accuracy", "auc"), out, as_json)
    if not as_json:
        typer.echo(
            f"accuracy {report['accuracy']:.3f} +- {report['standard_error']:.3f} over {report['n_folds']} folds"
        )


def scenes(
    features: Features,
    *,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    layer: Layers = None,
    penalty: Penalty = None,
    seed: Seed = 0,
    out: OutWithPictures = None,
    as_json: AsJson = False,
) -> None:
    """Leave-one-out accuracy of a linear SVM: YUPENN, Maryland, or any labelled videos."""
    from c3dvideo.evaluation.scene_recognition import evaluate_scenes

    labelled = read_and_note(features, labels, labels_from_folders, layer, "")
    report = evaluate_scenes(labelled, penalty=penalty, seed=seed)
    _draw_confusion(report, out)
    _finish(report, ("accuracy",), out, as_json)


def objects(
    features: Folder,
    *,
    frame_labels: Annotated[
        Path,
        typer.Option(
            "--frame-labels",
            help="A folder <train|test>/<video>.txt, a label a line and a line a frame, or a CSV "
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
    """Object in hand, window by window: majority label of 16 frames, windows under 8 dropped, the set's own split."""
    from c3dvideo.datasets.layouts import read_frame_labels
    from c3dvideo.evaluation.object_recognition import evaluate_objects

    if not frame_labels.exists():
        raise UsageError(f"there is no file or folder {frame_labels}; expected labels of frames")
    report = evaluate_objects(
        features, read_frame_labels(frame_labels), layer=layer, penalty=penalty, folds=folds, seed=seed
    )
    _draw_confusion(report, out)
    _finish(report, ("accuracy",), out, as_json)
    note(f"{report['n']} test windows; {report['n_dropped']} windows show no object")


def compactness(
    features: Features,
    *,
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    dimensions: Annotated[
        list[int] | None, typer.Option("--dimensions", help="Repeatable. [default: 10 50 100 500]", min=1)
    ] = None,
    layer: Layers = None,
    group_pattern: GroupPattern = "",
    penalty: Penalty = None,
    folds: Folds = 5,
    seed: Seed = 0,
    out: OutWithPictures = None,
    as_json: AsJson = False,
) -> None:
    """Accuracy after PCA to few dimensions: the curve of the paper's Figure 5, as table, CSV and picture."""
    from c3dvideo.evaluation import compactness as protocol
    from c3dvideo.evaluation.paper import COMPACTNESS_POINTS
    from c3dvideo.plots import draw_curves

    labelled = read_and_note(features, labels, labels_from_folders, layer, group_pattern)
    report = protocol.evaluate_compactness(
        labelled, dimensions=dimensions or protocol.DIMENSIONS, penalty=penalty, folds=folds, seed=seed
    )
    curve = list(zip(report["dimensions"], report["accuracies"], strict=True))
    everything = report["all_dimensions"]
    if out is not None:
        rows = [(d, value, COMPACTNESS_POINTS.get(d, "")) for d, value in [*curve, tuple(everything.values())]]
        _write_csv(out / "compactness.csv", ["dimensions", "accuracy", "published_ucf101"], rows)
        draw_curves(
            out / "compactness.png",
            {"ours": (report["dimensions"], report["accuracies"])},
            references={"C3D, UCF101 (paper, Figure 5)": (list(COMPACTNESS_POINTS), list(COMPACTNESS_POINTS.values()))},
            levels={f"ours, all {everything['dimensions']}": everything["accuracy"]},
            x_label="dimensions after PCA",
            y_label="accuracy",
            log_x=True,
        )
    if not as_json:
        typer.echo("dimensions  ours  published (UCF101, Figure 5)")
        for d, value in curve:
            published = f"{100 * COMPACTNESS_POINTS[d]:5.1f}" if d in COMPACTNESS_POINTS else ""
            typer.echo(f"{d:10d} {100 * value:5.1f}  {published}")
        typer.echo(f"{everything['dimensions']:10d} {100 * everything['accuracy']:5.1f}  (no PCA)")
    _finish(report, (), out, as_json)


def draw_map(
    features: Features,
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for map.png and map.csv.", callback=needs("plots"))],
    labels: Labels = None,
    labels_from_folders: FromFolders = False,
    method: Annotated[MapMethod, typer.Option("--method", help="How to lay the points out.")] = "tsne",
    n_clips: Annotated[
        int, typer.Option("--clips", min=0, help="Draw so many random clips instead of one point a video.")
    ] = 0,
    layer: Layers = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """A map of descriptors coloured by class: similar videos lie close together (the paper's Figure 6)."""
    from c3dvideo.evaluation.feature_map import project, random_clips
    from c3dvideo.plots import draw_scatter

    labelled = read_and_note(features, labels, labels_from_folders, layer, "")
    if n_clips:
        labelled = random_clips(features[0], labelled, n_clips=n_clips, seed=seed)
    points = project(labelled.matrix, method=method, seed=seed)
    draw_scatter(out / "map.png", points, labelled.labels.tolist())
    rows = [(e.path, e.label, x, y) for e, (x, y) in zip(labelled.examples, points.tolist(), strict=True)]
    _write_csv(out / "map.csv", ["path", "label", "x", "y"], rows)
    report = {"task": "map", "method": method, "n_points": len(rows), "picture": str(out / "map.png")}
    if as_json:
        print_json(report)
    else:
        typer.echo(f"{len(rows)} points: {out / 'map.png'}, {out / 'map.csv'}")


def similar(
    first: Annotated[str, typer.Argument(metavar="A", help="A video.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another video.", show_default=False)],
    *,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Weights folder, hub id or published name.", show_default=False),
    ] = None,
    layer: Annotated[list[str] | None, typer.Option("--layer", help="Repeatable. [default: fc6]")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    as_json: AsJson = False,
) -> None:
    """How alike are two videos? The cosine of their descriptors, and the other similarities of the ASLAN protocol."""
    from c3dvideo.evaluation import action_similarity as protocol

    found = protocol.similar(first, second, layers=layer or ["fc6"], weights=weights, device=device)
    if as_json:
        print_json({"a": first, "b": second, "cosine": next(iter(found.values()))["cosine"], "layers": found})
        return
    typer.echo(f"{'':26}" + "".join(f"{name:>12}" for name in found))
    for name in protocol.DISTANCES:
        typer.echo(f"{name:26}" + "".join(f"{values[name]:12.4f}" for values in found.values()))


def _official(features: list[Path], layers: list[str] | None, name: str, splits: Path | None) -> "list[Labelled]":
    """The labelled descriptors of each of the three official splits; one with an empty side is left out and named."""
    from c3dvideo.datasets import layouts
    from c3dvideo.probing.descriptors import join, note_leftovers, read_descriptors

    if splits is None:
        raise UsageError(f"--official {name} needs --splits, the folder of its split files")
    table = read_descriptors(features, layers=layers or ())
    library = layouts.Library("", table.names)
    read = layouts.read_ucf101 if name == "ucf101" else layouts.read_hmdb51
    found = []
    for fold in (1, 2, 3):
        dataset = read(library, splits, fold=fold)
        if dataset.missing:
            note(f"note: split {fold}: {len(dataset.missing)} videos have no features")
        labelled = join(table, dataset)
        for line in note_leftovers(labelled):
            note(f"note: split {fold}: {line}")
        empty = {"train", "test"} - {example.split for example in labelled.examples}
        if empty:
            note(f"note: split {fold} is left out: no {min(empty)} video of it has features")
        else:
            found.append(labelled)
    if not found:
        raise DatasetError(f"no split of {name} has features of both training and test videos in {features[0]}")
    return found


def _class_names(source: Path | None, labels: list[str]) -> list[str]:
    if source is None:
        return sorted(set(labels))
    if source.is_dir():
        from c3dvideo.network.folder import read_config

        return list(read_config(source)["classes"])
    if not source.is_file():
        raise UsageError(f"there is no file or weights folder {source}; expected class names, one a line")
    return source.read_text(encoding="utf-8").splitlines()


def _draw_confusion(report: dict[str, Any], out: Path | None) -> None:
    import numpy as np

    from c3dvideo.plots import draw_confusion

    if out is not None:
        draw_confusion(out / "confusion.png", np.array(report["confusion"]), report["classes"])


def _write_csv(path: Path, header: list[str], rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def _finish(report: dict[str, Any], metrics: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Write the report where it is wanted; print it as JSON, or its metrics beside the published ones."""
    from c3dvideo.evaluation.paper import comparison

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{report['task']}.json").write_text(json.dumps(report, indent=2) + "\n")
    if as_json:
        print_json(report)
    elif metrics:
        ours = {name: report[name] for name in metrics if name in report}
        typer.echo(comparison(report["task"], ours))
