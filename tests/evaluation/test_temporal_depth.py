"""The kernel depth study: its networks, its files, resuming, and motion that only networks with time can see."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.errors import UsageError
from c3dvideo.evaluation import temporal_depth as depth
from c3dvideo.evaluation.temporal_depth import DEPTHS, depth_study
from c3dvideo.network.c3d import C3D, c3d_small
from c3dvideo.synthetic import synthesize
from c3dvideo.video.encode import write_video

TINY: dict[str, Any] = {
    "width": 0.12,
    "fc_width": 32,
    "crop_size": 32,
    "batch_size": 10,
    "crops": "any",
    "flip": False,
    "colour": 0.0,
    "dropout": 0.0,
    "ema": 0.0,
    "label_smoothing": 0.0,
    "learning_rate": 3e-3,
    "validation_clips": 1,
    "test_clips": 1,
    "precision": "fp32",
}


def left_and_right(root: Path, n_videos: int) -> Dataset:
    """A bright bar crosses noise; class "left" is class "right" played backwards, so that no frame tells them apart."""
    examples = []
    for number in range(n_videos):
        generator = np.random.default_rng(number)
        frames = np.repeat(generator.integers(0, 60, (1, 48, 64, 3), dtype=np.uint8), 16, axis=0)
        begin, top = int(generator.integers(0, 26)), int(generator.integers(0, 24))
        for t in range(16):
            frames[t, top : top + 24, begin + 2 * t : begin + 2 * t + 8] = 240
        label = ("right", "left")[number % 2]
        path = f"{label}/{number}.mp4"
        (root / label).mkdir(parents=True, exist_ok=True)
        write_video(root / path, frames if label == "right" else frames[::-1])
        examples.append(Example(path, label, "val" if number >= n_videos * 3 // 4 else "train"))
    return Dataset(tuple(examples), ("left", "right"), root=root)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("depth-1", 14_344_933),
        ("depth-3", 17_444_965),
        ("depth-5", 20_544_997),
        ("depth-7", 23_645_029),
        ("increasing", 21_573_733),
        ("decreasing", 18_189_157),
    ],
)
def test_the_networks_of_the_paper_with_their_true_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = c3d_small(101, temporal_depths=DEPTHS[name])
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_depth_one_cannot_tell_a_clip_from_its_reverse() -> None:
    clips = torch.randn(2, 3, 16, 32, 32)
    narrow = {"stages": ((8,),) * 5, "num_classes": 3, "fc_width": 8, "crop_size": 32, "filler": "xavier"}
    for name, blind in (("depth-1", True), ("depth-3", False)):
        network = C3D(temporal_depths=DEPTHS[name], **narrow)
        with torch.no_grad():
            forwards, backwards = network.eval()(clips), network(clips.flip(2))
        assert torch.allclose(forwards, backwards, atol=1e-6) == blind


def test_motion_needs_kernels_with_time(tmp_path: Path) -> None:
    """Depth 3 learns which way the bar moves; depth 1 stays at chance however long it trains."""
    dataset = left_and_right(tmp_path / "videos", 80)
    lines: list[str] = []
    results = depth_study(
        dataset, tmp_path / "study", names=("depth-1", "depth-3"), epochs=8, note=lines.append, **TINY
    )
    one, three = results
    assert np.mean(one.accuracies) <= 0.65 and three.accuracy >= 0.9
    assert len(lines) == 2 and lines[0].startswith("depth-1: ")
    with (tmp_path / "study/depth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and rows[-1]["network"] == "depth-3" and rows[-1]["temporal_depths"] == "3-3-3-3-3"
    assert (tmp_path / "study/depth.png").stat().st_size > 1000
    summary = json.loads((tmp_path / "study/depth.json").read_text())
    assert [row["accuracy"] for row in summary] == [one.accuracy, three.accuracy]


def test_depth_three_learns_generated_motion(tmp_path: Path) -> None:
    """Which way the camera pans, in the clips of `c3dvideo synthesize`: a clip of one class is the other's reversed."""
    synthesize(tmp_path / "pan", task="camera pan", n_clips=320, height=40, width=56, seed=3)
    settings = {**TINY, "batch_size": 16, "crops": "resized", "ema": 0.99}
    (three,) = depth_study(tmp_path / "pan", tmp_path / "study", names=["depth-3"], epochs=8, **settings)
    assert three.accuracy >= 0.62


def test_a_stopped_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from c3dvideo.training import train as training

    dataset = left_and_right(tmp_path / "videos", 16)
    settings = {**TINY, "epochs": 2, "batch_size": 4}
    whole = depth_study(dataset, tmp_path / "whole", names=("depth-1", "decreasing"), **settings)
    step, seen = training.Learner.training_step, 0

    def killed(self: training.Learner, batch: dict[str, Any], number: int) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen == 11:  # the second network's second epoch
            raise KeyboardInterrupt
        return step(self, batch, number)

    monkeypatch.setattr(training.Learner, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        depth_study(dataset, tmp_path / "cut", names=("depth-1", "decreasing"), **settings)
    assert depth._finished(tmp_path / "cut/depth-1") is not None
    again = depth_study(dataset, tmp_path / "cut", names=("depth-1", "decreasing"), **settings)
    assert again == whole and seen == 14


def test_unknown_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown network of the study: depth-2; it has depth-1, "):
        depth_study(tmp_path, tmp_path, names=("depth-2",))
    with pytest.raises(UsageError, match="the study varies `temporal_depths=`"):
        depth_study(tmp_path, tmp_path, temporal_depths=(3, 3, 3, 3, 3))
