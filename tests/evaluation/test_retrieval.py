"""Retrieval across sources: rankings whose measures are known, and random rankings."""

import numpy as np
import pytest

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError
from c3dvideo.evaluation.retrieval import evaluate_retrieval, random_average_precision
from c3dvideo.probing.labelled import Labelled


def labelled(rows: list[list[float]], labels: str, groups: str) -> Labelled:
    matrix = np.array(rows, np.float32)
    examples = tuple(
        Example(f"{i}.mp4", label, group=group) for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    )
    return Labelled(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), (), examples)


def test_clips_of_one_source_never_find_each_other() -> None:
    """Rows 0 and 1 are alike but of one source: the nearest video of another source is of the other class."""
    data = labelled([[1, 0], [1, 0.001], [0, 1], [1, 0.1]], "aaab", "ssut")
    report = evaluate_retrieval(data)
    assert report["per_class"]["a"]["P@1"] == pytest.approx(0 / 3)
    assert report["per_class"]["a"]["mAP"] == pytest.approx((0.5 + 0.5 + (1 / 2 + 2 / 3) / 2) / 3)
    assert (report["n_queries"], report["n_without_match"], report["n_sources"]) == (3, 1, 3)


def test_a_random_ranking_has_the_stated_precision() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(20000):
        places = np.flatnonzero(generator.permutation(9) < 3) + 1
        found.append(np.mean(np.arange(1, 4) / places))
    assert random_average_precision(3, 9) == pytest.approx(np.mean(found), abs=0.005)
    assert random_average_precision(1, 1) == random_average_precision(4, 4) == 1.0
    assert random_average_precision(1, 2) == 0.75


def test_descriptors_without_meaning_stay_at_chance_and_the_run_repeats() -> None:
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(300, 20)).tolist()
    data = labelled(rows, "abc" * 100, "".join(chr(ord("A") + i // 6) for i in range(300)))
    report = evaluate_retrieval(data)
    assert report["mAP"] == pytest.approx(report["chance"]["mAP"], abs=0.02)
    assert report["P@1"] == pytest.approx(report["chance"]["P@1"], abs=0.1)
    for name, (low, high) in report["intervals"].items():
        assert low < report[name] < high
    assert evaluate_retrieval(data) == report


def test_centring_finds_what_a_common_part_hides() -> None:
    """The common direction decides the raw cosines, because its length differs from video to video."""
    generator = np.random.default_rng(2)
    axis = np.repeat(np.eye(4), 10, axis=0)
    rows = axis + 0.3 * generator.normal(size=axis.shape) + np.array([30.0, 30, 30, 30])
    data = labelled(rows.tolist(), "a" * 10 + "b" * 10 + "c" * 10 + "d" * 10, "0123456789" * 4)
    raw, centred = (evaluate_retrieval(data, post_processing=name) for name in ("none", "centre"))
    assert centred["mAP"] >= raw["mAP"] > raw["chance"]["mAP"]
    assert centred["P@1"] > 0.8
    off = evaluate_retrieval(data, post_processing="centre", mean=np.zeros(4))
    assert off["mAP"] == pytest.approx(raw["mAP"]), "a mean of zero changes nothing"


def test_a_class_of_one_source_each_is_refused() -> None:
    with pytest.raises(DatasetError, match="no class of 2 has videos of two sources"):
        evaluate_retrieval(labelled([[1, 0], [0, 1]], "ab", "st"))
