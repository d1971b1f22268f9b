"""Whole extractions give the same files to the byte, whatever their workers, batches, order and parts."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from c3dvideo import C3D
from c3dvideo.features.extract import extract
from c3dvideo.features.store import read_features
from c3dvideo.network.folder import save_folder
from c3dvideo.video.clips import ClipPlan

PLAN = ClipPlan(clip_length=8, stride_frames=6)


@pytest.fixture
def videos(tmp_path: Path, moving_square: Callable[..., Path]) -> list[Path]:
    return [
        moving_square(tmp_path / f"videos/{number}.mp4", n_frames=20 + 9 * number, height=48, width=64, seed=number)
        for number in range(5)
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_workers_order_and_parts_change_no_byte(videos: list[Path], tmp_path: Path, tiny_network: C3D) -> None:
    folder = videos[0].parent
    extract([folder], tmp_path / "one", weights=tiny_network, plan=PLAN, workers=1)
    expected = files(tmp_path / "one")
    for workers in (0, 2, 3):
        out = tmp_path / f"workers{workers}"
        extract([folder], out, weights=tiny_network, plan=PLAN, workers=workers)
        assert files(out) == expected, workers
    extract(videos[::-1], tmp_path / "reversed", weights=tiny_network, plan=PLAN, workers=2)
    for part in ("2/3", "1/3", "3/3"):
        extract([folder], tmp_path / "parts", weights=tiny_network, plan=PLAN, workers=1, shard=part)
    for name in ("reversed", "parts"):
        assert files(tmp_path / name) == expected, name


def test_batches_change_the_stated_number_only(videos: list[Path], tmp_path: Path, tiny_network: C3D) -> None:
    for size in (1, 3, 8):
        extract(videos, tmp_path / f"{size}", weights=tiny_network, plan=PLAN, workers=1, batch_size=size)
    for path in (tmp_path / "8").glob("*.npz"):
        expected = read_features(path)
        for size in (1, 3):
            found = read_features(tmp_path / f"{size}" / path.name)
            assert found.layers["fc6"].tobytes() == expected.layers["fc6"].tobytes()
            stated = {**found.metadata["engine"], "batch_clips": 8}
            assert {**found.metadata, "engine": stated} == expected.metadata


def test_the_flag_is_taken_on_a_cpu_and_changes_nothing_there(
    videos: list[Path], tmp_path: Path, tiny_network: C3D
) -> None:
    save_folder(tiny_network, tmp_path / "weights")
    options = ["--weights", tmp_path / "weights", "--clip-length", "8", "--stride-frames", "6", "--workers", "1"]
    command = [sys.executable, "-m", "c3dvideo", "extract", *videos, "--out", tmp_path / "flag", *options]
    done = subprocess.run([*command, "--deterministic", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["n_done"] == 5
    extract(videos, tmp_path / "plain", weights=tmp_path / "weights", plan=PLAN, workers=1)
    for path in (tmp_path / "plain").glob("*.npz"):
        assert path.read_bytes() == (tmp_path / "flag" / path.name).read_bytes()
