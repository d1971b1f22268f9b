"""`c3dvideo extract` and `c3dvideo predict`: streams, exit codes, options."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo import C3D, cli
from c3dvideo.features.store import list_features, read_features
from c3dvideo.network.folder import save_folder
from c3dvideo.probing.descriptors import Part
from c3dvideo.probing.probe import Probe

Write = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, tiny_network: C3D, moving_square: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `weights` and `videos`, two good and one bad."""
    save_folder(tiny_network, tmp_path / "weights")
    moving_square(tmp_path / "videos" / "a.mp4", n_frames=24, height=48, width=64)
    moving_square(tmp_path / "videos" / "sub" / "a.mp4", n_frames=8, height=48, width=64, seed=1)
    (tmp_path / "videos" / "bad.mp4").write_text("not a video")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["c3dvideo", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def test_results_on_stdout_and_notes_on_stderr(here: Path, run: Run) -> None:
    code, out, err = run("extract", "videos", "--out", "out", "--weights", "weights", "--clip-length", "8")
    assert code == 3
    assert out.startswith("out: 2 videos done, 0 already there, 1 failed\n3 clips in ")
    seconds = re.sub(r"[0-9]+\.[0-9]", "_", out).splitlines()[2:]
    assert seconds == [
        "seconds: network _, waiting for clips _, for the writer _; decoders: checking _, decoding _, resizing _, "
        "waiting for the network _; writer _",
    ]
    first, second, third = err.splitlines()
    assert first.startswith("fc6 of weights weights (")
    assert first.endswith("), profile tiny, engine winograd in fp32 on cpu")
    assert second.startswith("failed (decode): bad.mp4: 'videos/bad.mp4': ")
    assert third == "1 failed; all in out/failures.jsonl"
    assert [name for name, _ in list_features("out")] == ["a.mp4", "sub/a.mp4"]
    (here / "videos" / "bad.mp4").unlink()
    code, out, err = run("extract", "videos", "--out", "out", "--weights", "weights", "--clip-length", "8")
    assert (code, len(err.splitlines())) == (0, 1)
    assert out.startswith("out: 0 videos done, 2 already there, 0 failed\n")


def test_json_is_the_whole_of_stdout(here: Path, run: Run) -> None:
    options = ["--out", "out", "--weights", "weights", "--clip-length", "8", "--stride-frames", "4", "--json"]
    code, out, _ = run("extract", "videos", *options, "--layer", "fc6", "--layer", "prob", "--pool", "mean")
    summary = json.loads(out)
    assert code == 3
    assert (summary["n_done"], summary["n_failed"], summary["n_clips"]) == (2, 1, 6)
    assert set(summary["timings"]) == {
        "check", "decode", "preprocess", "network", "write",
        "waiting_for_clips", "waiting_for_writer", "waiting_for_network",
    }  # fmt: skip
    assert summary["failures"][0]["name"] == "bad.mp4"
    assert read_features("out/a.mp4.npz").layers["prob"].shape == (1, 5)


def test_every_option_of_pixels_and_clips_reaches_the_settings(here: Path, run: Run) -> None:
    code, out, _ = run(
        *("extract", "videos/a.mp4", "--out", "out", "--weights", "weights", "--json", "--crops", "five"),
        *("--clip-length", "8", "--stride-frames", "3", "--sampling-rate", "2", "--tail", "shift_back"),
        *("--short", "loop", "--channel-order", "rgb", "--resize", "short_side", "--resize-height", "40"),
        *("--resize-width", "40", "--interpolation", "antialias_bilinear", "--crop-top", "3", "--crop-left", "4"),
        *("--mean-values", "90", "98", "102", "--scale", "0.5", "--std", "1", "2", "3", "--pool5", "ceil"),
        *("--device", "cpu", "--precision", "fp32", "--engine", "direct", "--batch-size", "2", "--workers", "2"),
    )
    settings = json.loads(out)["settings"]
    assert code == 0
    assert settings["crops"] == "five"
    assert settings["plan"] == {
        "clip_length": 8, "stride_frames": 3, "sampling_rate": 2, "tail": "shift_back", "short": "loop"
    }  # fmt: skip
    profile = settings["profile"]
    assert profile.pop("name").startswith("tiny+channel_order+crop_left")
    assert profile == {
        "channel_order": "rgb", "resize": "short_side", "resize_height": 40, "resize_width": 40,
        "interpolation": "antialias_bilinear", "crop_size": 32, "crop_top": 3, "crop_left": 4,
        "mean": [90, 98, 102], "scale": 0.5, "std": [1, 2, 3], "pool5": "ceil",
    }  # fmt: skip
    assert read_features("out/a.mp4.npz").metadata["engine"]["engine"] == "direct"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing"], 2, "no such file or folder: 'missing'"),
        (["videos", "--layer", "fc9"], 2, "unknown layer: fc9"),
        (["videos", "--profile", "cafe"], 2, "unknown profile 'cafe'"),
        (["videos", "--clip-length", "16"], 2, "clips have 16 frames, but fc6 of this network needs 8"),
        (["videos", "--stride-frames", "0"], 2, "stride_frames is 0, expected 1 or more"),
        (["videos", "--weights", "nothing"], 2, "'nothing' are neither a folder"),
        (["videos/a.mp4", "videos/sub/a.mp4"], 2, "would both be stored as 'a.mp4'"),
        (["nopath.csv"], 2, "needs a column 'path'"),
        (["videos", "--out", "videos/a.mp4"], 1, "cannot be written"),
    ],
)
def test_one_line_for_what_cannot_be(here: Path, run: Run, arguments: list[str], code: int, message: str) -> None:
    (here / "nopath.csv").write_text("file\na.mp4\n")
    got, out, err = run("extract", "--out", "out", "--weights", "weights", "--clip-length", "8", *arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert err.splitlines()[-1].startswith("c3dvideo: ")
    assert "Traceback" not in err


def test_a_folder_of_other_weights_is_refused(here: Path, run: Run, tiny_network: C3D) -> None:
    options = ["--out", "out", "--clip-length", "8"]
    assert run("extract", "videos", *options, "--weights", "weights")[0] == 3
    tiny_network.initialise("gaussian")
    save_folder(tiny_network, here / "other")
    code, _, err = run("extract", "videos", *options, "--weights", "other")
    assert code == 1
    assert "out holds features of other settings: weights is " in err


def test_paths_on_stdin_and_names_with_a_dash(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "videos" / "a.mp4").rename(here / "-a b.mp4")
    options = ["--out", "out", "--weights", "weights", "--clip-length", "8"]
    paths = b"-a b.mp4\0videos/sub/a.mp4\0" + os.fsencode("videos/none\n.mp4") + b"\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(paths)))
    code, _, err = run("extract", *options, "-")
    assert code == 3, err
    assert [name for name, _ in list_features("out")] == ["-a b.mp4", "videos/sub/a.mp4"]
    code, out, _ = run("extract", *options, "--", "-a b.mp4")
    assert (code, out[:38]) == (0, "out: 0 videos done, 1 already there, 0")


def test_predict_prints_a_table_or_json(here: Path, run: Run) -> None:
    code, out, err = run("predict", "videos", "--weights", "weights", "--clip-length", "8", "--top", "2")
    assert code == 3
    assert err.splitlines()[-1] == "1 failed"
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["a.mp4"]
    assert [line[:2] for line in lines if line[:1] == ["whole"]] == [["whole", "video"]] * 4
    assert ["0", "0.00-0.32"] in [line[:2] for line in lines]
    code, out, _ = run("predict", "videos", "--weights", "weights", "--clip-length", "8", "--json")
    document = json.loads(out)
    assert [video["name"] for video in document["predictions"]] == ["a.mp4", "sub/a.mp4"]
    assert [clip["start_frame"] for clip in document["predictions"][0]["timeline"]] == [0, 16]
    assert document["failures"][0]["stage"] == "decode"


def test_predict_with_a_probe(here: Path, run: Run) -> None:
    Probe(
        classes=("still", "moving"),
        coefficients=np.stack([np.ones(16), -np.ones(16)]),
        intercepts=np.zeros(2),
        parts=(Part("fc6", 16, {}),),
        penalty=1.0,
    ).save(here / "probe.npz")
    code, out, _ = run(
        "predict", "videos/a.mp4", "--weights", "weights", "--clip-length", "8", "--probe", "probe.npz", "--json"
    )
    (prediction,) = json.loads(out)["predictions"]
    assert code == 0
    assert [rank["label"] for rank in prediction["top"]] == ["still", "moving"]
    assert prediction["top"][0]["score"] == pytest.approx(-prediction["top"][1]["score"])


def test_a_wrong_path_answers_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom c3dvideo import cli\n"
        "sys.argv = ['c3dvideo', sys.argv[1], 'nope', '--out', 'out'][: 3 if sys.argv[1] == 'predict' else None]\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    for command in ("extract", "predict"):
        done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("2 False\n", "c3dvideo: no such file or folder: 'nope'\n")


def test_features_of_the_default_weights_come_with_a_word_of_caution(here: Path, run: Run) -> None:
    code, _, err = run("extract", "videos/a.mp4", "--out", "out", "--device", "cpu")
    assert code == 0
    assert err.splitlines()[0].startswith(
        "these features come from the default weights, which were trained on still pictures "
    )
    assert err.splitlines()[0].endswith("extract with `--weights sports1m` for the paper's")


def test_partial_videos_are_listed_apart(here: Path, run: Run, moving_square: Write) -> None:
    path = moving_square(here / "videos" / "cut.ts", n_frames=60, height=48, width=64)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3 + 50])
    options = ["--out", "out", "--weights", "weights", "--clip-length", "8", "--damaged", "keep"]
    code, out, err = run("extract", "videos", *options)
    assert code == 3
    assert out.startswith("out: 3 videos done, 0 already there, 1 failed, 1 partial\n")
    assert [line.partition(":")[0] for line in err.splitlines()[1:]] == [
        "failed (decode)", "partial", "1 failed, 1 partial; all in out/failures.jsonl"
    ]  # fmt: skip
