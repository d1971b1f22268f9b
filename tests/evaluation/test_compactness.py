"""PCA then SVM: the curve rises where it must, and the partitions are kept apart."""

import numpy as np
import pytest

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import UsageError
from c3dvideo.evaluation.compactness import evaluate_compactness
from c3dvideo.probing.labelled import Labelled


def labelled(split: bool = True) -> Labelled:
    """Eight classes on the corners of a cube in the first three of 20 columns, the axes of different size."""
    generator = np.random.default_rng(0)
    corners = np.array([[x, y, z] for x in (-4, 4) for y in (-2, 2) for z in (-1, 1)], float)
    labels = np.arange(160) % 8
    rows = 0.02 * generator.normal(size=(160, 20))
    rows[:, :3] += corners[labels]
    examples = tuple(
        Example(f"{i}.mp4", f"c{label}", "" if not split else "test" if i % 5 == 0 else "train", f"g{i}")
        for i, label in enumerate(labels)
    )
    return Labelled(rows.astype(np.float32), (), examples)


def test_three_dimensions_are_enough_for_a_cube_and_one_is_not() -> None:
    report = evaluate_compactness(labelled(), dimensions=[1, 3, 10, 500], penalty=1000.0)
    assert report["dimensions"] == [1, 3, 10]
    assert report["left_out"] == [500]
    by_dimension = dict(zip(report["dimensions"], report["accuracies"], strict=True))
    assert by_dimension[1] < 0.5
    assert by_dimension[3] == by_dimension[10] == report["all_dimensions"]["accuracy"] == 1.0
    assert (report["n_partitions"], report["n_test"]) == (1, 32)


def test_without_a_split_folds_are_averaged_and_the_run_repeats() -> None:
    first, second = (evaluate_compactness(labelled(split=False), dimensions=[3], penalty=1000.0) for _ in range(2))
    assert first == second
    assert (first["n_partitions"], first["n_test"], first["accuracies"]) == (5, 160, [1.0])


def test_dimensions_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match="20 components at most"):
        evaluate_compactness(labelled(), dimensions=[0, 21])
