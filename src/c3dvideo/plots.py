"""Draw figures from plain arrays; each function writes one PNG or SVG file, chosen by the suffix of its path.

    draw_confusion("confusion.png", matrix, ["walk", "run"])

The module does not depend on videos, networks or feature files. The same arrays give the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from c3dvideo.errors import MissingExtraError, UsageError
from c3dvideo.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, ACCENT, SECOND = "#1f2933", "#d5dbe1", "#0b6e99", "#d9730d"
# Okabe and Ito's colours for colour-blind readers, without yellow (too light on white) and with grey instead of black
# (invisible in dark mode). Seven and eight have no common factor, so pairs of colour and marker repeat after 56.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#808080")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SUFFIXES = (".png", ".svg")
_LEGEND_LIMIT = 20
_LEGEND_ROWS = 25


def class_style(index: int) -> tuple[str, str]:
    """Colour and marker of the class `index`; the pair is unique among any 56 consecutive classes."""
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]


def draw_confusion(path: str | Path, matrix: np.ndarray, classes: Sequence[str], *, title: str = "") -> None:
    """Draw counts (n, n), rows the true and columns the predicted class, coloured by the share per row."""
    counts = np.asarray(matrix)
    if counts.shape != (len(classes), len(classes)):
        raise UsageError(
            f"the confusion matrix of {len(classes)} classes has shape {counts.shape}; expected one row and one column "
            "per class"
        )
    side = max(3.2, 1.6 + 0.42 * len(classes))
    figure, axes = _figure(side, side, title)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= 60:
        axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
    if len(classes) <= 25:
        for row, column in np.argwhere(counts):
            colour = "white" if share[row, column] > 0.5 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    _save(figure, path)


def draw_roc(
    path: str | Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str = ""
) -> None:
    """Draw named ROC curves, each (false positive rates, true positive rates), and the diagonal of chance."""
    figure, axes = _figure(4.4, 4.4, title)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", label="chance")
    for colour, (name, (false_positive, true_positive)) in zip(_colours(len(curves)), curves.items(), strict=True):
        axes.plot(false_positive, true_positive, color=colour, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    _save(figure, path)


def draw_curves(
    path: str | Path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    references: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    levels: Mapping[str, float] | None = None,
    log_x: bool = False,
) -> None:
    """Draw named curves (x, y); references: published results as hollow points. levels: horizontal lines."""
    figure, axes = _figure(5.6, 3.8, title)
    for colour, (name, (x, y)) in zip(_colours(len(curves)), curves.items(), strict=True):
        axes.plot(x, y, color=colour, marker="o", markersize=4, label=name)
    for marker, (name, (x, y)) in zip("sD^vP*" * 9, (references or {}).items(), strict=False):
        axes.plot(x, y, marker, color=SECOND, markerfacecolor="none", label=name)
    for name, level in (levels or {}).items():
        axes.axhline(level, color=FAINT, linestyle="--", zorder=0, label=name)
    if log_x:
        axes.set_xscale("log")
        ticks = sorted({value for x, _ in [*curves.values(), *(references or {}).values()] for value in x})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_scatter(path: str | Path, points: np.ndarray, labels: Sequence[str], *, title: str = "") -> None:
    """Draw points (n, 2), with one colour and marker per label and a legend of all labels."""
    names = sorted(set(labels))
    columns = -(-len(names) // _LEGEND_ROWS)
    legend_width = columns * (0.5 + 0.085 * max(map(len, names))) if len(names) > 1 else 0.0
    figure, axes = _figure(5.0 + legend_width, 5.0, title)
    for index, name in enumerate(names):
        colour, marker = class_style(index)
        x, y = np.asarray(points)[np.array([label == name for label in labels])].T
        axes.scatter(x, y, s=20, color=colour, marker=marker, alpha=0.85, linewidths=0, label=name or "video")
    axes.set(xticks=[], yticks=[])
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=columns)
    _save(figure, path)


def draw_grid(
    path: str | Path, pictures: Sequence[np.ndarray], *, captions: Sequence[str] = (), columns: int = 8, title: str = ""
) -> None:
    """Draw uint8 RGB pictures (H, W, 3) in rows of `columns`, each under its caption."""
    if not len(pictures) or (captions and len(captions) != len(pictures)):
        raise UsageError(
            f"a grid takes pictures with one caption per picture, or none; got {len(pictures)} pictures and "
            f"{len(captions)} captions"
        )
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    height, width = np.asarray(pictures[0]).shape[:2]
    cell = 1.5
    figure = _blank(cell * columns, rows * (cell * height / width + (0.25 if captions else 0.05)), title)
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in cells:
        axes.set_axis_off()
    for axes, picture in zip(cells, pictures, strict=False):
        axes.imshow(picture)
    for axes, caption in zip(cells, captions, strict=False):
        axes.set_title(caption, fontsize=7)
    _save(figure, path)


def _blank(width: float, height: float, title: str) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots") from error
    figure = Figure(figsize=(width, height + (0.3 if title else 0)), dpi=150, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _figure(width: float, height: float, title: str) -> tuple["Figure", "Axes"]:
    figure = _blank(width, height, title)
    axes: Any = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def _colours(n: int) -> list[Any]:
    """`n` colours: our own for up to two, a palette for up to 20, else evenly spaced hues."""
    from matplotlib import colormaps

    if n <= 2:
        return [ACCENT, SECOND][:n]
    if n <= _LEGEND_LIMIT:
        palette = colormaps["tab10" if n <= 10 else "tab20"]
        return [palette(index) for index in range(n)]
    return [colormaps["hsv"](index / n) for index in range(n)]


def _save(figure: "Figure", path: str | Path) -> None:
    from matplotlib import rc_context

    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: the suffix is {suffix!r}; expected .png or .svg")
    # Without these settings the bytes vary: an SVG holds random identifiers and the date, a PNG matplotlib's version.
    metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "c3dvideo"}), atomic_file(path) as file:
        figure.savefig(file, format=suffix[1:], metadata=metadata)
