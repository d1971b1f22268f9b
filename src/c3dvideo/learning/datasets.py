"""Labelled videos: which file shows what, and which side of the split it is on.

    dataset = read_dataset("my_videos")                       # a folder per class, a CSV, or an official layout
    dataset = with_groups(dataset, r"_g(\\d+)_")               # clips of one source video belong together
    dataset = split_by_group(dataset, fractions={"val": 0.2})

A dataset is three tuples and a folder; videos that a list names but the disk lacks are in `missing`, not an error. The
layouts of published data sets are in `layouts.py`.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np

from c3dvideo.errors import DatasetError, UsageError

Layout = Literal[
    "auto", "folders", "csv", "ucf101", "hmdb51", "kinetics", "sports1m", "list", "yupenn", "maryland", "parent_folders"
]
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
SOURCE_PATTERNS = (r"_g(\d+)_c\d+", r"^(.{11})_\d{6}_\d{6}$")  # UCF101; Kinetics (the YouTube id)


@dataclass(frozen=True)
class Example:
    """One labelled video or part of a video.

    path: relative to the data set's root, with forward slashes; a file, or a folder of frames.
    split: "train", "val", "test" or "" (not split yet). group: the source video it was cut from, or "".
    start_seconds, end_seconds: the half-open part [start, end) of the file that is meant, or None for all of it.
    start_frame: first frame (from 0) of the one clip that is meant, as in the release's list files, or None.
    other_labels: further labels that are also right (Sports-1M has videos with several).
    """

    path: str
    label: str
    split: str = ""
    group: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    start_frame: int | None = None
    other_labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Examples, the class names in output order, the videos that were named but not found, and where the files lie."""

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    missing: tuple[str, ...] = ()
    root: Path = Path()

    def __post_init__(self) -> None:
        known = set(self.classes)
        if len(known) != len(self.classes):
            raise DatasetError(f"class names repeat: {_some(n for n, k in Counter(self.classes).items() if k > 1)}")
        for example in self.examples:
            if example.label not in known:
                raise DatasetError(f"{example.path} has label {example.label!r}, which is not one of the classes")

    def source(self, example: Example) -> Path:
        """Where the file or frame folder of `example` lies."""
        return self.root / example.path

    def part(self, *splits: str) -> "Dataset":
        """The examples of these splits; the classes stay."""
        return replace(self, examples=tuple(each for each in self.examples if each.split in splits))

    def counts(self) -> dict[str, int]:
        """Number of examples of every class, in class order; 0 where a class has none."""
        found = Counter(example.label for example in self.examples)
        return {name: found[name] for name in self.classes}

    def targets(self) -> np.ndarray:
        """The class index of every example, int64 (n,)."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[example.label] for example in self.examples], dtype=np.int64)


def read_dataset(
    data: str | Path,
    *,
    layout: Layout = "auto",
    videos: str | Path | None = None,
    fold: int = 1,
) -> Dataset:
    """The data set at `data`: a folder or a list file.

    layout: "auto" looks at the files. "folders" is a folder per class, perhaps under train/, val/, test/; "csv" has
        columns path,label and perhaps split, group, start_seconds, end_seconds (or a folder of videos with such a
        labels.csv); "list" is a list file of the authors' release, or a folder with its train_0N.lst and test_0N.lst;
        "parent_folders" takes the folder a video lies in as its class; the others are published data sets.
    videos: where the videos lie, if not at `data` itself (or beside the file `data`).
    fold: which official split of UCF101 and HMDB51 (and of the release's lists), 1 to 3.
    Raises UsageError when there is nothing at `data`, DatasetError when it is not a data set.
    """
    from c3dvideo.learning import layouts

    data = Path(data)
    if not data.exists():
        raise UsageError(f"there is no file or folder {data}; expected a data set")
    root = Path(videos) if videos is not None else data if data.is_dir() else data.parent
    readers: dict[str, Callable[[], Dataset]] = {
        "folders": lambda: read_folders(data),
        "parent_folders": lambda: layouts.read_parent_folders(data),
        "csv": lambda: read_csv(data / "labels.csv" if data.is_dir() else data, root=root),
        "ucf101": lambda: layouts.read_ucf101(root, data, fold=fold),
        "hmdb51": lambda: layouts.read_hmdb51(root, data, fold=fold),
        "kinetics": lambda: layouts.read_kinetics(root, data),
        "sports1m": lambda: layouts.read_sports1m(root, data),
        "list": lambda: (
            layouts.read_lists(data, root=root, fold=fold) if data.is_dir() else layouts.read_list(data, root=root)
        ),
        "yupenn": lambda: layouts.read_scenes(data, n_classes=14, n_videos=30),
        "maryland": lambda: layouts.read_scenes(data, n_classes=13, n_videos=10),
    }
    chosen = layouts.recognise(data) if layout == "auto" else layout
    if chosen not in readers:
        raise UsageError(f"layout is {layout!r}; expected auto, {', '.join(readers)}")
    dataset = readers[chosen]()
    if not dataset.examples:
        if not dataset.missing:
            raise DatasetError(f"{data} (read as {chosen!r}) names no video")
        raise DatasetError(
            f"{data} (read as {chosen!r}) leaves no video: {len(dataset.missing)} are named but missing under {root}, "
            f"such as {dataset.missing[0]}"
        )
    return dataset


def read_folders(root: str | Path) -> Dataset:
    """A folder per class, `root/<class>/...`, or with splits, `root/<train|val|test>/<class>/...`.

    Videos may lie at any depth below their class folder. Raises DatasetError for a class folder without a video.
    """
    from c3dvideo.video.sources import find_sources

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
    with Path(file).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(used)
        for example in dataset.examples:
            values = [getattr(example, name) for name in used]
            writer.writerow(["" if value is None else value for value in values])


def with_groups(dataset: Dataset, pattern: str) -> Dataset:
    """The data set with every example's group set to the first capture group of `pattern` in its path.

    Raises DatasetError for a path that the pattern does not match: a video of unknown origin could leak.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"group pattern {pattern!r} is not a regular expression: {error}") from error
    if compiled.groups < 1:
        raise UsageError(f"group pattern {pattern!r} has no capture group; expected one such as '_g(\\d+)_'")
    examples = []
    for example in dataset.examples:
        found = compiled.search(example.path)
        if found is None:
            raise DatasetError(f"group pattern {pattern!r} does not match {example.path}; expected it to match all")
        examples.append(replace(example, group=found.group(1)))
    return replace(dataset, examples=tuple(examples))


def split_by_group(dataset: Dataset, *, fractions: Mapping[str, float], seed: int = 0) -> Dataset:
    """The data set with whole groups given to "train" and to the splits named in `fractions`, class by class balanced.

    fractions: share of each class's examples that a split should get, such as {"val": 0.2}; the rest trains.
    Groups are visited in a random order; each goes where it brings the class counts closest to those shares.
    Raises DatasetError when examples have no group, or when a class has too few groups to be on every side.
    """
    _check_fractions(fractions)
    ungrouped = [example.path for example in dataset.examples if not example.group]
    if ungrouped:
        raise DatasetError(f"{len(ungrouped)} examples have no group, such as {ungrouped[0]}; give a group pattern")
    shares = {**fractions, "train": 1.0 - sum(fractions.values())}
    index = {name: i for i, name in enumerate(dataset.classes)}
    counts: dict[str, np.ndarray] = {}
    for example in dataset.examples:
        counts.setdefault(example.group, np.zeros(len(index)))[index[example.label]] += 1
    total = np.maximum(sum(counts.values()), 1)
    filled = {split: np.zeros(len(index)) for split in shares}
    home: dict[str, str] = {}
    order = np.random.default_rng(seed).permutation(sorted(counts))
    for group in sorted(order, key=lambda name: -counts[name].sum()):  # stable: the large ones first
        home[group] = min(shares, key=lambda split: _misfit(filled, shares, total, split, counts[group]))
        filled[home[group]] += counts[group]
    _check_every_class_on_every_side(dataset, filled)
    return replace(dataset, examples=tuple(replace(e, split=home[e.group]) for e in dataset.examples))


def split_at_random(
    dataset: Dataset, *, fractions: Mapping[str, float], seed: int = 0, allow_leaks: bool = False
) -> Dataset:
    """The data set with examples given at random to "train" and the splits named in `fractions`, class by class.

    allow_leaks: go on although clips of one source video would stand on both sides. Else that raises DatasetError.
    """
    _check_fractions(fractions)
    leak = None if allow_leaks else shared_source(dataset)
    if leak is not None:
        raise DatasetError(
            f"{leak[0]} and {leak[1]} come from one source video; a random split could put one in training and one in "
            "testing, and the accuracy would be too good to be true. Split by group (--group-pattern '_g(\\d+)_'), or "
            "ask for the leak (--allow-leaks)"
        )
    alone = replace(
        dataset, examples=tuple(replace(example, group=str(i)) for i, example in enumerate(dataset.examples))
    )
    chosen = split_by_group(alone, fractions=fractions, seed=seed)
    pairs = zip(dataset.examples, chosen.examples, strict=True)
    return replace(dataset, examples=tuple(replace(old, split=new.split) for old, new in pairs))


def with_validation(dataset: Dataset, share: float, *, seed: int = 0, allow_leaks: bool = False) -> Dataset:
    """The data set with a part to choose the best weights by: its own "val", or `share` of what it would train on.

    Clips of one file or group stay together; DatasetError where file names tell of groups that nobody named.
    """
    if len(dataset.examples) == 1:
        raise DatasetError(f"{dataset.examples[0].path} is the only video; training needs at least two a class")
    splits = {example.split for example in dataset.examples}
    if "" in splits and len(splits) > 1:
        lost = next(example.path for example in dataset.examples if not example.split)
        raise DatasetError(
            f"{lost} has no split, but others have {', '.join(sorted(splits - {''}))}; split all or none"
        )
    if "val" in splits:
        return dataset
    rest = tuple(example for example in dataset.examples if example.split == "test")
    own = tuple(example for example in dataset.examples if example.split != "test")
    part = replace(dataset, examples=own)
    if not all(example.group for example in own):
        files = replace(dataset, examples=tuple({example.path: example for example in own}.values()))
        split_of = {
            e.path: e.split
            for e in split_at_random(files, fractions={"val": share}, seed=seed, allow_leaks=allow_leaks).examples
        }
        chosen = tuple(replace(example, split=split_of[example.path]) for example in own)
    else:
        chosen = split_by_group(part, fractions={"val": share}, seed=seed).examples
    return replace(dataset, examples=chosen + rest)


def shared_source(dataset: Dataset) -> tuple[str, str] | None:
    """Two examples that come from one source video, as far as file, group and customary file names tell, or None."""
    seen: dict[tuple[str, str], Example] = {}
    for example in dataset.examples:
        stem = Path(example.path).stem
        keys = [("file", example.path)] + ([("group", example.group)] if example.group else [])
        for pattern in SOURCE_PATTERNS:
            found = re.search(pattern, stem)
            if found:
                keys.append((pattern, stem[: found.end(1)]))
        for key in keys:
            if key in seen:
                return seen[key].path, example.path
            seen[key] = example
    return None


def check_for_training(dataset: Dataset) -> None:
    """Raise DatasetError unless the data set has two classes or more, all of which can be trained and some tested."""
    train, held_out = dataset.part("train"), dataset.part("val", "test")
    counts = train.counts()
    learned = [name for name, n in counts.items() if n]
    unseen = sorted({example.label for example in held_out.examples} - set(learned))
    if unseen:
        raise DatasetError(
            f"{_some(unseen)} in val or test but not in train; every class that is tested must be trained"
        )
    if len(learned) < 2:
        raise DatasetError(f"the training part has {len(learned)} class ({_some(learned)}); expected at least two")
    if not held_out.examples:
        raise DatasetError("no example is in val or test; expected some to choose the best weights by")


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


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if not fractions or not all(0 < share < 1 for share in fractions.values()) or sum(fractions.values()) >= 1:
        raise UsageError(f"split fractions are {dict(fractions)}; expected each between 0 and 1, with a sum below 1")


def _misfit(
    filled: Mapping[str, np.ndarray], shares: Mapping[str, float], total: np.ndarray, split: str, more: np.ndarray
) -> float:
    """How much further from its shares the split gets by taking `more`; negative when it gets closer."""
    wanted = shares[split] * total
    before, after = ((wanted - filled[split]) / wanted, (wanted - filled[split] - more) / wanted)
    return float((shares[split] * (after**2 - before**2)).sum())


def _check_every_class_on_every_side(dataset: Dataset, filled: Mapping[str, np.ndarray]) -> None:
    present = np.array(list(dataset.counts().values())) > 0
    for split, counts in filled.items():
        for name, n, here in zip(dataset.classes, counts, present, strict=True):
            if here and not n:
                groups = {example.group for example in dataset.examples if example.label == name}
                raise DatasetError(
                    f"class {name!r} gets no example in {split!r}: its {dataset.counts()[name]} examples form "
                    f"{len(groups)} group(s); add videos from other sources, or change the fractions or the seed"
                )


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:limit])) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
