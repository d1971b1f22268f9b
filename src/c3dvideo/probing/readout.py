"""Linear read-out: how well the labels of generated clips, motion and appearance, are predicted from each layer.

    table = decode_labels(network, layers=["conv1a", "pool5", "fc6"], n_clips=600)
    control = decode_labels(network, layers=["fc6"], n_clips=600, frames="shuffled")

Convolutions and pools are averaged over time and over a 4 x 4 grid first, so that layers are comparable.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from torch import Tensor
from torch.nn import functional

from c3dvideo.choices import FrameOrder
from c3dvideo.errors import UsageError
from c3dvideo.inference.engine import make_engine
from c3dvideo.network.c3d import C3D
from c3dvideo.progress import track
from c3dvideo.synthetic import MOTION_TASKS, TASKS, draw_scene, render
from c3dvideo.synthetic.scenes import scene_labels

_PENALTIES = (1e-2, 1e-1, 1.0)
_FOLDS = 5


@dataclass(frozen=True)
class Decoded:
    """Cross-validated accuracy of one task from one layer, the share of its most frequent class, and its clips."""

    layer: str
    task: str
    kind: Literal["motion", "look"]
    accuracy: float
    chance: float
    n_clips: int


def decode_labels(
    network: C3D,
    *,
    layers: Iterable[str],
    tasks: Iterable[str] = tuple(TASKS),
    n_clips: int = 600,
    seed: int = 1_000_000,
    frames: FrameOrder = "in order",
) -> list[Decoded]:
    """One row per layer and task, from the same clips for every network.

    Tasks with a label in fewer than ten of the clips are left out. A clip without a label of any of `tasks` is not
    computed. seed: of the clips; the default differs from that of pre-training. frames: the order of the frames; the
    others are controls. Raises UsageError for another order, for fewer than 50 clips, for an unknown task, and for a
    network whose clip length is not a power of two.
    """
    if frames not in get_args(FrameOrder):
        raise UsageError(f"`frames=` is {frames!r}; expected one of {', '.join(map(repr, get_args(FrameOrder)))}")
    if n_clips < 50:
        raise UsageError(f"{n_clips} clips are too few to read out {len(TASKS)} tasks; take at least 50")
    chosen_tasks = list(tasks)
    if unknown := [task for task in chosen_tasks if task not in TASKS]:
        raise UsageError(f"unknown task: {', '.join(unknown)}; there are {', '.join(TASKS)}")
    wanted = network.check_layers(layers)
    drawn = {index: scene_labels(seed=seed, index=index) for index in range(n_clips)}
    clips = {index: labels for index, labels in drawn.items() if not labels.keys().isdisjoint(chosen_tasks)}
    found = _read_layers(network, wanted, list(clips), seed=seed, frames=frames) if clips else {}
    rows = []
    for layer, features in found.items():
        for task in chosen_tasks:
            has_label = np.array([task in labels for labels in clips.values()], bool)
            if has_label.sum() < 2 * _FOLDS:
                continue
            names = TASKS[task]
            labels = np.array([names.index(clip[task]) for clip in clips.values() if task in clip])
            counts = np.bincount(labels, minlength=len(names))
            accuracy = linear_accuracy(features[has_label], labels)
            kind: Literal["motion", "look"] = "motion" if task in MOTION_TASKS else "look"
            rows.append(Decoded(layer, task, kind, accuracy, float(counts.max() / counts.sum()), len(labels)))
    return rows


@torch.inference_mode()
def _read_layers(
    network: C3D, layers: list[str], indices: list[int], *, seed: int, frames: FrameOrder
) -> dict[str, np.ndarray]:
    """The summaries (n, D) of each layer for the generated clips `indices`, float64."""
    length, size = network.architecture["clip_length"], network.architecture["crop_size"]
    engine = make_engine(network, layers=layers, device="cpu")
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for index in track(indices, "reading layers", unit="clips"):
        scene = draw_scene(seed=seed, index=index, n_frames=length)
        clip = render([scene], height=size, width=size)[:, :, _frame_order(frames, length, index)]
        if network.profile.channel_order == "bgr":
            clip = clip.flip(1)
        for layer, activation in engine(np.ascontiguousarray(clip.numpy())).items():
            found[layer].append(_summary(torch.from_numpy(activation)))
    return {layer: torch.cat(rows).double().numpy() for layer, rows in found.items()}


def _frame_order(frames: FrameOrder, length: int, index: int) -> Tensor:
    generator = torch.Generator().manual_seed(index)
    if frames == "shuffled":
        return torch.randperm(length, generator=generator)
    if frames == "one repeated":
        return torch.randint(length, (1,), generator=generator).expand(length)
    return torch.arange(length)


def _summary(activation: Tensor) -> Tensor:
    """(N, D): averages over time and a grid of at most 4 x 4 cells, or the vector itself."""
    if activation.ndim == 2:
        return activation
    grid = (min(4, activation.shape[-2]), min(4, activation.shape[-1]))
    return functional.adaptive_avg_pool2d(activation.mean(dim=2), grid).flatten(1)


def linear_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Five-fold cross-validated accuracy of a ridge classifier; rows (n, D) in any fixed order.

    Rows are scaled to length one. The penalty of a fold is the best of three in the fold before it, never in itself.
    """
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    folds = np.arange(len(labels)) % _FOLDS
    right = np.array([_ridge_hits(features, labels, folds == fold) for fold in range(_FOLDS)])
    choices = [int(right[fold - 1].argmax()) for fold in range(_FOLDS)]
    return float(sum(right[fold, choice] for fold, choice in enumerate(choices)) / len(labels))


def _ridge_hits(features: np.ndarray, labels: np.ndarray, test: np.ndarray) -> list[int]:
    """The number of test rows that each penalty classifies correctly; penalties are in units of the rows' variance."""
    rows, known = features[~test], labels[~test]
    variance = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean()
    return [
        int((RidgeClassifier(alpha=penalty * variance).fit(rows, known).predict(features[test]) == labels[test]).sum())
        for penalty in _PENALTIES
    ]
