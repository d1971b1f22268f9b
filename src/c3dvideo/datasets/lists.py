"""Data sets of your own: a folder per class, or a CSV with one video per line.

dataset = read_folders("my_videos")
dataset = read_csv("labels.csv", root="my_videos")
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from c3dvideo.datasets.examples import SPLIT_NAMES, Dataset, Example, some, split_name
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.files import atomic_text
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_tables import Row, csv_rows, write_rows
from c3dvideo.video.sources import Sources, find_sources


def read_folders(root: str | Path) -> Dataset:
    """A folder per class, `root/<class>/...`, or with splits, `root/<train|val|test>/<class>/...`.

    Videos may lie at any depth below their class folder. Raises DatasetError for a class folder without a video, and
    for folders of which only some are named after a split.
    """
    root = Path(root)
    tops = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not tops:
        raise DatasetError(f"{root} has no folders; expected one folder of videos per class")
    has_splits = all(folder.name.lower() in SPLIT_NAMES for folder in tops)
    if not has_splits:
        _check_for_misspelt_split(tops)
    examples = []
    left_out: Counter[str] = Counter()
    for top in tops:
        class_folders = sorted(f for f in top.iterdir() if f.is_dir()) if has_splits else [top]
        for folder in class_folders:
            try:
                found = find_sources([folder])
            except UsageError as error:
                raise DatasetError(f"class folder {folder} has no video; remove it or add videos") from error
            left_out += found.left_out
            split = SPLIT_NAMES[top.name.lower()] if has_splits else ""
            names = (Path(source.path).relative_to(root).as_posix() for source in found)
            examples += [Example(name, folder.name, split) for name in names]
    classes = tuple(sorted({example.label for example in examples}))
    return Dataset(tuple(examples), classes, root=root, left_out=Sources([], left_out).note())


def _check_for_misspelt_split(tops: Sequence[Path]) -> None:
    """Raise DatasetError when other folders of folders are beside `train`, since their names may be misspelt splits."""
    nested = [top for top in tops if not any(each.is_file() for each in top.iterdir())]
    splits = [top.name for top in nested if top.name.lower() in SPLIT_NAMES]
    others = [top.name for top in nested if top.name.lower() not in SPLIT_NAMES]
    if splits and others:
        raise DatasetError(
            f"{tops[0].parent} has the folders {some(splits)}, which name splits, and {some(others)}, which do not; "
            f"expected class folders only, or only folders named {', '.join(SPLIT_NAMES)}"
        )


def read_csv(file: str | Path, *, root: str | Path | None = None) -> Dataset:
    """A table with the columns path and label and, if wanted, split, group, start_seconds, end_seconds, start_frame.

    root: folder of the videos; absent ones are in `missing`. None skips this check (for labels of features). Raises
    DatasetError, with the line, for a missing column, an empty cell, a repeated row, an invalid number or an unknown
    split.
    """
    table = ForeignFile(
        file,
        error=DatasetError,
        expected="a table of labelled videos",
        advice="its columns are path,label[,split][,group][,start_seconds][,end_seconds][,start_frame]",
    )
    examples = [_row_to_example(row) for row in csv_rows(table, required=("path", "label"))]
    doubled = [path for path, n in Counter((e.path, e.start_seconds, e.start_frame) for e in examples).items() if n > 1]
    if doubled:
        raise DatasetError(f"{file} names {doubled[0][0]} twice; every video (or part of one) may have one label")
    present, missing = examples, []
    if root is not None:
        present = [example for example in examples if exists(Path(root) / example.path)]
        missing = sorted({example.path for example in examples} - {example.path for example in present})
    classes = tuple(sorted({example.label for example in examples}))
    return Dataset(tuple(present), classes, tuple(missing), Path(root) if root is not None else Path())


def exists(path: Path) -> bool:
    """Whether there is a file or folder at `path`; False for an invalid name."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name of 300 characters, a NUL, a folder that may not be entered
        return False


def write_csv(dataset: Dataset, file: str | Path) -> None:
    """Write the table that `read_csv` reads, without empty columns."""
    names = [f.name for f in fields(Example) if f.name != "other_labels"]
    used = [
        n for n in names if n in ("path", "label") or any(getattr(e, n) not in ("", None) for e in dataset.examples)
    ]
    write_table(file, used, [{name: getattr(example, name) for name in used} for example in dataset.examples])


def write_table(file: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a UTF-8 CSV file, complete or not at all. None gives an empty cell.

    Raises StoreError when the file cannot be written, DatasetError for a file name that is not UTF-8.
    """
    with atomic_text(file) as text:
        write_rows(text, [columns])
        write_rows(text, ([_utf8(row.get(column)) for column in columns] for row in rows))


def _utf8(cell: Any) -> Any:
    if isinstance(cell, str) and not is_utf8(cell):
        raise DatasetError(f"the name {printable(cell)} is not UTF-8, which CSV files are; rename it")
    return cell


def is_utf8(name: str) -> bool:
    """Whether a file name can be written as UTF-8; Python reads other bytes of a name as lone surrogates."""
    return printable(name) == name


def printable(name: str) -> str:
    r"""The name with each byte that is not UTF-8 written as `\udcNN`."""
    return name.encode(errors="backslashreplace").decode()


def _row_to_example(row: Row) -> Example:
    start, end = row.number("start_seconds"), row.number("end_seconds")
    if start is not None and end is not None and end <= start:
        raise row.wrong(f"end_seconds {end} is not after start_seconds {start}")
    frame = row.number("start_frame", minimum=0)
    if frame is not None and not frame.is_integer():
        raise row.wrong(f"start_frame is {frame}; expected a whole number")
    return Example(
        row.text("path"),
        row.text("label"),
        split_name(row.values.get("split", ""), where=row.where),
        row.values.get("group", ""),
        start,
        end,
        None if frame is None else int(frame),
    )
