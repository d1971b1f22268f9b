"""The 12 similarities number by number, pairs from folds that share no class, and the ten-fold protocol."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.evaluation.action_similarity import (
    DISTANCES,
    EPSILON,
    LAYERS,
    Pairs,
    distances,
    evaluate_pairs,
    generate_pairs,
    pair_vectors,
)
from c3dvideo.probing.labelled import Labelled

Numbers = list[float]


def unit(x: Numbers) -> Numbers:
    length = math.sqrt(sum(a * a for a in x))
    return [a / length if length else 0.0 for a in x]


def written_out(x: Numbers, y: Numbers) -> Numbers:
    """Table 3 of the ASLAN paper, term by term in plain Python, with the stated conventions at zero."""
    both = list(zip(x, y, strict=True))
    norms = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
    dot = sum(a * b for a, b in both)
    u, v = unit(x), unit(y)
    units = list(zip(u, v, strict=True))
    sums = sum(u) * sum(v)
    return [
        dot,
        math.sqrt(dot),
        math.sqrt(sum(math.sqrt(a) * math.sqrt(b) for a, b in both)),
        math.sqrt(sum(a * b / (a + b) for a, b in both if a + b > 0)),
        dot / norms if norms else 0.0,
        math.sqrt(sum((a - b) ** 2 / (a + b) for a, b in both if a + b > 0)),
        sum(abs(a - b) for a, b in both),
        math.sqrt(sum((math.sqrt(a) - math.sqrt(b)) ** 2 for a, b in both)),
        math.sqrt(sum((a - b) ** 2 for a, b in units)),
        sum((a - b) * (math.log(a + EPSILON) - math.log(b + EPSILON)) / 2 for a, b in units),
        sum(math.sqrt(max(a, b)) / math.sqrt(a + b) for a, b in units if a + b > 0),
        sum(min(a, b) for a, b in units) / sums if sums else 0.0,
    ]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1.0, 2.0, 3.0], [4.0, 0.5, 1.0]),
        ([0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.6, 0.8]),
        ([0.6, 0.8], [0.6, 0.8]),
        ([1e-12, 5.0], [5.0, 1e-12]),
    ],
)
def test_every_similarity_is_what_the_table_says(x: Numbers, y: Numbers) -> None:
    found = distances(np.array([x]), np.array([y]))[0]
    for name, ours, expected in zip(DISTANCES, found, written_out(x, y), strict=True):
        assert ours == pytest.approx(expected, rel=1e-10, abs=1e-12), name


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (2, 3, 6), elements=st.floats(0, 1e3).map(lambda value: 0.0 if value < 1e-100 else value)))
def test_similarities_are_finite_symmetric_and_written_out_for_any_non_negative_rows(rows: np.ndarray) -> None:
    found = distances(*rows)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, distances(rows[1], rows[0]), rtol=1e-9, atol=1e-12)
    expected = [written_out(x, y) for x, y in zip(rows[0].tolist(), rows[1].tolist(), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_the_symmetric_divergence_is_half_the_sum_of_both_directions() -> None:
    x, y = np.array([0.6, 0.8]), np.array([0.8, 0.6])
    both = np.sum(x * np.log(x / y)) + np.sum(y * np.log(y / x))
    assert distances(x[None], y[None])[0, 9] == pytest.approx(both / 2, rel=1e-5)


def test_the_last_four_do_not_depend_on_length_and_the_first_do() -> None:
    x, y = np.random.default_rng(0).random((2, 1, 5))
    once, scaled = distances(x, y)[0], distances(7 * x, 3 * y)[0]
    np.testing.assert_allclose(scaled[8:], once[8:], rtol=1e-9)
    assert (np.abs(scaled[[0, 1, 2, 3, 5, 6, 7]] - once[[0, 1, 2, 3, 5, 6, 7]]) > 1e-3).all()


def test_negative_features_are_refused() -> None:
    with pytest.raises(UsageError, match="some are negative"):
        distances(np.array([[-1.0]]), np.array([[1.0]]))


def labelled(n_classes: int = 8, *, per_class: int = 12, noise: float = 0.3, per_group: int = 3) -> Labelled:
    generator = np.random.default_rng(0)
    rows = np.repeat(generator.random((n_classes, 30)) ** 4, per_class, axis=0)
    rows += noise * generator.random(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    examples = tuple(Example(f"{i}.mp4", f"c{i // per_class}", group=f"s{i // per_group}") for i in range(len(rows)))
    return Labelled(rows.astype(np.float32), (), examples)


def test_generated_pairs_are_balanced_and_no_fold_shares_a_class_or_a_pair_a_source() -> None:
    data = labelled()
    pairs = generate_pairs(data, folds=4, pairs_per_fold=40)
    assert len(pairs.same) == 160
    classes = {
        fold: set(data.labels[pairs.first[pairs.fold == fold]]) | set(data.labels[pairs.second[pairs.fold == fold]])
        for fold in range(1, 5)
    }
    assert sum(map(len, classes.values())) == len(set.union(*classes.values())) == 8
    for fold in range(1, 5):
        assert pairs.same[pairs.fold == fold].sum() == 20
    assert (data.labels[pairs.first] == data.labels[pairs.second]).tolist() == pairs.same.tolist()
    assert (data.groups[pairs.first] != data.groups[pairs.second]).all()
    assert len({*zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}) == 160


def test_generated_pairs_repeat_with_the_seed_and_folds_are_lowered_to_two_classes_each() -> None:
    one, two, other = (generate_pairs(labelled(5), folds=10, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.first, two.first)
    assert not np.array_equal(one.first, other.first)
    assert sorted(set(one.fold)) == [1, 2]


def test_classes_of_one_source_and_too_few_classes_are_refused() -> None:
    with pytest.raises(DatasetError, match="four classes or more"):
        generate_pairs(labelled(3))
    with pytest.raises(DatasetError, match="from different sources"):
        generate_pairs(labelled(4, per_group=12))


def test_similar_classes_are_recognised_across_classes_never_seen() -> None:
    data = labelled()
    pairs = generate_pairs(data, folds=4, pairs_per_fold=60)
    vectors = pair_vectors(dict.fromkeys(LAYERS, data.matrix), pairs)
    assert vectors.shape == (240, 48)
    report = evaluate_pairs(vectors, pairs, layers=LAYERS)
    assert report["accuracy"] > 0.95
    assert report["auc"] > 0.98
    assert report["single_auc"]["fc6: cosine"] > 0.95
    assert report["standard_error"] == pytest.approx(np.std(report["fold_accuracies"], ddof=1) / 2)


def test_numbers_without_meaning_stay_at_chance_and_the_same_run_repeats() -> None:
    generator = np.random.default_rng(1)
    n = 1200
    pairs = Pairs(np.arange(n), np.arange(n), np.arange(n) % 2 == 0, np.arange(n) // 120 + 1)
    vectors = generator.normal(size=(n, 12))
    report = evaluate_pairs(vectors, pairs, layers=["fc6"])
    assert abs(report["accuracy"] - 0.5) < 4 * report["standard_error"]
    assert evaluate_pairs(vectors, pairs, layers=["fc6"]) == report


def test_a_fold_is_scored_by_the_other_folds_alone() -> None:
    """In each fold the number means the opposite of what it means in the other: trained across, all is wrong."""
    same = np.tile([True, False], 20)
    fold = np.repeat([1, 2], 20)
    vectors = np.where(same, 1.0, -1.0) * np.where(fold == 1, 1.0, -1.0)
    pairs = Pairs(np.arange(40), np.arange(40), same, fold)
    assert evaluate_pairs(np.tile(vectors[:, None], 12), pairs, layers=["fc6"])["accuracy"] == 0.0


def test_a_fold_of_one_kind_is_refused() -> None:
    index = np.arange(4)
    with pytest.raises(DatasetError, match="fold 2 has pairs of one kind only"):
        evaluate_pairs(np.zeros((4, 12)), Pairs(index, index, index == 0, index // 2 + 1), layers=["fc6"])
    with pytest.raises(DatasetError, match="there is 1 fold"):
        evaluate_pairs(np.zeros((4, 12)), Pairs(index, index, index < 2, index * 0), layers=["fc6"])
