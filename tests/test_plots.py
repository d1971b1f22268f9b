"""Pictures: every function writes a readable PNG and SVG, twice the same bytes, and says what it cannot draw."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from c3dvideo import plots
from c3dvideo.errors import MissingExtraError, UsageError

CURVES = {"ours": ([10, 50, 100], [0.5, 0.7, 0.8])}
DRAWINGS: dict[str, Callable[[Path], None]] = {
    "confusion": lambda path: plots.draw_confusion(path, np.array([[3, 1], [0, 2]]), ["a", "b"], title="two"),
    "roc": lambda path: plots.draw_roc(path, {"ours": ([0, 0.2, 1], [0, 0.9, 1])}),
    "curves": lambda path: plots.draw_curves(
        path, CURVES, x_label="n", y_label="y", references={"paper": ([10], [0.52])}, levels={"all": 0.9}, log_x=True
    ),
    "scatter": lambda path: plots.draw_scatter(path, np.arange(8.0).reshape(4, 2), ["a", "b", "a", "c"]),
    "crowd": lambda path: plots.draw_scatter(path, np.arange(60.0).reshape(30, 2), [f"{i}" for i in range(30)]),
    "grid": lambda path: plots.draw_grid(
        path, [np.full((20, 30, 3), shade, np.uint8) for shade in (10, 90, 200)], captions=["x", "y", "z"], columns=2
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_written_and_repeats_to_the_byte(name: str, tmp_path: Path) -> None:
    first, second, vector = tmp_path / "sub" / "1.png", tmp_path / "2.png", tmp_path / "1.svg"
    for path in (first, second, vector):
        DRAWINGS[name](path)
    assert first.read_bytes().startswith(b"\x89PNG")
    assert first.read_bytes() == second.read_bytes()
    assert b"</svg>" in vector.read_bytes()


def test_the_marks_of_fifty_six_classes_all_differ() -> None:
    assert len({plots.class_style(index) for index in range(56)}) == 56


def test_a_map_of_many_classes_names_each_in_its_legend(tmp_path: Path) -> None:
    labels = [f"class number {index}" for index in range(60)]
    plots.draw_scatter(tmp_path / "x.svg", np.random.default_rng(0).normal(size=(60, 2)), labels)
    drawn = (tmp_path / "x.svg").read_text()
    assert all(f"<!-- {label} -->" in drawn for label in labels)


def test_a_confusion_matrix_that_is_not_square_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 classes"):
        plots.draw_confusion(tmp_path / "x.png", np.zeros((2, 3)), ["a", "b"])


def test_a_grid_without_a_caption_for_each_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one caption per picture"):
        plots.draw_grid(tmp_path / "x.png", [np.zeros((2, 2, 3), np.uint8)], captions=["a", "b"])


def test_pictures_of_a_grid_stand_upright_in_their_cells_in_order(tmp_path: Path) -> None:
    pictures = [np.full((20, 30, 3), 0, np.uint8), np.full((40, 30, 3), 0, np.uint8), np.zeros((20, 30, 3), np.uint8)]
    for number, picture in enumerate(pictures):
        picture[: len(picture) // 2, :, number] = 255
    plots.draw_grid(tmp_path / "x.png", pictures, columns=2)
    drawn = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    height, width = (drawn.shape[0] // 2, drawn.shape[1] // 2)
    for number in range(3):
        cell = drawn[number // 2 * height :, number % 2 * width :][:height, :width]
        upper, lower = cell[height // 4, width // 2], cell[height * 3 // 4, width // 2]
        assert upper.tolist() == [255 * (channel == number) for channel in range(3)]
        assert not lower.any()
        coloured = (cell != 255).any(axis=2)
        shape = coloured.any(axis=1).sum() / coloured.any(axis=0).sum()
        assert shape == pytest.approx(pictures[number].shape[0] / pictures[number].shape[1], rel=0.02)
    assert (drawn[height:, width:] == 255).all(), "there is no fourth picture"


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        plots.draw_scatter(tmp_path / "x.gif", np.zeros((2, 2)), ["a", "b"])


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"c3dvideo\[plots\]"):
        plots.draw_scatter(tmp_path / "x.png", np.zeros((2, 2)), ["a", "b"])
