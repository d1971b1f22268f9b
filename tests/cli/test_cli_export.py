"""`c3dvideo export` and `c3dvideo extract --engine onnx`, as a user runs them."""

from collections.abc import Callable
from pathlib import Path

from c3dvideo import C3D
from c3dvideo.network.folder import save_folder


def test_export_prints_differences_and_speeds_and_extract_runs_the_file(
    run: Callable[..., tuple[int, str, str]], tiny_network: C3D, moving_square: Callable[..., Path], tmp_path: Path
) -> None:
    save_folder(tiny_network, tmp_path / "weights")
    video = moving_square(tmp_path / "videos/a.mp4", n_frames=20)
    file = tmp_path / "c3d.onnx"
    words = ("export", "--weights", tmp_path / "weights", "--to", "onnx", "--out", file, "--int8", video.parent)
    code, printed, _ = run(*words, "--layer", "fc6", "--layer", "pool5")
    assert code == 0
    assert "largest difference" in printed
    assert all(name in printed for name in ("exported file", "PyTorch eager", "c3dvideo", "generated", "pool5"))
    code, _, errors = run(
        "extract", video, "--out", tmp_path / "features", "--weights", file, "--engine", "onnx", "--clip-length", "8"
    )
    assert code == 0
    assert "engine onnx in int8 on cpu" in errors


def test_a_wrong_suffix_is_a_usage_error(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, errors = run("export", "--to", "openvino", "--out", tmp_path / "c3d.onnx")
    assert code == 2
    assert "a file for openvino ends in .xml; choose another `--out`" in errors
