"""Descriptors of videos beside their labels, joined by the names of the videos.

labelled = read_labelled(["features/"], labels="labels.csv")
labelled.matrix, labelled.labels                     # float32 (n, D), str (n,)
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from c3dvideo.counts import count
from c3dvideo.datasets.examples import SOURCE_PATTERNS, Dataset, Example
from c3dvideo.datasets.lists import read_csv
from c3dvideo.datasets.splits import with_groups
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.probing.descriptors import Array, Descriptors, Part, read_descriptors, some


@dataclass(frozen=True, eq=False)
class Labelled:
    """Descriptors beside their examples, and the names of videos with features or a label only."""

    matrix: Array
    parts: tuple[Part, ...]
    examples: tuple[Example, ...]
    unlabelled: tuple[str, ...] = ()
    featureless: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The path of every row's video."""
        return tuple(example.path for example in self.examples)

    @property
    def labels(self) -> Array:
        """The class name of every row, str (n,)."""
        return np.array([example.label for example in self.examples])

    @property
    def groups(self) -> Array:
        """The source video of every row, str (n,), as `source_of` finds it."""
        return np.array([source_of(example) for example in self.examples])

    def rows(self, keep: Array) -> "Labelled":
        """The chosen rows; keep: indices or a mask."""
        chosen = np.arange(len(self.examples))[keep]
        return replace(self, matrix=self.matrix[chosen], examples=tuple(self.examples[i] for i in chosen))

    def preferred_part(self, split: str, preferred: Sequence[str]) -> "Labelled":
        """The rows of `split`; "" takes the first of `preferred` that occurs; "all", or "" without one, every row."""
        found = {example.split for example in self.examples}
        chosen = split or next((name for name in preferred if name in found), "all")
        return self if chosen == "all" else self.part(chosen)

    def part(self, split: str) -> "Labelled":
        """The rows of one split; raises DatasetError when there are none."""
        keep = np.array([example.split == split for example in self.examples])
        if not keep.any():
            found = sorted({example.split or "(none)" for example in self.examples})
            raise DatasetError(f"no video is in split {split!r}; the labels have {', '.join(found)}")
        return self.rows(keep)


def read_labelled(
    sources: Sequence[str | Path],
    *,
    labels: str | Path | None,
    layers: Sequence[str] = (),
    group_pattern: str = "",
) -> Labelled:
    """The descriptors in `sources` beside their labels.

    labels: a CSV path,label[,split][,group]; None takes the folder of each video as its label.
    group_pattern: a regular expression whose first group, in a video's path, names its source video.

    >>> labelled = read_labelled(["features"], labels=None)
    >>> labelled.matrix.shape, labelled.labels.shape, str(labelled.labels[0])
    ((40, 1024), (40,), 'approaching_sign')
    """
    dataset = None
    if labels is not None:
        if Path(labels).is_dir():
            raise UsageError(f"the labels file {labels} is a folder; expected a CSV path,label[,split][,group]")
        if not Path(labels).is_file():
            raise UsageError(f"there is no labels file {labels}; expected a CSV path,label[,split][,group]")
        dataset = read_csv(labels)
    names = [example.path for example in dataset.examples] if dataset else []
    table = read_descriptors(sources, layers=layers, row_names=names)
    dataset = dataset or labels_from_folders(table.names)
    return join(table, with_groups(dataset, group_pattern) if group_pattern else dataset)


def join(descriptors: Descriptors, dataset: Dataset) -> Labelled:
    """The descriptors of labelled videos, in the order of the labels; raises DatasetError when there are none."""
    examples = {PurePosixPath(example.path).as_posix(): example for example in dataset.examples}
    if not examples:
        raise DatasetError("the labels name no video; expected a row per video below the line path,label")
    if len(examples) < len(dataset.examples):
        raise DatasetError("the labels give several parts of one video; a descriptor is of a whole video")
    row = {name: index for index, name in enumerate(descriptors.names)}
    unlabelled = tuple(name for name in descriptors.names if name not in examples)
    featureless = tuple(name for name in examples if name not in row)
    kept = [name for name in examples if name in row]
    if not kept:
        raise DatasetError(
            f"none of {len(examples)} labelled videos has features: labels name {some(featureless)}, features are of "
            f"{some(descriptors.names)}; paths in the labels are relative to the folder that was extracted"
        )
    return Labelled(
        matrix=descriptors.matrix[[row[name] for name in kept]],
        parts=descriptors.parts,
        examples=tuple(replace(examples[name], path=name) for name in kept),
        unlabelled=unlabelled,
        featureless=featureless,
    )


def labels_from_folders(names: Sequence[str]) -> Dataset:
    """Labels by the folder of each video: the label of "sub/walking/a.mp4" is "walking"."""
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DatasetError(f"{len(loose)} videos lie in no folder and so have no label: {some(loose)}")
    examples = tuple(Example(name, PurePosixPath(name).parent.name) for name in names)
    return Dataset(examples, tuple(sorted({example.label for example in examples})))


def source_of(example: Example) -> str:
    """The source video of an example: its group, or else `source_by_name`."""
    return example.group or source_by_name(example.path)


def source_by_name(path: str) -> str:
    """The source video that a customary file name gives, or the path itself.

    Customary names are those of UCF101 (`v_Walk_g08_c01` comes from `v_Walk_g08`) and Kinetics (the YouTube id).
    """
    stem = PurePosixPath(path).stem
    for pattern in SOURCE_PATTERNS:
        found = re.search(pattern, stem)
        if found:
            return stem[: found.end(1)]
    return path


def note_leftovers(labelled: Labelled) -> Iterator[str]:
    """One line about videos with features but no label, and one about labelled videos without features."""
    if labelled.unlabelled:
        yield f"{count(len(labelled.unlabelled), 'video')} with features but no label: {some(labelled.unlabelled)}"
    if labelled.featureless:
        yield f"{count(len(labelled.featureless), 'labelled video')} without features: {some(labelled.featureless)}"
