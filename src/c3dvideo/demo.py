"""The whole path in one go: videos, features, a classifier, neighbours, a map, and one page that shows them.

    result = demo("demo")                       # on generated videos
    result = demo("demo", videos="my_videos")   # on a folder of one's own: a folder per class, or just videos

Every step is one that a command does, and the page names these commands.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.datasets.lists import read_csv
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.evaluation.feature_map import project
from c3dvideo.evaluation.report import Page, Tile
from c3dvideo.extras import require_extra
from c3dvideo.features.extract import extract
from c3dvideo.plots import draw_confusion, draw_scatter
from c3dvideo.probing.descriptors import Labelled, join, labels_from_folders, read_descriptors
from c3dvideo.probing.predict import Prediction, predict
from c3dvideo.probing.probe import Probe, fit_probe, group_folds
from c3dvideo.probing.probe_score import score_probe
from c3dvideo.progress import track
from c3dvideo.synthetic import write_dataset
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.thumbnail import moving_thumbnail

PLAN = ClipPlan(short="repeat_last")
_N_NEIGHBOURS, _N_ROWS = 4, 10


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What came of it; the accuracies are None for videos without classes, n_failed counts unreadable ones."""

    page: Path
    n_videos: int
    n_failed: int
    accuracy: float | None = None
    chance: float | None = None
    neighbour_accuracy: float | None = None


@dataclass(frozen=True, eq=False)
class _Classified:
    """A probe, the videos it learned, those held out, and how well it knows these."""

    probe: Probe
    train: Labelled
    test: Labelled
    score: dict[str, Any]


@dataclass(frozen=True)
class _Neighbours:
    """Names: of each query and of those most like it, with their cosines; the share of first ones of the same class."""

    rows: list[tuple[str, list[tuple[str, float]]]]
    accuracy: float | None


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
    """Run every step into the folder `out`, ending with `out/report.html`.

    videos: a folder; None generates `clips_per_class` short videos of each everyday motion. weights: what
    `load_weights` takes; None is the default.
    say: told, after each step, its name and in one line what it did.
    Raises UsageError for a folder with fewer than three readable videos.
    """
    require_extra("plots")
    out = Path(out)
    dataset: Dataset | None = None
    if videos is None:
        started = perf_counter()
        dataset = read_csv(write_dataset(out / "videos", clips_per_class=clips_per_class, seed=seed))
        seconds = perf_counter() - started
        motions = f"{len(dataset.examples)} generated in {seconds:.0f} s, {len(dataset.classes)} everyday motions"
        say("videos", f"{motions}: {', '.join(dataset.classes)}")
    source = Path(videos) if videos is not None else out / "videos"
    say("network", f"C3D with {'the weights that come with the package' if weights is None else weights}")
    summary = extract([source], out / "features", weights=weights, plan=PLAN, device=device)
    table = read_descriptors([out / "features"])
    if len(table.names) < 3:
        raise UsageError(f"{source} has {len(table.names)} videos that can be read; the demo needs three or more")
    lost = f"; {summary.n_failed} videos could not be read" if summary.n_failed else ""
    n_numbers = table.matrix.shape[1]
    say("features", f"{len(table.names)} videos in {summary.seconds:.0f} s: {n_numbers} numbers each{lost}")
    labelled = join(table, dataset or _labels(table.names))
    found = _classify(labelled, out, seed, say)
    neighbours = _neighbours(labelled, found)
    say("neighbours", _neighbours_line(neighbours))
    draw_scatter(out / "map.png", project(labelled.matrix, seed=seed), labelled.labels.tolist())
    say("map", f"near points are alike: {out / 'map.png'}")
    prediction = None
    if found is not None:
        prediction = _predict(source, found, weights, device)
        top = ", ".join(f"{one.label} ({one.score:+.2f})" for one in prediction.top[:3])
        say("predict", f"{prediction.name} shows: {top}")
    page = _page(source, out, weights, labelled=labelled, found=found, neighbours=neighbours, prediction=prediction)
    page.write(out / "report.html")
    say("report", f"all of it on one page: {out / 'report.html'}")
    return DemoResult(
        page=out / "report.html",
        n_videos=len(table.names),
        n_failed=summary.n_failed,
        accuracy=found.score["accuracy"] if found else None,
        chance=1 / len(found.probe.classes) if found else None,
        neighbour_accuracy=neighbours.accuracy,
    )


def _labels(names: Sequence[str]) -> Dataset:
    """A class a folder, where every video lies in one and there are two or more; else one nameless class."""
    if all("/" in name for name in names):
        dataset = labels_from_folders(names)
        if len(dataset.classes) > 1:
            return dataset
    return Dataset(tuple(Example(name, "") for name in names), ("",))


def _classify(labelled: Labelled, out: Path, seed: int, say: Callable[[str, str], None]) -> _Classified | None:
    """A probe on the train split, or on three quarters of the sources; None where there is nothing to tell apart."""
    if len(set(labelled.labels.tolist())) < 2:
        say("probe", "no classes to learn: put the videos in a folder a class to see a classifier here")
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
    probe = fit_probe(train, penalty=None if min(sources.values()) > 1 else 1.0, seed=seed)
    probe.save(out / "probe.npz")
    score = score_probe(probe, test)
    draw_confusion(out / "confusion.png", np.array(score["confusion"]), score["classes"])
    share, chance = f"{score['accuracy']:.0%}", f"{1 / len(probe.classes):.0%}"
    say("probe", f"a linear classifier knows {share} of {score['n']} videos it never saw (guessing: {chance})")
    return _Classified(probe, train, test, score)


def _neighbours(labelled: Labelled, found: _Classified | None) -> _Neighbours:
    """The most similar videos: of every held-out video among the learned ones, or of every video among the others."""
    queries, pool = (found.test, found.train) if found else (labelled, labelled)
    cosines = queries.matrix @ pool.matrix.T
    same = np.array(queries.names)[:, None] == np.array(pool.names)[None]
    order = np.argsort(-np.where(same, -np.inf, cosines), axis=1, kind="stable")[:, :_N_NEIGHBOURS]
    rows = [
        (name, [(pool.names[column], float(cosines[row, column])) for column in order[row] if not same[row, column]])
        for row, name in enumerate(queries.names)
    ]
    accuracy = float((pool.labels[order[:, 0]] == queries.labels).mean()) if found else None
    return _Neighbours(rows, accuracy)


def _neighbours_line(neighbours: _Neighbours) -> str:
    if neighbours.accuracy is not None:
        return f"for {neighbours.accuracy:.0%} of the held-out videos, the most similar one shows the same"
    name, ((other, cosine), *_) = max(neighbours.rows, key=lambda row: row[1][0][1])
    return f"the two most alike are {name} and {other} (cosine {cosine:.3f})"


def _predict(source: Path, found: _Classified, weights: str | Path | None, device: str) -> Prediction:
    """The classes of the first held-out video, from its file."""
    path = source / found.test.names[0]
    outcome = predict([path], weights=weights, probe=found.probe, plan=PLAN, device=device)
    return outcome.predictions[0]


def _page(
    source: Path,
    out: Path,
    weights: str | Path | None,
    *,
    labelled: Labelled,
    found: _Classified | None,
    neighbours: _Neighbours,
    prediction: Prediction | None,
) -> Page:
    label = dict(zip(labelled.names, labelled.labels.tolist(), strict=True))
    pictures: dict[str, bytes] = {}

    def tile(name: str, caption: str, kind: str = "") -> Tile:
        if name not in pictures:
            pictures[name] = moving_thumbnail(source / name)
        return Tile(pictures[name], caption, kind)

    page = Page("What C3D sees in these videos")
    n_numbers = labelled.matrix.shape[1]
    page.paragraph(
        f"C3D is a network of 3-D convolutions: it looks at 16 frames at a time, so it sees motion as well as looks. "
        f"c3dvideo turned each of {len(label)} videos into {n_numbers} numbers; all below uses these numbers only."
    )
    figures = {"videos": str(len(label)), "numbers a video": str(n_numbers)}
    if found is not None:
        figures |= {
            f"right on {found.score['n']} videos it never saw": f"{found.score['accuracy']:.0%}",
            "by guessing": f"{1 / len(found.probe.classes):.0%}",
            "nearest neighbour shows the same": f"{neighbours.accuracy:.0%}",
        }
    page.numbers(figures)
    charts: dict[str | Path, str] = {out / "map.png": "A map: near points are videos with similar numbers."}
    if found is not None:
        charts[out / "confusion.png"] = "What the classifier took each held-out video for."
    page.charts(charts)
    if prediction is not None:
        page.heading("One video, never seen before")
        page.row([tile(found.test.names[0], prediction.name)] if found else [])
        page.paragraph("The classifier's score of each class; above zero means yes.")
        page.bars({one.label: one.score for one in prediction.top})
    page.heading("Which videos are alike?")
    page.paragraph("Left a video, beside it those with the most similar numbers (cosine, 1 is the same).")
    step = max(1, len(neighbours.rows) // _N_ROWS)
    for name, others in track(neighbours.rows[::step][:_N_ROWS], "drawing the page", unit="rows"):
        kinds = ["" if found is None else "good" if label[other] == label[name] else "bad" for other, _ in others]
        tiles = [tile(name, label[name] or name)]
        tiles += [
            tile(other, f"{cosine:.3f} {label[other] or other}", kind)
            for (other, cosine), kind in zip(others, kinds, strict=True)
        ]
        page.row(tiles)
    page.heading("The same, step by step")
    page.commands(_commands(source, out, weights, with_classes=found is not None))
    return page


def _commands(source: Path, out: Path, weights: str | Path | None, *, with_classes: bool) -> list[str]:
    option = f" --weights {weights}" if weights is not None else ""
    lines = [f"c3dvideo extract {source} --out {out / 'features'} --short repeat_last{option}"]
    if with_classes:
        labels = f"--labels {source / 'labels.csv'}" if (source / "labels.csv").exists() else "--labels-from-folders"
        lines += [
            f"c3dvideo probe fit {out / 'features'} {labels} --out {out / 'probe.npz'}",
            f"c3dvideo probe score {out / 'features'} {labels} --probe {out / 'probe.npz'}",
            f"c3dvideo evaluate map {out / 'features'} {labels} --out {out}",
            f"c3dvideo predict VIDEO --probe {out / 'probe.npz'}{option}",
        ]
    return [*lines, f"c3dvideo similar A B{option}"]
