"""Leave-one-out: equal to the plain loop, right by construction, and quick enough for 420 videos."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import DatasetError
from c3dvideo.evaluation.scene_recognition import evaluate_scenes, leave_one_out
from c3dvideo.probing.labelled import Labelled


def clusters(n: int, width: int, n_classes: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(n)
    labels = np.arange(n) % n_classes
    rows = generator.normal(size=(n_classes, width))[labels] + noise * generator.normal(size=(n, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.array([f"c{label}" for label in labels])


@pytest.mark.parametrize(
    ("n", "width", "n_classes", "penalty"), [(30, 50, 3, 1.0), (40, 10, 4, 10.0), (24, 80, 2, 100.0), (31, 31, 5, 0.1)]
)
def test_leave_one_out_equals_the_plain_loop(n: int, width: int, n_classes: int, penalty: float) -> None:
    rows, labels = clusters(n, width, n_classes, noise=2.0)
    plain = []
    for index in range(n):
        others = np.arange(n) != index
        svm = LinearSVC(C=penalty, dual=False, tol=1e-8, max_iter=100000).fit(rows[others], labels[others])
        plain.append(svm.predict(rows[index : index + 1])[0])
    assert leave_one_out(rows, labels, penalty=penalty).tolist() == plain


def test_whole_groups_are_left_out_as_in_the_plain_loop() -> None:
    rows, labels = clusters(36, 20, 3, noise=2.0)
    groups = np.arange(36) // 3 % 9
    plain = np.empty(36, dtype=labels.dtype)
    for group in range(9):
        others = groups != group
        svm = LinearSVC(C=5.0, dual=False, tol=1e-8, max_iter=100000).fit(rows[others], labels[others])
        plain[~others] = svm.predict(rows[~others])
    assert leave_one_out(rows, labels, penalty=5.0, groups=groups).tolist() == plain.tolist()


def test_separable_scenes_are_all_recognised_and_a_lone_video_is_not() -> None:
    rows, labels = clusters(30, 40, 3, noise=0.1)
    assert (leave_one_out(rows, labels, penalty=1.0) == labels).all()
    alone = np.append(labels[:-1], "alone")
    predicted = leave_one_out(rows, alone, penalty=1.0)
    assert predicted[-1] != "alone"


def test_a_report_holds_accuracy_classes_confusion_and_the_published_figures() -> None:
    rows, labels = clusters(24, 10, 3, noise=0.1)
    examples = tuple(Example(f"{i}.mp4", label) for i, label in enumerate(labels))
    report = evaluate_scenes(Labelled(rows.astype(np.float32), (), examples))
    assert report["accuracy"] == 1.0
    assert report["confusion"] == (8 * np.eye(3, dtype=int)).tolist()
    assert report["per_class"] == {"c0": 1.0, "c1": 1.0, "c2": 1.0}
    assert {"method": "C3D, YUPENN", "values": {"accuracy": 98.1}, "source": "Table 5"} in report["published"]


def test_one_class_is_refused() -> None:
    with pytest.raises(DatasetError, match="leave-one-out needs two classes"):
        leave_one_out(np.eye(4), np.array(["a"] * 4), penalty=1.0)
