"""Draw figures from plain arrays; each function writes one PNG or SVG file, chosen by the suffix of its path.

    draw_confusion("confusion.png", matrix, ["walk", "run"])

The module does not depend on videos, networks or feature files. The same arrays give the same bytes.

Figures are 390 / 72 inches wide. On a phone, whose screen is about 390 pixels wide, one point of a font is then one
pixel, and no text is smaller than `SMALL` of them. What needs more room makes a figure taller, never wider.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from c3dvideo.errors import MissingExtraError, UsageError
from c3dvideo.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, ACCENT, SECOND = "#1f2933", "#d5dbe1", "#0b6e99", "#d9730d"
# Okabe and Ito's colours for colour-blind readers, without yellow (too light on white) and with grey instead of black
# (invisible in dark mode). A lighter grey would resemble the pink to these readers. Seven and eight have no common
# factor, so pairs of colour and marker repeat after 56.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#666666")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", ":", "-.")
_HATCHES = ("", "////", "....", "xxxx", "----", "||||", "\\\\\\\\", "++++")
SUFFIXES = (".png", ".svg")

PHONE_PIXELS = 390
SMALL, TEXT, TITLE = 9, 10, 11
_CHARACTER = 0.62  # mean width of a character of the font, in font sizes, with some reserve
_ROW = 13
_LONGEST_NAME = 26


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
    figure, axes, cell = _matrix_axes(classes, classes, title)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xlabel("predicted", fontsize=TEXT)
    axes.set_ylabel("true", fontsize=TEXT)
    if _width(str(counts.max(initial=0)), SMALL) < cell:
        for row, column in np.argwhere(counts):
            colour = "white" if share[row, column] > 0.5 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=SMALL, color=colour)
    _save(figure, path)


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
        figure, axes, _ = _matrix_axes(names[0], names[1], title)
        extent: Any = None
    else:
        figure, axes = _figure(PHONE_PIXELS, title)
        extent = (*columns, rows[1], rows[0])
    picture = axes.imshow(values, cmap="cividis", aspect="auto", extent=extent, interpolation="nearest")
    bar = figure.colorbar(picture, ax=axes, location="bottom", aspect=40, pad=0.02)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label("cosine", fontsize=TEXT)
    axes.set_xlabel(column_label, fontsize=TEXT)
    axes.set_ylabel(row_label, fontsize=TEXT)
    _save(figure, path)


def draw_roc(
    path: str | Path, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str = ""
) -> None:
    """Draw named ROC curves, each (false positive rates, true positive rates), and the diagonal of chance."""
    figure, axes = _figure(PHONE_PIXELS + _ROW * len(curves), title)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", label="chance")
    for index, (name, (false_positive, true_positive)) in enumerate(curves.items()):
        axes.plot(
            false_positive, true_positive, color=_COLOURS[index % 7], linestyle=_LINES[index // 7 % 4], label=name
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    _name_axes(axes, "false positive rate", "true positive rate")
    _legend_below(figure, axes)
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
    below: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    below_label: str = "",
) -> None:
    """Draw named curves (x, y); references: published results as hollow points. levels: horizontal lines.

    below: curves of another quantity, on axes of their own under the first, with the same x.
    """
    n_entries = len(curves) + len(references or {}) + len(levels or {}) + len(below or {})
    figure = _blank(280 + 180 * bool(below) + _ROW * n_entries, title)
    axes, *others = figure.subplots(1 + bool(below), 1, squeeze=False, sharex=True).flat
    for panel, group, first, label in (
        (axes, curves, 0, y_label),
        *((each, below or {}, len(curves), below_label) for each in others),
    ):
        _clean(panel)
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
    _legend_below(figure, axes, handles, names)
    _save(figure, path)


def draw_scatter(path: str | Path, points: np.ndarray, labels: Sequence[str], *, title: str = "") -> None:
    """Draw points (n, 2), with one colour and marker per label (hollow after 56) and a legend of all labels."""
    names = sorted(set(labels))
    legend_rows = -(-len(names) // _legend_columns([_short(name) for name in names]))
    figure, axes = _figure(PHONE_PIXELS - 20 + (_ROW + 1) * legend_rows * (len(names) > 1), title)
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
        _legend_below(figure, axes)
    _save(figure, path)


def draw_timeline(path: str | Path, lanes: Sequence[Lane], *, x_label: str = "seconds", title: str = "") -> None:
    """Draw the classes of videos along their time: a bar per stretch, coloured by class, as high as its score.

    Scores between 0 and 1 are drawn as they are. Others are scaled to the range of all scores.
    """
    if not lanes:
        raise UsageError("there is no timeline to draw; expected at least one video")
    names = sorted({label for lane in lanes for label in lane.labels})
    scores = np.array([score for lane in lanes for score in lane.scores], np.float64)
    low, high = min(0.0, float(scores.min(initial=0))), max(1.0, float(scores.max(initial=1)))
    legend_rows = -(-max(len(names), 1) // _legend_columns([_short(name) for name in names]))
    figure = _blank(60 * len(lanes) + 50 + (_ROW + 1) * legend_rows, title)
    rows = list(figure.subplots(len(lanes), 1, squeeze=False, sharex=True).flat)
    shown: dict[str, Any] = {}
    for axes, lane in zip(rows, lanes, strict=True):
        _clean(axes)
        axes.set_title(_short(lane.name, 50), fontsize=SMALL, loc="left", color=INK, pad=2)
        axes.set(ylim=(0, 1), yticks=[])
        for start, end, label, score in zip(lane.starts, lane.ends, lane.labels, lane.scores, strict=True):
            index = names.index(label)
            shown[label] = axes.bar(
                start,
                max((score - low) / (high - low), 0.03),
                width=end - start,
                align="edge",
                color=_COLOURS[index % len(_COLOURS)],
                hatch=_HATCHES[index // len(_COLOURS) % len(_HATCHES)],
                edgecolor="white",
                linewidth=0.3,
            )
    _name_axes(rows[-1], x_label, "")
    ordered = [name for name in names if name in shown]
    _legend_below(figure, rows[-1], [shown[name] for name in ordered], ordered)
    _save(figure, path)


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
    lines = [wrap(caption, max(8, int(cell / (_CHARACTER * font)))) for caption in captions]
    caption_height = 1.3 * font * max(map(len, lines), default=0)
    figure = _blank(rows * (cell * height / width + caption_height + 5), title, width=cell * columns)
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in cells:
        axes.set_axis_off()
    for axes, picture in zip(cells, pictures, strict=False):
        axes.imshow(picture)
    for axes, caption in zip(cells, lines, strict=False):
        axes.set_title("\n".join(caption), fontsize=font, pad=2)
    _save(figure, path)


def _blank(height: float, title: str, *, width: float = PHONE_PIXELS) -> "Figure":
    """An empty figure; width and height in points, the height without the title."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots") from error
    lines = wrap(title, int(width / (_CHARACTER * TITLE)))
    size = (width / 72, (height + 1.5 * TITLE * len(lines)) / 72)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    if title:
        figure.suptitle("\n".join(lines), fontsize=TITLE, color=INK)
    return figure


def _figure(height: float, title: str) -> tuple["Figure", "Axes"]:
    figure = _blank(height, title)
    axes: Any = figure.subplots()
    _clean(axes)
    return figure, axes


def _clean(axes: "Axes") -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=SMALL)


def _draw_lines(axes: "Axes", curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], first: int) -> None:
    """Draw curves in the styles from number `first` on."""
    for index, (name, (x, y)) in enumerate(curves.items(), start=first):
        colour, marker = class_style(index)
        every = max(1, len(x) // 12)
        line = _LINES[index // len(_COLOURS) % len(_LINES)]
        axes.plot(x, y, color=colour, linestyle=line, marker=marker, markersize=4, markevery=every, label=name)


def _name_axes(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, fontsize=TEXT)
    axes.set_ylabel(y_label, fontsize=TEXT)


def _matrix_axes(rows: Sequence[str], columns: Sequence[str], title: str) -> tuple["Figure", "Axes", float]:
    """Axes for a matrix whose rows all have a name, and the width of a column in points."""
    row_names, column_names = [_short(name) for name in rows], [_short(name) for name in columns]
    label_width = max(_width(f"{len(rows)} {name}", SMALL) for name in row_names)
    cell = (PHONE_PIXELS - label_width - 45) / max(len(columns), 1)
    named = cell >= _ROW - 1
    if not named:
        row_names = [f"{name} {number}" for number, name in enumerate(row_names, start=1)]
    top = max(_width(name, SMALL) for name in column_names) if named else 15
    figure, axes = _figure(max(_ROW, min(cell, 40)) * len(rows) + top + 70, title)
    axes.set_yticks(range(len(rows)), row_names, fontsize=SMALL)
    if named:
        axes.set_xticks(range(len(columns)), column_names, rotation=90, fontsize=SMALL)
    else:
        step = next(step for step in (2, 5, 10, 20, 50, 100, 200, 500, 1000) if step * cell > 25 or step == 1000)
        numbers = range(step, len(columns) + 1, step)
        axes.set_xticks([number - 1 for number in numbers], [str(number) for number in numbers], fontsize=SMALL)
    return figure, axes, cell


def _legend_columns(names: Sequence[str]) -> int:
    widest = max((_width(name, SMALL) for name in names), default=0)
    return max(1, min(4, int((PHONE_PIXELS - 10) / (widest + 32))))


def _legend_below(figure: "Figure", axes: "Axes", handles: Sequence[Any] = (), names: Sequence[str] = ()) -> None:
    if not handles:
        handles, names = axes.get_legend_handles_labels()
    shown = [_short(name, 55) if len(names) < 10 else _short(name) for name in names]
    figure.legend(
        handles,
        shown,
        loc="outside lower center",
        ncols=_legend_columns(shown),
        frameon=False,
        fontsize=SMALL,
        labelspacing=0.3,
        handlelength=1.8,
        columnspacing=1.0,
    )


def _apart(values: Sequence[float]) -> list[float]:
    """The values whose labels do not overlap on a logarithmic axis, from the smallest on, always with the largest."""
    ordered = sorted({value for value in values if value > 0}, reverse=True)
    span = np.log(ordered[0] / ordered[-1]) if len(ordered) > 1 else 1.0
    kept: list[float] = []
    for value in ordered:
        pixels = 300 * np.log(kept[-1] / value) / span if kept else np.inf
        if pixels > 8 + max(_width(f"{tick:g}", SMALL) for tick in (value, *kept[-1:])):
            kept.append(value)
    return kept[::-1]


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    """The name, its middle left out where it is too long for a label."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[: longest - 1 - half]}…{name[-half:]}"


def _width(text: str, size: float) -> float:
    """About how wide the text is, in points."""
    return _CHARACTER * size * len(text)


def _save(figure: "Figure", path: str | Path) -> None:
    from matplotlib import rc_context

    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: the suffix is {suffix!r}; expected .png or .svg")
    # Without these settings the bytes vary: an SVG holds random identifiers and the date, a PNG matplotlib's version.
    metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "c3dvideo"}), atomic_file(path) as file:
        figure.savefig(file, format=suffix[1:], metadata=metadata)
