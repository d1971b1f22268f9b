"""One descriptor per video, from folders of features and from other tables, beside its label.

    table = read_descriptors(["features/", "idt.csv"], layers=["fc6"])
    labelled = join(table, read_csv("labels.csv"))
    labelled.matrix, labelled.labels                     # float32 (n, D), str (n,)

Several sources are concatenated, each L2-normalised by itself: the paper's three networks together, or C3D with
improved dense trajectories (section 4). A source is a folder that `c3dvideo extract` wrote, a folder with one .npy per
video (`sub/a.mp4.npy`), a CSV whose first column is `path` and whose others are numbers, or an .npy matrix with one row
per row of the labels file.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from c3dvideo.datasets.examples import SOURCE_PATTERNS, Dataset, Example
from c3dvideo.datasets.lists import read_csv
from c3dvideo.datasets.splits import with_groups
from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.features.store import Manifest, descriptor, list_features, read_features, read_manifest, read_metadata
from c3dvideo.files import os_reason
from c3dvideo.progress import track
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_arrays import read_npy
from c3dvideo.reading_tables import csv_columns, csv_rows
from c3dvideo.storage import Location, location

Array = np.ndarray[Any, Any]
_NOT_COMPARED = ("layers", "pool", "precision")


@dataclass(frozen=True)
class Part:
    """One block of columns: its layer (or the stem of its table), its width, and the settings of its extraction."""

    layer: str
    width: int
    settings: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Descriptors:
    """Descriptors of videos: float32 (n, D), one row per name, every part L2-normalised."""

    names: tuple[str, ...]
    matrix: Array
    parts: tuple[Part, ...]


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
        if not Path(labels).is_file():
            raise UsageError(f"there is no labels file {labels}; expected a CSV path,label[,split][,group]")
        dataset = read_csv(labels)
    names = [example.path for example in dataset.examples] if dataset else []
    table = read_descriptors(sources, layers=layers, row_names=names)
    dataset = dataset or labels_from_folders(table.names)
    return join(table, with_groups(dataset, group_pattern) if group_pattern else dataset)


def read_descriptors(
    sources: Sequence[str | Path], *, layers: Sequence[str] = (), row_names: Sequence[str] = ()
) -> Descriptors:
    """The descriptors of every video that all sources have, one block of columns per source.

    layers: one for all feature folders, or one for each; none takes fc6, or the only layer there is.
    row_names: the names of the videos of an .npy matrix, row by row.
    Raises StoreError for a source that cannot be read or holds NaN or infinite numbers, UsageError for a layer that is
    not stored.
    """
    if not sources:
        raise UsageError("no features were named; expected at least one folder or table")
    wanted = list(layers) or [""]
    if len(wanted) not in (1, len(sources)):
        raise UsageError(f"{len(wanted)} layers for {len(sources)} sources; expected one for all or one for each")
    if len(wanted) == 1:
        wanted *= len(sources)
    blocks = [_read_source(location(source), layer, row_names) for source, layer in zip(sources, wanted, strict=True)]
    names = sorted(set.intersection(*(set(rows) for _, rows in blocks)))
    if not names:
        raise StoreError(
            f"no video has features in all of {', '.join(map(str, sources))}; are these of the same videos?"
        )
    matrix = np.concatenate([np.stack([rows[name] for name in names]) for _, rows in blocks], axis=1)
    return Descriptors(tuple(names), matrix, tuple(part for part, _ in blocks))


def join(descriptors: Descriptors, dataset: Dataset) -> Labelled:
    """The descriptors of labelled videos, in the order of the labels; raises DatasetError when there are none."""
    examples = {PurePosixPath(example.path).as_posix(): example for example in dataset.examples}
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


def clip_vectors(array: Array) -> Array:
    """One vector per clip, float32 (n_clips, D), of any stored layer: views are averaged, the other axes flattened."""
    if array.ndim in (3, 6):
        array = array.mean(axis=1)
    return array.reshape(len(array), -1)


def unit_rows(rows: Array) -> Array:
    """Rows (n, D) divided by their L2 norms, float64; all-zero rows stay zero."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1.0, lengths)


def choose_layer(available: Sequence[str], wanted: str, where: str | Location) -> str:
    """`wanted`, or when it is empty "fc6" or the only layer; raises UsageError when that leaves none."""
    chosen = wanted or ("fc6" if "fc6" in available else available[0] if len(available) == 1 else "")
    if chosen not in available:
        problem = f"no layer {wanted!r}" if wanted else "several layers and no fc6"
        raise UsageError(f"{where} has {problem}; it has {', '.join(available)}: choose with `layers=`")
    return chosen


def settings_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between the settings of two extractions, one line per setting; [] where either is not recorded.

    The list of layers, pooling over clips and the precision do not change what a descriptor is, and are not compared.
    """
    first, second = (
        Manifest(settings={key: value for key, value in settings.items() if key not in _NOT_COMPARED})
        for settings in (there, here)
    )
    return first.differences(second) if there and here else []


def some(names: Sequence[str], limit: int = 3) -> str:
    """A few of the names, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def note_leftovers(labelled: Labelled) -> Iterator[str]:
    """One line about videos with features but no label, and one about labelled videos without features."""
    if labelled.unlabelled:
        yield f"{len(labelled.unlabelled)} videos have features but no label: {some(labelled.unlabelled)}"
    if labelled.featureless:
        yield f"{len(labelled.featureless)} labelled videos have no features: {some(labelled.featureless)}"


def _read_source(source: Location, layer: str, row_names: Sequence[str]) -> tuple[Part, dict[str, Array]]:
    if _is_folder(source):
        part, rows = _read_folder(source, layer)
    elif source.suffix == ".csv" and isinstance(source, Path):
        part, rows = _read_table(source)
    elif source.suffix == ".npy" and isinstance(source, Path):
        part, rows = _read_matrix(source, row_names)
    else:
        raise StoreError(f"{source} is neither a folder of features nor a .csv or .npy table, or does not exist")
    widths = {len(vector) for vector in rows.values()}
    if len(widths) > 1:
        raise StoreError(f"{source}: vectors have {len(widths)} different lengths, {sorted(widths)[:5]}; expected one")
    bad = [name for name, vector in rows.items() if not np.isfinite(vector).all()]
    if bad:
        raise StoreError(
            f"{source}: {len(bad)} videos have NaN or infinite features: {some(bad)}; delete their files and extract "
            "them again (in fp32 if this was fp16)"
        )
    return replace(part, width=widths.pop()), {name: descriptor(vector[None]) for name, vector in rows.items()}


def _is_folder(source: Location) -> bool:
    try:
        return source.is_dir()
    except OSError as error:
        raise StoreError(f"{source} could not be read: {os_reason(error)}") from error


def _read_folder(folder: Location, layer: str) -> tuple[Part, dict[str, Array]]:
    files = list_features(folder)
    if not files:
        arrays = sorted(folder.rglob("*.npy")) if isinstance(folder, Path) else []
        if not isinstance(folder, Path) or not arrays:
            raise StoreError(f"{folder} holds no features; make some with: c3dvideo extract VIDEOS --out {folder}")
        rows = {path.relative_to(folder).as_posix().removesuffix(".npy"): _mean(_load(path)) for path in arrays}
        return Part(folder.name, 0, {}), rows
    rows, chosen = {}, layer
    for name, path in track(files, "reading features", unit="videos"):
        features = read_features(path)
        chosen = choose_layer(list(features.layers), chosen, path)
        if len(features.start_frame):
            rows[name] = _mean(clip_vectors(features.layers[chosen]))
    if not rows:
        raise StoreError(f"{folder}: none of its {len(files)} videos has a clip")
    return Part(chosen, 0, feature_settings(folder)), rows


def feature_settings(folder: str | Location) -> Mapping[str, Any]:
    """The settings of the features in a folder, from its manifest or else from its first file; {} if not recorded."""
    manifest = read_manifest(folder)
    if manifest is not None:
        return manifest.settings
    files = list_features(folder)
    settings = read_metadata(files[0][1]).get("settings") if files else None
    return settings if isinstance(settings, dict) else {}


def _read_table(path: Path) -> tuple[Part, dict[str, Array]]:
    file = ForeignFile(
        path,
        error=StoreError,
        expected="a table of features",
        advice="expected a header path,<name>,<name>,... and one row per video",
    )
    columns = csv_columns(file)
    if columns[:1] != ("path",) or len(columns) < 2:
        raise file.wrong(f"it begins with {','.join(columns)[:60]!r}")
    rows: dict[str, Array] = {}
    for row in csv_rows(file, required=columns[:2]):
        name = row.text("path")
        if name in rows:
            raise row.wrong(f"{name!r} has a row already; expected one row per video")
        try:
            rows[name] = np.array(list(row.values.values())[1:], dtype=np.float64)
        except ValueError as error:
            reason = "a cell is empty" if "" in row.values.values() else str(error)
            raise row.wrong(f"{reason}; expected numbers after the path") from error
    if not rows:
        raise file.wrong("it has a header and no row")
    return Part(path.stem, 0, {}), rows


def _read_matrix(file: Path, row_names: Sequence[str]) -> tuple[Part, dict[str, Array]]:
    matrix = _load(file)
    if matrix.ndim != 2 or len(matrix) != len(row_names):
        raise StoreError(
            f"{file} is {matrix.shape}; expected one row for each of the {len(row_names)} rows of the labels file"
        )
    return Part(file.stem, 0, {}), dict(zip(row_names, matrix.astype(np.float64), strict=True))


def _load(path: Path) -> Array:
    file = ForeignFile(path, error=StoreError, expected="an .npy array of features")
    array = read_npy(file)
    if array.ndim < 1 or not array.size:
        raise file.wrong(f"its shape is {array.shape}; expected one vector or rows of vectors")
    return array


def _mean(array: Array) -> Array:
    """The mean row of (n, D), or a vector as it is; float64."""
    mean: Array = array.reshape(-1, array.shape[-1]).mean(axis=0, dtype=np.float64)
    return mean
