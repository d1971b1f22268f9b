"""The runs that meet faults: what each does in a folder, and what of the folder must not depend on faults.

task = TASKS["extract"]
task.run(inputs, out)                # starts, or resumes what is there
task.result(out)                     # {name: sha256 or text}, equal for every complete run
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

N_VIDEOS = 6
TRAINING: dict[str, Any] = {
    **{"width": 0.06, "fc_width": 16, "crop_size": 32, "batch_size": 2, "epochs": 3, "validation_clips": 1},
    **{"test_clips": 1, "precision": "fp32", "accelerator": "cpu", "devices": 1},
}


@dataclass(frozen=True)
class Task:
    """run: of inputs, into a folder. shares: whether two runs may fill one folder at the same time."""

    run: Callable[[Path, Path], None]
    result: Callable[[Path], dict[str, str]]
    shares: bool = False


def make_inputs(folder: Path) -> None:
    """Six short videos, a list of their classes, tiny weights, and a folder of their features."""
    import torch

    from c3dvideo import C3D
    from c3dvideo.features.extract import extract
    from c3dvideo.network.folder import save_folder
    from c3dvideo.video.encode import write_video

    rows = ["path,label,split"]
    for number in range(N_VIDEOS):
        generator = np.random.default_rng(number)
        path = folder / f"videos/{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, generator.integers(0, 256, (40, 48, 64, 3), np.uint8), fps=25)
        rows.append(f"videos/{number}.mp4,{'ab'[number % 2]},{'val' if number > 3 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    torch.manual_seed(1)
    network = C3D(num_classes=2, stages=((4,), (4,), (8, 8), (8, 8), (8, 8)), fc_width=16, filler="xavier")
    network.classes = ("a", "b")
    network.mean_volume = np.full((3, 16, 128, 171), 100.0, np.float32)
    save_folder(network.eval(), folder / "weights")
    extract([folder / "videos"], folder / "features", weights=folder / "weights", workers=1)


def _extract(inputs: Path, out: Path) -> None:
    from c3dvideo.features.extract import extract

    summary = extract([inputs / "videos"], out, weights=inputs / "weights", workers=1)
    assert summary.n_failed == 0 and not summary.not_done, summary.failures


def _train(inputs: Path, out: Path) -> None:
    from c3dvideo.training.train import train

    resume = (out / "checkpoints/last.ckpt").exists()
    train(inputs / "labels.csv", out, resume=resume, note=lambda text: None, **TRAINING)


def _pretrain(inputs: Path, out: Path) -> None:
    from c3dvideo.training.pretraining.pretraining_run import pretrain
    from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings

    steps = {"still_steps": 2, "n_steps": 2, "batch_size": 2, "crop": 32}
    clips = {"filter_clips": 2, "fc_clips": 4, "everyday_clips": 2, "n_directions": 4}
    settings = PretrainSettings(
        stages=((4,), (4,), (4, 4), (4, 4), (4, 4)), fc_width=8, precision="fp32", **steps, **clips
    )
    pretrain(out, settings=settings, device="cpu")


def _index(inputs: Path, out: Path) -> None:
    from c3dvideo.search.build_index import build_index

    report = build_index(inputs / "features", out)
    assert report.n_videos == N_VIDEOS and not report.failures, report


def _files(*names: str) -> Callable[[Path], dict[str, str]]:
    def result(out: Path) -> dict[str, str]:
        found = [path for name in names for path in out.glob(name) if path.is_file()]
        return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}

    return result


def _rows(out: Path) -> dict[str, str]:
    from c3dvideo.search.index import Index

    table = Index.open(out).clips()
    return {
        "videos": " ".join(table.video.tolist()),
        "seconds": str(table.start_seconds.tolist()),
        "vectors": hashlib.sha256(np.ascontiguousarray(table.vectors).tobytes()).hexdigest(),
    }


TASKS = {
    "extract": Task(_extract, _files("**/*.npz", "manifest.json", "failures.jsonl"), shares=True),
    "train": Task(_train, _files("weights/*", "metrics.json", "log.csv")),
    "pretrain": Task(_pretrain, _files("weights/model.safetensors")),
    "index": Task(_index, _rows),
}
