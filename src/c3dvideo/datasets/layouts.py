"""Read the videos and split files of published data sets, in the layout of their authors.

    dataset = read_ucf101("UCF-101", "ucfTrainTestlist", fold=1)

Names are matched without suffix, so `x.avi` in a list can be `x.mp4` or a folder of frames `x/` on disk. Videos that a
list names and the disk lacks are in `Dataset.missing`.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from c3dvideo.datasets.examples import SPLIT_NAMES, Dataset, Example, split_name
from c3dvideo.datasets.lists import exists
from c3dvideo.errors import DatasetError, UsageError
from c3dvideo.reading import ForeignFile, read_lines
from c3dvideo.reading_tables import csv_columns, csv_rows, parse_integer

MAX_CLASSES = 100_000
"""More labels than any published data set has. A list file with a larger label is damaged."""


class Library:
    """Finds videos by their name without suffix, among those under a folder or among `names`."""

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
        """The path, relative to the root, of the video `name` (a path or a file name, of any suffix), or None."""
        bare = _bare(name)
        if bare in self._by_path:
            return self._by_path[bare]
        same_stem = self._by_stem.get(bare.rsplit("/", 1)[-1], [])
        return same_stem[0] if len(same_stem) == 1 else None


def recognise(data: Path) -> str:
    """The name of the most likely layout of `data`, a file or folder."""
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
        columns = csv_columns(ForeignFile(data, error=DatasetError, expected="a table of labelled videos"))
        return "kinetics" if "youtube_id" in columns else "csv"
    return "list"


def read_ucf101(videos: str | Path | Library, splits: str | Path, *, fold: int = 1) -> Dataset:
    """UCF101 with the official split `fold` (1 to 3): trainlist0N.txt, testlist0N.txt and classInd.txt in `splits`.

    Groups are the source videos, `_gNN_` in the file names; classes have the order of classInd.txt.
    """
    splits = Path(splits)
    classes = tuple(_words(*line, 2, "a number and a class")[1] for line in _lines(splits / "classInd.txt"))
    named = []
    for split in ("train", "test"):
        for line, _ in _lines(splits / f"{split}list{fold:02d}.txt"):
            name = line.split()[0]
            group = re.search(r"_g(\d+)_", name)
            named.append(Example(name, name.split("/")[0], split, group.group(1) if group else ""))
    return _found(named, classes, _library(videos))


def read_hmdb51(videos: str | Path | Library, splits: str | Path, *, fold: int = 1) -> Dataset:
    """HMDB51 with the official split `fold` (1 to 3): `<class>_test_split<N>.txt` in `splits`.

    Each line is a file and 1 (train), 2 (test) or 0 (not used in this split). A group is a class and
    a source film (the file name up to the class name), because the official splits keep films whole per class only.
    """
    files = sorted(Path(splits).glob(f"*_test_split{fold}.txt"))
    if not files:
        raise DatasetError(f"{splits} has no file *_test_split{fold}.txt; expected one for every class of HMDB51")
    named, classes = [], []
    for file in files:
        label = file.name.removesuffix(f"_test_split{fold}.txt")
        classes.append(label)
        for line, where in _lines(file):
            name, use = _words(line, where, 2, "a file and 0, 1 or 2")
            if use not in ("0", "1", "2"):
                raise DatasetError(f"{where}: {line!r} ends in {use!r}; expected 0, 1 or 2")
            if use != "0":
                film = Path(name).stem.rsplit(f"_{label}_", 1)[0]
                split = "train" if use == "1" else "test"
                named.append(Example(f"{label}/{name}", label, split, f"{label}/{film}"))
    return _found(named, tuple(classes), _library(videos))


def read_kinetics(videos: str | Path, *files: str | Path) -> Dataset:
    """Kinetics from its csv files: label, youtube_id, time_start, time_end, split.

    An example is the whole clip `<id>_<start>_<end>.mp4` (six digits each) if it exists, else `<id>.*` from time_start
    to time_end. The group is the YouTube id. Raises DatasetError for a file without labels, such as some test files.
    """
    library, named, missing = Library(videos), [], []
    for file in files:
        table = ForeignFile(file, error=DatasetError, expected="a table of Kinetics clips")
        of_file = SPLIT_NAMES.get(Path(file).stem.lower(), "")
        for row in csv_rows(table, required=("label", "time_end", "time_start", "youtube_id")):
            start, end = row.number("time_start", minimum=0), row.number("time_end", minimum=0)
            if start is None or end is None or end <= start:
                raise row.wrong(
                    f"time_start is {start} and time_end is {end}; expected two times, the start before the end"
                )
            video_id = row.text("youtube_id")
            cut = f"{video_id}_{int(start):06d}_{int(end):06d}"
            split = split_name(row.values.get("split", ""), where=row.where) or of_file
            example = Example(cut, row.text("label"), split, video_id)
            if path := library.find(cut):
                named.append(replace(example, path=path))
            elif path := library.find(video_id):
                named.append(replace(example, path=path, start_seconds=start, end_seconds=end))
            else:
                missing.append(cut)
    classes = tuple(sorted({example.label for example in named}))
    return Dataset(tuple(named), classes, tuple(missing), library.root)


def read_sports1m(videos: str | Path, lists: str | Path) -> Dataset:
    """Sports-1M: train_partition.txt, test_partition.txt and labels.txt in `lists`; videos named by YouTube id.

    Each line has an address and comma-separated class indices from 0: the label, then `other_labels`.
    """
    lists = Path(lists)
    classes = tuple(line for line, _ in _lines(lists / "labels.txt"))
    named = []
    for split in ("train", "test"):
        for line, where in _lines(lists / f"{split}_partition.txt"):
            address, numbers = _words(line, where, 2, "an address and label numbers")
            first, *others = (classes[_class_number(text, classes, where)] for text in numbers.split(","))
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
    temporal_jitter: random starts; each line is `<video> <label>`, or `<folder>/ <number of frames> <label>`.
    classes: names of the labels 0, 1, ...; by default the numbers from 0 to the largest label.
    """
    rows = []
    for line, where in _lines(Path(file)):
        words = line.rsplit(maxsplit=1 if temporal_jitter and not re.search(r"/ +\d+ +\d+$", line) else 2)
        if len(words) == 2 and not temporal_jitter:
            raise DatasetError(f"{where}: {line!r} has two fields; expected path, start and label (or temporal jitter)")
        if len(words) < 2 or not all(re.fullmatch(r"[0-9]{1,9}", word) for word in words[1:]):
            raise DatasetError(f"{where}: {line[:100]!r} is not a line of a list file; expected path, start and label")
        first_number = 1 if words[0].endswith("/") else 0
        start = None if temporal_jitter else int(words[1]) - first_number
        if start is not None and start < 0:
            raise DatasetError(f"{where}: the first frame is {words[1]}; in frame folders they count from 1")
        rows.append((words[0].rstrip("/"), start, int(words[-1]), where))
    names = classes or _numbers(max((label for _, _, label, _ in rows), default=-1) + 1, file)
    named = [
        Example(path, names[_class_number(str(label), names, where)], split, start_frame=start)
        for path, start, label, where in rows
    ]
    present = {example.path: exists(Path(root) / example.path) for example in named}
    missing = tuple(path for path, here in present.items() if not here)
    return Dataset(tuple(each for each in named if present[each.path]), names, missing, Path(root))


def read_lists(folder: str | Path, *, root: str | Path = "", fold: int = 1) -> Dataset:
    """The release's lists of one split, `train_0N.lst` and `test_0N.lst` in `folder`; classes are the label numbers."""
    parts = {split: Path(folder) / f"{split}_{fold:02d}.lst" for split in ("train", "test")}
    numbers = [
        parse_integer(line.rsplit(maxsplit=1)[-1], what=f"{where}: label", error=DatasetError, minimum=0)
        for file in parts.values()
        for line, where in _lines(file)
    ]
    names = _numbers(max(numbers, default=-1) + 1, folder)
    train, test = (read_list(file, root=root, split=split, classes=names) for split, file in parts.items())
    return Dataset(train.examples + test.examples, names, train.missing + test.missing, Path(root))


def read_parent_folders(root: str | Path) -> Dataset:
    """Every video under `root`, at any depth. Its label is the name of its folder."""
    library = Library(root)
    paths = sorted(library._by_path.values())
    top = [path for path in paths if "/" not in path]
    if top:
        raise DatasetError(f"{top[0]} lies in {root} itself; expected every video in the folder of its class")
    examples = tuple(Example(path, path.split("/")[-2]) for path in paths)
    return Dataset(examples, tuple(sorted({example.label for example in examples})), root=library.root)


def read_scenes(root: str | Path, *, n_classes: int, n_videos: int) -> Dataset:
    """A dynamic scenes set (YUPENN: 14 classes of 30 videos, Maryland: 13 of 10); the class is the parent folder.

    `shortfalls` lists classes with fewer videos.
    """
    dataset = read_parent_folders(root)
    short = [f"{name}: {n} of {n_videos} videos" for name, n in dataset.counts().items() if n < n_videos]
    if len(dataset.classes) < n_classes:
        short.append(f"{len(dataset.classes)} of {n_classes} classes")
    return replace(dataset, shortfalls=tuple(short))


def _numbers(n_classes: int, where: str | Path) -> tuple[str, ...]:
    """The labels 0, 1, ... as class names."""
    if n_classes > MAX_CLASSES:
        raise DatasetError(f"{where} has the label {n_classes - 1:,}; expected labels below {MAX_CLASSES:,}")
    return tuple(map(str, range(n_classes)))


def _library(videos: str | Path | Library) -> Library:
    return videos if isinstance(videos, Library) else Library(videos)


def _found(named: Iterable[Example], classes: tuple[str, ...], library: Library) -> Dataset:
    """The examples whose videos are in the library, with the paths from there; the others are `missing`."""
    examples, missing = [], []
    for example in named:
        path = library.find(example.path)
        if path is None:
            missing.append(example.path)
        else:
            examples.append(replace(example, path=path))
    return Dataset(tuple(examples), classes, tuple(missing), library.root)


def _class_number(text: str, classes: tuple[str, ...], where: str) -> int:
    number = parse_integer(text, what=f"{where}: label", error=DatasetError, minimum=0)
    if number >= len(classes):
        raise DatasetError(f"{where}: label {text!r}; expected a number from 0 to {len(classes) - 1}")
    return number


def _lines(path: Path) -> list[tuple[str, str]]:
    """The non-empty lines of a split file, each with its position for messages: "classInd.txt, line 3"."""
    if not exists(path):
        raise UsageError(f"there is no file {path}; this layout needs it")
    lines = read_lines(ForeignFile(path, error=DatasetError, expected="a list file of this layout"))
    return [(line.strip(), f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _words(line: str, where: str, n_words: int, expected: str) -> list[str]:
    """The line split into `n_words` parts from the right. Raises DatasetError when it has fewer words."""
    words = line.rsplit(maxsplit=n_words - 1)
    if len(words) < n_words:
        raise DatasetError(f"{where}: {line[:100]!r} has too few fields; expected {expected}")
    return words


def _bare(name: str) -> str:
    """`name` without its suffix. Text after the last dot is a suffix when it is at most five letters or digits."""
    head, dot, tail = name.rstrip("/").rpartition(".")
    return head if dot and tail.isalnum() and len(tail) <= 5 and "/" not in tail else name.rstrip("/")
