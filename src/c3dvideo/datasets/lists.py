"""Data sets of your own: a folder per class, or a CSV with one video per line.

dataset = read_folders("my_videos")
dataset = read_csv("labels.csv", root="my_videos")
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from c3dvideo.datasets.examples import SPLIT_NAMES, Dataset, Example
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.files import atomic_file
from c3dvideo.video.sources import find_sources


def read_folders(root: str | Path) -> Dataset:
    """A folder per class, `root/<class>/...`, or with splits, `root/<train|val|test>/<class>/...`.

    Videos may lie at any depth below their class folder. Raises DatasetError for a class folder without a video.
    """

    root = Path(root)
    tops = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not tops:
        raise DatasetError(f"{root} has no folders; expected one folder of videos per class")
    split_of = {folder.name: SPLIT_NAMES.get(folder.name.lower(), "") for folder in tops}
    has_splits = all(split_of.values())
    examples = []
    for top in tops:
        class_folders = sorted(f for f in top.iterdir() if f.is_dir()) if has_splits else [top]
        for folder in class_folders:
            try:
                found = find_sources([folder])
            except UsageError as error:
                raise DatasetError(f"class folder {folder} has no video; remove it or add videos") from error
            split = split_of[top.name] if has_splits else ""
            names = (Path(source.path).relative_to(root).as_posix() for source in found)
            examples += [Example(name, folder.name, split) for name in names]
    classes = tuple(sorted({example.label for example in examples}))
    return Dataset(tuple(examples), classes, root=root)


def read_csv(file: str | Path, *, root: str | Path | None = None) -> Dataset:
    """A table with the columns path and label and, if wanted, split, group, start_seconds and end_seconds.

    root: where the videos lie; those not there go to `missing`. None does not look (for labels of features).
    Raises DatasetError for a missing column, an empty or doubled row or a number that is none, with the line.
    """
    file = Path(file)
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        absent = [name for name in ("path", "label") if name not in (reader.fieldnames or [])]
        if absent:
            raise DatasetError(
                f"{file} has no column {' and no column '.join(absent)}; its first line is {reader.fieldnames}; "
                "expected path,label[,split][,group][,start_seconds][,end_seconds]"
            )
        examples = [_row_to_example(row, f"{file} line {reader.line_num}") for row in reader]
    doubled = [path for path, n in Counter((e.path, e.start_seconds, e.start_frame) for e in examples).items() if n > 1]
    if doubled:
        raise DatasetError(f"{file} names {doubled[0][0]} twice; every video (or part of one) may have one label")
    present, missing = examples, []
    if root is not None:
        present = [example for example in examples if (Path(root) / example.path).exists()]
        missing = sorted({example.path for example in examples} - {example.path for example in present})
    classes = tuple(sorted({example.label for example in examples}))
    return Dataset(tuple(present), classes, tuple(missing), Path(root) if root is not None else Path())


def write_csv(dataset: Dataset, file: str | Path) -> None:
    """Write the table that `read_csv` reads; columns that hold nothing are left out."""
    names = [f.name for f in fields(Example) if f.name != "other_labels"]
    used = [
        n for n in names if n in ("path", "label") or any(getattr(e, n) not in ("", None) for e in dataset.examples)
    ]
    write_table(file, used, [{name: getattr(example, name) for name in used} for example in dataset.examples])


def write_table(file: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file, complete or not at all; None becomes an empty cell. Raises StoreError when it cannot be."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(file) as stream:
        stream.write(text.getvalue().encode())


def _row_to_example(row: Mapping[str, str | None], where: str) -> Example:
    path, label = (row["path"] or "").strip(), (row["label"] or "").strip()
    if not path or not label:
        raise DatasetError(f"{where}: path is {path!r} and label is {label!r}; expected both")
    split = (row.get("split") or "").strip()
    start, end = _number(row, "start_seconds", where), _number(row, "end_seconds", where)
    if start is not None and end is not None and end <= start:
        raise DatasetError(f"{where}: end_seconds {end} is not after start_seconds {start}")
    frame = _number(row, "start_frame", where)
    return Example(
        path,
        label,
        SPLIT_NAMES.get(split.lower(), split),
        (row.get("group") or "").strip(),
        start,
        end,
        None if frame is None else int(frame),
    )


def _number(row: Mapping[str, str | None], column: str, where: str) -> float | None:
    text = (row.get(column) or "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise DatasetError(f"{where}: {column} is {text!r}; expected a number") from error
