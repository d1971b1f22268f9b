"""`c3dvideo probe`: from feature folders and labels to a stored classifier and its accuracy."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def features(feature_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """Three classes of eight videos from four sources each; class walk runs along the first axis, and so on."""
    generator = np.random.default_rng(0)
    videos = {
        f"{name}/v_{name}_g{group:02d}_c{clip:02d}.mp4": 5 * np.eye(3, 6)[index] + generator.random((2, 6))
        for index, name in enumerate(("jump", "run", "walk"))
        for group in range(4)
        for clip in (1, 2)
    }
    return feature_folder(tmp_path / "features", videos)


@pytest.fixture
def labels(features: Path, tmp_path: Path) -> Path:
    """Labels with a split that keeps sources apart."""
    names = sorted(p.relative_to(features).as_posix().removesuffix(".npz") for p in features.rglob("*.npz"))
    rows = [f"{name},{name.split('/')[0]},{'test' if '_g03_' in name else 'train'}" for name in names]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["path,label,split", *rows]) + "\n")
    return path


def test_fit_trains_on_train_and_score_tests_on_test(run: Run, features: Path, labels: Path, tmp_path: Path) -> None:
    probe = tmp_path / "probe.npz"
    code, out, err = run("probe", "fit", features, "--labels", labels, "--out", probe)
    assert code == 0, err
    assert "3 classes from 18 videos of 9 sources, fc6, C = 0.01" in out
    assert "over 3 folds" in err
    code, out, _ = run("probe", "score", features, "--probe", probe, "--labels", labels, "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["accuracy"], report["n"]) == (1.0, 6)
    assert report["confusion"] == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert report["per_class"]["run"] == {"n": 2, "accuracy": 1.0}
    assert len(report["unlabelled"]) == 0


def test_a_folder_per_class_needs_no_csv(run: Run, features: Path, tmp_path: Path) -> None:
    probe, picture = tmp_path / "probe", tmp_path / "confusion.png"
    code, out, _ = run("probe", "fit", features, "--labels-from-folders", "--out", probe, "-C", 1, "--json")
    assert code == 0
    assert json.loads(out)["n_videos"] == 24
    code, out, _ = run(
        "probe", "score", features, "--probe", probe, "--labels-from-folders", "--picture", picture
    )  # fmt: skip
    assert code == 0
    assert out.splitlines()[-1].split() == ["1.000", "24", "all"]
    assert picture.exists()


def test_other_features_are_fused_and_asked_for_again(run: Run, features: Path, labels: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in labels.read_text().splitlines()[1:]]
    table, matrix, probe = tmp_path / "idt.csv", tmp_path / "hist.npy", tmp_path / "probe"
    table.write_text("path,x,y\n" + "".join(f"{name},{len(label)},1\n" for name, label, _ in rows))
    np.save(matrix, np.random.default_rng(0).random((len(rows), 4)))
    code, out, _ = run("probe", "fit", features, table, matrix, "--labels", labels, "--out", probe)
    assert code == 0
    assert "fc6 + idt + hist" in out
    code, _, err = run("probe", "score", features, "--probe", probe, "--labels", labels)
    assert code == 2
    assert "3 sources side by side; 1 are given" in err
    code, out, _ = run("probe", "score", features, table, matrix, "--probe", probe, "--labels", labels, "--json")
    assert json.loads(out)["accuracy"] == 1.0


def test_what_has_no_partner_is_counted_and_named(run: Run, features: Path, labels: Path, tmp_path: Path) -> None:
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([lines[0], *lines[2:], "jump/gone.mp4,jump,train"]))
    code, _, err = run("probe", "fit", features, "--labels", labels, "--out", tmp_path / "p", "-C", 1)
    assert code == 0
    assert "note: 1 video with features but no label: jump/v_jump_g00_c01.mp4" in err
    assert "note: 1 labelled video without features: jump/gone.mp4" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--out", "p"], 2, "there are no labels: give --labels"),
        (["--out", "p", "--labels", "none.csv"], 2, "there is no labels file none.csv"),
        (["--out", "p", "--labels", "."], 2, "the labels file . is a folder; expected a CSV path,label"),
        (["--out", "p", "--labels", "header.csv"], 1, "the labels name no video; expected a row per video"),
        (["--out", ".", "--labels-from-folders"], 2, "is a folder; a probe is one file"),
        (["--out", "p", "--labels-from-folders", "--split", "train"], 1, "no video is in split 'train'"),
        (["--out", "p", "--labels-from-folders", "--layer", "fc7"], 2, "no layer 'fc7'; it has fc6"),
        (["--out", "p", "--labels-from-folders", "--group-pattern", "(x"], 2, "not a regular expression"),
    ],
)
def test_bad_input_is_one_line(words: list[str], code: int, message: str, run: Run, features: Path) -> None:
    Path("header.csv").write_text("path,label\n")  # `run` works inside tmp_path
    found, out, err = run("probe", "fit", features, *words)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_probe_of_other_weights_is_refused(
    run: Run, features: Path, labels: Path, feature_folder: Callable[..., Path], tmp_path: Path
) -> None:
    run("probe", "fit", features, "--labels", labels, "--out", tmp_path / "p", "-C", 1)
    other = feature_folder(tmp_path / "o", {"run/v_run_g00_c01.mp4": np.ones((1, 6))}, settings={"weights": "w2"})
    code, _, err = run("probe", "score", other, "--probe", tmp_path / "p", "--labels-from-folders")
    assert code == 2
    assert "weights is 'w1' there and 'w2' here" in err
