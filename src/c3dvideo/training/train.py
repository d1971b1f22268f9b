"""Train C3D from scratch or from other weights, on any device that Lightning supports.

    result = train("my_videos", "runs/first", width=0.25, epochs=60)
    result = train("my_videos", "runs/tuned", init="sports1m")
    result = train("my_videos", "runs/1", preset="release")           # the authors' SGD and sampling, to the letter

A run's folder holds `weights/` (best by validation accuracy), `metrics.json`, confusion matrices, a table per class,
`input_batch.png`, `log.csv`, `tensorboard/`, `recipe.json` (the settings) and `checkpoints/`. Every random number is a
function of the seed, the epoch and the batch, so a run resumed from its last finished epoch equals one that never
stopped.
"""

import json
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from c3dvideo import __version__
from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.read import read_dataset
from c3dvideo.datasets.splits import check_for_training, check_leaks, validation_of_readable, with_validation
from c3dvideo.extras import require_extra
from c3dvideo.files import atomic_file, writing
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import save_folder
from c3dvideo.training.arithmetic import Precision, choose_precision, keep_freed_memory, takes_gpu
from c3dvideo.training.clip_loaders import Clips, predict_split, reading_processes
from c3dvideo.training.folding import folded, with_batch_norm
from c3dvideo.training.frames import Frames, load_frames
from c3dvideo.training.initial import initial_network, set_input
from c3dvideo.training.launch import find_launch
from c3dvideo.training.learner import Learner
from c3dvideo.training.lightning_trainer import BEST, fit
from c3dvideo.training.run_folder import load_state, run_folder, shared_evenly, stored_settings
from c3dvideo.training.settings import TrainSettings, make_settings
from c3dvideo.training.training_report import write_report
from c3dvideo.weights.load import load_weights

LAST_EPOCHS = 10


@dataclass(frozen=True)
class TrainResult:
    """Folder of a run, folder of its weights, and its results; `metrics` is the content of metrics.json."""

    out: Path
    weights: Path
    metrics: dict[str, Any]


def train(
    data: str | Path | Dataset,
    out: str | Path,
    *,
    init: str | Path | C3D | None = None,
    preset: str = "modern",
    resume: bool = False,
    validation_share: float = 0.2,
    allow_leaks: bool = False,
    cache: str | Path | None = None,
    workers: int | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    n_nodes: int = 1,
    strategy: str = "auto",
    note: Callable[[str], None] | None = None,
    **changes: Any,
) -> TrainResult:
    """Train C3D on `data`; returns the results, which are also in the folder `out`.

    data: a data set, or a path that `read_dataset` reads. Without a validation part of its own, `validation_share` of
        the training part is held out, whole groups at a time.
    allow_leaks: train although source videos (groups) are in the training part and in another; their number is then
        in the results. Without it that is a DatasetError.
    init: weights to start from (a network or a name that `load_weights` takes); None starts from scratch.
    preset: "modern" or "release". changes: single settings that differ from the preset, such as `epochs=60`; see
        `TrainSettings` for all of them. resume: continue the run in `out` after its last finished epoch.
    cache: folder for decoded frames, which runs can share; None keeps them in `out`; "none" decodes at every use.
    workers: processes that read clips while the network trains; None uses none on a CPU, and up to eight on a GPU.
    accelerator, devices, n_nodes, strategy: as in Lightning's Trainer, for one or many GPUs and machines. Under
        torchrun and Ray Train, "auto" takes the processes that exist. What is drawn for a clip does not depend on
        them: N devices with batches of B clips train as one device does with batches of N x B, up to rounding. A run
        can be resumed on another number of devices that divides N x B; its batches keep their clips.
    note: called with warnings and, where no progress bar is drawn, with one line of text per epoch; in the first
        process only.
    Raises DatasetError, UsageError, WeightsError, MissingExtraError, or TrainingError when the run itself had to stop.
    """
    require_extra("train")
    out = Path(out)
    given = data if isinstance(data, Dataset) else read_dataset(data)
    start = init if isinstance(init, C3D) or init is None else load_weights(init)
    settings = make_settings(preset, fine_tuning=start is not None, **changes)
    if start is not None:
        taken = {name: start.architecture[name] for name in ("clip_length", "crop_size")}
        settings = replace(settings, **taken)
    launch = find_launch(accelerator=accelerator, devices=devices, n_nodes=n_nodes, strategy=strategy)
    if not launch.first:
        note = _ignore
    settings = replace(settings, precision=_precision(settings, out, resume=resume, accelerator=accelerator))
    if resume:
        settings = shared_evenly(settings, out, world=launch.world)
    hold_out: dict[str, Any] = {"share": validation_share, "seed": settings.seed, "allow_leaks": allow_leaks}
    dataset = with_validation(given, **hold_out)
    check_for_training(dataset)
    leaks = check_leaks(dataset, allow_leaks=allow_leaks)
    if leaks:
        _warn(f"{leaks} source videos are in training and in validation or testing: accuracies are too high", note)
    held = run_folder(out, settings, dataset, resume=resume, world=launch.world)
    with writing(out), held if launch.first else nullcontext():  # the other processes of a run share its folder
        network = _network(dataset, settings, start)
        frames = _frames(dataset, network, out, cache)
        if not any(example.split == "val" for example in given.examples):
            dataset = validation_of_readable(dataset, (frames.n_frames > 0).tolist(), **hold_out)
        clips = Clips(dataset, frames, settings, reading_processes(workers, accelerator=accelerator))
        learner = _learner(network, settings, clips, tuning=start is not None)
        if not fit(learner, out, resume=resume, note=note, **launch.arguments):
            return TrainResult(out, out / "weights", {})
        device = torch.device("cuda" if takes_gpu(accelerator) else "cpu")
        return _finish(learner, out, init, leaks, device)


def _ignore(text: str) -> None:
    """The `note` of every process but the first: one report of a run is enough."""


def _warn(text: str, note: Callable[[str], None] | None) -> None:
    """Pass a warning to `note`, or warn as Python does where there is none."""
    if note is None:
        warnings.warn(text, stacklevel=3)
    else:
        note(f"warning: {text}")


def _precision(settings: TrainSettings, out: Path, *, resume: bool, accelerator: str) -> Precision:
    """The arithmetic of this run; a resumed one keeps what it started with."""
    if resume and settings.precision == "auto":
        stored: Precision = stored_settings(out)["precision"]
        return stored
    return choose_precision(settings.precision, accelerator=accelerator)


def _network(dataset: Dataset, settings: TrainSettings, start: C3D | None) -> C3D:
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    return initial_network(settings, dataset.classes, start)


def _frames(dataset: Dataset, network: C3D, out: Path, cache: str | Path | None) -> Frames:
    """The decoded frames of all examples, in the cache that `train` was given."""
    store = None if cache == "none" else out / "frames" if cache is None else Path(cache)
    decoders = max(1, min(n_cores(), len(dataset.examples) // 16))
    return load_frames(dataset, network.profile, cache=store, workers=decoders)


def _learner(network: C3D, settings: TrainSettings, clips: Clips, *, tuning: bool) -> Learner:
    """The network with its input set by the training clips, ready to train."""
    set_input(network, settings, clips.in_order())
    if tuning and settings.batch_norm:
        with_batch_norm(network, clips.typical_input(network), skip=settings.freeze)
    return Learner(network, settings, clips)


def _finish(
    learner: Learner, out: Path, init: str | Path | C3D | None, leaks: int, device: torch.device
) -> TrainResult:
    """Save the best weights as a folder, and the results on every part of the data that was held out."""
    best = load_state(out / "checkpoints" / BEST)
    learner.load_state_dict(best["state_dict"])
    network = folded(learner.evaluated)
    settings, clips, history = learner.settings, learner.clips, learner.history
    chosen = max(history, key=lambda row: row["val_accuracy"])
    metrics: dict[str, Any] = {
        "best_epoch": chosen["epoch"],
        "epochs": len(history),
        "updates": history[-1]["updates"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "training_videos": len(clips.of("train")),
        "unreadable": clips.frames.problems,
        "leaking_sources": leaks,
    }
    for split in ("val", "test"):
        if clips.of(split):
            probabilities, targets = predict_split(network, clips, split, settings.test_clips, device=device)
            metrics[split] = write_report(out, split, probabilities, targets, network.classes)
    # The epoch was chosen on the validation videos, so its accuracy there is optimistic. Nothing chose these epochs.
    last = [row["val_accuracy"] for row in history[-LAST_EPOCHS:]]
    metrics["val"] |= {"last_epochs": len(last), "mean_of_last_epochs": round(float(np.mean(last)), 6)}
    network.provenance = {
        "trained_by": f"c3dvideo {__version__}",
        "recipe": asdict(settings),
        "init": None if init is None else "a network in memory" if isinstance(init, C3D) else str(init),
        "best_epoch": chosen["epoch"],
        "val_video_accuracy": metrics["val"]["video_accuracy"],
    }
    save_folder(network, out / "weights")
    with atomic_file(out / "metrics.json") as file:
        text = json.dumps(metrics, indent=2, ensure_ascii=False)
        file.write(text.encode(errors="backslashreplace") + b"\n")  # paths that are not UTF-8, as JSON escapes them
    return TrainResult(out, out / "weights", metrics)
