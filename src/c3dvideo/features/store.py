"""Stored features: one self-describing .npz file per video.

    for name, path in list_features("features/"):
        features = read_features(path)
        features.layers["fc6"]        # float32 (n_clips, 4096)
        features.start_seconds        # float64 (n_clips,)

The features of `sub/a.mp4` lie in `sub/a.mp4.npz`. A file holds one array per layer under the layer's name,
`start_frame` and `start_seconds` with a number per clip, and `metadata`, a JSON string; numpy alone reads it. Its bytes
depend on its content only. A file appears under its name complete or not at all, whatever stops the writer. Whatever a
file of another origin holds, reading it gives features or StoreError, in memory bounded by `c3dvideo.reading_arrays`.
"""

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import numpy as np

from c3dvideo.errors import StoreError
from c3dvideo.features.parquet_shards import is_in_shards, read_shard, read_shard_metadata, videos_in_shards
from c3dvideo.files import atomic_file, os_reason, path_inside
from c3dvideo.reading import ForeignFile, parse_json
from c3dvideo.reading_arrays import read_npz
from c3dvideo.storage import Location, ObjectPath, location

FORMAT = 1
_OTHER_ARRAYS = ("start_frame", "start_seconds", "metadata")
# A layer's name becomes part of file names, so it can never be a path.
_LAYER_NAME = re.compile(r"\w[\w.+-]{0,99}")
_LARGEST_FRAME = 2**48

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFeatures:
    """The features of one video.

    name: the video relative to the input root, with forward slashes, e.g. "sub/a.mp4".
    layers: float32 by layer name: (n_clips, D) for fc6 to prob, (n_clips, C, T, H, W) for convolutions and pools, with
        an axis of views after n_clips for five and ten crops. Pooled features have one row and no axis of views.
    start_frame: int64 (n_clips,), first frame of each clip. start_seconds: float64 (n_clips,), its time stamp.
    metadata: where the video came from, the settings and the version, as JSON values.
    Raises StoreError when the parts do not belong together.
    """

    name: str
    layers: Mapping[str, Array]
    start_frame: Array
    start_seconds: Array
    metadata: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.start_frame.dtype != np.int64 or self.start_seconds.dtype != np.float64:
            raise StoreError(
                f"{self.name}: start_frame is {self.start_frame.dtype} and start_seconds {self.start_seconds.dtype}; "
                "expected int64 and float64"
            )
        if not self.layers or self.start_frame.ndim != 1 or self.start_seconds.shape != self.start_frame.shape:
            raise StoreError(
                f"{self.name}: {len(self.layers)} layers, start_frame {self.start_frame.shape}, start_seconds "
                f"{self.start_seconds.shape}; expected at least one layer, and one start per clip"
            )
        if ((self.start_frame < 0) | (self.start_frame > _LARGEST_FRAME)).any() or np.isinf(self.start_seconds).any():
            raise StoreError(f"{self.name}: a clip starts at a frame or a time that no video has")
        for name, array in self.layers.items():
            _check_layer(self.name, name, array, n_clips=len(self.start_frame))


def _check_layer(video: str, name: str, array: Array, *, n_clips: int) -> None:
    if not _LAYER_NAME.fullmatch(name):
        raise StoreError(
            f"{video}: {name[:60]!r} cannot be the name of a layer; expected letters, digits and _.+- as in 'fc6'"
        )
    if array.dtype != np.float32 or array.ndim < 2 or len(array) != n_clips or 0 in array.shape[1:]:
        raise StoreError(f"{video}: layer {name} is {array.dtype} {array.shape}; expected float32 with {n_clips} rows")


def descriptor(array: Array) -> Array:
    """The video's descriptor, float32 (D,): the mean of its clip features (..., D), then one L2 norm.

    All leading axes (clips, views) are averaged, in float64. All-zero features stay zero.

    >>> descriptor(np.array([[3.0, 0.0], [3.0, 8.0]], np.float32)).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    mean = array.reshape(-1, array.shape[-1]).mean(axis=0, dtype=np.float64)
    unit: Array = mean / (np.linalg.norm(mean) or 1.0)
    return unit.astype(np.float32)


def feature_path(folder: str | Location, name: str) -> Location:
    """Where the features of the video called `name` lie under `folder`; raises UsageError for a name that leaves it."""
    return location(folder) / path_inside("", name, ".npz").as_posix()


def list_features(folder: str | Location) -> list[tuple[str, Location]]:
    """The name of every video with features under `folder`, e.g. "sub/a.mp4", and its file; sorted by name.

    >>> names = [name for name, path in list_features("features")]
    >>> len(names), names[0]
    (40, 'approaching_sign/approaching_sign_000.mp4')
    """
    root = location(folder)
    try:
        if not root.is_dir():
            raise StoreError(f"{root} is no folder of features; make one with `c3dvideo extract VIDEOS --out {root}`")
        if (in_shards := videos_in_shards(root)) is not None:
            return in_shards
        if isinstance(root, ObjectPath):
            objects: list[tuple[str, Location]] = [
                (path.relative_to(root).as_posix().removesuffix(".npz"), path) for path in root.rglob("*.npz")
            ]
            return sorted(objects, key=lambda found: found[0])
    except OSError as error:
        raise StoreError(f"{root} could not be listed: {os_reason(error)}") from error
    files = (path for path in root.rglob("*.npz") if path.is_file())
    return sorted((path.relative_to(root).as_posix().removesuffix(".npz"), path) for path in files)


def has_features(folder: str | Location, name: str) -> bool:
    """Whether the features of the video called `name` are stored in `folder`, in a file of their own or in a shard."""
    path = feature_path(folder, name)
    try:
        if path.exists():
            return True
    except (OSError, ValueError):
        return False
    return is_in_shards(path)


def read_features(path: str | Location) -> VideoFeatures:
    """The features stored in one file; raises StoreError when it is missing, damaged or something else.

    >>> features = read_features("features/waving_flag/waving_flag_000.mp4.npz")
    >>> features.layers["fc6"].shape, features.start_frame.tolist()
    ((3, 1024), [0, 16, 32])
    >>> features.metadata["fps"], features.metadata["settings"]["profile"]["name"]
    ('25', 'embedded')
    """
    file = _feature_file(path)
    if (rows := stored_in_shards(path, read_shard)) is not None:
        return _features(file, parse_json(rows.metadata, file), rows.layers, rows.start_frame, rows.start_seconds)
    with read_npz(file) as arrays:
        metadata = _metadata(arrays.json("metadata"), file)
        layers = {name: arrays.array(name, kinds="f") for name in arrays.names if name not in _OTHER_ARRAYS}
        start_frame, start_seconds = arrays.array("start_frame", kinds="i"), arrays.array("start_seconds", kinds="f")
        return _features(file, metadata, layers, start_frame, start_seconds)


def _features(
    file: ForeignFile, metadata: dict[str, Any], layers: Mapping[str, Array], start_frame: Array, start_seconds: Array
) -> VideoFeatures:
    """The features that a file holds; raises StoreError, naming the file, when the parts do not belong together."""
    name = _metadata(metadata, file)["name"]
    try:
        return VideoFeatures(
            name=name, layers=layers, start_frame=start_frame, start_seconds=start_seconds, metadata=metadata
        )
    except StoreError as error:
        raise file.wrong(str(error)) from error


Found = TypeVar("Found")


def stored_in_shards(path: str | Location, read: Callable[[Location], Found | None]) -> Found | None:
    """What `read` finds of a video in Parquet shards; None when it has a file of its own, or nothing at all."""
    place = location(path)
    try:
        if place.exists():
            return None
    except (OSError, ValueError):
        return None  # the reader of the file says why
    return read(place)


def read_metadata(path: str | Location) -> dict[str, Any]:
    """The metadata of one feature file, without its arrays; raises StoreError as `read_features` does."""
    file = _feature_file(path)
    if (found := stored_in_shards(path, read_shard_metadata)) is not None:
        return _metadata(parse_json(found[0], file), file)
    with read_npz(file) as arrays:
        return _metadata(arrays.json("metadata"), file)


def read_layer_names(path: str | Location) -> tuple[str, ...]:
    """The layers in one feature file, without reading their arrays; raises StoreError as `read_features` does."""
    if (found := stored_in_shards(path, read_shard_metadata)) is not None:
        return found[1]
    with read_npz(_feature_file(path)) as arrays:
        return tuple(name for name in arrays.names if name not in _OTHER_ARRAYS)


def _feature_file(path: str | Location) -> ForeignFile:
    return ForeignFile(
        path,
        error=StoreError,
        expected="a file of c3dvideo features",
        advice="if it once was, delete it and extract again",
    )


def _metadata(metadata: dict[str, Any], file: ForeignFile) -> dict[str, Any]:
    if not isinstance(metadata.get("name"), str):
        raise file.wrong("its metadata does not name the video")
    return metadata


def write_features(path: str | Location, features: VideoFeatures) -> None:
    """Write one feature file, atomically; arrays may be memory maps and are copied in pieces.

    Raises StoreError, with the OSError as its cause, when it cannot be written; then nothing is left under `path`.
    """
    with atomic_file(path) as file:
        write_npz(file, features)


def write_npz(file: IO[bytes], features: VideoFeatures) -> None:
    """Write the bytes of one feature file, which depend on `features` only."""
    metadata = json.dumps({**features.metadata, "name": features.name}, sort_keys=True)
    arrays = {
        **features.layers,
        "start_frame": features.start_frame,
        "start_seconds": features.start_seconds,
        "metadata": np.array(metadata),
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A ZipInfo made from a name alone carries the date 1980-01-01: the bytes do not depend on the clock.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
