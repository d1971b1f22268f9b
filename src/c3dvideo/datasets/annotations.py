"""Read annotations other than one class per video: pairs of videos (ASLAN), and labels per frame (egocentric objects).

pairs = read_aslan("View2.mat")
labels = read_frame_labels("labels/")
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.datasets.examples import SPLIT_NAMES, split_name
from c3dvideo.datasets.lists import exists
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.reading import ForeignFile, parsing, read_lines
from c3dvideo.reading_tables import csv_rows

SAME = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False}
MAX_PAIRS_VALUES = 10_000_000
"""Most numbers in a table of pairs. ASLAN's has 30,000."""
MAX_FRAMES = 20_000_000
"""Most frames in a labelled video: more than a week at 30 frames per second."""


@dataclass(frozen=True)
class Pair:
    """Two videos, whether they show the same action, and the fold (from 1) that tests the pair."""

    first: str
    second: str
    same: bool
    fold: int


def read_aslan(file: str | Path) -> tuple[Pair, ...]:
    """The pairs of ASLAN's View-2: `View2.mat` as published (600 x 5 x 10), or a CSV first,second,same,fold.

    The mat file's columns are id1, id2, same, action1, action2, its pages the folds; ids become names such as "17".
    Raises DatasetError for any other file.
    """
    foreign = ForeignFile(file, error=DatasetError, expected="a table of video pairs")
    if Path(file).suffix.lower() != ".csv":
        return _read_mat(foreign)
    pairs = []
    for row in csv_rows(foreign, required=("first", "second", "same", "fold")):
        same, fold = row.text("same").strip().lower(), row.integer("fold", minimum=0)
        if same not in SAME or fold is None:
            raise row.wrong(f"same is {same!r} and fold is {fold}; expected one of {', '.join(SAME)}, and a fold")
        pairs.append(Pair(row.text("first"), row.text("second"), SAME[same], fold))
    return tuple(pairs)


def _read_mat(file: ForeignFile) -> tuple[Pair, ...]:
    from scipy.io import loadmat, whosmat

    with parsing(file):
        shapes = {name: tuple(shape) for name, shape, _ in whosmat(str(file.path))}
        name = next((each for each, shape in shapes.items() if len(shape) == 3 and shape[1] == 5), None)
        if name is None:
            raise file.wrong(f"it holds no array of pairs x 5 x folds; found shapes {list(shapes.values())}")
        if np.prod([float(size) for size in shapes[name]]) > MAX_PAIRS_VALUES:
            raise file.wrong(f"its array has the shape {shapes[name]}, more than {MAX_PAIRS_VALUES:,} numbers")
        table: Any = loadmat(str(file.path), variable_names=[name])[name].astype(np.float64)
        if not np.isfinite(table).all():
            raise file.wrong("its array holds NaN or infinite numbers")
        return tuple(
            Pair(str(int(row[0])), str(int(row[1])), bool(row[2] > 0), fold + 1)
            for fold in range(table.shape[2])
            for row in table[:, :, fold]
        )


@dataclass(frozen=True)
class FrameLabels:
    """One video with one label per frame; "" where the hand holds no object."""

    path: str
    labels: tuple[str, ...]
    split: str = ""


def read_frame_labels(data: str | Path) -> tuple[FrameLabels, ...]:
    """Videos with one label per frame, such as the egocentric objects.

    Either a folder with `<train|test>/<video>.txt` (or `<video>.txt`), one label per line and one line per frame, empty
    lines for no object; or a CSV with the columns path,start_frame,end_frame,label[,split], half-open and counted from
    0. Raises DatasetError for any other content.
    """
    data = Path(data)
    if not exists(data):
        raise UsageError(f"there is no file or folder {data}; expected labels of frames")
    if data.is_dir():
        return _read_label_files(data)
    spans: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    table = ForeignFile(data, error=DatasetError, expected="a table of frame labels")
    for row in csv_rows(table, required=("end_frame", "label", "path", "start_frame")):
        start, end = row.integer("start_frame"), row.integer("end_frame")
        if start is None or end is None or not 0 <= start < end:
            raise row.wrong(f"frames [{start}, {end}) are not a half-open span")
        if end > MAX_FRAMES:
            raise row.wrong(f"end_frame is {end:,}; expected at most {MAX_FRAMES:,}")
        split = split_name(row.values.get("split", ""), where=row.where)
        spans.setdefault((row.text("path"), split), []).append((start, end, row.values["label"]))
    return tuple(FrameLabels(path, _spread(rows), split) for (path, split), rows in spans.items())


def _read_label_files(folder: Path) -> tuple[FrameLabels, ...]:
    found = []
    for path in sorted(folder.rglob("*.txt")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        top, _, rest = name.partition("/")
        split = SPLIT_NAMES.get(top.lower(), "") if rest else ""
        file = ForeignFile(path, error=DatasetError, expected="a list of frame labels, one per line")
        found.append(FrameLabels(rest if split else name, tuple(line.strip() for line in read_lines(file)), split))
    if not found:
        raise DatasetError(f"{folder} has no .txt file; expected one per video with a label per line")
    return tuple(found)


def _spread(spans: Iterable[tuple[int, int, str]]) -> tuple[str, ...]:
    spans = list(spans)
    labels = [""] * max(end for _, end, _ in spans)
    for start, end, label in spans:
        labels[start:end] = [label] * (end - start)
    return tuple(labels)
