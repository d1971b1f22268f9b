"""Parquet shards: the features of many videos in few files, from which each video's own file can be made again.

    videos_in_shards(location("shards"))                        # [("sub/a.mp4", Path("shards/sub/a.mp4.npz")), ...]
    read_shard(location("shards") / "sub/a.mp4.npz").layers     # of a file that only exists inside a shard

A shard has one row per clip and one row group per video, with these columns: `video`, `start_frame`, `start_seconds`,
`metadata` (the JSON of the video's own file, the same in each of its rows), and a list of fixed size of float32 per
layer. The shape of a clip's activation is in the metadata of the column, and the names of the videos, in the order of
their row groups, are in the metadata of the file. A folder is one of shards when its manifest.json lists them.

`c3dvideo.features.convert.shards_output` writes them. Errors are StoreErrors; damaged pages are noticed by checksums.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from c3dvideo.errors import MissingExtraError, StoreError, UsageError
from c3dvideo.files import path_inside
from c3dvideo.reading import ForeignFile, parse_json, parsing, read_json
from c3dvideo.reading_arrays import UNPACKED_BYTES, UNPACKED_FACTOR
from c3dvideo.storage import Location

SUFFIX = ".parquet"
MANIFEST = "manifest.json"
LIST = "shards"
"""The key in manifest.json under which the shards are listed."""
ABOUT_FILE, SHAPE = b"c3dvideo", b"shape"
OTHER_COLUMNS = ("video", "start_frame", "start_seconds", "metadata")
_SHARD_NAME = re.compile(r"[\w-][\w.-]*\.parquet")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredRows:
    """The arrays of one video's file, and its metadata as JSON."""

    layers: Mapping[str, Array]
    start_frame: Array
    start_seconds: Array
    metadata: str

    def __eq__(self, other: object) -> bool:
        """Whether all of it is the same, to the bit."""
        return isinstance(other, StoredRows) and self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]

    def _content(self) -> list[tuple[str, str, tuple[int, ...], bytes]]:
        arrays = {**self.layers, "start_frame": self.start_frame, "start_seconds": self.start_seconds}
        found = [(name, str(array.dtype), array.shape, array.tobytes()) for name, array in arrays.items()]
        return [*found, ("metadata", self.metadata, (), b"")]


def videos_in_shards(folder: Location) -> list[tuple[str, Location]] | None:
    """Every video in a folder of shards and the path under which `read_shard` finds it; None for other folders."""
    places = _places(folder)
    if places is None:
        return None
    return sorted(((name, folder / f"{name}.npz") for name in places), key=lambda found: found[0])


def read_shard(path: Location) -> StoredRows | None:
    """The rows of the video whose own file would be at `path`; None when no folder above it is one of shards."""
    found = _find(path)
    if found is None:
        return None
    with _opened(found.shard) as (shard, file):
        table = _row_group(shard, found, file, columns=None)
        with parsing(file):
            layers = {
                field.name: _array(table[field.name], json.loads(field.metadata[SHAPE]))
                for field in table.schema
                if field.name not in OTHER_COLUMNS
            }
            return StoredRows(
                layers=layers,
                start_frame=table["start_frame"].to_numpy(),
                start_seconds=table["start_seconds"].to_numpy(),
                metadata=str(table["metadata"][0]),
            )


def read_shard_metadata(path: Location) -> tuple[str, tuple[str, ...]] | None:
    """The metadata of a video in a shard, as JSON, and the names of its layers; None as for `read_shard`."""
    found = _find(path)
    if found is None:
        return None
    with _opened(found.shard) as (shard, file):
        names = tuple(name for name in shard.schema_arrow.names if name not in OTHER_COLUMNS)
        table = _row_group(shard, found, file, columns=["metadata"])
        with parsing(file):
            return str(table["metadata"][0]), names


def is_in_shards(path: Location) -> bool:
    """Whether a folder of shards above `path` holds the video whose own file would be there."""
    try:
        return _find(path) is not None
    except _NotInShards:
        return False


def shard_state(path: Location) -> str | None:
    """A text that changes with the content of a video in a shard; None as for `read_shard`."""
    found = _find(path)
    return None if found is None else f"{found.shard.name} {found.row_group}"  # the name states the content


class _NotInShards(StoreError):
    """The folder is one of shards, which do not hold the video."""


@dataclass(frozen=True)
class _Place:
    shard: Location
    row_group: int


def _find(path: Location) -> _Place | None:
    """The place of a video in a folder of shards above `path`. Raises StoreError when such a folder lacks it."""
    for folder in path.parents:
        places = _places(folder)
        if places is not None:
            name = path.relative_to(folder).as_posix().removesuffix(".npz")  # type: ignore[arg-type]
            if name not in places:
                raise _NotInShards(f"{path} could not be read: the shards in {folder} do not hold this video")
            return places[name]
    return None


def _places(folder: Location) -> Mapping[str, _Place] | None:
    """Where the videos of a folder of shards are, None for other folders. Raises StoreError for damage."""
    path = folder / MANIFEST
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise manifest_file(path).unreadable(error) from error
    return _read_places(folder, _state(found))


def _state(found: Any) -> str:
    """A text that changes with a file, from its `stat`: the ETag of an object, else time and size."""
    return getattr(found, "etag", None) or f"{found.st_mtime_ns} {found.st_size}"


@lru_cache(maxsize=8)
def _read_places(folder: Location, state: str) -> Mapping[str, _Place] | None:
    """state: of the manifest, so that a changed folder is read again."""
    path = folder / MANIFEST
    listed = read_json(manifest_file(path)).get(LIST)
    if listed is None:
        return None
    places: dict[str, _Place] = {}
    for each in listed if isinstance(listed, list) else [None]:
        name = each.get("file") if isinstance(each, dict) else None
        if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
            raise _foreign(path).wrong(f"its list {LIST!r} names no Parquet file of this folder: {str(each)[:60]!r}")
        for row_group, video in enumerate(_videos(folder / name)):
            places[video] = _Place(folder / name, row_group)
    return places


def _videos(shard: Location) -> list[str]:
    """The videos of a shard, in the order of its row groups."""
    file = _foreign(shard)
    with _opened(shard) as (parquet, _):
        with parsing(file):
            about = parse_json((parquet.metadata.metadata or {}).get(ABOUT_FILE, b"{}").decode(), file)
        videos = about.get("videos")
        if not isinstance(videos, list) or len(videos) != parquet.num_row_groups:
            raise file.wrong("it does not list one video per row group")
        # A footer has no checksum: what stands there twice must agree.
        if about.get("layers") != [name for name in parquet.schema_arrow.names if name not in OTHER_COLUMNS]:
            raise file.wrong("its columns are not the layers that it lists")
        for name in videos:
            if not isinstance(name, str) or not _is_inside(name):
                raise file.wrong(f"it lists {str(name)[:60]!r}, which is no name of a video")
        return videos


def _is_inside(name: str) -> bool:
    try:
        path_inside("", name)
    except UsageError:
        return False
    return True


@contextmanager
def _opened(shard: Location) -> Iterator[tuple[Any, ForeignFile]]:
    file = _foreign(shard)
    with ExitStack() as stack:
        try:
            found = shard.stat()
            stream = stack.enter_context(shard.open("rb"))
        except OSError as error:
            raise file.unreadable(error) from error
        with parsing(file):
            footer = _footer(shard, _state(found))
            parquet = stack.enter_context(
                pyarrow_parquet().ParquetFile(stream, metadata=footer, page_checksum_verification=True)
            )
        yield parquet, file


@lru_cache(maxsize=8)
def _footer(shard: Location, state: str) -> Any:
    """The footer of a shard: with thousands of row groups, reading it takes longer than reading a video."""
    with shard.open("rb") as stream:
        return pyarrow_parquet().read_metadata(stream)


def _row_group(parquet: Any, place: _Place, file: ForeignFile, *, columns: list[str] | None) -> Any:
    with parsing(file):
        n_bytes = parquet.metadata.row_group(place.row_group).total_byte_size
        allowed = max(UNPACKED_BYTES, UNPACKED_FACTOR * place.shard.stat().st_size)
        if n_bytes > allowed:
            raise file.wrong(f"one video takes {n_bytes:,} bytes; at most {allowed:,} are read")
        table = parquet.read_row_group(place.row_group, columns=columns, use_threads=False)
        if not len(table):
            raise file.wrong("a row group is empty")
        return table


def _array(column: Any, shape: list[int]) -> Array:
    """One layer of one video as float32 (n_clips, *shape)."""
    flat = column.combine_chunks()
    numbers = flat.flatten().to_numpy(zero_copy_only=False)
    return np.array(numbers, np.float32).reshape(len(flat), *shape)


def manifest_file(path: Location) -> ForeignFile:
    """The manifest of a folder, which when it is damaged does not say whether that is one of features or of shards."""
    return ForeignFile(
        path,
        error=StoreError,
        expected="the manifest of a folder of features",
        advice="it is damaged: delete it, and the next run of `c3dvideo extract` makes it again from the feature "
        "files; if the folder holds Parquet shards, convert the features again into a new folder",
    )


def _foreign(path: Location) -> ForeignFile:
    return ForeignFile(
        path,
        error=StoreError,
        expected="part of a folder of Parquet shards",
        advice="make the folder again with `c3dvideo convert FEATURES --to shards --out SHARDS`",
    )


def pyarrow_parquet() -> Any:
    """The module `pyarrow.parquet`; raises MissingExtraError without it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    return pyarrow.parquet
