"""Labelled videos: path, label, split and group of every example of a data set.

    dataset = read_dataset("my_videos")                       # a folder per class, a CSV, or an official layout
    dataset = with_groups(dataset, r"v_(\\w+_g\\d+)_")          # clips of one source video belong together
    dataset = split_by_group(dataset, fractions={"val": 0.2})

Videos that a list names and the disk lacks are in `missing`; they are no error. See `layouts.py` for the layouts of
published data sets.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from c3dvideo.errors import DatasetError

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
    start_seconds, end_seconds: the half-open part [start, end) of the file, or None for all of it.
    start_frame: first frame (from 0) of a single clip, as in the release's list files, or None.
    other_labels: further correct labels (some videos of Sports-1M have several).
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
    """Examples, the class names in output order, and the folder of the files.

    missing: videos that a list names and the disk lacks. shortfalls: one line per class with fewer videos than the
    published data set, such as "Beach: 29 of 30 videos".
    left_out: one line about the files of a folder that are no videos, or None where all are.
    """

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    missing: tuple[str, ...] = ()
    root: Path = Path()
    shortfalls: tuple[str, ...] = ()
    left_out: str | None = None

    def __post_init__(self) -> None:
        known = set(self.classes)
        if len(known) != len(self.classes):
            raise DatasetError(f"class names repeat: {some(n for n, k in Counter(self.classes).items() if k > 1)}")
        for example in self.examples:
            if example.label not in known:
                raise DatasetError(f"{example.path} has label {example.label!r}, which is not one of the classes")

    def source(self, example: Example) -> Path:
        """The path of the file or frame folder of `example`."""
        return self.root / example.path

    def part(self, *splits: str) -> "Dataset":
        """The data set with the examples of these splits only, and all classes."""
        return replace(self, examples=tuple(each for each in self.examples if each.split in splits))

    def counts(self) -> dict[str, int]:
        """Number of examples per class, in class order; 0 for a class without examples."""
        found = Counter(example.label for example in self.examples)
        return {name: found[name] for name in self.classes}

    def targets(self) -> np.ndarray:
        """The class index of every example, int64 (n,)."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[example.label] for example in self.examples], dtype=np.int64)


def split_name(text: str, *, where: str) -> str:
    """ "train", "val", "test", or "" for an empty text; raises DatasetError, naming `where`, for any other word."""
    text = text.strip()
    if not text:
        return ""
    if text.lower() not in SPLIT_NAMES:
        raise DatasetError(f"{where}: the split is {text!r}; expected one of {', '.join(SPLIT_NAMES)}, or nothing")
    return SPLIT_NAMES[text.lower()]


def some(names: Iterable[str], limit: int = 5) -> str:
    """The first names, quoted, and the number of the others, for messages."""
    listed = list(names)
    return ", ".join(map(repr, listed[:limit])) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
