"""Sliding windows: majority label, windows without an object dropped, the data set's own split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo.datasets.annotations import FrameLabels
from c3dvideo.errors import DatasetError
from c3dvideo.evaluation.object_recognition import evaluate_objects, read_windows, window_label


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["cup"] * 16, "cup"),
        (["cup"] * 8 + [""] * 8, "cup"),
        (["cup"] * 7 + [""] * 9, ""),
        (["cup"] * 7 + ["pan"] * 9, "pan"),
        (["cup"] * 8 + ["pan"] * 8, "cup"),
        (["cup"] * 6 + ["pan"] * 5 + ["jar"] * 5, ""),
        ([""] * 16, ""),
        (["cup"] * 8, "cup"),
        ([], ""),
    ],
)
def test_a_window_shows_its_majority_or_nothing(labels: list[str], expected: str) -> None:
    assert window_label(labels, 0) == expected


def test_a_window_starts_where_it_says() -> None:
    labels = [""] * 20 + ["cup"] * 16
    assert [window_label(labels, start) for start in (0, 11, 12, 20, 28, 29)] == ["", "", "cup", "cup", "cup", ""]


@pytest.fixture
def kitchen(feature_folder: Callable[..., Path], tmp_path: Path) -> tuple[Path, list[FrameLabels]]:
    """Four videos of four windows: cup, pan, nothing, cup or pan; an object is a direction."""
    generator = np.random.default_rng(0)
    shown = {"cup": [9.0, 0, 0], "pan": [0, 9.0, 0], "": [0, 0, 9.0]}
    order = ["cup", "pan", "", "cup"]
    videos, labels = {}, []
    for index, split in enumerate(["train", "train", "test", "test"]):
        windows = order[index:] + order[:index]
        videos[f"{index}.mp4"] = np.array([shown[name] for name in windows]) + generator.random((4, 3))
        labels.append(FrameLabels(f"{index}", tuple(name for name in windows for _ in range(16)), split))
    return feature_folder(tmp_path / "f", videos), labels


def test_windows_are_read_labelled_and_counted(kitchen: tuple[Path, list[FrameLabels]]) -> None:
    folder, labels = kitchen
    windows, left_out = read_windows(folder, [*labels, FrameLabels("gone", ("cup",) * 16, "test")])
    assert windows.matrix.shape == (12, 3)
    assert left_out == {"n_dropped": 4, "featureless": ["gone"]}
    np.testing.assert_allclose(np.linalg.norm(windows.matrix, axis=1), 1.0)
    assert sorted(set(windows.groups)) == ["0", "1", "2", "3"]


def test_objects_are_recognised_in_the_test_videos(kitchen: tuple[Path, list[FrameLabels]]) -> None:
    report = evaluate_objects(*kitchen)
    assert (report["accuracy"], report["n"], report["n_train"], report["n_dropped"]) == (1.0, 6, 6, 4)
    assert report["per_class"]["cup"] == {"n": 4, "accuracy": 1.0}
    assert report["classes"] == ["cup", "pan"]


def test_no_window_with_an_object_is_refused(kitchen: tuple[Path, list[FrameLabels]]) -> None:
    with pytest.raises(DatasetError, match="no window shows an object: 4 dropped, 0 of 1"):
        read_windows(kitchen[0], [FrameLabels("0", ("",) * 64, "train")])


def test_labels_without_a_split_are_refused(kitchen: tuple[Path, list[FrameLabels]]) -> None:
    with pytest.raises(DatasetError, match="no video is in split 'test'"):
        evaluate_objects(kitchen[0], kitchen[1][:2])
