"""One descriptor per video, from folders of features and from other tables.

    table = read_descriptors(["features/", "idt.csv"], layers=["fc6"])
    table.names, table.matrix                            # str, float32 (n, D)

Several sources are concatenated, each L2-normalised by itself: the paper's three networks together, or C3D with
improved dense trajectories (section 4). A source is a folder that `c3dvideo extract` wrote, a folder with one .npy per
video (`sub/a.mp4.npy`), a CSV whose first column is `path` and whose others are numbers, or an .npy matrix with one row
per row of the labels file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features.manifest import Manifest, read_manifest
from c3dvideo.features.store import descriptor, list_features, read_features, read_metadata
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
