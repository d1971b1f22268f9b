"""Pictures of what commands wrote: each kind is drawn from reports, and other files are refused by name."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo.errors import C3DVideoError, UsageError
from c3dvideo.evaluation import result_plots as plots
from c3dvideo.features.default_weights import default_fingerprint
from c3dvideo.features.store import VideoFeatures, write_features
from c3dvideo.weights.load import load_weights

Features = Callable[..., Path]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What reaches the drawing functions, in place of pictures."""
    calls: dict[str, Any] = {}
    for name in ("confusion", "curves", "roc", "scatter", "similarity", "timeline"):

        def record(path: Path, *arguments: Any, _name: str = name, **options: Any) -> None:
            calls[_name] = (arguments, options)

        monkeypatch.setattr(plots, f"draw_{name}", record)
    return calls


def table(path: Path, rows: list[list[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def document(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_confusion_matrix_comes_from_a_run_a_report_or_a_table(tmp_path: Path, drawn: dict[str, Any]) -> None:
    counts = [[3, 1], [0, 5]]
    run = table(
        tmp_path / "run/test_confusion.csv",
        [["true \\ predicted", "a", "b, c"], *([name, *row] for name, row in zip(["a", "b, c"], counts, strict=True))],
    ).parent
    report = {"classes": ["a", "b, c"], "confusion": counts, "accuracy": 0.9}
    (tmp_path / "out").mkdir()
    document(tmp_path / "out/other.json", {"task": "x"})
    document(tmp_path / "out/scenes.json", report)
    for source in (run, run / "test_confusion.csv", document(tmp_path / "r.json", report), tmp_path / "out"):
        assert plots.plot_confusion(source, "x.png", title="t") == 2
        (matrix, classes), options = drawn["confusion"]
        assert matrix.tolist() == counts
        assert classes == ["a", "b, c"]
        assert options == {"title": "t"}


def test_a_map_comes_from_its_table(tmp_path: Path, drawn: dict[str, Any]) -> None:
    source = table(tmp_path / "map.csv", [["path", "label", "x", "y"], ["a", "walk", 1, 2.5], ["b", "run", -1, 0]])
    assert plots.plot_map(source, "x.png") == 2
    points, labels = drawn["scatter"][0]
    assert points.tolist() == [[1.0, 2.5], [-1.0, 0.0]]
    assert labels == ["walk", "run"]


def test_compactness_comes_from_reports_and_tables(tmp_path: Path, drawn: dict[str, Any]) -> None:
    report = {"dimensions": [10, 50], "accuracies": [0.4, 0.6], "all_dimensions": {"dimensions": 512, "accuracy": 0.7}}
    rows = [["dimensions", "accuracy", "published_ucf101"], [10, 0.4, 0.52], [50, 0.6, 0.7], [512, 0.7, ""]]
    sources = [document(tmp_path / "compactness.json", report), table(tmp_path / "c.csv", rows)]
    assert plots.plot_compactness([tmp_path], "x.png") == 1
    assert drawn["curves"][0][0] == {"ours": ([10, 50, 512], [0.4, 0.6, 0.7])}
    assert plots.plot_compactness(sources, "x.png") == 2
    assert list(drawn["curves"][0][0].values()) == 2 * [([10, 50, 512], [0.4, 0.6, 0.7])]


def test_training_shows_one_run_in_full_and_several_side_by_side(tmp_path: Path, drawn: dict[str, Any]) -> None:
    header = ["epoch", "updates", "learning_rate", "train_loss", "val_loss", "val_accuracy"]
    runs = [
        table(tmp_path / f"{name}/log.csv", [header, [0, 9, 0.1, 1.2, 1.1, 0.3], [1, 18, 0.1, 0.9, 1.0, 0.5]]).parent
        for name in ("first", "second")
    ]
    assert plots.plot_training(runs[:1], "x.png") == 2
    assert drawn["curves"][0][0] == {"validation accuracy": ([0, 1], [0.3, 0.5])}
    assert drawn["curves"][1]["below"] == {
        "training loss": ([0, 1], [1.2, 0.9]),
        "validation loss": ([0, 1], [1.1, 1.0]),
    }
    assert plots.plot_training(runs, "x.png") == 4
    assert list(drawn["curves"][0][0]) == [str(run) for run in runs]


def test_similarity_compares_clips_of_two_videos_and_videos_of_a_folder(
    tmp_path: Path, drawn: dict[str, Any], feature_folder: Features
) -> None:
    generator = np.random.default_rng(0)
    folder = feature_folder(
        tmp_path / "f", {name: generator.random((n, 8)) for name, n in (("a.mp4", 4), ("b.mp4", 6))}
    )
    sides = [folder / "a.mp4.npz", folder / "b.mp4.npz"]
    assert plots.plot_similarity(sides, "x.png") == 4
    (matrix,), options = drawn["similarity"]
    assert matrix.shape == (4, 6)
    assert options["rows"] == pytest.approx((0.0, 4 * 0.64))
    assert options["column_label"] == "b.mp4, seconds"
    for sources in (sides, sides[:1], [folder]):
        with pytest.raises(UsageError, match="at least 10 videos"):
            plots.plot_similarity(sources, "x.png", centre=True)
    many = feature_folder(tmp_path / "many", {f"{k}.mp4": generator.random((4, 8)) for k in range(10)})
    assert plots.plot_similarity([many], "x.png", centre=True) == 10
    (matrix,), _ = drawn["similarity"]
    assert np.diag(matrix) == pytest.approx(1)
    assert matrix.min() < 0
    assert plots.plot_similarity([folder], "x.png") == 2
    assert drawn["similarity"][1]["rows"] == ("a.mp4", "b.mp4")
    roc = {"roc": {"false_positive": [0, 1], "true_positive": [0, 1]}, "auc": 0.5}
    assert plots.plot_similarity([document(tmp_path / "similarity.json", roc)], "x.png") == 2
    with pytest.raises(UsageError, match="expected one or two feature files"):
        plots.plot_similarity([folder, folder], "x.png")


def clip(start: int, label: str, seconds: bool) -> dict[str, object]:
    return {
        "start_frame": start,
        "end_frame": start + 16,
        "start_seconds": start / 25 if seconds else None,
        "end_seconds": (start + 16) / 25 if seconds else None,
        "label": label,
        "score": 0.75,
    }


def test_two_files_of_the_default_weights_are_centred_by_the_mean_that_they_ship(
    tmp_path: Path, drawn: dict[str, Any]
) -> None:
    rows = np.random.default_rng(0).random((2, 1024)).astype(np.float32)
    for name in ("a", "b"):
        features = VideoFeatures(
            name=name,
            layers={"fc6": rows},
            start_frame=np.array([0, 16]),
            start_seconds=np.array([0.0, 0.5]),
            metadata={"settings": {"weights": default_fingerprint()}},
        )
        write_features(tmp_path / f"{name}.npz", features)
    assert plots.plot_similarity([tmp_path / "a.npz", tmp_path / "b.npz"], "x.png", centre=True) == 2
    (matrix,), _ = drawn["similarity"]
    mean = load_weights().descriptor_mean
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True) - mean
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(matrix, expected @ expected.T, atol=1e-5)


@pytest.mark.parametrize("seconds", [True, False])
def test_a_timeline_comes_from_predict(seconds: bool, tmp_path: Path, drawn: dict[str, Any]) -> None:
    videos = [{"name": "a.mp4", "timeline": [clip(0, "walk", seconds), clip(8, "run", seconds)]}]
    assert plots.plot_timeline(document(tmp_path / "p.json", {"predictions": videos, "failures": []}), "x.png") == 1
    ((lane,),), options = drawn["timeline"]
    unit = 25 if seconds else 1
    assert lane.starts == pytest.approx([0, 8 / unit])
    assert lane.ends == pytest.approx([8 / unit, 24 / unit])
    assert lane.labels == ["walk", "run"]
    assert options["x_label"] == ("seconds" if seconds else "frames")


def test_a_timeline_comes_from_segment_and_from_watch(tmp_path: Path, drawn: dict[str, Any]) -> None:
    videos = [{"name": "a.mp4", "segments": [clip(0, "", True), clip(16, "", True), clip(32, "", True)]}]
    assert plots.plot_timeline(document(tmp_path / "s.json", {"videos": videos}), "x.png") == 1
    assert len(set(drawn["timeline"][0][0][0].labels)) == 2
    lines = [
        {"start_seconds": k, "end_seconds": k + 1, "classes": ["walk", "run"], "probabilities": [0.6, 0.2]}
        for k in range(3)
    ]
    path = tmp_path / "watch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert plots.plot_timeline(path, "x.png") == 1
    assert drawn["timeline"][0][0][0].labels == ["walk"] * 3
    assert drawn["timeline"][1]["y_label"] == "probability"


def test_a_timeline_says_what_its_scores_are(tmp_path: Path, drawn: dict[str, Any]) -> None:
    line = {"start_seconds": 0, "end_seconds": 1, "classes": ["walk"], "scores": [-0.4]}
    path = tmp_path / "watch.jsonl"
    path.write_text(json.dumps(line) + "\n")
    plots.plot_timeline(path, "x.png")
    ((lane,),), options = drawn["timeline"]
    assert (lane.scores, options["y_label"]) == ([-0.4], "score")
    videos = [{"name": "a.mp4", "timeline": [clip(0, "walk", True)]}]
    for kind, label in (("probability", "probability"), ("score", "score"), (None, "score")):
        document(tmp_path / "p.json", {"predictions": videos, "score_kind": kind})
        plots.plot_timeline(tmp_path / "p.json", "x.png")
        assert drawn["timeline"][1]["y_label"] == label


@pytest.mark.parametrize(
    ("function", "name", "content"),
    [
        ("plot_map", "m.csv", "label,x,y\nwalk,1,nan\n"),
        ("plot_map", "m.csv", "label,x,y\n"),
        ("plot_map", "m.csv", "label\nwalk\n"),
        ("plot_confusion", "c.csv", "true,a,b\na,1,2\nc,1,2\n"),
        ("plot_confusion", "c.csv", "true,a,b\na,1,2\n"),
        ("plot_confusion", "c.csv", ""),
        ("plot_confusion", "c.json", '{"classes": ["a"], "confusion": [[1, 2]]}'),
        ("plot_confusion", "c.json", '{"classes": ["a"], "confusion": [[-1]]}'),
        ("plot_confusion", "c.json", '{"classes": [], "confusion": []}'),
        ("plot_confusion", "c.json", "[]"),
        ("plot_timeline", "t.json", "{}"),
        ("plot_timeline", "t.json", '{"predictions": [{"name": "a"}]}'),
        ("plot_timeline", "t.json", '{"predictions": 3}'),
        ("plot_timeline", "t.json", '{"videos": [{"name": "a", "segments": [{"start_frame": 0}]}]}'),
        ("plot_timeline", "t.jsonl", '{"classes": ["a"], "probabilities": []}\n'),
        ("plot_timeline", "t.json", ""),
    ],
)
def test_a_file_of_something_else_is_refused_by_name(function: str, name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(C3DVideoError, match=name):
        getattr(plots, function)(path, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_a_log_without_accuracies_is_refused(tmp_path: Path) -> None:
    log = table(tmp_path / "log.csv", [["epoch", "val_accuracy", "train_loss"], [0, "", 1.5], [1, "", ""]])
    with pytest.raises(UsageError, match=r"log\.csv has epochs without"):
        plots.plot_training([log], tmp_path / "x.png")


def test_a_folder_without_a_report_is_refused(tmp_path: Path) -> None:
    for function in (plots.plot_confusion, lambda *a: plots.plot_training([a[0]], a[1])):
        with pytest.raises(UsageError, match="holds no"):
            function(tmp_path, tmp_path / "x.png")


@pytest.mark.parametrize("start", [None, [], {}])
def test_a_timeline_of_other_types_is_refused_in_plain_words(tmp_path: Path, start: object) -> None:
    part = {"label": "run", "score": 1.0, "start_seconds": 0.0, "end_seconds": 1.0, "start_frame": 0, "end_frame": 16}
    video = {"name": "a.mp4", "timeline": [part, {**part, "end_seconds": start, "end_frame": start}]}
    source = document(tmp_path / "changed.json", {"predictions": [video]})
    with pytest.raises(UsageError, match=r"changed\.json is not a timeline: a value in it is of another type"):
        plots.plot_timeline(source, tmp_path / "x.png")
