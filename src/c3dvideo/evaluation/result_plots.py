"""Pictures of what the commands wrote: reports, tables, run folders, folders of features.

    plot_confusion("run/", "confusion.png")            # a run of `train`, a report, or a table of counts
    plot_similarity(["a.mp4.npz", "b.mp4.npz"], "similarity.svg")

Every function reads files that may come from elsewhere, and raises UsageError when they hold something else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import C3DVideoError, UsageError
from c3dvideo.evaluation.paper import COMPACTNESS_POINTS
from c3dvideo.features.default_weights import note_on_default_weights
from c3dvideo.features.store import read_features
from c3dvideo.plots import (
    Lane,
    draw_confusion,
    draw_curves,
    draw_roc,
    draw_scatter,
    draw_similarity,
    draw_timeline,
)
from c3dvideo.probing.descriptors import Array, choose_layer, clip_vectors, read_descriptors, unit_rows
from c3dvideo.probing.reference import centred
from c3dvideo.reading import ForeignFile, parsing, read_json, read_json_lines
from c3dvideo.reading_tables import csv_columns, csv_rows
from c3dvideo.storage import location

_MOST_LANES = 40
_MOST_ROWS = 200
_FEWEST_TO_CENTRE = 10  # the mean of fewer videos is mostly what these show


def plot_map(table: str | Path, out: str | Path, *, title: str = "") -> int:
    """Draw the points of a map.csv (label, x, y), as `evaluate map` writes it; returns their number."""
    file = _file(
        table, "the table of a map with the columns label, x and y", "c3dvideo evaluate map FEATURES --out map.png"
    )
    labels, points = [], []
    for row in csv_rows(file, required=("x", "y")):
        x, y = row.number("x"), row.number("y")
        if x is None or y is None:
            raise row.wrong("a coordinate is empty")
        labels.append(row.values.get("label", ""))
        points.append((x, y))
    if not points:
        raise file.wrong("it has no points")
    draw_scatter(out, np.array(points), labels, title=title)
    return len(points)


def plot_confusion(source: str | Path, out: str | Path, *, title: str = "") -> int:
    """Draw a confusion matrix; returns the number of classes.

    source: a run folder of `train`, a folder or JSON file that `evaluate` or `probe score --json` wrote, or a CSV with
        the class names in its first row and column.
    """
    path = _inside(source, ("test_confusion.csv", "val_confusion.csv"), key="confusion")
    classes, matrix = _confusion_table(path) if path.suffix.lower() == ".csv" else _confusion_report(path)
    draw_confusion(out, matrix, classes, title=title)
    return len(classes)


def plot_compactness(sources: Sequence[str | Path], out: str | Path, *, title: str = "") -> int:
    """Draw accuracy over dimensions, a curve per report, beside the paper's Figure 5; returns the number of curves.

    sources: compactness.json or .csv, or the folder that `evaluate compactness --out` wrote.
    """
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for source in sources:
        path = _inside(source, ("compactness.json", "compactness.csv"), key="all_dimensions")
        name = "ours" if len(sources) == 1 else str(source)
        curves[name] = _compactness_table(path) if path.suffix.lower() == ".csv" else _compactness_report(path)
    draw_curves(
        out,
        curves,
        references={"C3D, UCF101 (paper, Figure 5)": (list(COMPACTNESS_POINTS), list(COMPACTNESS_POINTS.values()))},
        x_label="dimensions",
        y_label="accuracy",
        title=title,
        log_x=True,
    )
    return len(curves)


def plot_training(sources: Sequence[str | Path], out: str | Path, *, title: str = "") -> int:
    """Draw the validation accuracy of runs over epochs, and of a single run its losses too; returns the number of rows.

    sources: run folders of `train`, or their log.csv.
    """
    curves: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    n_rows = 0
    for source in sources:
        path = _inside(source, ("log.csv",))
        file = _file(path, "the log of a training run", "c3dvideo train VIDEOS --out RUN")
        rows = list(csv_rows(file, required=("epoch", "val_accuracy")))
        if not rows:
            raise file.wrong("it has no epoch yet")
        n_rows += len(rows)
        epochs = [row.number("epoch") or 0.0 for row in rows]
        columns = ["val_accuracy"] if len(sources) > 1 else ["val_accuracy", "train_loss", "val_loss"]
        for column in columns:
            values = [row.number(column) for row in rows]
            if None not in values:
                shown = column.replace("_", " ").replace("val ", "validation ").replace("train ", "training ")
                curves[shown if len(sources) == 1 else str(source)] = (epochs, values)  # type: ignore[assignment]
    losses = {name: curve for name, curve in curves.items() if len(sources) == 1 and name.endswith(" loss")}
    accuracies = {name: curve for name, curve in curves.items() if name not in losses}
    if not accuracies:
        raise UsageError(f"{sources[0]} has epochs without a validation accuracy; expected one per row")
    draw_curves(
        out, accuracies, x_label="epoch", y_label="validation accuracy", title=title, below=losses, below_label="loss"
    )
    return n_rows


def plot_similarity(
    sources: Sequence[str | Path], out: str | Path, *, layer: str = "", centre: bool = False, title: str = ""
) -> int:
    """Draw cosines; returns the number of rows.

    sources: one or two feature files (clip by clip, axes in seconds), a folder of features (video by video), or the
        similarity.json of `evaluate similarity` (its ROC curve). centre: subtract a mean vector first, that of the
        videos where there are ten or more, else that which the default weights ship for fc6.
    Raises UsageError for `centre` of fewer videos and other features.
    """
    first = Path(sources[0])
    if len(sources) == 1 and first.suffix.lower() == ".json":
        return _plot_roc(first, out, title)
    if len(sources) == 1 and first.is_dir():
        table = read_descriptors([first], layers=[layer] if layer else ())
        if len(table.names) > _MOST_ROWS:
            raise UsageError(f"{first} holds {len(table.names)} videos; a picture has room for {_MOST_ROWS} names")
        part = table.parts[0]
        mean = _mean(unit_rows(table.matrix), len(table.names), part.layer, part.settings) if centre else None
        rows = _centred(table.matrix, mean)
        draw_similarity(out, rows @ rows.T, rows=table.names, columns=table.names, title=title)
        return len(rows)
    if len(sources) > 2 or any(Path(source).suffix.lower() != ".npz" for source in sources):
        raise UsageError(
            f"cannot compare {', '.join(map(str, sources))}; expected one or two feature files (.npz), a folder of "
            "features, or similarity.json"
        )
    sides = [_clips(source, layer) for source in (*sources, *sources)[:2]]
    widths = [side.vectors.shape[1] for side in sides]
    if widths[0] != widths[1]:
        raise UsageError(f"the vectors have {widths[0]} and {widths[1]} numbers; expected equal widths")
    mean = None
    if centre:
        units = np.concatenate([unit_rows(side.vectors) for side in sides])
        mean = _mean(units, len(sources), sides[0].layer, sides[0].settings)
    first_rows, second_rows = (_centred(side.vectors, mean) for side in sides)
    draw_similarity(
        out,
        first_rows @ second_rows.T,
        rows=sides[0].ends,
        columns=sides[1].ends,
        row_label=sides[0].label,
        column_label=sides[1].label,
        title=title,
    )
    return len(first_rows)


def plot_timeline(source: str | Path, out: str | Path, *, title: str = "") -> int:
    """Draw classes along time, a lane per video; returns the number of videos.

    source: what `predict --json` or `segment --json` printed, or the JSON lines of `watch`.
    """
    file = _file(source, "a timeline", "c3dvideo predict VIDEO --json > timeline.json")
    with parsing(file):
        lanes, in_seconds, y_label = _lanes(file)
    if not lanes:
        raise file.wrong("it has no clip of any video")
    if len(lanes) > _MOST_LANES:
        raise UsageError(f"{source} holds {len(lanes)} videos; a picture has room for {_MOST_LANES}")
    draw_timeline(out, lanes, x_label="seconds" if in_seconds else "frames", y_label=y_label, title=title)
    return len(lanes)


def _file(path: str | Path, expected: str, command: str) -> ForeignFile:
    return ForeignFile(path, error=UsageError, expected=expected, advice=f"make one with `{command}`")


def _inside(source: str | Path, names: Sequence[str], *, key: str = "") -> Path:
    """The file itself, or the one of these names in a folder, or the JSON report there that has `key`."""
    path = Path(source)
    if not path.is_dir():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    for report in sorted(path.glob("*.json")) if key else ():
        try:
            if key in read_json(_file(report, "a report", "c3dvideo evaluate")):
                return report
        except C3DVideoError:
            continue
    raise UsageError(f"{source} holds no {' and no '.join(names)}" + f", and no report with {key!r}" * bool(key))


def _confusion_table(path: Path) -> tuple[list[str], Array]:
    file = _file(path, "a confusion matrix", "c3dvideo train VIDEOS --out RUN")
    header = csv_columns(file)
    classes = list(header[1:])
    rows = list(csv_rows(file, required=header))
    if not classes or [row.values[header[0]] for row in rows] != classes:
        raise file.wrong("expected the same class names, in the same order, in its first row and its first column")
    return classes, np.array([[_count(row.integer(name, minimum=0)) for name in classes] for row in rows])


def _confusion_report(path: Path) -> tuple[list[str], Array]:
    file = _file(path, "a report with a confusion matrix", "c3dvideo probe score FEATURES --probe PROBE --json")
    with parsing(file):
        report = read_json(file)
        classes = [str(name) for name in report["classes"]]
        matrix = np.array([[int(count) for count in row] for row in report["confusion"]], np.int64)
        if not classes or matrix.shape != (len(classes), len(classes)) or matrix.min() < 0:
            raise file.wrong(f"it has {len(classes)} classes and a matrix of shape {matrix.shape}")
    return classes, matrix


def _count(value: int | None) -> int:
    return value or 0


def _compactness_report(path: Path) -> tuple[list[float], list[float]]:
    file = _file(path, "a report of compactness", "c3dvideo evaluate compactness FEATURES --out DIR")
    with parsing(file):
        report = read_json(file)
        points = [*zip(report["dimensions"], report["accuracies"], strict=True)]
        points.append((report["all_dimensions"]["dimensions"], report["all_dimensions"]["accuracy"]))
        return _positive(points, file)


def _compactness_table(path: Path) -> tuple[list[float], list[float]]:
    file = _file(path, "a table of compactness", "c3dvideo evaluate compactness FEATURES --out DIR")
    rows = csv_rows(file, required=("dimensions", "accuracy"))
    return _positive([(row.number("dimensions"), row.number("accuracy")) for row in rows], file)


def _positive(points: Sequence[tuple[Any, Any]], file: ForeignFile) -> tuple[list[float], list[float]]:
    with parsing(file):
        found = sorted((float(dimensions), float(accuracy)) for dimensions, accuracy in points)
        if not found or any(not (isfinite(x) and isfinite(y) and x >= 1) for x, y in found):
            raise file.wrong("expected numbers of dimensions from 1 on, each with an accuracy")
    return [x for x, _ in found], [y for _, y in found]


def _plot_roc(path: Path, out: str | Path, title: str) -> int:
    file = _file(path, "a report of action similarity", "c3dvideo evaluate similarity FEATURES --out DIR")
    with parsing(file):
        report = read_json(file)
        curve = [np.array(report["roc"][key], np.float64) for key in ("false_positive", "true_positive")]
        name = f"ours, area under the curve {float(report['auc']):.3f}"
        if curve[0].ndim != 1 or curve[0].shape != curve[1].shape:
            raise file.wrong("its ROC curve has sides of different lengths")
    draw_roc(out, {name: (curve[0].tolist(), curve[1].tolist())}, title=title)
    return len(curve[0])


@dataclass(frozen=True, eq=False)
class _Side:
    """Clip vectors of a video, the first and last value of their axis, its label, and what made them."""

    vectors: Array
    ends: tuple[float, float]
    label: str
    layer: str
    settings: Mapping[str, Any]


def _clips(source: str | Path, layer: str) -> _Side:
    features = read_features(source)
    layer = choose_layer(list(features.layers), layer, source)
    vectors = clip_vectors(features.layers[layer])
    timed = bool(np.isfinite(features.start_seconds).all())
    starts = features.start_seconds if timed else features.start_frame.astype(np.float64)
    if len(vectors) != len(starts) or not len(starts):
        raise UsageError(f"{source} has no vector per clip; extract it again, without pooling")
    step = float(np.median(np.diff(starts))) if len(starts) > 1 else 1.0
    name = f"{features.name}, {'seconds' if timed else 'frames'}"
    settings = features.metadata.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    return _Side(vectors, (float(starts[0]), float(starts[-1]) + (step or 1.0)), name, layer, settings)


def _mean(units: Array, n_videos: int, layer: str, settings: Mapping[str, Any]) -> Array:
    """The mean vector to subtract: of these rows, or of few videos that which their weights ship."""
    if n_videos >= _FEWEST_TO_CENTRE:
        mean: Array = units.mean(axis=0)
        return mean
    from c3dvideo.weights.load import load_weights  # takes PyTorch along

    shipped = load_weights().descriptor_mean if note_on_default_weights(settings) and layer == "fc6" else None
    if shipped is None or len(shipped) != units.shape[1]:
        raise UsageError(
            f"`centre=True` would subtract the mean of {n_videos} of your videos, and with it what they show; give a "
            f"folder of at least {_FEWEST_TO_CENTRE} videos, or leave `centre=` out"
        )
    return shipped.astype(np.float64)


def _centred(matrix: Array, mean: Array | None) -> Array:
    """Unit rows, of which the mean is subtracted first if there is one."""
    rows = unit_rows(matrix)
    return rows if mean is None else centred(rows, mean)


def _lanes(file: ForeignFile) -> tuple[list[Lane], bool, str]:
    """The lanes of a document or of JSON lines, whether their times are seconds, and what their scores are."""
    lines, damaged = read_json_lines(file)
    if lines and not damaged and all("classes" in line for line in lines):
        kind = "score" if any("scores" in line for line in lines) else "probability"
        return [_watched(lines, location(file.path).name)], True, kind
    document = read_json(file)
    videos = document.get("predictions") or document.get("videos") or []
    parts = [list(_stretches(video)) for video in videos]
    in_seconds = all(part["start_seconds"] is not None for stretches in parts for part in stretches)
    unit = "seconds" if in_seconds else "frame"
    lanes = [_lane(str(video["name"]), part, unit) for video, part in zip(videos, parts, strict=True) if part]
    if not document.get("predictions"):
        return lanes, in_seconds, ""  # segments, all of one height
    # A file without the key is of a version that did not say what its scores are.
    return lanes, in_seconds, "probability" if document.get("score_kind") == "probability" else "score"


def _stretches(video: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Clips with a class and a score, or segments, which are named by turns."""
    if "timeline" in video:
        yield from video["timeline"]
        return
    for index, part in enumerate(video["segments"]):
        yield {**part, "label": ("1st, 3rd, ... segment", "2nd, 4th, ... segment")[index % 2], "score": 1.0}


def _lane(name: str, parts: Sequence[Mapping[str, Any]], unit: str) -> Lane:
    """Clips that overlap are drawn up to the start of the next."""
    starts = [float(part[f"start_{unit}"]) for part in parts]
    ends = [float(part[f"end_{unit}"]) for part in parts]
    following = [*starts[1:], ends[-1]]
    for index, (start, after) in enumerate(zip(starts, following, strict=True)):
        if start < after < ends[index]:
            ends[index] = after
    return Lane(
        name=name,
        starts=starts,
        ends=ends,
        labels=[str(part["label"]) for part in parts],
        scores=[float(part["score"]) for part in parts],
    )


def _watched(lines: Sequence[Mapping[str, Any]], name: str) -> Lane:
    parts = [
        {**line, "label": line["classes"][0], "score": line.get("probabilities", line.get("scores"))[0]}
        for line in lines
        if line["classes"]
    ]
    return _lane(name, parts, "seconds")
