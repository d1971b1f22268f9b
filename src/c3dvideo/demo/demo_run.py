"""The steps of the demo, each of which a command does too; the page at the end shows their results.

result = demo("demo", videos="my_videos")
result.page, result.accuracy, result.chance
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from time import perf_counter
from typing import Any

import numpy as np

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.datasets.lists import read_csv
from c3dvideo.demo.demo_page import DemoPage, Tile, write_page
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.evaluation.feature_map import project
from c3dvideo.extras import require_extra
from c3dvideo.features.default_weights import note_on_default_weights
from c3dvideo.features.extract import ExtractSummary, extract
from c3dvideo.plots import draw_confusion, draw_scatter
from c3dvideo.probing.descriptors import read_descriptors
from c3dvideo.probing.labelled import Labelled, join, labels_from_folders
from c3dvideo.probing.predict import Prediction, predict
from c3dvideo.probing.probe import Probe, fit_probe, group_folds
from c3dvideo.probing.probe_score import score_probe, wilson
from c3dvideo.progress import track
from c3dvideo.synthetic import write_dataset
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.thumbnail import moving_thumbnail

PLAN = ClipPlan(short="repeat_last")
_N_NEIGHBOURS, _N_ROWS = 4, 10


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The page and the figures on it; accuracies, interval and chance level are None for videos without classes.

    n_failed: videos that could not be read. interval: the 95% interval of the accuracy. neighbour_accuracy: the share
    of held-out videos whose most similar training video is of the same class.
    """

    page: Path
    n_videos: int
    n_failed: int
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    chance: float | None = None
    neighbour_accuracy: float | None = None


@dataclass(frozen=True, eq=False)
class _Classified:
    """A probe, its training videos, the held-out videos, and the probe's score on these."""

    probe: Probe
    train: Labelled
    test: Labelled
    score: dict[str, Any]


@dataclass(frozen=True)
class _Neighbours:
    """Each query's name, and the names and cosines of the videos most like it; n_same is None without classes.

    n_same: the number of queries whose most similar video is of their class.
    """

    rows: list[tuple[str, list[tuple[str, float]]]]
    n_same: int | None


def demo(
    out: str | Path,
    *,
    videos: str | Path | None = None,
    weights: str | Path | None = None,
    clips_per_class: int = 24,
    device: str = "auto",
    seed: int = 0,
    say: Callable[[str, str], None] = lambda step, text: None,
) -> DemoResult:
    """Run every step into the folder `out`; the last writes `out/report.html`.

    videos: a folder; None generates `clips_per_class` short videos of each everyday motion. weights: what
    `load_weights` takes; None is the default. say: called after each step with its name and its result in one line.
    Raises UsageError for a folder with fewer than three readable videos, MissingExtraError without matplotlib.
    """
    require_extra("plots")
    out = Path(out)
    dataset = None if videos is not None else _generate(out / "videos", clips_per_class, seed, say)
    source = Path(videos) if videos is not None else out / "videos"
    say("network", f"C3D with {'the default weights' if weights is None else weights}")
    summary = extract([source], out / "features", weights=weights, plan=PLAN, device=device)
    labelled = _read(out / "features", source, dataset, summary, say)
    found = _classify(labelled, out, seed, say)
    neighbours = _neighbours(labelled, found)
    say("neighbours", _neighbours_line(neighbours))
    points = project(labelled.matrix, seed=seed)
    draw_scatter(out / "map.png", points, labelled.labels.tolist())
    say("map", f"near points are videos with similar descriptors: {out / 'map.png'}")
    prediction = None if found is None else _predict(source, found, weights, device, say)
    page = DemoPage(
        title="What C3D computes from these videos",
        introduction=_introduction(labelled),
        remarks=list(_remarks(videos is None, summary, found)),
        figures=list(_figures(labelled, found, neighbours)),
        points=points,
        names=labelled.names,
        labels=labelled.labels.tolist(),
        classes=found.score["classes"] if found else (),
        confusion=found.score["confusion"] if found else (),
        **_pictures(source, labelled, found, neighbours, prediction),
        commands=_commands(source, out, weights, with_classes=found is not None),
    )
    write_page(page, out / "report.html")
    say("report", f"all of it on one page: {out / 'report.html'}")
    return DemoResult(
        page=out / "report.html",
        n_videos=len(labelled.names),
        n_failed=summary.n_failed,
        accuracy=found.score["accuracy"] if found else None,
        interval=tuple(found.score["interval"]) if found else None,
        chance=found.score["chance"] if found else None,
        neighbour_accuracy=neighbours.n_same / len(neighbours.rows) if neighbours.n_same is not None else None,
    )


def _generate(folder: Path, clips_per_class: int, seed: int, say: Callable[[str, str], None]) -> Dataset:
    started = perf_counter()
    dataset = read_csv(write_dataset(folder, clips_per_class=clips_per_class, seed=seed))
    made = f"{len(dataset.examples)} generated in {perf_counter() - started:.0f} s"
    say("videos", f"{made}, {len(dataset.classes)} everyday motions: {', '.join(dataset.classes)}")
    return dataset


def _read(
    features: Path, source: Path, dataset: Dataset | None, summary: ExtractSummary, say: Callable[[str, str], None]
) -> Labelled:
    """The descriptors of all readable videos beside their labels."""
    table = read_descriptors([features])
    if len(table.names) < 3:
        raise UsageError(f"{source} has {len(table.names)} videos that can be read; the demo needs three or more")
    failed = f"; {summary.n_failed} videos could not be read" if summary.n_failed else ""
    each = f"{table.matrix.shape[1]} numbers each"
    say("features", f"{len(table.names)} videos in {summary.seconds:.0f} s: {each}{failed}")
    return join(table, dataset or _labels(table.names))


def _labels(names: Sequence[str]) -> Dataset:
    """A class per folder, where every video lies in one of two or more folders; else no classes (one empty label)."""
    if all("/" in name for name in names):
        dataset = labels_from_folders(names)
        if len(dataset.classes) > 1:
            return dataset
    return Dataset(tuple(Example(name, "") for name in names), ("",))


def _classify(labelled: Labelled, out: Path, seed: int, say: Callable[[str, str], None]) -> _Classified | None:
    """A probe fitted on the training split, or on three quarters of the sources; None without two classes."""
    if len(set(labelled.labels.tolist())) < 2:
        say("probe", "no classes to learn: put the videos in one folder per class to see a classifier here")
        return None
    try:
        if any(example.split for example in labelled.examples):
            train, test = labelled.part("train"), labelled.part("test")
        else:
            train, test = map(labelled.rows, group_folds(labelled.labels, labelled.groups, folds=4, seed=seed)[0])
    except DatasetError as error:
        say("probe", f"no classifier: {error}")
        return None
    sources = Counter(label for label, _ in {*zip(train.labels.tolist(), train.groups.tolist(), strict=True)})
    # Choosing C by cross-validation needs two sources of every class; 1 is in the middle of the values that are tried.
    probe = fit_probe(train, penalty=None if min(sources.values()) > 1 else 1.0, seed=seed)
    probe.save(out / "probe.npz")
    score = score_probe(probe, test)
    draw_confusion(out / "confusion.png", np.array(score["confusion"]), score["classes"])
    say(
        "probe",
        f"accuracy {score['accuracy']:.0%} on {score['n']} held-out videos "
        f"({_interval(score['interval'])}; chance level {score['chance']:.0%})",
    )
    return _Classified(probe, train, test, score)


def _neighbours(labelled: Labelled, found: _Classified | None) -> _Neighbours:
    """The most similar videos: of every held-out video among those for training, or of every video among the others."""
    queries, pool = (found.test, found.train) if found else (labelled, labelled)
    cosines = queries.matrix @ pool.matrix.T
    same = np.array(queries.names)[:, None] == np.array(pool.names)[None]
    order = np.argsort(-np.where(same, -np.inf, cosines), axis=1, kind="stable")[:, :_N_NEIGHBOURS]
    rows = [
        (name, [(pool.names[column], float(cosines[row, column])) for column in order[row] if not same[row, column]])
        for row, name in enumerate(queries.names)
    ]
    return _Neighbours(rows, int((pool.labels[order[:, 0]] == queries.labels).sum()) if found else None)


def _neighbours_line(neighbours: _Neighbours) -> str:
    if neighbours.n_same is not None:
        share = neighbours.n_same / len(neighbours.rows)
        return f"for {share:.0%} of the held-out videos, the most similar training video is of the same class"
    name, ((other, cosine), *_) = max(neighbours.rows, key=lambda row: row[1][0][1])
    return f"the two most similar videos are {name} and {other} (cosine {cosine:.3f})"


def _predict(
    source: Path, found: _Classified, weights: str | Path | None, device: str, say: Callable[[str, str], None]
) -> Prediction:
    """The classes of the first held-out video, from its file."""
    path = source / found.test.names[0]
    prediction = predict([path], weights=weights, probe=found.probe, plan=PLAN, device=device).predictions[0]
    top = ", ".join(f"{one.label} ({one.score:+.2f})" for one in prediction.top[:3])
    say("predict", f"{prediction.name}: {top}")
    return prediction


def _introduction(labelled: Labelled) -> list[str]:
    n_numbers = labelled.matrix.shape[1]
    return [
        "C3D is a network of 3-D convolutions. Its input is 16 frames at a time, so its features can represent motion "
        f"as well as appearance. c3dvideo computed one descriptor of {n_numbers:,} numbers for each of "
        f"{len(labelled.names)} videos. Everything below is computed from these descriptors."
    ]


def _remarks(generated: bool, summary: ExtractSummary, found: _Classified | None) -> Iterator[str]:
    """The limits of what the page shows."""
    default = note_on_default_weights(summary.settings) is not None
    if generated:
        classes = " and their classes are those that the last layer of the default network predicts" if default else ""
        yield (
            f"These videos are generated{classes}. The page shows that every step works. It does not show how well the "
            "features work for your videos: run `c3dvideo demo --videos DIR`, with one folder per class."
        )
    elif found is not None:
        yield (
            f"The accuracy was measured on {found.score['n']} videos that the classifier was not fitted on. With so "
            f"many videos, the 95% interval of the accuracy is {_interval(found.score['interval'], name='')}. The "
            "interval takes videos as independent; clips cut from one recording are not."
        )
    if default:
        yield (
            "These features come from the default weights, which were trained on still pictures and generated clips: "
            "1,024 numbers per clip, and little appearance. For the paper's 4,096 numbers, add `--weights sports1m`."
        )


def _figures(labelled: Labelled, found: _Classified | None, neighbours: _Neighbours) -> Iterator[tuple[str, str]]:
    yield str(len(labelled.names)), "videos"
    yield f"{labelled.matrix.shape[1]:,}", "numbers per video"
    if found is not None and neighbours.n_same is not None:
        score, n = found.score, len(neighbours.rows)
        yield f"{score['accuracy']:.0%}", f"accuracy on {score['n']} held-out videos ({_interval(score['interval'])})"
        yield f"{score['chance']:.0%}", f"chance level ({len(found.probe.classes)} classes)"
        yield (
            f"{neighbours.n_same / n:.0%}",
            f"of {n} nearest neighbours are of the same class ({_interval(wilson(neighbours.n_same, n))})",
        )


def _interval(ends: Sequence[float], *, name: str = "95% interval ") -> str:
    return f"{name}{ends[0]:.0%} to {ends[1]:.0%}"


def _pictures(
    source: Path,
    labelled: Labelled,
    found: _Classified | None,
    neighbours: _Neighbours,
    prediction: Prediction | None,
) -> dict[str, Any]:
    """The parts of the page that show videos; each video is decoded once."""
    label = dict(zip(labelled.names, labelled.labels.tolist(), strict=True))
    pictures: dict[str, bytes] = {}

    def tile(name: str, caption: str, kind: str = "") -> Tile:
        if name not in pictures:
            pictures[name] = moving_thumbnail(source / name)
        return Tile(picture=pictures[name], caption=caption, kind=kind)

    parts: dict[str, Any] = {}
    if prediction is not None and found is not None:
        name = found.test.names[0]
        parts["example"] = tile(name, f"{name} (class: {label[name]})")
        parts["scores"] = {one.label: one.score for one in prediction.top}
    rows = []
    step = max(1, len(neighbours.rows) // _N_ROWS)
    for name, others in track(neighbours.rows[::step][:_N_ROWS], "drawing the page", unit="rows"):
        kinds = ["" if found is None else "good" if label[other] == label[name] else "bad" for other, _ in others]
        rows.append(
            [
                tile(name, label[name] or name),
                *(
                    tile(other, f"{cosine:.3f} {label[other] or other}", kind)
                    for (other, cosine), kind in zip(others, kinds, strict=True)
                ),
            ]
        )
    return {**parts, "neighbours": rows}


def _commands(source: Path, out: Path, weights: str | Path | None, *, with_classes: bool) -> list[str]:
    """The commands that do the same, as a shell takes them."""
    option = f" --weights {quote(str(weights))}" if weights is not None else ""
    videos, features, probe, picture = (
        quote(str(path)) for path in (source, out / "features", out / "probe.npz", out / "map.png")
    )
    lines = [f"c3dvideo extract {videos} --out {features} --short repeat_last{option}"]
    if with_classes:
        table = source / "labels.csv"
        labels = f"--labels {quote(str(table))}" if table.exists() else "--labels-from-folders"
        lines += [
            f"c3dvideo probe fit {features} {labels} --out {probe}",
            f"c3dvideo probe score {features} {labels} --probe {probe}",
            f"c3dvideo evaluate map {features} {labels} --out {picture}",
            f"c3dvideo predict VIDEO --probe {probe}{option}",
        ]
    return [*lines, f"c3dvideo similar A B{option}"]
