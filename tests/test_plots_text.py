"""Text in pictures: on a screen 390 pixels wide it is large enough, overlaps nothing, and lies inside the picture."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from c3dvideo import figure_layout, plots

CLASSES = [f"Playing{name}{'Instrument' * (index % 3 == 0)}" for index, name in enumerate("abcdefghij" * 11)]
CLASSES = [f"{name}{index}" for index, name in enumerate(CLASSES)]
RANDOM = np.random.default_rng(0)


def confusion(n: int) -> Callable[[Path], None]:
    matrix = RANDOM.poisson(0.3, (n, n)) + np.diag(RANDOM.integers(5, 40, n))
    return lambda path: plots.draw_confusion(path, matrix, CLASSES[:n], title="test: 81.2% of 3783 videos")


def scatter(n: int) -> Callable[[Path], None]:
    labels = [CLASSES[index % n] for index in range(3 * n)]
    return lambda path: plots.draw_scatter(path, RANDOM.normal(size=(3 * n, 2)), labels, title="a map")


def timeline(n_lanes: int, n_classes: int) -> Callable[[Path], None]:
    lanes = [
        plots.Lane(
            name=f"a folder with a long name/and a video with a long name {lane}.mp4",
            starts=list(range(30)),
            ends=list(range(1, 31)),
            labels=[CLASSES[(lane + k) % n_classes] for k in range(30)],
            scores=RANDOM.random(30).tolist(),
        )
        for lane in range(n_lanes)
    ]
    return lambda path: plots.draw_timeline(path, lanes, title="what happens when")


DRAWINGS: dict[str, Callable[[Path], None]] = {
    **{f"confusion of {n}": confusion(n) for n in (1, 2, 7, 20, 25, 50, 51, 101)},
    **{f"map of {n}": scatter(n) for n in (1, 7, 50, 101)},
    **{f"timeline of {n}": timeline(n, classes) for n, classes in ((1, 1), (3, 8), (40, 101))},
    "timeline of scores": lambda path: plots.draw_timeline(
        path,
        [plots.Lane(name="a.mp4", starts=[0, 1], ends=[1, 2], labels=["a", "b"], scores=[-0.93, -0.91])] * 3,
        y_label="score",
    ),
    "similarity of names": lambda path: plots.draw_similarity(
        path, RANDOM.random((60, 60)), rows=CLASSES[:60], columns=CLASSES[:60]
    ),
    "similarity of seconds": lambda path: plots.draw_similarity(
        path,
        RANDOM.random((30, 700)),
        rows=(0.0, 12.5),
        columns=(0.0, 7200.0),
        row_label="a.mp4, seconds",
        column_label="b.mp4, seconds",
    ),
    "compactness": lambda path: plots.draw_curves(
        path,
        {f"weights number {k}": ([10, 11, 50, 100, 500, 4096], (RANDOM.random(6)).tolist()) for k in range(9)},
        references={"C3D, UCF101 (paper, Figure 5)": ([10, 50, 100, 500], [0.5, 0.7, 0.75, 0.8])},
        levels={"ours, all 4096": 0.85, "chance level": 0.1},
        x_label="dimensions",
        y_label="accuracy",
        log_x=True,
    ),
    "training": lambda path: plots.draw_curves(
        path,
        {"validation accuracy": (range(40), RANDOM.random(40).tolist())},
        x_label="epoch",
        y_label="validation accuracy",
        below={name: (range(40), (5 * RANDOM.random(40)).tolist()) for name in ("training loss", "validation loss")},
        below_label="loss",
        title="a run",
    ),
    "roc": lambda path: plots.draw_roc(path, {"ours, area under the curve 0.783": ([0, 0.2, 1], [0, 0.9, 1])}),
    "grid": lambda path: plots.draw_grid(
        path,
        [RANDOM.integers(0, 255, (112, 112, 3)).astype(np.uint8) for _ in range(10)],
        captions=[f"v_ApplyEyeMakeup_g01_c{k:02d}.avi, 12.40-15.60 s" for k in range(10)],
        title="conv5b, unit 17: the clips that it responds to most in a collection with a long name",
    ),
    "one row of nine": lambda path: plots.draw_grid(
        path, [np.zeros((32, 32, 3), np.uint8)] * 9, captions=["a caption of several lines of text"] * 9, columns=9
    ),
}


@pytest.fixture
def figure_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], Any]:
    """The figure that a drawing makes, laid out and not saved."""

    def draw(drawing: Callable[[Path], None]) -> Any:
        figures: list[Any] = []
        monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
        drawing(Path("x.png"))
        FigureCanvasAgg(figures[0]).draw()
        return figures[0]

    return draw


def visible_texts(figure: Any) -> list[tuple[Text, Any]]:
    """Every text with something to read, and its box in pixels of the figure."""
    renderer = figure.canvas.get_renderer()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    ticks = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    shown = {
        id(label)
        for axes in figure.axes
        if axes.axison
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis._update_ticks()
        for label in (tick.label1, tick.label2)
        if label.get_visible()
    }
    return [(text, text.get_window_extent(renderer)) for text in texts if id(text) not in ticks or id(text) in shown]


@pytest.mark.parametrize("name", DRAWINGS)
def test_text_is_readable_on_a_phone(name: str, figure_of: Callable[..., Any]) -> None:
    figure = figure_of(DRAWINGS[name])
    pixels_per_point = figure_layout.PHONE_PIXELS / (72 * figure.get_figwidth())
    texts = visible_texts(figure)
    assert texts or name == "map of 1"
    assert min((text.get_fontsize() * pixels_per_point for text, _ in texts), default=9) >= 9 - 1e-6


def test_a_timeline_of_negative_scores_has_bars_and_an_axis(figure_of: Callable[..., Any]) -> None:
    figure = figure_of(DRAWINGS["timeline of scores"])
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert (low, high) == pytest.approx((-0.932, -0.91))
    heights = [bar.get_height() / (high - low) for bar in axes.patches]
    assert heights == pytest.approx([1 / 11, 1])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["\u22120.932", "\u22120.91"]
    assert figure.get_supylabel() == "score"


@pytest.mark.parametrize("name", DRAWINGS)
def test_texts_do_not_overlap_and_lie_inside(name: str, figure_of: Callable[..., Any]) -> None:
    figure = figure_of(DRAWINGS[name])
    texts = visible_texts(figure)
    area = figure.bbox
    for text, box in texts:
        assert area.x0 - 2 <= box.x0, f"{text.get_text()!r} leaves the picture"
        assert box.x1 <= area.x1 + 2, f"{text.get_text()!r} leaves the picture"
        assert area.y0 - 2 <= box.y0, f"{text.get_text()!r} leaves the picture"
        assert box.y1 <= area.y1 + 2, f"{text.get_text()!r} leaves the picture"
    for (first, one), (second, two) in combinations(texts, 2):
        wide = min(one.x1, two.x1) - max(one.x0, two.x0)
        tall = min(one.y1, two.y1) - max(one.y0, two.y0)
        # Boxes include the line's ascent and descent, which most letters leave free.
        overlaps = wide > 1 and tall > 0.25 * min(one.height, two.height)
        assert not overlaps, f"{first.get_text()!r} overlaps {second.get_text()!r}"


@pytest.mark.parametrize("n", [50, 61, 101])
def test_every_class_of_a_large_confusion_matrix_is_named(n: int, figure_of: Callable[..., Any]) -> None:
    names = {text.get_text().rpartition(" ")[0] for text, _ in visible_texts(figure_of(confusion(n)))}
    assert set(CLASSES[:n]) <= names


def test_long_names_are_shortened_in_the_middle() -> None:
    short = figure_layout.short_name("a very long name of a class that nobody reads 17")
    assert len(short) == 26
    assert short.startswith("a very")
    assert short.endswith("reads 17")


def test_the_colours_stay_apart_for_colour_blind_readers() -> None:
    """Machado et al. (2009), severity 1: the class colours stay at least 0.15 apart in sRGB."""
    blind = {
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    }
    colours = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in plots._COLOURS])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for matrix in blind.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1)
        shown = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        distances = np.linalg.norm(shown[:, None] - shown[None], axis=-1)
        assert distances[np.triu_indices(len(colours), 1)].min() > 0.15
