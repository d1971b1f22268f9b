"""The three official splits of UCF101 and HMDB51 for stored features.

parts = read_official_splits(["features/"], "ucf101", splits="ucfTrainTestlist/")
[labelled.part("train") for labelled in parts]
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from c3dvideo.choices import PublishedSplits
from c3dvideo.datasets.layouts import Library, read_hmdb51, read_ucf101
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.probing.descriptors import read_descriptors
from c3dvideo.probing.labelled import Labelled, join, note_leftovers

N_SPLITS = 3


def read_official_splits(
    features: Sequence[str | Path],
    official: PublishedSplits,
    *,
    splits: str | Path | None,
    layers: Sequence[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> list[Labelled]:
    """The labelled descriptors of each official split that has both training and test videos with features.

    splits: the folder of the data set's split files. note: called with one line about every split that is not complete.
    Raises UsageError without `splits`, and DatasetError when no split is left.
    """
    if splits is None:
        raise UsageError(f"`official={official}` needs `splits=`, the folder of its split files")
    table = read_descriptors(features, layers=layers)
    read = read_ucf101 if official == "ucf101" else read_hmdb51
    found = []
    for fold in range(1, N_SPLITS + 1):
        dataset = read(Library("", table.names), splits, fold=fold)
        if dataset.missing:
            note(f"note: split {fold}: {len(dataset.missing)} videos have no features")
        labelled = join(table, dataset)
        for line in note_leftovers(labelled):
            note(f"note: split {fold}: {line}")
        empty = {"train", "test"} - {example.split for example in labelled.examples}
        if empty:
            note(f"note: split {fold} is left out: no {min(empty)} video of it has features")
        else:
            found.append(labelled)
    if not found:
        raise DatasetError(f"no split of {official} has features of both training and test videos in {features[0]}")
    return found
