"""Kernel temporal depth: the paper's study (section 3.2, figure 2) on any data set.

    results = depth_study("my_videos", "study", width=0.25, epochs=16)

Six networks that differ only in the temporal depth of their kernels are trained on the same data with the same
settings: 1 (every frame by itself up to the pools), 3, 5 and 7 throughout, increasing and decreasing. A study that was
stopped continues from its last finished epoch; `depth.csv` and `depth.png` grow with every network.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.read import read_dataset
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.evaluation.evaluation_report import write_table
from c3dvideo.files import atomic_text
from c3dvideo.plots import draw_curves
from c3dvideo.reading import ForeignFile, parsing, read_json
from c3dvideo.reading_tables import csv_rows

DEPTHS: dict[str, tuple[int, ...]] = {
    "depth-1": (1, 1, 1, 1, 1),
    "depth-3": (3, 3, 3, 3, 3),
    "depth-5": (5, 5, 5, 5, 5),
    "depth-7": (7, 7, 7, 7, 7),
    "increasing": (3, 3, 5, 5, 7),
    "decreasing": (7, 5, 5, 3, 3),
}


@dataclass(frozen=True)
class DepthResult:
    """One network of the study: its kernels, its size, its validation accuracy after every epoch, and the best."""

    name: str
    temporal_depths: tuple[int, ...]
    parameters: int
    accuracies: tuple[float, ...]
    accuracy: float
    majority_class_share: float


def depth_study(
    data: str | Path | Dataset,
    out: str | Path,
    *,
    names: Sequence[str] = tuple(DEPTHS),
    preset: str = "modern",
    note: Callable[[str], None] | None = None,
    cache: str | Path | None = None,
    **changes: Any,
) -> list[DepthResult]:
    """Train every network of `names` on `data`; each run lies in `out/<name>`, tables and the plot in `out`.

    data: as in `train`, with a validation part. changes: settings of `train`, such as width, epochs and flip; the
        default network is the paper's small one. note: called with one line per finished network.
    Raises UsageError for an unknown network, StoreError when a table cannot be written.
    """
    from c3dvideo.training.run_folder import LAST
    from c3dvideo.training.train import train

    unknown = [name for name in names if name not in DEPTHS]
    if unknown or not names:
        raise UsageError(f"unknown network of the study: {', '.join(unknown) or 'none'}; it has {', '.join(DEPTHS)}")
    if "temporal_depths" in changes:
        raise UsageError("the study varies `temporal_depths=` itself; choose among its networks with `names=`")
    out, settings = Path(out), {"network": "c3d_small", **changes}
    dataset = data if isinstance(data, Dataset) else read_dataset(data)
    results = []
    for name in names:
        run = out / name
        metrics = _finished(run)
        if metrics is None:
            metrics = train(
                dataset,
                run,
                preset=preset,
                temporal_depths=DEPTHS[name],
                resume=(run / "checkpoints" / LAST).exists(),
                cache=cache or out / "frames",
                **settings,
            ).metrics
        results.append(_result(name, run, metrics))
        _write(out, results)
        if note is not None:
            note(f"{name}: {results[-1].accuracy:.1%} of videos, {results[-1].parameters:,} parameters")
    return results


def _finished(run: Path) -> dict[str, Any] | None:
    """The metrics of a finished run, None when it is not finished."""
    file = run / "metrics.json"
    advice = "delete it, and the same command trains this network anew"
    return read_json(ForeignFile(file, StoreError, "the metrics of a run", advice)) if file.exists() else None


def _result(name: str, run: Path, metrics: Mapping[str, Any]) -> DepthResult:
    log = ForeignFile(run / "log.csv", StoreError, "the log of a run")
    with parsing(ForeignFile(run / "metrics.json", StoreError, "the metrics of a run")):
        held_out = metrics["val"]
        return DepthResult(
            name,
            DEPTHS[name],
            metrics["parameters"],
            tuple(row.number("val_accuracy") or 0.0 for row in csv_rows(log, required=["val_accuracy"])),
            held_out["video_accuracy"],
            held_out["majority_class_share"],
        )


def _write(out: Path, results: Sequence[DepthResult]) -> None:
    """Write depth.csv, depth.json and depth.png of the networks that are finished."""
    rows = [
        (result.name, "-".join(map(str, result.temporal_depths)), result.parameters, epoch, accuracy)
        for result in results
        for epoch, accuracy in enumerate(result.accuracies)
    ]
    write_table(out / "depth.csv", ["network", "temporal_depths", "parameters", "epoch", "val_accuracy"], rows)
    summary = [{key: value for key, value in vars(result).items() if key != "accuracies"} for result in results]
    with atomic_text(out / "depth.json") as file:
        file.write(json.dumps(summary, indent=2) + "\n")
    curves = {
        result.name: ([float(epoch + 1) for epoch in range(len(result.accuracies))], list(result.accuracies))
        for result in results
    }
    draw_curves(
        out / "depth.png",
        curves,
        x_label="epoch",
        y_label="validation accuracy",
        title="Temporal depth of the kernels",
        levels={"most frequent class": results[0].majority_class_share},
    )
