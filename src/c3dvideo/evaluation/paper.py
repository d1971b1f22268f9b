"""Published figures with their sources, to print beside ours.

    for row in PUBLISHED["similarity"]:
        row.method, row.values["accuracy"], row.source

Figures are in percent, as printed. `checked` is False for a figure that was taken from the literature and not compared
with its source: it is shown "as reported", and no test depends on it. Table and figure numbers are those of Tran et
al., ICCV 2015 (arXiv 1412.0767).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """The percentages of one method by metric, where they are printed, and whether they were compared with that."""

    method: str
    values: Mapping[str, float]
    where: str
    checked: bool = False

    @property
    def source(self) -> str:
        """Where the figure is printed, with a remark unless it was compared with that."""
        return self.where if self.checked else f"{self.where}, as reported"


def _sports1m(method: str, clip: float, video: float, video5: float) -> Published:
    return Published(method, {"clip@1": clip, "video@1": video, "video@5": video5}, "Table 2, Sports-1M")


def _video(method: str, accuracy: float, where: str, checked: bool = False) -> Published:
    return Published(method, {"video@1": accuracy}, where, checked)


def _pairs(method: str, accuracy: float, auc: float, where: str = "Table 4", checked: bool = False) -> Published:
    return Published(method, {"accuracy": accuracy, "auc": auc}, where, checked)


_UCF = "Table 3, UCF101, 3 splits"
_RELEASE = "the release's issue tracker"

PUBLISHED: Mapping[str, Sequence[Published]] = {
    "recognition": (
        _sports1m("DeepVideo, slow fusion", 41.9, 60.9, 80.2),
        _sports1m("C3D from scratch", 44.9, 60.0, 84.4),
        _sports1m("C3D, the released weights", 46.1, 61.1, 85.2),
        _video("ImageNet + linear SVM", 68.8, _UCF),
        _video("improved dense trajectories, bag of words + linear SVM", 76.2, _UCF),
        _video("C3D (1 net) + linear SVM", 82.3, _UCF, checked=True),
        _video("C3D (3 nets) + linear SVM", 85.2, _UCF, checked=True),
        _video("C3D (3 nets) + iDT + linear SVM", 90.4, _UCF, checked=True),
        _video("released weights, fc6 + linear SVM, mean of 83.14, 79.75, 82.52", 81.8, f"{_RELEASE}, #156", True),
        Published("released fine-tuned network", {"clip@1": 80.19}, "user guide of the release, UCF101 split 1", True),
        Published("small network from scratch", {"clip@1": 45.0}, f"{_RELEASE}, #42, UCF101 split 1", True),
    ),
    "similarity": (
        _pairs("STIP", 60.9, 65.3, "Table 4; ASLAN page", checked=True),
        _pairs("MIP", 65.5, 71.9, "Table 4; ASLAN page", checked=True),
        _pairs("MIP + STIP + MBH", 66.1, 73.2),
        _pairs("iDT + Fisher vectors", 68.7, 75.4),
        _pairs("ImageNet", 67.5, 73.8),
        _pairs("C3D", 78.3, 86.5),
        _pairs("human", 94.19, 97.8, "ASLAN page", checked=True),
    ),
    "scenes": (
        Published("best before, YUPENN", {"accuracy": 96.2}, "Table 5", True),
        Published("ImageNet, YUPENN", {"accuracy": 96.7}, "Table 5"),
        Published("C3D, YUPENN", {"accuracy": 98.1}, "Table 5", True),
        Published("best before, Maryland", {"accuracy": 77.7}, "Table 5", True),
        Published("ImageNet, Maryland", {"accuracy": 87.7}, "Table 5"),
        Published("C3D, Maryland", {"accuracy": 87.7}, "Table 5", True),
    ),
    "objects": (
        Published("best before (RBF kernel, SIFT-RANSAC)", {"accuracy": 12.0}, "section 6", True),
        Published("ImageNet", {"accuracy": 25.7}, "section 6"),
        Published("C3D", {"accuracy": 22.3}, "section 6", True),
    ),
    "compactness": (
        Published("C3D, 10 dimensions", {"accuracy": 52.8}, "Figure 5, UCF101; abstract", True),
        Published("C3D, 50 dimensions", {"accuracy": 72.6}, "Figure 5, UCF101"),
        Published("C3D, 100 dimensions", {"accuracy": 75.6}, "Figure 5, UCF101"),
        Published("C3D, 500 dimensions", {"accuracy": 79.4}, "Figure 5, UCF101"),
    ),
    "depth": (Published("depth-3, UCF101 split 1", {"clip@1": 45.0}, f"Figure 2; {_RELEASE}, #42", True),),
}
COMPACTNESS_POINTS = {10: 0.528, 50: 0.726, 100: 0.756, 500: 0.794}


def beside(task: str) -> list[dict[str, Any]]:
    """The published rows of a task, for JSON."""
    return [{"method": row.method, "values": dict(row.values), "source": row.source} for row in PUBLISHED[task]]


def comparison(
    task: str,
    ours: Mapping[str, float],
    *,
    label: str = "ours",
    baselines: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """A text table in percent: our fractions, the baselines, then the published rows that share a metric with them.

    ours: fractions by metric. baselines: fractions by metric of every baseline, by its name.
    """
    metrics = list(ours)
    measured = {label: ours, **(baselines or {})}
    rows: list[tuple[str, Mapping[str, float], str]] = [
        (name, {metric: 100 * value for metric, value in values.items()}, "this run" if name == label else "")
        for name, values in measured.items()
    ]
    rows += [(row.method, row.values, row.source) for row in PUBLISHED[task] if set(row.values) & set(metrics)]
    width = max(len(method) for method, _, _ in rows)
    lines = [" " * width + "".join(f"{name:>10}" for name in metrics) + "  source"]
    for method, values, source in rows:
        cells = "".join(f"{values[name]:10.1f}" if name in values else " " * 10 for name in metrics)
        lines.append(f"{method:<{width}}{cells}  {source}".rstrip())
    return "\n".join(lines)
