"""Tables of other libraries hold the clips, vectors and predictions that were stored."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

import datasets
from c3dvideo import C3D, ClipPlan, extract, predict, read_features, to_datasets, to_fiftyone, to_pandas
from c3dvideo.errors import MissingExtraError, StoreError, UsageError
from c3dvideo.probing.other_libraries import fiftyone_fields
from c3dvideo.probing.predict import Predictions


@pytest.fixture
def folder(tiny_network: C3D, moving_square: Callable[..., Path], tmp_path: Path) -> Path:
    """Features of two videos, of 20 and 10 frames: clips of 8 frames every 8 frames."""
    for name, n_frames in (("sub/a.mp4", 20), ("b.mp4", 10)):
        moving_square(tmp_path / "videos" / name, n_frames=n_frames, height=48, width=64)
    plan = ClipPlan(clip_length=8, stride_frames=8, tail="repeat_last")
    extract(
        [tmp_path / "videos"],
        tmp_path / "features",
        weights=tiny_network,
        layers=["pool5", "fc6"],
        plan=plan,
        workers=0,
    )
    return tmp_path / "features"


@pytest.fixture
def predictions(folder: Path, tiny_network: C3D) -> Predictions:
    plan = ClipPlan(clip_length=8, stride_frames=8, tail="repeat_last")
    return predict([folder.parent / "videos"], weights=tiny_network, plan=plan, workers=0)


def test_a_data_frame_has_one_row_per_clip(folder: Path, predictions: Predictions) -> None:
    frame = to_pandas(folder, predictions=predictions)
    assert list(zip(frame["video"], frame["start_frame"], frame["end_frame"], strict=True)) == [
        ("b.mp4", 0, 8),
        ("b.mp4", 8, 10),
        ("sub/a.mp4", 0, 8),
        ("sub/a.mp4", 8, 16),
        ("sub/a.mp4", 16, 20),
    ]
    stored = read_features(folder / "sub/a.mp4.npz")
    np.testing.assert_array_equal(np.stack(frame["fc6"][2:]), stored.layers["fc6"])
    np.testing.assert_array_equal(frame["start_seconds"][2:], stored.start_seconds)
    timeline = next(each for each in predictions.predictions if each.name == "b.mp4").timeline
    assert frame["label"][:2].tolist() == [clip.label for clip in timeline]
    assert frame["video_score"].notna().all()
    assert frame["pool5"][0].shape == (8 * 1 * 1 * 1,)
    assert "label" not in to_pandas(folder, layers=["fc6"])


def test_a_data_set_becomes_a_parquet_file(folder: Path, predictions: Predictions, tmp_path: Path) -> None:
    table = to_datasets(folder, layers=["fc6"], predictions=predictions)
    assert isinstance(table, datasets.Dataset)
    np.testing.assert_array_equal(table[0]["fc6"], read_features(folder / "b.mp4.npz").layers["fc6"][0])
    table.to_parquet(tmp_path / "clips.parquet")
    again = pyarrow.parquet.read_table(tmp_path / "clips.parquet")
    assert again.num_rows == 5
    assert again["label"].to_pylist() == to_pandas(folder, predictions=predictions)["label"].tolist()


def test_a_fiftyone_sample_holds_spans_with_vectors(folder: Path, predictions: Predictions) -> None:
    with_classes, without = (
        list(fiftyone_fields(folder, layers=["fc6"], predictions=each)) for each in (predictions, None)
    )
    sample = with_classes[1]
    assert Path(sample["filepath"]).is_file()
    assert [clip["support"] for clip in sample["clips"]] == [[1, 8], [9, 16], [17, 20]]  # from 1, the last included
    assert len(sample["fc6_descriptor"]) == len(sample["clips"][0]["fc6"]) == 16
    assert sample["clips"][0]["label"] in "abcde"
    assert 0 < sample["clips"][0]["confidence"] <= 1
    assert without[0]["clips"][0].keys() == {"label", "support", "fc6"}


def test_to_fiftyone_builds_samples_through_its_interface(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FiftyOne needs a database server, so its classes are stood in for by ones that keep what they get."""
    added: list[Any] = []

    class Kept(SimpleNamespace):
        pass

    class Dataset:
        def __init__(self, name: str) -> None:
            self.name = name

        def add_samples(self, samples: list[Any], *, progress: bool) -> None:
            added.extend(samples)

    module = SimpleNamespace(
        __spec__="found",
        dataset_exists=lambda name: name == "taken",
        Dataset=Dataset,
        Sample=Kept,
        TemporalDetection=Kept,
        TemporalDetections=Kept,
    )
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    assert to_fiftyone(folder, "mine", layers=["fc6"]).name == "mine"
    assert [sample.video for sample in added] == ["b.mp4", "sub/a.mp4"]
    assert added[0].clips.detections[1].support == [9, 10]
    with pytest.raises(UsageError, match="there is a FiftyOne dataset 'taken' already"):
        to_fiftyone(folder, "taken")


def test_a_missing_library_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, call in (("pandas", to_pandas), ("datasets", to_datasets)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=r"c3dvideo\[tables\]"):
            call(folder)
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(UsageError, match="pip install fiftyone"):
        to_fiftyone(folder, "x")


def test_what_does_not_fit_together_is_refused(folder: Path, predictions: Predictions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no layer fc7; it has pool5, fc6"):
        to_pandas(folder, layers=["fc7"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no features"):
        to_pandas(tmp_path / "empty")
    (folder / "b.mp4.npz").unlink()
    (folder / "sub/a.mp4.npz").rename(folder / "other.mp4.npz")
    with pytest.raises(UsageError, match="give `predict` the inputs that were extracted"):
        to_pandas(folder, predictions=predictions)
