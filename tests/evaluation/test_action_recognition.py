"""clip@1, video@1 and video@5 on features whose right answer is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.evaluation.action_recognition import (
    average,
    evaluate_descriptors,
    evaluate_predictions,
    partitions,
)
from c3dvideo.probing.labelled import Labelled, read_labelled

Writer = Callable[..., Path]
CLASSES = [f"c{i}" for i in range(10)]


def clip(*order: int) -> np.ndarray:
    """Probabilities of ten classes that fall in this order; the others share the rest."""
    p = np.full(10, 0.001)
    p[list(order)] = 2.0 ** -np.arange(1, len(order) + 1)
    return p / p.sum()


def test_predictions_are_averaged_over_clips(feature_folder: Writer, tmp_path: Path) -> None:
    videos = {
        "a.mp4": np.stack([clip(0), clip(0), clip(1)]),  # video right, 2 of 3 clips right
        "b.mp4": np.stack([clip(2), clip(2), clip(1)]),  # video wrong, but among five; 1 of 3 clips right
        "c.mp4": np.stack([clip(0, 1, 2, 3, 4, 5)]),  # right class is 7th
    }
    folder = feature_folder(tmp_path, videos, layer="prob")
    examples = [Example("a.mp4", "c0"), Example("b.mp4", "c1"), Example("c.mp4", "c6"), Example("gone.mp4", "c6")]
    report = evaluate_predictions(folder, examples, CLASSES, n_clips=None)
    assert report["clip@1"] == pytest.approx(3 / 7)
    assert report["video@1"] == pytest.approx(1 / 3)
    assert report["video@5"] == pytest.approx(2 / 3)
    assert report["featureless"] == ["gone.mp4"]
    assert (report["n_classes"], report["n_videos"], report["chance"]) == (10, 4, 0.1)


def test_random_clips_are_drawn_without_repeats_by_seed_and_video(feature_folder: Writer, tmp_path: Path) -> None:
    right = np.stack([clip(0)] * 10 + [clip(1)] * 10)
    folder = feature_folder(tmp_path, {f"{i}.mp4": right for i in range(6)}, layer="prob")
    examples = [Example(f"{i}.mp4", "c0") for i in range(6)]
    reports = [evaluate_predictions(folder, examples, CLASSES, n_clips=10, seed=seed)["clip@1"] for seed in (0, 0, 1)]
    assert reports[0] == reports[1] != reports[2]
    assert evaluate_predictions(folder, examples[::-1], CLASSES, n_clips=10)["clip@1"] == pytest.approx(reports[0])
    assert evaluate_predictions(folder, examples, CLASSES, n_clips=20)["clip@1"] == 0.5


def test_predictions_and_labels_that_do_not_fit_are_refused(feature_folder: Writer, tmp_path: Path) -> None:
    folder = feature_folder(tmp_path, {"a.mp4": clip(0)[None]}, layer="prob")
    with pytest.raises(DatasetError, match="labels that are no class of the network: walk"):
        evaluate_predictions(folder, [Example("a.mp4", "walk")], CLASSES)
    with pytest.raises(UsageError, match="10 numbers per clip for 6 classes"):
        evaluate_predictions(folder, [Example("a.mp4", "c0")], CLASSES[:6])
    with pytest.raises(DatasetError, match="none of 1 labelled videos"):
        evaluate_predictions(folder, [Example("gone.mp4", "c0")], CLASSES)


def videos(noise: float = 0.3) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        f"c{c}/v_c{c}_g{g:02d}_c01.avi": np.abs(5 * np.eye(6, 9)[c] + noise * generator.normal(size=(3, 9)))
        for c in range(6)
        for g in range(5)
    }


def test_descriptors_are_scored_by_clip_and_by_video(feature_folder: Writer, tmp_path: Path) -> None:
    folder = feature_folder(tmp_path, videos())
    labelled = read_labelled([folder], labels=None)
    parts = partitions(labelled)
    assert len(parts) == 5
    report = evaluate_descriptors(parts, clip_folder=folder, penalty=1.0)
    assert (report["clip@1"], report["video@1"]) == (1.0, 1.0)
    assert "video@5" not in report, "five guesses among six classes say nothing"
    facts = {"n_classes": 6, "n_videos": 30, "n_sources": 30, "n_folds": 5, "partition": "folds"}
    assert facts.items() <= report.items()
    assert (report["chance"], report["largest_class"]) == (pytest.approx(1 / 6), pytest.approx(1 / 6))
    assert [row["n_test"] for row in report["partitions"]] == [6] * 5
    assert "clip@1" not in evaluate_descriptors(parts[:1], penalty=1.0)


def test_the_labels_own_split_is_used_and_official_splits_are_averaged() -> None:
    rows = np.eye(4, dtype=np.float32)
    examples = tuple(Example(f"{i}", "ab"[i % 2], "train" if i < 2 else "val") for i in range(4))
    ((train, test),) = partitions(Labelled(rows, (), examples))
    assert (train.names, test.names) == (("0", "1"), ("2", "3"))
    one, two = (
        {"by": "x", "partition": "split", "n_folds": 1, "partitions": [{"video@1": value, "video@5": 1.0}]}
        for value in (0.5, 0.7)
    )
    both = average([one, two])
    assert both["video@1"] == pytest.approx(0.6)
    assert (both["partition"], both["n_folds"]) == ("official splits", 2)
    assert average([one])["partition"] == "split"


def test_a_class_in_test_that_train_lacks_is_refused() -> None:
    rows = np.eye(4, dtype=np.float32)
    examples = tuple(Example(f"{i}", "abac"[i], "train" if i < 2 else "test") for i in range(4))
    with pytest.raises(DatasetError, match="classes in test but not in train: c"):
        evaluate_descriptors(partitions(Labelled(rows, (), examples)))
