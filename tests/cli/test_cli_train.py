"""`c3dvideo train`, `dataset check`, `dataset split` and `evaluate depth` from the command line."""

import csv
import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from c3dvideo.choices import Layout
from c3dvideo.cli import training_commands as training
from c3dvideo.datasets.read import read_dataset
from c3dvideo.training.settings import TrainSettings

Run = Callable[..., tuple[int, str, str]]
TINY = ("--width", 0.06, "--fc-width", 16, "--crop-size", 32, "--batch-size", 4, "--epochs", 1, "--test-clips", 1)


@pytest.fixture
def videos(tmp_path: Path, moving_square: Callable[..., Path]) -> Path:
    """Two classes of five source videos each, two clips of every source, named as UCF101 names them."""
    for number in range(20):
        label, group, clip = "ab"[number % 2], number // 4, number // 2 % 2
        name = f"videos/{label}/v_{label}_g{group:02d}_c{clip:02d}.mp4"
        moving_square(tmp_path / name, n_frames=17, height=48, width=64, seed=number)
    return tmp_path / "videos"


def test_split_then_train_then_resume(run: Run, videos: Path) -> None:
    code, _, err = run("dataset", "split", videos, "--out", "split.csv")
    assert code == 1 and "come from one source video" in err
    code, out, err = run("dataset", "split", videos, "--out", "split.csv", "--group-pattern", r"_g(\d+)_")
    assert code == 0 and out == "train: 16 videos, 8 to 8 per class\nval: 4 videos, 2 to 2 per class\n", err
    code, out, err = run("train", "split.csv", "--videos", videos, "--out", "run", *TINY)
    assert code == 0, err
    assert "val: " in out and "of 4 videos right (largest class 50.0%)" in out and "weights in run/weights" in out
    code, out, err = run("train", "split.csv", "--videos", videos, "--out", "run", *TINY, "--resume", "--json")
    assert code == 0 and json.loads(out)["val"]["n_videos"] == 4, err
    code, _, err = run("train", "split.csv", "--videos", videos, "--out", "run", *TINY)
    assert code == 2 and "already holds a run; continue it with `--resume`, or choose another `--out`" in err


def test_train_on_a_folder_names_what_it_left_out(run: Run, videos: Path) -> None:
    (videos / "a/v_a_g00_c00.mp4").write_bytes(b"")
    code, out, err = run("train", videos, "--group-pattern", r"_g(\d+)_", "--out", "run", "--cache", "none", *TINY)
    assert code == 3 and "weights in" in out and "1 video could not be read, so left out" in err


def test_check_writes_what_is_good_and_what_is_not(run: Run, videos: Path, moving_square: Callable[..., Path]) -> None:
    moving_square(videos / "a/short.mp4", n_frames=9)
    code, out, err = run("dataset", "check", videos, "--out", "report")
    assert code == 0, err
    assert "21 of 21 videos can be read: 349 frames, 20 clips; 1 problem; " in out
    assert "a/short.mp4: short: 9 frames, and one clip needs 16" in out
    assert "1 video shorter than a clip: for a clip of each, extract with `--short repeat_last`\n" in out
    (videos / "b/v_b_g00_c00.mp4").write_bytes(b"text, no video")
    code, out, _ = run(
        "dataset", "check", videos, "--out", "report", "--json", "--stride-frames", "1", "--workers", "2"
    )
    report = json.loads(out)
    assert code == 3
    assert (report["n_videos"], report["n_good"], report["n_clips"]) == (21, 20, 38)
    assert [row["path"] for row in report["problems"]] == ["a/short.mp4", "b/v_b_g00_c00.mp4"]
    with (videos.parent / "report/good.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["n_frames"], row["fps"], row["width"], row["height"], row["n_clips"]) == (
        "9",
        "25.000",
        "128",
        "96",
        "0",
    )
    assert len(read_dataset(videos.parent / "report/good.csv", videos=videos).examples) == 20


def test_check_keeps_parts_of_videos_apart(run: Run, videos: Path) -> None:
    rows = ["path,label,start_seconds,end_seconds", *(f"a/v_a_g00_c00.mp4,a,{s},{s + 0.2}" for s in (0.0, 0.3))]
    (videos / "labels.csv").write_text("\n".join(rows))
    assert run("dataset", "check", videos / "labels.csv", "--out", "report")[0] == 0
    examples = read_dataset(videos.parent / "report/good.csv", videos=videos).examples
    assert [(example.start_seconds, example.end_seconds) for example in examples] == [(0.0, 0.2), (0.3, 0.5)]


def test_check_counts_missing_videos(run: Run, videos: Path) -> None:
    (videos / "labels.csv").write_text("path,label\na/v_a_g00_c00.mp4,a\na/gone.mp4,a\n")
    code, out, err = run("dataset", "check", videos / "labels.csv")
    assert code == 3 and "1 of 2 videos can be read" in out and "a/gone.mp4: missing" in out
    assert "1 video named but missing: a/gone.mp4" in err


def test_depth_study(run: Run, videos: Path) -> None:
    words = ("evaluate", "depth", videos, "--group-pattern", r"_g(\d+)_", "--out", "study", "--only", "depth-1")
    settings = ("--width", 0.1, "--fc-width", 8, "--crop-size", 32, "--epochs", 1, "--batch-size", 8, "--no-flip")
    code, out, err = run(*words, *settings)
    assert code == 0, err
    assert out.startswith("depth-1: ") and "published" in out and "study/depth.png" in out
    code, out, _ = run(*words, *settings, "--json")
    assert code == 0 and json.loads(out)[0]["temporal_depths"] == [1, 1, 1, 1, 1]


def test_every_setting_is_an_option_with_the_same_choices() -> None:
    options = inspect.signature(training.train).parameters
    missing = {field.name for field in fields(TrainSettings)} - set(options)
    assert not missing
    for field in fields(TrainSettings):
        choices = getattr(field.type, "__args__", ())
        if choices and isinstance(choices[0], str):
            assert set(choices) <= set(options[field.name].annotation.__origin__.__args__[0].__args__)
    assert set(Layout.__args__) == set(options["layout"].annotation.__origin__.__args__)
