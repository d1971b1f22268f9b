"""The published data sets, each as its authors lay it out: videos, split files, pairs and frame labels.

    dataset = read_ucf101("UCF-101", "ucfTrainTestlist", fold=1)
    pairs = read_aslan("View2.mat")

A list may name `x.avi` where the disk has `x.mp4` or a folder of frames `x/`: names are matched without their suffix.
What a list names and the disk lacks is in `Dataset.missing`.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from c3dvideo.datasets.examples import SPLIT_NAMES, Dataset, Example
from c3dvideo.errors import DatasetError, UsageError


class Library:
    """The videos under a folder, or of the names given, found by name without suffix."""

    def __init__(self, root: str | Path, names: Iterable[str] | None = None) -> None:
        from c3dvideo.video.sources import find_sources

        self.root = Path(root)
        if names is None:
            names = [Path(source.path).relative_to(self.root).as_posix() for source in find_sources([self.root])]
        paths = list(names)
        self._by_path = {_bare(path): path for path in paths}
        self._by_stem: dict[str, list[str]] = {}
        for path in paths:
            self._by_stem.setdefault(_bare(path).rsplit("/", 1)[-1], []).append(path)

    def find(self, name: str) -> str | None:
        """The video called `name` (its path, or only its file name; any suffix), relative to the root, or None."""
        bare = _bare(name)
        if bare in self._by_path:
            return self._by_path[bare]
        same_stem = self._by_stem.get(bare.rsplit("/", 1)[-1], [])
        return same_stem[0] if len(same_stem) == 1 else None


def recognise(data: Path) -> str:
    """The name of the layout that `data`, a file or folder, seems to have."""
    if data.is_dir():
        if any(data.glob("trainlist0?.txt")):
            return "ucf101"
        if any(data.glob("*_test_split?.txt")):
            return "hmdb51"
        if (data / "train_partition.txt").exists():
            return "sports1m"
        if any(data.glob("train_0?.lst")):
            return "list"
        folders = any(each.is_dir() and not each.name.startswith(".") for each in data.iterdir())
        return "csv" if not folders and (data / "labels.csv").exists() else "folders"
    if data.suffix.lower() == ".csv":
        with data.open(newline="", encoding="utf-8-sig") as stream:
            columns = next(csv.reader(stream), [])
        return "kinetics" if "youtube_id" in columns else "csv"
    return "list"


def read_ucf101(videos: str | Path | Library, splits: str | Path, *, fold: int = 1) -> Dataset:
    """UCF101 with the official split `fold` (1 to 3): trainlist0N.txt, testlist0N.txt and classInd.txt in `splits`.

    Groups are the source videos, `_gNN_` in the file names; the classes are in the order of classInd.txt.
    """
    splits = Path(splits)
    classes = tuple(line.split()[1] for line in _lines(splits / "classInd.txt"))
    named = []
    for split in ("train", "test"):
        for line in _lines(splits / f"{split}list{fold:02d}.txt"):
            name = line.split()[0]
            group = re.search(r"_g(\d+)_", name)
            named.append(Example(name, name.split("/")[0], split, group.group(1) if group else ""))
    return _found(named, classes, _library(videos))


def read_hmdb51(videos: str | Path | Library, splits: str | Path, *, fold: int = 1) -> Dataset:
    """HMDB51 with the official split `fold` (1 to 3): `<class>_test_split<N>.txt` in `splits`.

    Each line is a file and 1 (train), 2 (test) or 0 (not used in this split). Groups are the source films: the file
    name up to the class name.
    """
    files = sorted(Path(splits).glob(f"*_test_split{fold}.txt"))
    if not files:
        raise DatasetError(f"{splits} has no file *_test_split{fold}.txt; expected one for every class of HMDB51")
    named, classes = [], []
    for file in files:
        label = file.name.removesuffix(f"_test_split{fold}.txt")
        classes.append(label)
        for line in _lines(file):
            name, use = line.rsplit(maxsplit=1)
            if use not in ("0", "1", "2"):
                raise DatasetError(f"{file.name}: {line!r} ends in {use!r}; expected 0, 1 or 2")
            if use != "0":
                group = Path(name).stem.rsplit(f"_{label}_", 1)[0]
                named.append(Example(f"{label}/{name}", label, "train" if use == "1" else "test", group))
    return _found(named, tuple(classes), _library(videos))


def read_kinetics(videos: str | Path, *files: str | Path) -> Dataset:
    """Kinetics from its csv files: label, youtube_id, time_start, time_end, split.

    A clip already cut, `<id>_<start>_<end>.mp4` with six digits each, is taken whole; else `<id>.*`, from time_start to
    time_end. The group is the YouTube id. Files without labels (the test files of some releases) are refused.
    """
    library, named, missing = Library(videos), [], []
    for file in files:
        for _, row in _rows(file, "label", "time_end", "time_start", "youtube_id"):
            start, end = float(row["time_start"]), float(row["time_end"])
            cut = f"{row['youtube_id']}_{int(start):06d}_{int(end):06d}"
            split = SPLIT_NAMES.get((row.get("split") or Path(file).stem).lower(), "")
            example = Example(cut, row["label"], split, row["youtube_id"])
            if path := library.find(cut):
                named.append(replace(example, path=path))
            elif path := library.find(row["youtube_id"]):
                named.append(replace(example, path=path, start_seconds=start, end_seconds=end))
            else:
                missing.append(cut)
    classes = tuple(sorted({example.label for example in named}))
    return Dataset(tuple(named), classes, tuple(missing), library.root)


def read_sports1m(videos: str | Path, lists: str | Path) -> Dataset:
    """Sports-1M: train_partition.txt, test_partition.txt and labels.txt in `lists`; videos named by YouTube id.

    A line is an address and comma-separated label numbers from 0; the first is the label, the rest `other_labels`.
    """
    lists = Path(lists)
    classes = tuple(_lines(lists / "labels.txt"))
    named = []
    for split in ("train", "test"):
        for line in _lines(lists / f"{split}_partition.txt"):
            address, numbers = line.rsplit(maxsplit=1)
            first, *others = (classes[_class_number(text, classes, line)] for text in numbers.split(","))
            video_id = re.split(r"[?&]v=", address)[-1].split("&")[0]
            named.append(Example(video_id, first, split, video_id, other_labels=tuple(others)))
    return _found(named, classes, Library(videos))


def read_list(
    file: str | Path,
    *,
    root: str | Path = "",
    split: str = "",
    classes: tuple[str, ...] = (),
    temporal_jitter: bool = False,
) -> Dataset:
    """A list file of the authors' release: `<video> <start> <label>`, or `<folder>/ <start> <label>` for frames.

    Starts count from 0 in videos and from 1 in frame folders; `Example.start_frame` counts from 0 in both.
    temporal_jitter: clips start anywhere; the line is `<video> <label>`, or `<folder>/ <number of frames> <label>`.
    classes: names of the labels 0, 1, ...; else the numbers themselves, up to the largest.
    """
    rows = []
    for line in _lines(Path(file)):
        words = line.rsplit(maxsplit=1 if temporal_jitter and not re.search(r"/ +\d+ +\d+$", line) else 2)
        if len(words) == 2 and not temporal_jitter:
            raise DatasetError(f"{file}: {line!r} has two fields; expected path, start and label (or temporal jitter)")
        if len(words) < 2 or not all(word.isdigit() for word in words[1:]):
            raise DatasetError(f"{file}: {line!r} is not a line of a list file; expected path, start and label")
        first_number = 1 if words[0].endswith("/") else 0
        start = None if temporal_jitter else int(words[1]) - first_number
        rows.append((words[0].rstrip("/"), start, int(words[-1])))
    names = classes or tuple(str(number) for number in range(max((label for *_, label in rows), default=-1) + 1))
    named = [
        Example(path, names[_class_number(str(label), names, path)], split, start_frame=start)
        for path, start, label in rows
    ]
    present = {example.path: (Path(root) / example.path).exists() for example in named}
    missing = tuple(path for path, here in present.items() if not here)
    return Dataset(tuple(each for each in named if present[each.path]), names, missing, Path(root))


def read_lists(folder: str | Path, *, root: str | Path = "", fold: int = 1) -> Dataset:
    """The release's lists of one split, `train_0N.lst` and `test_0N.lst` in `folder`; classes are the label numbers."""
    parts = {split: Path(folder) / f"{split}_{fold:02d}.lst" for split in ("train", "test")}
    numbers = [int(line.rsplit(maxsplit=1)[-1]) for file in parts.values() for line in _lines(file)]
    names = tuple(str(number) for number in range(max(numbers, default=-1) + 1))
    train, test = (read_list(file, root=root, split=split, classes=names) for split, file in parts.items())
    return Dataset(train.examples + test.examples, names, train.missing + test.missing, Path(root))


def read_parent_folders(root: str | Path) -> Dataset:
    """Every video under `root`, labelled with the name of the folder it lies in, at whatever depth."""
    library = Library(root)
    paths = sorted(library._by_path.values())
    top = [path for path in paths if "/" not in path]
    if top:
        raise DatasetError(f"{top[0]} lies in {root} itself; expected every video in the folder of its class")
    examples = tuple(Example(path, path.split("/")[-2]) for path in paths)
    return Dataset(examples, tuple(sorted({example.label for example in examples})), root=library.root)


def read_scenes(root: str | Path, *, n_classes: int, n_videos: int) -> Dataset:
    """A dynamic scenes set (YUPENN: 14 classes of 30 videos, Maryland: 13 of 10); the class is the parent folder.

    A class that is short of videos is listed in `missing`.
    """
    dataset = read_parent_folders(root)
    short = [f"{name}: {n} of {n_videos} videos" for name, n in dataset.counts().items() if n < n_videos]
    if len(dataset.classes) < n_classes:
        short.append(f"{len(dataset.classes)} of {n_classes} classes")
    return replace(dataset, missing=tuple(short))


@dataclass(frozen=True)
class Pair:
    """Two videos, whether they show the same action, and the fold (from 1) that the pair is tested in."""

    first: str
    second: str
    same: bool
    fold: int


def read_aslan(file: str | Path) -> tuple[Pair, ...]:
    """The pairs of ASLAN's View-2: `View2.mat` as published (600 x 5 x 10), or a CSV first,second,same,fold.

    The mat file's columns are id1, id2, same, action1, action2, its pages the folds; ids become names such as "17".
    """
    file = Path(file)
    if file.suffix.lower() == ".csv":
        listed = _rows(file, "first", "second", "same", "fold")
        rows = [(row["first"], row["second"], row["same"].strip().lower(), int(row["fold"])) for _, row in listed]
        return tuple(Pair(first, second, same in ("1", "true", "same"), fold) for first, second, same, fold in rows)
    from scipy.io import loadmat

    tables = [value for value in loadmat(str(file)).values() if isinstance(value, np.ndarray) and value.ndim == 3]
    table = next((value for value in tables if value.shape[1] == 5), None)
    if table is None:
        raise DatasetError(f"{file} holds no array of pairs x 5 x folds; found shapes {[t.shape for t in tables]}")
    return tuple(
        Pair(str(int(row[0])), str(int(row[1])), bool(row[2] > 0), fold + 1)
        for fold in range(table.shape[2])
        for row in table[:, :, fold]
    )


@dataclass(frozen=True)
class FrameLabels:
    """One video with a label for every frame; "" where no object is in hand."""

    path: str
    labels: tuple[str, ...]
    split: str = ""


def read_frame_labels(data: str | Path) -> tuple[FrameLabels, ...]:
    """Videos labelled frame by frame, as the egocentric objects are.

    Either a folder with `<train|test>/<video>.txt` (or `<video>.txt`), one label a line and a line a frame, empty lines
    for no object; or a CSV with the columns path,start_frame,end_frame,label[,split], half-open and counted from 0.
    """
    data = Path(data)
    if not data.exists():
        raise UsageError(f"there is no file or folder {data}; expected labels of frames")
    if data.is_dir():
        found = []
        for file in sorted(data.rglob("*.txt")):
            name = file.relative_to(data).with_suffix("").as_posix()
            top, _, rest = name.partition("/")
            split = SPLIT_NAMES.get(top.lower(), "") if rest else ""
            lines = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines())
            found.append(FrameLabels(rest if split else name, lines, split))
        if not found:
            raise DatasetError(f"{data} has no .txt file; expected one per video with a label a line")
        return tuple(found)
    spans: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for line, row in _rows(data, "end_frame", "label", "path", "start_frame"):
        start, end = int(row["start_frame"]), int(row["end_frame"])
        if not 0 <= start < end:
            raise DatasetError(f"{data} line {line}: frames [{start}, {end}) are not a half-open span")
        split = SPLIT_NAMES.get((row.get("split") or "").lower(), "")
        spans.setdefault((row["path"], split), []).append((start, end, row["label"]))
    return tuple(FrameLabels(path, _spread(rows), split) for (path, split), rows in spans.items())


def _spread(spans: Iterable[tuple[int, int, str]]) -> tuple[str, ...]:
    spans = list(spans)
    labels = [""] * max(end for _, end, _ in spans)
    for start, end, label in spans:
        labels[start:end] = [label] * (end - start)
    return tuple(labels)


def _rows(file: str | Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and content of every row of a CSV file; raises DatasetError when it lacks one of `columns`."""
    with Path(file).open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        absent = [name for name in columns if name not in (reader.fieldnames or [])]
        if absent:
            raise DatasetError(f"{file} has no column {', '.join(absent)}; found {reader.fieldnames}")
        for row in reader:
            yield reader.line_num, row


def _library(videos: str | Path | Library) -> Library:
    return videos if isinstance(videos, Library) else Library(videos)


def _found(named: Iterable[Example], classes: tuple[str, ...], library: Library) -> Dataset:
    """The examples whose videos are in the library, under the paths they have there; the others are `missing`."""
    examples, missing = [], []
    for example in named:
        path = library.find(example.path)
        if path is None:
            missing.append(example.path)
        else:
            examples.append(replace(example, path=path))
    return Dataset(tuple(examples), classes, tuple(missing), library.root)


def _class_number(text: str, classes: tuple[str, ...], where: str) -> int:
    if not text.isdigit() or int(text) >= len(classes):
        raise DatasetError(f"{where}: label {text!r}; expected a number from 0 to {len(classes) - 1}")
    return int(text)


def _lines(file: Path) -> list[str]:
    if not file.exists():
        raise UsageError(f"there is no file {file}; this layout needs it")
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _bare(name: str) -> str:
    """`name` without its suffix, unless what follows the last dot is no suffix (YouTube ids may hold no dots)."""
    head, dot, tail = name.rstrip("/").rpartition(".")
    return head if dot and tail.isalnum() and len(tail) <= 5 and "/" not in tail else name.rstrip("/")
