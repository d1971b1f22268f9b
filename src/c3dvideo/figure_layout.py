"""Empty figures for phones and screens, legends below them, and their files.

    figure, axes = new_figure(PHONE_PIXELS, "Accuracy")
    save_figure(figure, "accuracy.png")

Figures are 390 / 72 inches wide. On a phone, whose screen is about 390 pixels wide, one point of a font is then one
pixel, and no text is smaller than `SMALL` of them. What needs more room makes a figure taller, never wider.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from c3dvideo.errors import MissingExtraError, UsageError
from c3dvideo.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
PHONE_PIXELS = 390
INK = "#1f2933"
SMALL, TEXT, TITLE = 9, 10, 11
CHARACTER_WIDTH = 0.62  # mean width of a character of the font, in font sizes, with some reserve
ROW_POINTS = 13
_LONGEST_NAME = 26


def blank_figure(height: float, title: str, *, width: float = PHONE_PIXELS) -> "Figure":
    """An empty figure; width and height in points, the height without the title."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots") from error
    lines = wrap(title, int(width / (CHARACTER_WIDTH * TITLE)))
    size = (width / 72, (height + 1.5 * TITLE * len(lines)) / 72)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    if title:
        figure.suptitle("\n".join(lines), fontsize=TITLE, color=INK)
    return figure


def new_figure(height: float, title: str) -> tuple["Figure", "Axes"]:
    figure = blank_figure(height, title)
    axes: Any = figure.subplots()
    clean_axes(axes)
    return figure, axes


def clean_axes(axes: "Axes") -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=SMALL)


def name_axes(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, fontsize=TEXT)
    axes.set_ylabel(y_label, fontsize=TEXT)


def matrix_axes(rows: Sequence[str], columns: Sequence[str], title: str) -> tuple["Figure", "Axes", float]:
    """Axes for a matrix whose rows all have a name, and the width of a column in points."""
    row_names, column_names = [short_name(name) for name in rows], [short_name(name) for name in columns]
    label_width = max(text_width(f"{len(rows)} {name}", SMALL) for name in row_names)
    cell = (PHONE_PIXELS - label_width - 45) / max(len(columns), 1)
    named = cell >= ROW_POINTS - 1
    if not named:
        row_names = [f"{name} {number}" for number, name in enumerate(row_names, start=1)]
    top = max(text_width(name, SMALL) for name in column_names) if named else 15
    figure, axes = new_figure(max(ROW_POINTS, min(cell, 40)) * len(rows) + top + 70, title)
    axes.set_yticks(range(len(rows)), row_names, fontsize=SMALL)
    if named:
        axes.set_xticks(range(len(columns)), column_names, rotation=90, fontsize=SMALL)
    else:
        step = next(step for step in (2, 5, 10, 20, 50, 100, 200, 500, 1000) if step * cell > 25 or step == 1000)
        numbers = range(step, len(columns) + 1, step)
        axes.set_xticks([number - 1 for number in numbers], [str(number) for number in numbers], fontsize=SMALL)
    return figure, axes, cell


def legend_columns(names: Sequence[str]) -> int:
    widest = max((text_width(name, SMALL) for name in names), default=0)
    return max(1, min(4, int((PHONE_PIXELS - 10) / (widest + 32))))


def legend_below(figure: "Figure", axes: "Axes", handles: Sequence[Any] = (), names: Sequence[str] = ()) -> None:
    if not handles:
        handles, names = axes.get_legend_handles_labels()
    shown = [short_name(name, 55) if len(names) < 10 else short_name(name) for name in names]
    figure.legend(
        handles,
        shown,
        loc="outside lower center",
        ncols=legend_columns(shown),
        frameon=False,
        fontsize=SMALL,
        labelspacing=0.3,
        handlelength=1.8,
        columnspacing=1.0,
    )


def short_name(name: str, longest: int = _LONGEST_NAME) -> str:
    """The name, its middle left out where it is too long for a label."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[: longest - 1 - half]}…{name[-half:]}"


def text_width(text: str, size: float) -> float:
    """About how wide the text is, in points."""
    return CHARACTER_WIDTH * size * len(text)


def check_picture(path: str | Path) -> None:
    """Raise UsageError unless the path ends as a picture that `save_figure` writes."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: the suffix is {Path(path).suffix!r}; expected {' or '.join(SUFFIXES)}")


def save_figure(figure: "Figure", path: str | Path) -> None:
    from matplotlib import rc_context

    check_picture(path)
    suffix = Path(path).suffix.lower()
    # Without these settings the bytes vary: an SVG holds random identifiers and the date, a PNG matplotlib's version.
    metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "c3dvideo"}), atomic_file(path) as file:
        figure.savefig(file, format=suffix[1:], metadata=metadata)
