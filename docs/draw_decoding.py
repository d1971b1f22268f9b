"""Draw docs/results/decoding.csv: accuracy of motion and appearance per layer, in order and with shuffled frames.

python docs/draw_decoding.py
"""

import csv
from pathlib import Path

from c3dvideo.plots import draw_curves

HERE = Path(__file__).parent
CURVES = (
    ("motion", "depth-3", "in order"),
    ("motion", "depth-3", "shuffled"),
    ("motion", "depth-1", "in order"),
    ("look", "depth-3", "in order"),
    ("look", "depth-1", "in order"),
)
SHOWN = {"motion": "motion", "look": "appearance"}


def main() -> None:
    rows = list(csv.DictReader((HERE / "results/decoding.csv").open()))
    layers = list(dict.fromkeys(row["layer"] for row in rows))

    def accuracy(network: str, kind: str, frames: str) -> list[float]:
        """Mean over the tasks of a kind, weighted by their numbers of clips, for every layer."""
        means = []
        for layer in layers:
            chosen = [
                (float(row["accuracy"]), int(row["n_clips"]))
                for row in rows
                if (row["network"], row["kind"], row["frames"], row["layer"]) == (network, kind, frames, layer)
            ]
            means.append(sum(each * n for each, n in chosen) / sum(n for _, n in chosen))
        return means

    places = [1, 2, 3, 4, 5]
    draw_curves(
        HERE / "figures/decoding.png",
        {
            f"{SHOWN[kind]}, {network}{', shuffled' if frames == 'shuffled' else ''}": (
                places,
                accuracy(network, kind, frames),
            )
            for kind, network, frames in CURVES
        },
        x_label="pool1 to pool5",
        y_label="linear read-out, accuracy",
    )


if __name__ == "__main__":
    main()
