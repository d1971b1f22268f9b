"""The linear SVM: what it computes, how it is stored, how C is chosen, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.probing.descriptors import Part
from c3dvideo.probing.labelled import Labelled
from c3dvideo.probing.probe import Probe, RowSpan, fit_probe, group_folds
from c3dvideo.probing.probe_score import score_probe, score_text


def labelled(
    n: int = 60, width: int = 20, n_classes: int = 3, *, per_group: int = 4, noise: float = 0.5, seed: int = 0
) -> Labelled:
    """Unit vectors around one direction a class; consecutive videos of one class share a group."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) // per_group % n_classes
    rows = generator.normal(size=(n_classes, width))[labels] + noise * generator.normal(size=(n, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    examples = tuple(Example(f"{c}/{i}.mp4", f"class {c}", group=f"s{i // per_group}") for i, c in enumerate(labels))
    return Labelled(rows.astype(np.float32), (Part("fc6", width, {"weights": "w1"}),), examples)


def test_separable_classes_are_learned_and_new_videos_recognised() -> None:
    probe = fit_probe(labelled())
    report = score_probe(probe, labelled(seed=0, n=60))
    assert report["accuracy"] == 1.0
    assert report["n"] == 60
    assert np.trace(report["confusion"]) == 60


@pytest.mark.parametrize(("n", "width", "n_classes"), [(60, 20, 3), (30, 200, 3), (30, 8, 2)])
def test_scores_are_those_of_a_linear_svm_on_the_descriptors(n: int, width: int, n_classes: int) -> None:
    data = labelled(n, width, n_classes, per_group=2)
    probe = fit_probe(data, penalty=10.0)
    svm = LinearSVC(C=10.0, dual=False, tol=1e-10, max_iter=100000).fit(data.matrix.astype(float), data.labels)
    expected = svm.decision_function(data.matrix)
    if n_classes == 2:
        expected = np.stack([-expected, expected], axis=1)
    np.testing.assert_allclose(probe.scores(data.matrix), expected, atol=2e-3)
    assert probe.classes == tuple(svm.classes_)


def test_standardisation_is_folded_into_the_coefficients() -> None:
    data = labelled(noise=2.0)
    rows = data.matrix.astype(float)
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    svm = LinearSVC(C=0.1, dual=False, tol=1e-10).fit(scaled, data.labels)
    probe = fit_probe(data, penalty=0.1, standardise=True)
    np.testing.assert_allclose(probe.scores(data.matrix), svm.decision_function(scaled), atol=1e-2)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 12), width=st.integers(1, 30))
def test_the_row_span_keeps_every_inner_product_with_a_training_row(n: int, width: int) -> None:
    rows, others = np.random.default_rng(n).normal(size=(2, n, width))
    span = RowSpan().fit(rows)
    np.testing.assert_allclose(span.transform(rows) @ span.transform(others).T, rows @ others.T, atol=1e-10)
    assert span.transform(rows).shape[1] == min(n, width)


def test_a_probe_is_stored_without_pickle_and_comes_back_equal(tmp_path: Path) -> None:
    data = labelled()
    probe = fit_probe(data)
    probe.save(tmp_path / "probe")
    with np.load(tmp_path / "probe", allow_pickle=False) as arrays:
        assert json.loads(str(arrays["probe"]))["classes"] == ["class 0", "class 1", "class 2"]
    back = Probe.load(tmp_path / "probe")
    np.testing.assert_array_equal(back.scores(data.matrix), probe.scores(data.matrix))
    assert (back.penalty, back.parts, back.accuracies) == (probe.penalty, probe.parts, probe.accuracies)
    assert back.layers == ("fc6",)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fit_probe(labelled(noise=3.0), seed=3).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_c_is_chosen_on_held_out_groups_not_on_held_out_clips() -> None:
    """Every group has its own direction and no class has one: across groups nothing can be known."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(16), 6)
    rows = generator.normal(size=(16, 30))[groups] + 0.05 * generator.normal(size=(96, 30))
    examples = [Example(f"{i}.mp4", f"class {g % 2}", group=f"{g}") for i, g in enumerate(groups)]
    data = Labelled(rows.astype(np.float32), (Part("fc6", 30, {}),), tuple(examples))
    honest = fit_probe(data)
    leaking = fit_probe(replace(data, examples=tuple(replace(e, group="") for e in examples)))
    assert max(leaking.accuracies.values()) == 1.0
    assert max(honest.accuracies.values()) < 0.75
    assert honest.fitted_on["n_groups"] == 16


def test_the_smallest_of_equally_good_penalties_is_taken() -> None:
    probe = fit_probe(labelled(noise=0.01), penalties=(100.0, 1.0))
    assert probe.accuracies == {100.0: 1.0, 1.0: 1.0}
    assert probe.penalty == 1.0


def test_groups_come_from_customary_file_names_where_none_are_given() -> None:
    names = [f"{c}/v_{c}_g{g:02d}_c{k:02d}.avi" for c in "AB" for g in (8, 9) for k in (1, 2)]
    data = Labelled(np.eye(8, dtype=np.float32), (), tuple(Example(name, name[0]) for name in names))
    assert sorted(set(data.groups)) == ["v_A_g08", "v_A_g09", "v_B_g08", "v_B_g09"]


def test_folds_share_no_group_and_hold_every_class() -> None:
    data = labelled(96, per_group=3)
    for train, test in group_folds(data.labels, data.groups, folds=4):
        assert not set(data.groups[train]) & set(data.groups[test])
        assert set(data.labels[train]) == set(data.labels)


def test_a_class_with_fewer_groups_than_folds_lowers_the_folds() -> None:
    data = labelled(24, per_group=4)  # two groups a class
    assert fit_probe(data, folds=5).fitted_on["folds"] == 2


def test_a_class_of_one_group_is_named_and_works_with_c_given() -> None:
    data = labelled(12, per_group=4)  # one group a class
    with pytest.raises(DatasetError, match=r"class 'class 0' has videos of one source only \(4 videos\).*`penalty=1`"):
        fit_probe(data)
    assert fit_probe(data, penalty=1.0).penalty == 1.0


def test_a_fold_that_trains_without_a_class_is_refused() -> None:
    """Three sources, each class in two of them: whichever fold holds two sources holds all of one class."""
    labels, groups = np.array(list("abacbc")), np.array(list("112233"))
    with pytest.raises(DatasetError, match="fold would train without class"):
        group_folds(labels, groups, folds=2)
    with pytest.raises(UsageError, match="at least 2"):
        group_folds(labels, groups, folds=1)


def test_one_class_is_refused() -> None:
    data = labelled(n_classes=1)
    with pytest.raises(DatasetError, match="all 60 videos are of class 'class 0'"):
        fit_probe(data)


def test_features_of_another_width_or_other_weights_are_refused() -> None:
    probe = fit_probe(labelled(), penalty=1.0)
    with pytest.raises(UsageError, match=r"fc6 \(20 numbers\), these features are fc6 \(8 numbers\)"):
        score_probe(probe, labelled(width=8))
    other = replace(labelled(), parts=(Part("fc6", 20, {"weights": "w2"}),))
    with pytest.raises(UsageError, match="weights is 'w1' there and 'w2' here"):
        score_probe(probe, other)
    with pytest.raises(UsageError, match=r"takes \(n, fc6 20\)"):
        probe.scores(np.zeros((2, 3)))


def test_what_else_was_extracted_makes_no_difference() -> None:
    probe = fit_probe(labelled(), penalty=1.0)
    score_probe(probe, replace(labelled(), parts=(Part("fc6", 20, {"weights": "w1", "layers": ["fc6", "fc7"]}),)))


def test_a_class_that_the_probe_does_not_know_counts_as_wrong() -> None:
    probe = fit_probe(labelled(n_classes=2), penalty=1.0)
    report = score_probe(probe, labelled(n_classes=3))
    assert report["unknown_classes"] == ["class 2"]
    assert report["per_class"]["class 2"] == {"n": 20, "accuracy": 0.0}


@pytest.mark.parametrize("content", [b"", b"not a probe", None])
def test_a_file_that_is_no_probe_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "probe.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match="c3dvideo probe fit"):
        Probe.load(path)


def test_whatever_bytes_a_probe_holds_loading_raises_store_errors_only(tmp_path: Path) -> None:
    fit_probe(labelled(), penalty=1.0).save(tmp_path / "p.npz")
    whole = (tmp_path / "p.npz").read_bytes()
    generator, refused = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(whole[: generator.integers(len(whole) + 1)] if generator.random() < 0.3 else whole)
        for place in generator.integers(0, max(len(damaged), 1), 4)[: len(damaged)]:
            damaged[place] = generator.integers(256)
        (tmp_path / "q.npz").write_bytes(damaged)
        try:
            Probe.load(tmp_path / "q.npz").predict(labelled().matrix)
        except StoreError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a", "a", "b"]}, "expected 3 different names"),
        ({"classes": 7}, "expected 3 different names"),
        ({"parts": []}, "its parts have no numbers, its coefficients 20"),
        ({"parts": [{"layer": "fc6", "width": 10**12, "settings": {}}]}, "its parts have 1000000000000 numbers"),
        ({"parts": [{"layer": "fc6"}]}, "it has no 'width'"),
        ({"penalty": None}, "is not a probe"),
        ({"accuracies": [1]}, "is not a probe"),
    ],
)
def test_a_probe_whose_description_does_not_fit_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    fit_probe(labelled(), penalty=1.0).save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as arrays:
        stored = dict(arrays)
    description = json.loads(str(stored["probe"])) | change
    np.savez(tmp_path / "q.npz", **(stored | {"probe": np.array(json.dumps(description))}))
    with pytest.raises(StoreError, match=message):
        Probe.load(tmp_path / "q.npz")


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan")])
def test_a_penalty_that_is_not_positive_is_refused(penalty: float) -> None:
    with pytest.raises(UsageError, match="expected a number above 0"):
        fit_probe(labelled(), penalty=penalty)


@pytest.mark.parametrize("penalty", [float("inf"), 1e300, 1e-300])
def test_a_penalty_with_which_no_fit_ends_is_refused(penalty: float) -> None:
    with pytest.raises(UsageError, match=r"`penalty=`.* from 1e-09 to 1e\+09"):
        fit_probe(labelled(), penalty=penalty)


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize("penalty", [None, 1.0])
def test_a_seed_that_scikit_learn_refuses_is_named(seed: int, penalty: float | None) -> None:
    with pytest.raises(UsageError, match=f"`seed=` is {seed}; expected a whole number from 0 to 4294967295"):
        fit_probe(labelled(), penalty=penalty, seed=seed)


def test_many_columns_use_the_dual_solver_and_agree_with_the_primal(monkeypatch: pytest.MonkeyPatch) -> None:
    data = labelled(40, 60, per_group=2, noise=2.0)
    primal = fit_probe(data, penalty=1.0).scores(data.matrix)
    monkeypatch.setattr("c3dvideo.probing.probe._WIDE", 4)
    np.testing.assert_allclose(fit_probe(data, penalty=1.0).scores(data.matrix), primal, atol=5e-3)


def test_a_feature_folder_is_all_it_takes(feature_folder: Callable[..., Path], tmp_path: Path) -> None:
    from c3dvideo.probing.descriptors import read_descriptors
    from c3dvideo.probing.labelled import join, labels_from_folders

    data = labelled()
    clips = {name: np.stack([row, row]) for name, row in zip(data.names, data.matrix, strict=True)}
    table = read_descriptors([feature_folder(tmp_path / "f", clips)])
    probe = fit_probe(join(table, labels_from_folders(table.names)))
    assert score_probe(probe, join(table, labels_from_folders(table.names)))["accuracy"] == 1.0


def test_a_score_says_when_it_is_no_better_than_the_most_frequent_class() -> None:
    def remark(coefficients: np.ndarray, counts: tuple[int, int]) -> tuple[str | None, float, str]:
        parts = (Part("fc6", 2, {}),)
        probe = Probe(("a", "b"), coefficients, np.array([0.1, 0.0]), parts, 1.0)
        names = ["a"] * counts[0] + ["b"] * counts[1]
        examples = tuple(Example(f"{index}.mp4", name) for index, name in enumerate(names))
        rows = np.eye(2, dtype=np.float32)[[int(name == "b") for name in names]]
        report = score_probe(probe, Labelled(rows, parts, examples))
        return report["remark"], report["largest_class"], score_text(report)

    constant, shipped = np.zeros((2, 2)), np.eye(2)
    text, largest, shown = remark(constant, (4, 6))
    assert (text, largest) == (
        "no better than naming the most frequent class (0.600): every video is predicted as 'a'", 0.6
    )  # fmt: skip
    assert "   0.600          always the most frequent class" in shown and shown.endswith(str(text))
    assert remark(shipped, (1, 4))[0] == (
        "not measurably better than naming the most frequent class (0.800): the 95% interval includes it"
    )
    assert remark(-shipped, (20, 30))[0] == "worse than naming the most frequent class (0.600)"
    assert remark(shipped, (20, 20))[0] is None
