"""Write the report of a training run: accuracies, confusion matrix, table per class, and a picture of the input.

write_report(out, "test", probabilities, targets, classes)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from c3dvideo.datasets.lists import write_table
from c3dvideo.files import atomic_text
from c3dvideo.plots import draw_confusion, draw_grid
from c3dvideo.reading_tables import write_rows


def write_report(
    out: Path, name: str, probabilities: Tensor, targets: Tensor, classes: Sequence[str]
) -> dict[str, Any]:
    """Accuracies of one split, from each video's mean probabilities (n, classes); writes its tables to `out`.

    Files: `<name>_confusion.csv` and `.png` (one row per true class), `<name>_classes.csv`.
    """
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_confusion_matrix,
        multiclass_precision,
        multiclass_recall,
    )

    n = len(classes)
    matrix = multiclass_confusion_matrix(probabilities, targets, n).numpy()
    recall = multiclass_recall(probabilities, targets, n, average="none").tolist()
    precision = multiclass_precision(probabilities, targets, n, average="none").tolist()
    support = matrix.sum(axis=1)
    rows = zip(classes, support.tolist(), recall, precision, strict=True)
    table = [
        {"class": c, "n_videos": s, "accuracy": round(r, 6), "precision": round(p, 6)} for c, s, r, p in rows if s or p
    ]
    write_table(out / f"{name}_classes.csv", ["class", "n_videos", "accuracy", "precision"], table)
    with atomic_text(out / f"{name}_confusion.csv") as file:
        counts = zip(classes, matrix.tolist(), strict=True)
        write_rows(file, [["true \\ predicted", *classes], *([label, *row] for label, row in counts)])
    accuracy, top5 = (
        round(float(multiclass_accuracy(probabilities, targets, n, average="micro", top_k=k)), 6)
        for k in (1, min(5, n))
    )  # rounded, because torchmetrics computes in float32
    draw_confusion(out / f"{name}_confusion.png", matrix, classes, title=f"{name}: {accuracy:.1%} of {len(targets)}")
    return {
        "video_accuracy": accuracy,
        "video_accuracy_top5": top5,
        "mean_class_accuracy": round(float(np.mean([r for r, s in zip(recall, support, strict=True) if s])), 6),
        "n_videos": len(targets),
        "majority_class_share": float(support.max() / support.sum()),
        "classes": table,
    }


def draw_input(path: Path, inputs: Tensor, names: Sequence[str], *, channel_order: str, columns: int = 4) -> None:
    """Draw the first six clips of a network input (N, 3, T, H, W), one per row.

    inputs: the exact tensor that enters the network, after mean, crop, mirror and colour changes. Its lowest value is
    drawn black, its highest white.
    """
    clips = inputs[:6].detach().float().cpu()
    low, high = float(clips.min()), float(clips.max())
    grey = ((clips - low) / max(high - low, 1e-6) * 255).byte()
    if channel_order == "bgr":
        grey = grey.flip(1)
    columns = min(columns, grey.shape[2])
    times = torch.linspace(0, grey.shape[2] - 1, columns).round().long()
    pictures = [frame.permute(1, 2, 0).numpy() for clip in grey for frame in clip[:, times].transpose(0, 1)]
    captions = [f"{name}, frame {t}" for name in names[:6] for t in times.tolist()]
    size = "x".join(map(str, inputs.shape))
    draw_grid(path, pictures, captions=captions, columns=columns, title=f"{size}, values {low:.3g} to {high:.3g}")
