"""Read a data set in any layout.

dataset = read_dataset("my_videos")        # a folder per class, a CSV, or a published layout
"""

from collections.abc import Callable
from pathlib import Path

from c3dvideo.choices import Layout
from c3dvideo.datasets import layouts
from c3dvideo.datasets.examples import Dataset
from c3dvideo.datasets.lists import exists, read_csv, read_folders
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.files import os_reason


def read_dataset(
    data: str | Path,
    *,
    layout: Layout = "auto",
    videos: str | Path | None = None,
    fold: int = 1,
) -> Dataset:
    """The data set at `data`: a folder or a list file.

    layout: "auto" recognises the files. "folders" is a folder per class, maybe under train/, val/, test/; "csv" has
        columns path,label and optionally split, group, start_seconds, end_seconds (or a folder of videos with such a
        labels.csv); "list" is a list file of the authors' release, or a folder with its train_0N.lst and test_0N.lst;
        "parent_folders" uses the name of a video's folder as its class; the others are published data sets.
    videos: folder of the videos, by default `data` itself (or the folder of the file `data`).
    fold: official split of UCF101 and HMDB51 (and of the release's lists), 1 to 3.
    Raises UsageError when `data` does not exist, DatasetError when it is not a data set.
    """

    data = Path(data)
    if not exists(data):
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
    if layout != "auto" and layout not in readers:
        raise UsageError(f"`layout=` is {layout!r}; expected auto, {', '.join(readers)}")
    try:
        chosen = layouts.recognise(data) if layout == "auto" else layout
        dataset = readers[chosen]()
    except OSError as error:
        raise UsageError(f"{error.filename or data} could not be read: {os_reason(error)}") from error
    if not dataset.examples:
        if not dataset.missing:
            raise DatasetError(f"{data} (read as {chosen!r}) names no video")
        raise DatasetError(
            f"{data} (read as {chosen!r}) leaves no video: {len(dataset.missing)} are named but missing under {root}, "
            f"such as {dataset.missing[0]}; give the folder that holds them as `videos=`"
        )
    return dataset
