"""Draw figures from plain arrays; each function writes one PNG or SVG file, chosen by the suffix of its path.

    draw_confusion("confusion.png", matrix, ["walk", "run"])

The module does not depend on videos, networks or feature files. The same arrays give the same bytes.
The sizes of figures and of their texts are those of `figure_layout`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from c3dvideo.errors import UsageError
from c3dvideo.figure_layout import (
    CHARACTER_WIDTH,
    INK,
    PHONE_PIXELS,
    ROW_POINTS,
    SMALL,
    TEXT,
    blank_figure,
    clean_axes,
    legend_below,
    legend_columns,
    matrix_axes,
    name_axes,
    new_figure,
    save_figure,
    short_name,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAINT, SECOND = "#d5dbe1", "#d9730d"
# Okabe and Ito's colours for colour-blind readers, without yellow (too light on white) and with grey instead of black
# (invisible in dark mode). A lighter grey would resemble the pink to these readers. Seven and eight have no common
# factor, so pairs of colour and marker repeat after 56.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#666666")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", ":", "-.")
_HATCHES = ("", "////", "....", "xxxx", "----", "||||", "\\\\\\\\", "++++")


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The timeline of one video: stretches [starts, ends) in seconds or frames, each with a class and a score."""

    name: str
    starts: Sequence[float]
    ends: Sequence[float]
    labels: Sequence[str]
    scores: Sequence[float]


def class_style(index: int) -> tuple[str, str]:
    """Colour and marker of the class `index`; the pair is unique among any 56 consecutive classes."""
    return _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]


def draw_confusion(path: str | Path, matrix: np.ndarray, classes: Sequence[str], *, title: str = "") -> None:
    """Draw counts (n, n), rows the true and columns the predicted class, coloured by the share per row.

    Every row has its name. Columns have names where these fit, else the numbers that stand before the row names.
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(classes), len(classes)):
        raise UsageError(
            f"the confusion matrix of {len(classes)} classes has shape {counts.shape}; expected one row and one column "
            "per class"
        )
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes, cell = matrix_axes(classes, classes, title)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xlabel("predicted", fontsize=TEXT)
    axes.set_ylabel("true", fontsize=TEXT)
    if text_width(str(counts.max(initial=0)), SMALL) < cell:
        for row, column in np.argwhere(counts):
            colour = "white" if share[row, column] > 0.5 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=SMALL, color=colour)
    save_figure(figure, path)


def draw_similarity(
    path: str | Path,
    matrix: np.ndarray,
    *,
    rows: Sequence[str] | tuple[float, float],
    columns: Sequence[str] | tuple[float, float],
    row_label: str = "",
    column_label: str = "",
    title: str = "",
) -> None:
    """Draw similarities (n, m); rows, columns: a name for each, or the first and last value of a numeric axis."""
    values = np.asarray(matrix, np.float64)
    names = [[str(name) for name in axis] if axis and isinstance(axis[0], str) else [] for axis in (rows, columns)]
    if values.ndim != 2 or any(found and len(found) != n for found, n in zip(names, values.shape, strict=False)):
        raise UsageError(
            f"the similarities have shape {values.shape}; expected one row per row name and one column per column name"
        )
    if names[0] and names[1]:
        figure, axes, _ = matrix_axes(names[0], names[1], title)
        extent: Any = None
    else:
        figure, axes = new_figure(PHONE_PIXELS, title)
        extent = (*columns, rows[1], rows[0])
    picture = axes.imshow(values, cmap="cividis", aspect="auto", extent=extent, interpolation="nearest")
    bar = figure.colorbar(picture, ax=axes, location="bottom", aspect=40, pad=0.02)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label("cosine", fontsize=TEXT)
    axes.set_xlabel(column_label, fontsize=TEXT)
    axes.set_ylabel(row_label, fontsize=TEXT)
    save_figure(figure, path)


def draw_roc(
    path: str | Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str = ""
) -> None:
    """Draw named ROC curves, each (false positive rates, true positive rates), and the diagonal of chance."""
    figure, axes = new_figure(PHONE_PIXELS + ROW_POINTS * len(curves), title)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", label="chance")
    for index, (name, (false_positive, true_positive)) in enumerate(curves.items()):
        axes.plot(
            false_positive, true_positive, color=_COLOURS[index % 7], linestyle=_LINES[index // 7 % 4], label=name
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    name_axes(axes, "false positive rate", "true positive rate")
    legend_below(figure, axes)
    save_figure(figure, path)


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
    below: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    below_label: str = "",
) -> None:
    """Draw named curves (x, y); references: published results as hollow points. levels: horizontal lines.

    below: curves of another quantity, on axes of their own under the first, with the same x.
    """
    n_entries = len(curves) + len(references or {}) + len(levels or {}) + len(below or {})
    figure = blank_figure(280 + 180 * bool(below) + ROW_POINTS * n_entries, title)
    axes, *others = figure.subplots(1 + bool(below), 1, squeeze=False, sharex=True).flat
    for panel, group, first, label in (
        (axes, curves, 0, y_label),
        *((each, below or {}, len(curves), below_label) for each in others),
    ):
        clean_axes(panel)
        _draw_lines(panel, group, first)
        panel.set_ylabel(label, fontsize=TEXT)
        panel.grid(axis="y", color=FAINT, linewidth=0.5)
    for marker, (name, (x, y)) in zip("sD^vP*" * 9, (references or {}).items(), strict=False):
        axes.plot(x, y, marker, color=SECOND, markerfacecolor="none", label=name)
    for line, (name, level) in zip(("--", ":", "-.") * 9, (levels or {}).items(), strict=False):
        axes.axhline(level, color="#808080", linestyle=line, zorder=0, label=name)
    if log_x:
        axes.set_xscale("log")
        ticks = _apart([value for x, _ in [*curves.values(), *(references or {}).values()] for value in x])
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    (others or [axes])[-1].set_xlabel(x_label, fontsize=TEXT)
    handles, names = zip(
        *(pair for panel in (axes, *others) for pair in zip(*panel.get_legend_handles_labels(), strict=True)),
        strict=True,
    )
    legend_below(figure, axes, handles, names)
    save_figure(figure, path)


def draw_scatter(path: str | Path, points: np.ndarray, labels: Sequence[str], *, title: str = "") -> None:
    """Draw points (n, 2), with one colour and marker per label (hollow after 56) and a legend of all labels."""
    names = sorted(set(labels))
    legend_rows = -(-len(names) // legend_columns([short_name(name) for name in names]))
    figure, axes = new_figure(PHONE_PIXELS - 20 + (ROW_POINTS + 1) * legend_rows * (len(names) > 1), title)
    for index, name in enumerate(names):
        colour, marker = class_style(index)
        x, y = np.asarray(points)[np.array([label == name for label in labels])].T
        face = "none" if index // 56 % 2 else colour
        axes.scatter(
            x,
            y,
            s=20,
            facecolors=face,
            edgecolors=colour,
            marker=marker,
            alpha=0.85,
            linewidths=0.8,
            label=name or "video",
        )
    axes.set(xticks=[], yticks=[])
    if len(names) > 1:
        legend_below(figure, axes)
    save_figure(figure, path)


def draw_timeline(
    path: str | Path, lanes: Sequence[Lane], *, x_label: str = "seconds", y_label: str = "", title: str = ""
) -> None:
    """Draw the classes of videos along their time: a bar per stretch, coloured by class, as high as its score.

    y_label: what the scores are; "" draws no y-axis. Scores between 0 and 1 have an axis from 0 to 1. Others have one
    from a little below the lowest score to the highest, on which every bar stands.
    """
    if not lanes:
        raise UsageError("there is no timeline to draw; expected at least one video")
    names = sorted({label for lane in lanes for label in lane.labels})
    scores = np.array([score for lane in lanes for score in lane.scores], np.float64)
    low, high = _score_range(scores)
    legend_rows = -(-max(len(names), 1) // legend_columns([short_name(name) for name in names]))
    figure = blank_figure(60 * len(lanes) + 50 + (ROW_POINTS + 1) * legend_rows, title)
    rows = list(figure.subplots(len(lanes), 1, squeeze=False, sharex=True).flat)
    shown: dict[str, Any] = {}
    for axes, lane in zip(rows, lanes, strict=True):
        clean_axes(axes)
        axes.set_title(short_name(lane.name, 50), fontsize=SMALL, loc="left", color=INK, pad=2)
        axes.set(ylim=(low, high), yticks=[low, high] if y_label else [])
        axes.yaxis.set_major_formatter("{x:.3g}")
        for start, end, label, score in zip(lane.starts, lane.ends, lane.labels, lane.scores, strict=True):
            index = names.index(label)
            shown[label] = axes.bar(
                start,
                max(score - low, 0.03 * (high - low)),
                bottom=low,
                width=end - start,
                align="edge",
                color=_COLOURS[index % len(_COLOURS)],
                hatch=_HATCHES[index // len(_COLOURS) % len(_HATCHES)],
                edgecolor="white",
                linewidth=0.3,
            )
    name_axes(rows[-1], x_label, "")
    if y_label:
        figure.supylabel(y_label, fontsize=TEXT, color=INK)
    ordered = [name for name in names if name in shown]
    legend_below(figure, rows[-1], [shown[name] for name in ordered], ordered)
    save_figure(figure, path)


def draw_grid(
    path: str | Path, pictures: Sequence[np.ndarray], *, captions: Sequence[str] = (), columns: int = 4, title: str = ""
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
    cell = PHONE_PIXELS / 4 if columns <= 4 else 108
    font = SMALL * max(1.0, cell * columns / PHONE_PIXELS)
    lines = [wrap(caption, max(8, int(cell / (CHARACTER_WIDTH * font)))) for caption in captions]
    caption_height = 1.3 * font * max(map(len, lines), default=0)
    row_height = cell * height / width + caption_height + 5
    figure = blank_figure(rows * row_height, title, width=cell * columns)
    # One axes, in points, for all pictures: an axes and a computed layout for each took four times as long.
    figure.set_layout_engine("none")
    points = 72 * figure.get_figheight()
    for text in figure.texts:  # the title
        text.set_y(1 - 3 / points)
    axes = figure.add_axes((0, 0, 1, rows * row_height / points))
    axes.set_axis_off()
    axes.set(xlim=(0, cell * columns), ylim=(rows * row_height, 0), autoscale_on=False)
    for number, picture in enumerate(pictures):
        middle, top = (number % columns + 0.5) * cell, (number // columns) * row_height + caption_height + 2
        scale = (cell - 6) / max(picture.shape[1], picture.shape[0] * width / height)
        across, down = scale * picture.shape[1], scale * picture.shape[0]
        axes.imshow(picture, extent=(middle - across / 2, middle + across / 2, top + down, top), aspect="auto")
        if captions:
            axes.text(middle, top - 2, "\n".join(lines[number]), fontsize=font, ha="center", va="bottom")
    save_figure(figure, path)


def _draw_lines(axes: "Axes", curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], first: int) -> None:
    """Draw curves in the styles from number `first` on."""
    for index, (name, (x, y)) in enumerate(curves.items(), start=first):
        colour, marker = class_style(index)
        every = max(1, len(x) // 12)
        line = _LINES[index // len(_COLOURS) % len(_LINES)]
        axes.plot(x, y, color=colour, linestyle=line, marker=marker, markersize=4, markevery=every, label=name)


def _score_range(scores: np.ndarray) -> tuple[float, float]:
    """The ends of an axis for scores: 0 and 1 for those between, else from a little below the lowest to the highest."""
    lowest, highest = float(scores.min(initial=np.inf)), float(scores.max(initial=-np.inf))
    if not len(scores) or (lowest >= 0 and highest <= 1):
        return 0.0, 1.0
    return lowest - 0.1 * ((highest - lowest) or 1.0), highest


def _apart(values: Sequence[float]) -> list[float]:
    """The values whose labels do not overlap on a logarithmic axis, from the smallest on, always with the largest."""
    ordered = sorted({value for value in values if value > 0}, reverse=True)
    span = np.log(ordered[0] / ordered[-1]) if len(ordered) > 1 else 1.0
    kept: list[float] = []
    for value in ordered:
        pixels = 300 * np.log(kept[-1] / value) / span if kept else np.inf
        if pixels > 8 + max(text_width(f"{tick:g}", SMALL) for tick in (value, *kept[-1:])):
            kept.append(value)
    return kept[::-1]
