"""`c3dvideo evaluate` and `c3dvideo similar`: every protocol from the command line, beside the published figures."""

import csv
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo import C3D, Extractor, descriptor
from c3dvideo.features.failures import Failure

Run = Callable[..., tuple[int, str, str]]
CLASSES = ("jump", "run", "sit", "walk")


@pytest.fixture
def features(feature_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """Four classes of six videos, a source each two; fc6 and prob both tell the class."""
    generator = np.random.default_rng(0)
    videos = {
        f"{name}/v_{name}_g{group:02d}_c{clip:02d}.mp4": {
            "fc6": 5 * np.eye(4, 12)[index] + generator.random((3, 12)),
            "prob": np.tile(np.where(np.arange(4) == index, 0.7, 0.1), (3, 1)),
        }
        for index, name in enumerate(CLASSES)
        for group in range(3)
        for clip in (1, 2)
    }
    return feature_folder(tmp_path / "features", videos)


def test_recognition_stands_beside_the_paper(run: Run, features: Path) -> None:
    code, out, _ = run("evaluate", "recognition", features, "--labels-from-folders", "-C", 1, "--out", "report")
    assert code == 0
    facts, *lines = out.splitlines()
    assert facts == "4 classes, 24 videos of 12 sources; 3 folds, whole sources held out"
    assert lines[0].split() == ["clip@1", "video@1", "source"]
    assert lines[1].split() == ["ours", "100.0", "100.0", "this", "run"]
    assert lines[2].split() == ["chance", "level", "25.0", "25.0"]
    assert any("C3D (1 net) + linear SVM" in line and "82.3" in line and "Table 3" in line for line in lines)
    report = json.loads(Path("report/recognition.json").read_text())
    assert len(report["partitions"]) == 3
    assert report["by"] == "descriptor + linear SVM"


def test_recognition_by_the_network_draws_clips(run: Run, features: Path, tmp_path: Path) -> None:
    words = ("evaluate", "recognition", features, "--labels-from-folders", "--by", "network", "--json")
    code, out, _ = run(*words, "--clips", 2)
    report = json.loads(out)
    assert code == 0
    assert (report["clip@1"], report["video@1"], report["partitions"][0]["n_clips"]) == (1.0, 1.0, 2)
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(reversed(CLASSES)))
    assert json.loads(run(*words, "--classes", names)[1])["video@1"] == 0.0
    assert "expected a file of class names" in run(*words, "--classes", "none.txt")[2]


def test_official_splits_are_averaged_over_three_and_matched_without_suffix(
    run: Run, features: Path, tmp_path: Path
) -> None:
    splits = tmp_path / "splits"
    splits.mkdir()
    (splits / "classInd.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(CLASSES, start=1)))
    for fold in (1, 2, 3):
        for split in ("train", "test"):
            chosen = [g for g in range(3) if (g == fold - 1) == (split == "test")]
            names = [f"{c}/v_{c}_g{g:02d}_c{k:02d}.avi" for c in CLASSES for g in chosen for k in (1, 2)]
            (splits / f"{split}list{fold:02d}.txt").write_text("\n".join(names))
    words = ("evaluate", "recognition", features, "--official", "ucf101", "--layer", "fc6", "-C", 1, "--json")
    code, out, err = run(*words, "--splits", splits)
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert [row["n_test"] for row in report["partitions"]] == [8, 8, 8]
    assert report["video@1"] == 1.0
    assert "`--official ucf101` needs `--splits`" in run(*words)[2]
    (splits / "testlist02.txt").write_text("walk/v_walk_g09_c01.avi")
    code, out, err = run(*words, "--splits", splits)
    assert code == 0 and "note: split 2 is left out: no test video of it has features" in err
    assert [row["n_test"] for row in json.loads(out)["partitions"]] == [8, 8]
    for fold in (1, 3):
        (splits / f"testlist{fold:02d}.txt").write_text("walk/v_walk_g09_c01.avi")
    code, _, err = run(*words, "--splits", splits)
    assert code == 1 and "no split of ucf101 has features of both training and test videos" in err


def test_similarity_takes_the_stored_layers_and_draws_the_roc(run: Run, features: Path) -> None:
    words = ("evaluate", "similarity", features, "--labels-from-folders", "--pairs-per-fold", 20, "--out", "report")
    code, out, _ = run(*words)
    assert code == 0
    assert "+-" in out.splitlines()[-1]
    assert any("C3D" in line and "78.3" in line and "86.5" in line for line in out.splitlines())
    report = json.loads(Path("report/similarity.json").read_text())
    assert (report["n_numbers"], report["n_folds"], report["n_pairs"]) == (24, 2, 40)
    assert report["accuracy"] == 1.0
    assert Path("report/roc.png").read_bytes()[:4] == b"\x89PNG"


def test_similarity_takes_published_pairs(run: Run, features: Path, tmp_path: Path) -> None:
    rows = ["first,second,same,fold"]
    for fold, (a, b) in enumerate((("jump", "run"), ("sit", "walk")), start=1):
        for group in (0, 1):
            rows.append(f"v_{a}_g{group:02d}_c01,v_{a}_g02_c01,1,{fold}")
            rows.append(f"{a}/v_{a}_g{group:02d}_c01.avi,{b}/v_{b}_g02_c01.avi,0,{fold}")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join([*rows, "v_jump_g00_c01,unknown,0,1"]))
    code, out, err = run("evaluate", "similarity", features, "--pairs", pairs, "--layer", "fc6", "--json")
    assert code == 0
    assert json.loads(out)["n_pairs"] == 8
    assert "1 videos of the pairs have no features: unknown" in err
    pairs.write_text("first,second,same,fold\nx,y,1,1\n")
    assert "none of 1 pairs" in run("evaluate", "similarity", features, "--pairs", pairs)[2]


def test_scenes_leave_one_out(run: Run, features: Path) -> None:
    code, out, _ = run("evaluate", "scenes", features, "--labels-from-folders", "--out", "report")
    assert code == 0
    assert out.splitlines()[0] == (
        "4 classes, 24 videos of 12 sources; every source is tested by a classifier of all others"
    )
    assert out.splitlines()[2].split() == ["ours", "100.0", "this", "run"]
    assert "C3D, Maryland" in out
    assert Path("report/confusion.png").exists()


def test_objects_by_frame_labels(run: Run, features: Path, tmp_path: Path) -> None:
    labels = tmp_path / "frames.csv"
    rows = [
        f"{c}/v_{c}_g{g:02d}_c{k:02d}.mp4,0,40,{c},{'test' if g == 2 else 'train'}"
        for c in CLASSES
        for g in range(3)
        for k in (1, 2)
    ]
    labels.write_text("\n".join(["path,start_frame,end_frame,label,split", *rows]))
    code, out, err = run("evaluate", "objects", features, "--frame-labels", labels, "--out", "report")
    assert code == 0
    assert out.splitlines()[2].split() == ["ours", "100.0", "this", "run"]
    assert "24 test windows; 0 windows without an object are left out" in err
    code, _, err = run("evaluate", "objects", features, "--frame-labels", "none")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "there is no file or folder none; expected labels of frames" in err


def test_compactness_writes_the_curve(run: Run, features: Path) -> None:
    words = ("evaluate", "compactness", features, "--labels-from-folders", "--layer", "fc6", "-C", 100, "--folds", 3)
    code, out, _ = run(*words, "--dimensions", 2, "--dimensions", 10, "--dimensions", 500, "--out", "report")
    assert code == 0
    assert "4 classes, 24 videos of 12 sources; 3 folds" in out.splitlines()[0]
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["2", "10", "12", "chance"]
    assert "52.8" in out
    with Path("report/compactness.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["dimensions"] for row in rows] == ["2", "10", "12"]
    assert rows[1]["published_ucf101"] == "0.528"
    assert Path("report/compactness.png").exists()


@pytest.mark.parametrize(("words", "n_points"), [((), 24), (("--clips", 30, "--method", "pca"), 30)])
def test_a_map_of_videos_or_of_random_clips(words: tuple[str, ...], n_points: int, run: Run, features: Path) -> None:
    code, out, _ = run("evaluate", "map", features, "--labels-from-folders", "--out", "report", *words)
    assert code == 0
    assert out.startswith(f"{n_points} points: ")
    with Path("report/map.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == n_points
    assert Path("report/map.png").exists()


def test_a_map_is_one_picture_where_a_picture_is_named(run: Run, features: Path) -> None:
    words = ("evaluate", "map", features, "--labels-from-folders", "--method", "pca")
    for name in ("x.png", "sub/y.SVG"):
        code, out, _ = run(*words, "--out", name)
        assert code == 0
        assert Path(name).is_file() and Path(name).with_suffix(".csv").is_file()
        assert name in out
    code, _, err = run(*words, "--out", "z.gif")
    assert (code, err) == (2, "c3dvideo: z.gif: the suffix is '.gif'; expected .png or .svg\n")
    assert not Path("z.gif").exists()


def test_retrieval_prints_classes_and_a_random_ranking(run: Run, features: Path) -> None:
    words = ("evaluate", "retrieval", features, "--labels-from-folders", "--layer", "fc6")
    code, out, _ = run(*words, "--out", "report")
    assert code == 0
    facts, heading, ours, *_ = out.splitlines()
    assert facts == "4 classes, 24 videos of 12 sources; every video against those of all other sources"
    assert heading.split() == ["mAP", "P@1", "queries"]
    assert ours.split() == ["ours", "1.000", "1.000", "24"]
    assert any(line.split()[:2] == ["random", "ranking"] for line in out.splitlines())
    assert {line.split()[0] for line in out.splitlines()[-4:]} == set(CLASSES)
    report = json.loads(Path("report/retrieval.json").read_text())
    assert (report["mAP"], report["P@1"], report["post_processing"]) == (1.0, 1.0, "none")
    centred = json.loads(run(*words, "--post-processing", "centre", "--reference", features, "--json")[1])
    assert (centred["post_processing"], centred["P@1"]) == ("centre", 1.0)


def test_a_full_disk_is_one_line_after_the_report_and_leaves_nothing(
    run: Run, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("c3dvideo.files.os.fsync", full)
    for task, words in {
        "recognition": ("-C", 1),
        "retrieval": ("--layer", "fc6"),
        "similarity": ("--pairs-per-fold", 20),
        "scenes": ("-C", 1),
        "compactness": ("-C", 1, "--dimensions", 2),
        "map": ("--method", "pca"),
    }.items():
        code, out, err = run("evaluate", task, features, "--labels-from-folders", *words, "--out", "report")
        assert code == 1
        assert "the disk is full" in err
        assert len(err.splitlines()) == 1
        assert bool(out) == (task != "map")
        assert list(Path("report").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(run: Run, features: Path) -> None:
    Path("taken").write_text("a file")
    code, _, err = run("evaluate", "scenes", features, "--labels-from-folders", "-C", 1, "--out", "taken/report")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "taken" in err and "a part of its path is a file" in err


@pytest.fixture
def weights(narrow_network: C3D, tmp_path: Path) -> Path:
    narrow_network.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def test_similar_leads_with_a_cosine_and_its_place_among_unrelated_pairs(
    run: Run, weights: Path, moving_square: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = moving_square(tmp_path / "a.mp4", seed=0), moving_square(tmp_path / "b.mp4", seed=3)
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "cache"))
    code, out, err = run("similar", a, a, "--weights", weights, "--json")
    assert code == 0
    assert err.startswith("computing the descriptors of 32 generated videos")
    found = json.loads(out)
    assert found["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert found["layers"]["fc6"]["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert (found["percentile"], found["reference"]) == (100.0, "generated videos")
    code, out, err = run("similar", a, b, "--weights", weights, "--layer", "fc6", "--layer", "prob")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith("cosine 0.") and first.endswith("(fc6)")
    assert second.startswith("more alike than ") and "448 pairs of unrelated videos" in second
    code, out, _ = run("similar", a, b, "--weights", weights, "--layer", "fc6", "--layer", "prob", "--all")
    assert len(out.splitlines()) == 15
    assert out.splitlines()[2].split() == ["fc6", "prob"]


def test_similar_subtracts_the_mean_that_the_weights_ship(
    run: Run, narrow_network: C3D, moving_square: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = moving_square(tmp_path / "a.mp4", seed=0), moving_square(tmp_path / "b.mp4", seed=3)
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "cache"))
    sides = [
        descriptor(found.layers["fc6"]) for found in Extractor(narrow_network)([a, b]) if not isinstance(found, Failure)
    ]
    narrow_network.descriptor_mean = mean = (0.5 * sides[0]).astype(np.float32)
    narrow_network.save_pretrained(tmp_path / "weights")
    x, y = (side - mean for side in sides)
    words = ("similar", a, b, "--weights", tmp_path / "weights", "--post-processing", "centre")
    code, out, err = run(*words, "--json")
    assert code == 0, err
    assert json.loads(out)["cosine"] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-6)
    assert "(fc6 after subtracting the mean descriptor)" in run(*words)[1]


def test_similar_is_compared_with_a_folder_of_features(
    run: Run, weights: Path, moving_square: Callable[..., Path], tmp_path: Path
) -> None:
    for seed in range(4):
        moving_square(tmp_path / "own" / f"{seed}.mp4", seed=seed)
    a, b = tmp_path / "own" / "0.mp4", tmp_path / "own" / "1.mp4"
    assert run("extract", "own", "--out", "features", "--weights", weights)[0] == 0
    words = ("similar", a, b, "--weights", weights, "--json", "--reference", "features")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    plain, centred = json.loads(out), json.loads(run(*words, "--post-processing", "centre")[1])
    assert (plain["n_unrelated"], plain["reference"]) == (6, "features")
    assert centred["cosine"] < plain["cosine"]
    assert run("extract", "own", "--out", "other", "--weights", weights, "--stride-frames", 8)[0] == 0
    code, _, err = run(*words[:-1], "other")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "plan.stride_frames is 8 there and 16 here" in err and "leave `--reference` out" in err


def test_similar_says_which_video_cannot_be_compared(
    run: Run, weights: Path, moving_square: Callable[..., Path], tmp_path: Path
) -> None:
    a, short = moving_square(tmp_path / "a.mp4"), moving_square(tmp_path / "short.mp4", n_frames=5)
    code, out, err = run("similar", a, short, "--weights", weights)
    assert (code, out) == (1, "")
    assert "short.mp4" in err
    assert len(err.splitlines()) == 1
