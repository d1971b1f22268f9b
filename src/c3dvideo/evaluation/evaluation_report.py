"""What an evaluation report states about its data, and how a report is printed and written.

    report = evaluate_scenes(labelled)
    print(report_text(report))          # the data and the chance level, then our figures beside the published ones
    write_report(report, "out")         # out/scenes.json and out/confusion.png

A report is a dictionary that JSON can hold. Its task determines which figures are printed; what it contains
determines which pictures and tables are written.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.datasets.examples import Example
from c3dvideo.evaluation.paper import COMPACTNESS_POINTS, comparison
from c3dvideo.files import atomic_file, atomic_text
from c3dvideo.plots import draw_confusion, draw_curves, draw_roc
from c3dvideo.probing.labelled import source_of
from c3dvideo.reading_tables import write_rows

Report = dict[str, Any]

METRICS: Mapping[str, tuple[str, ...]] = {
    "recognition": ("clip@1", "video@1", "video@5"),
    "similarity": ("accuracy", "auc"),
    "scenes": ("accuracy",),
    "objects": ("accuracy",),
}
_PARTITIONS = {
    "split": "the split into training and test videos that the labels give",
    "network": "no training: the network's own predictions",
    "folds": "{n_folds} folds, whole sources held out",
    "official splits": "{n_folds} official splits",
    "leave one source out": "every source is tested by a classifier of all others",
    "published folds": "{n_folds} folds as published",
    "folds without a common class": "{n_folds} folds, no two with a common class",
    "every source against all others": "every video against those of all other sources",
}


def data_facts(
    examples: Sequence[Example], *, partition: str, n_folds: int = 1, tested: Sequence[Example] = ()
) -> Report:
    """The number of classes, videos and sources; the partition; the accuracy of guessing, and of the largest class.

    partition: a key of `_PARTITIONS`. tested: those of the examples that are tested; none means all.
    """
    classes = {example.label for example in examples}
    labels = [example.label for example in tested or examples]
    return {
        "n_classes": len(classes),
        "n_videos": len({example.path for example in examples}),
        "n_sources": len({source_of(example) for example in examples}),
        "partition": partition,
        "n_folds": n_folds,
        "chance": 1 / len(classes),
        "largest_class": max(Counter(labels).values()) / len(labels),
    }


def facts_line(report: Mapping[str, Any]) -> str:
    """The facts in one line: "7 classes, 662 videos of 126 sources; 5 folds, whole sources held out"."""
    counts = [
        f"{report[key]} {noun}" for key, noun in (("n_classes", "classes"), ("n_pairs", "pairs")) if report.get(key)
    ]
    sources = f" of {report['n_sources']} sources" if report.get("n_sources") else ""
    counts.append(f"{report['n_videos']} videos{sources}")
    return f"{', '.join(counts)}; {_PARTITIONS[report['partition']].format(**report)}"


def report_text(report: Mapping[str, Any]) -> str:
    """The report for a terminal: the facts, then our figures, the chance level and the published figures."""
    lines = [facts_line(report)]
    if report["task"] == "compactness":
        lines += _compactness_lines(report)
    if report["task"] == "retrieval":
        lines += _retrieval_lines(report)
    if report["task"] in METRICS:
        ours = {name: report[name] for name in METRICS[report["task"]] if name in report}
        lines.append(comparison(report["task"], ours, baselines=_baselines(report, ours)))
        lines.append("Figures compare only where the videos and the split are the same.")
    if report["task"] == "similarity":
        lines.append(
            f"accuracy {report['accuracy']:.3f} +- {report['standard_error']:.3f} (standard error over "
            f"{report['n_folds']} folds)"
        )
    return "\n".join(lines)


def write_report(report: Mapping[str, Any], out: str | Path) -> None:
    """Write <task>.json into the folder `out`, and every picture and table that the report has numbers for.

    Each file appears complete or not at all. Raises StoreError when one cannot be written.
    """
    out = Path(out)
    with atomic_file(out / f"{report['task']}.json") as file:
        file.write(json.dumps(report, indent=2).encode() + b"\n")
    if "confusion" in report:
        draw_confusion(out / "confusion.png", np.array(report["confusion"]), report["classes"])
    if "roc" in report:
        curve, name = report["roc"], f"ours, area under the curve {report['auc']:.3f}"
        draw_roc(out / "roc.png", {name: (curve["false_positive"], curve["true_positive"])})
    if report["task"] == "compactness":
        _write_compactness(report, out)


def write_table(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, complete or not at all; raises StoreError when it cannot be written."""
    with atomic_text(path) as file:
        write_rows(file, [header, *rows])


def _baselines(report: Mapping[str, Any], ours: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Accuracies without any learning, by metric, as rows of the table."""
    chance = {name: min(1.0, report["chance"] * (5 if name == "video@5" else 1)) for name in ours}
    largest = {name: report["largest_class"] for name in ours if name != "video@5" and report.get("largest_class")}
    return {"chance level": chance} | ({"always the most frequent class": largest} if largest else {})


def _compactness_lines(report: Mapping[str, Any]) -> list[str]:
    lines = ["dimensions  ours  published (UCF101, Figure 5)"]
    for dimensions, accuracy in zip(report["dimensions"], report["accuracies"], strict=True):
        published = COMPACTNESS_POINTS.get(dimensions)
        lines.append(
            f"{dimensions:10d} {100 * accuracy:5.1f}  {'' if published is None else f'{100 * published:5.1f}'}"
        )
    everything = report["all_dimensions"]
    lines.append(f"{everything['dimensions']:10d} {100 * everything['accuracy']:5.1f}  (no PCA)")
    lines.append(f"{'chance':>10} {100 * report['chance']:5.1f}")
    return lines


def _retrieval_lines(report: Mapping[str, Any]) -> list[str]:
    """Mean average precision and precision at 1: overall, by a random ranking, and per class."""
    width = max(len("random ranking"), *map(len, report["per_class"]))
    lines = [f"{'':{width}}    mAP    P@1  queries", f"{'ours':{width}}{_two(report)}  {report['n_queries']:7d}"]
    for end, name in enumerate(("95% from", "95% to")):
        lines.append(f"{name:{width}}{_two({measure: ends[end] for measure, ends in report['intervals'].items()})}")
    lines.append(f"{'random ranking':{width}}{_two(report['chance'])}")
    lines += [f"{name:{width}}{_two(row)}  {row['n']:7d}" for name, row in report["per_class"].items()]
    if report["n_without_match"]:
        lines.append(f"{report['n_without_match']} videos are left out: no other source shows their class")
    return lines


def _two(row: Mapping[str, Any]) -> str:
    return f"  {row['mAP']:.3f}  {row['P@1']:.3f}"


def _write_compactness(report: Mapping[str, Any], out: Path) -> None:
    everything = report["all_dimensions"]
    curve = [*zip(report["dimensions"], report["accuracies"], strict=True), tuple(everything.values())]
    rows = [(dimensions, accuracy, COMPACTNESS_POINTS.get(dimensions, "")) for dimensions, accuracy in curve]
    write_table(out / "compactness.csv", ["dimensions", "accuracy", "published_ucf101"], rows)
    draw_curves(
        out / "compactness.png",
        {"ours": (report["dimensions"], report["accuracies"])},
        references={"C3D, UCF101 (paper, Figure 5)": (list(COMPACTNESS_POINTS), list(COMPACTNESS_POINTS.values()))},
        levels={f"ours, all {everything['dimensions']}": everything["accuracy"], "chance level": report["chance"]},
        x_label="dimensions after PCA",
        y_label="accuracy",
        log_x=True,
    )
