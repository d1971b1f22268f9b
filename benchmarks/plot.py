"""Pictures of a CSV of results."""

import csv
from pathlib import Path


def plot(results: Path, picture: Path) -> None:
    """Draw seconds per clip of every way through the network as horizontal bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with results.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["unit"] == "s/clip"]
    sections = [
        name
        for name in ("network batch 1", "network batch 8", "one core batch 1", "one core batch 8")
        if any(row["section"] == name for row in rows)
    ]
    n_rows = -(-len(sections) // 2)
    figure, _ = pyplot.subplots(n_rows, -(-len(sections) // n_rows), figsize=(12, 3.2 * n_rows), layout="constrained")
    for axis, section in zip(figure.axes, sections, strict=False):
        mine = sorted((row for row in rows if row["section"] == section), key=lambda row: -float(row["value"]))
        wall = next((float(row["value"]) for row in mine if row["name"] == "direct wall"), None)
        bars = [row for row in mine if row["name"] != "direct wall" and not row["name"].endswith(" again")]
        names, values = [row["name"] for row in bars], [float(row["value"]) for row in bars]
        colours = ["#c2410c" if name.startswith("c3dvideo") else "#94a3b8" for name in names]
        axis.bar_label(axis.barh(names, values, color=colours), fmt="%.3f", padding=3)
        if wall is not None:
            axis.axvline(wall, color="#334155", linestyle="--", linewidth=1)
            axis.text(
                wall, len(bars) - 1, " direct convolution\n at the speed of\n a matrix product", fontsize=7, va="center"
            )
        axis.set_title(f"{section.removeprefix('network ')}: seconds per clip up to fc6", fontsize=10)
        axis.set_xlim(0, 1.25 * max([*values, wall or 0]))
        axis.spines[["top", "right"]].set_visible(False)
    for empty in figure.axes[len(sections) :]:
        empty.remove()
    figure.savefig(picture)
    pyplot.close(figure)
