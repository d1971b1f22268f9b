"""How long should kernels be in time? The paper's study (section 3.2, figure 2) on any data set, as one command.

    results = depth_study("my_videos", "study", width=0.25, epochs=16)

Six networks that differ only in the temporal depth of their kernels learn the same data from the same recipe: 1 (which
sees each frame by itself until the pools), 3, 5 and 7 throughout, increasing and decreasing. A study that is stopped
and started again goes on where it was; `depth.csv` and `depth.png` grow with every network.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.read import read_dataset
from c3dvideo.errors import UsageError
from c3dvideo.plots import draw_curves

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
    """One network of the study: its kernels, its size, its validation accuracy after every epoch and its best."""

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

    data: as in `train`, with its validation part. changes: of the recipe, as in `train`, such as width, epochs, flip;
        the network is the paper's small one unless `network` says otherwise. note: told a line a finished network.
    """
    from c3dvideo.training.run_folder import LAST
    from c3dvideo.training.train import train

    unknown = [name for name in names if name not in DEPTHS]
    if unknown or not names:
        raise UsageError(f"unknown network of the study: {', '.join(unknown) or 'none'}; it has {', '.join(DEPTHS)}")
    if "temporal_depths" in changes:
        raise UsageError("temporal_depths is what the study varies; choose among its networks by name")
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
    file = run / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _result(name: str, run: Path, metrics: Mapping[str, Any]) -> DepthResult:
    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        accuracies = tuple(float(row["val_accuracy"]) for row in csv.DictReader(file))
    held_out = metrics["val"]
    return DepthResult(
        name,
        DEPTHS[name],
        metrics["parameters"],
        accuracies,
        held_out["video_accuracy"],
        held_out["majority_class_share"],
    )


def _write(out: Path, results: Sequence[DepthResult]) -> None:
    with (out / "depth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "temporal_depths", "parameters", "epoch", "val_accuracy"])
        for result in results:
            depths = "-".join(map(str, result.temporal_depths))
            for epoch, accuracy in enumerate(result.accuracies):
                writer.writerow([result.name, depths, result.parameters, epoch, accuracy])
    summary = [{key: value for key, value in vars(result).items() if key != "accuracies"} for result in results]
    (out / "depth.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
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
        levels={"largest class": results[0].majority_class_share},
    )
