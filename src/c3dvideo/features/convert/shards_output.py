"""Write Parquet shards: one row per clip, one row group per video, and the names of the videos in the file itself.

    with ShardsWriter(Path("shards")) as shards:
        shards.add("sub/a.mp4", layers, start_frame, start_seconds, metadata)
    shards.files                                        # what manifest.json lists

`c3dvideo.features.parquet_shards` reads them and states what they hold.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from c3dvideo.errors import StoreError
from c3dvideo.features.parquet_shards import ABOUT_FILE, OTHER_COLUMNS, SHAPE, SUFFIX, Array, pyarrow_parquet
from c3dvideo.files import atomic_path, file_sha256

MOST_BYTES = 256 << 20
MOST_VIDEOS = 2000
"""A shard is full with so many bytes of numbers, or with so many videos, each of which is a row group."""

_FORMAT = 1


class ShardsWriter:
    """Writes shards below a folder, each complete or not at all. files: one entry per shard for manifest.json.

    Raises StoreError for a video whose layers have other shapes than those before it, or no clip.
    """

    def __init__(self, out: Path) -> None:
        self.files: list[dict[str, Any]] = []
        self._out = out
        self._shard: _OpenShard | None = None

    def __enter__(self) -> Self:
        pyarrow_parquet()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shard is not None and kind is None:
            self._finish(self._shard)
        elif self._shard is not None:
            self._shard.close(kind, error, trace)

    def add(
        self, name: str, layers: Mapping[str, Array], start_frame: Array, start_seconds: Array, metadata: str
    ) -> None:
        """Append the rows of one video."""
        if not len(start_frame):
            raise StoreError(f"{name} has no clip, and a shard has one row per clip; keep its own file")
        table = _table(name, layers, start_frame, start_seconds, metadata)
        if self._shard is not None and self._shard.is_full:
            self._finish(self._shard)
            self._shard = None
        if self._shard is None:
            self._shard = _OpenShard(self._out / f"clips-{len(self.files):05d}{SUFFIX}", table.schema)
        self._shard.add(name, table)

    def _finish(self, shard: "_OpenShard") -> None:
        shard.close()
        checksum = file_sha256(shard.path)
        # The content is part of the name, so that shards of an older conversion are never overwritten while in use.
        path = shard.path.rename(shard.path.with_name(f"{shard.path.stem}-{checksum[:12]}{SUFFIX}"))
        self.files.append(
            {
                "file": path.name,
                "n_videos": len(shard.videos),
                "n_clips": shard.n_clips,
                "bytes": path.stat().st_size,
                "sha256": checksum,
            }
        )


class _OpenShard:
    """One shard that is being written."""

    def __init__(self, path: Path, schema: Any) -> None:
        self.path = path
        self.videos: list[str] = []
        self.n_clips = 0
        self._n_bytes = 0
        self._schema = schema
        self._stack = ExitStack()
        file = self._stack.enter_context(self._stack.enter_context(atomic_path(path)).open("wb"))
        self._writer = self._stack.enter_context(
            pyarrow_parquet().ParquetWriter(
                file, schema, compression="zstd", write_page_checksum=True, use_dictionary=["video", "metadata"]
            )
        )

    @property
    def is_full(self) -> bool:
        return self._n_bytes >= MOST_BYTES or len(self.videos) >= MOST_VIDEOS

    def add(self, name: str, table: Any) -> None:
        if not table.schema.equals(self._schema, check_metadata=True):
            raise StoreError(f"{name} does not fit: {_described(table.schema)}; before: {_described(self._schema)}")
        self._writer.write_table(table, row_group_size=len(table))
        self.videos.append(name)
        self.n_clips += len(table)
        self._n_bytes += table.nbytes

    def close(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Complete the file, or delete it after an error."""
        if kind is None:
            layers = [name for name in self._schema.names if name not in OTHER_COLUMNS]
            about = json.dumps({"format": _FORMAT, "layers": layers, "videos": self.videos})
            self._writer.add_key_value_metadata({ABOUT_FILE.decode(): about})
        self._stack.__exit__(kind, error, trace)


def _table(name: str, layers: Mapping[str, Array], start_frame: Array, start_seconds: Array, metadata: str) -> Any:
    import pyarrow

    n_clips = len(start_frame)
    # The name in `metadata` is exact; in this column, bytes that are not UTF-8 are question marks.
    shown = name.encode("utf-8", "replace").decode()
    fields = [
        pyarrow.field("video", pyarrow.string()),
        pyarrow.field("start_frame", pyarrow.int64()),
        pyarrow.field("start_seconds", pyarrow.float64()),
        pyarrow.field("metadata", pyarrow.string()),
    ]
    columns = [
        pyarrow.array([shown] * n_clips, pyarrow.string()),
        pyarrow.array(start_frame),
        pyarrow.array(start_seconds),
        pyarrow.array([metadata] * n_clips, pyarrow.string()),
    ]
    for layer, array in layers.items():
        if layer in OTHER_COLUMNS:
            raise StoreError(f"{name} has a layer {layer!r}, which is the name of another column")
        flat = np.ascontiguousarray(array).reshape(n_clips, -1)
        columns.append(pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat.ravel()), flat.shape[1]))
        shape = json.dumps(array.shape[1:]).encode()
        fields.append(pyarrow.field(layer, columns[-1].type, metadata={SHAPE: shape}))
    return pyarrow.table(columns, schema=pyarrow.schema(fields))


def _described(schema: Any) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
