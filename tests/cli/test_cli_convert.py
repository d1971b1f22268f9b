"""`c3dvideo convert`: what it prints, and its exit codes."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo.features.store import VideoFeatures, write_features

Convert = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A folder with features of a good video, of one with a NaN, and nothing else."""
    for name, bad in (("a.mp4", False), ("b.mp4", True)):
        array = np.random.default_rng(0).random((40, 6), np.float32)
        if bad:
            array[3, 3] = np.nan
        start = np.arange(40, dtype=np.int64) * 16
        metadata = {
            "source": f"videos/{name}",
            "fps": "25/1",
            "frames_folder": False,
            "n_frames": 640,
            "settings": {"plan": {"clip_length": 16, "stride_frames": 16, "sampling_rate": 1}, "pool": None},
        }
        one = VideoFeatures(
            name=name, layers={"fc7": array}, start_frame=start, start_seconds=start / 25, metadata=metadata
        )
        write_features(tmp_path / "features" / f"{name}.npz", one)
    return tmp_path / "features"


@pytest.fixture
def convert(run: Callable[..., tuple[int, str, str]]) -> Convert:
    """Runs the command in this process."""
    return lambda *arguments: subprocess.CompletedProcess(arguments, *run("convert", *arguments))


def test_json_summary_and_exit_code_3_when_a_video_is_left_out(
    convert: Convert, features: Path, tmp_path: Path
) -> None:
    out = tmp_path / "anet.hdf5"
    done = convert(features, "--to", "activitynet", "--out", out, "--layer", "fc7", "--pca", "2", "--json")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    assert {key: summary[key] for key in ("format", "n_videos", "n_clips")} == {
        "format": "activitynet",
        "n_videos": 1,
        "n_clips": 40,
    }
    assert summary["pca_basis"] == f"{out}.pca.npz" and Path(summary["pca_basis"]).is_file()
    assert list(summary["failures"]) == ["b.mp4"]
    assert done.stderr.startswith("not written: b.mp4: b.mp4: fc7 has NaN")


def test_text_summary_and_exit_code_0(convert: Convert, features: Path, tmp_path: Path) -> None:
    (features / "b.mp4.npz").unlink()
    done = convert(features, "--to", "ucf-crime", "--out", tmp_path / "out", "--rounding", "python")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"1 video, 40 clips: ucf-crime in {tmp_path / 'out'}\n",
        "",
    )
    assert (tmp_path / "out" / "a.txt").is_file()


def test_features_of_the_default_weights_are_said_to_be(convert: Convert, features: Path, tmp_path: Path) -> None:
    from c3dvideo.features.default_weights import default_fingerprint
    from c3dvideo.features.store import read_features

    (features / "b.mp4.npz").unlink()
    one = read_features(features / "a.mp4.npz")
    one.metadata["settings"]["weights"] = default_fingerprint()
    write_features(features / "a.mp4.npz", one)
    done = convert(features, "--to", "npy", "--out", tmp_path / "out")
    assert done.returncode == 0
    assert done.stderr == (
        "these features come from the default weights, which were trained on still pictures and generated clips; "
        "their fc6 has 1,024 numbers per clip, the paper's has 4,096: extract with `c3dvideo extract --weights "
        "sports1m` for the paper's\n"
    )


def test_another_layer_needs_overwrite(convert: Convert, features: Path, tmp_path: Path) -> None:
    (features / "b.mp4.npz").unlink()
    out = tmp_path / "out"
    assert convert(features, "--to", "csv", "--out", out).returncode == 0
    before = (out / "a_000000.csv").read_bytes()
    from dataclasses import replace

    from c3dvideo.features.store import read_features

    one = read_features(features / "a.mp4.npz")
    write_features(features / "a.mp4.npz", replace(one, layers={"fc6": one.layers["fc7"] + 1}))
    done = convert(features, "--to", "csv", "--out", out)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "a_000000.csv holds something else than this conversion would write" in done.stderr
    assert "`--overwrite`" in done.stderr
    assert (out / "a_000000.csv").read_bytes() == before
    assert convert(features, "--to", "csv", "--out", out, "--overwrite").returncode == 0
    assert (out / "a_000000.csv").read_bytes() != before


def test_repeatable_options(convert: Convert, features: Path, tmp_path: Path) -> None:
    done = convert(
        features, "--to", "tall", "--out", tmp_path / "o", "--span-frames", "64", "--span-frames", "512", "--context"
    )
    assert done.returncode == 3
    lengths = {int(path.stem.split("_")[2]) - int(path.stem.split("_")[1]) for path in (tmp_path / "o").iterdir()}
    assert lengths == {64, 512}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "npy", "--layer", "fc6"], 2, "has no layer 'fc6', only fc7"),
        (["--to", "npy", "--pca", "3"], 2, "`--pca` has no effect on npy"),
        (["--to", "activitynet", "--pca", "500"], 2, "500 principal components cannot be fitted on 40 clips"),
        (["--to", "crops"], 1, "none of 2 videos could be written as crops"),
        (["--to", "something"], 2, "something"),
    ],
)
def test_errors_are_one_line(
    convert: Convert, features: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = convert(features, *arguments, "--out", tmp_path / "out")
    assert done.returncode == code and done.stdout == "" and message in done.stderr
    assert "Traceback" not in done.stderr
