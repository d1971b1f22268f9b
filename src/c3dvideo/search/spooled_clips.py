"""All clips of an index in the order of videos and time, with their directions in a file that is mapped into memory.

    with tempfile.TemporaryDirectory() as folder:
        clips = index.spool(Path(folder))
        clips.names[3], clips.rows(3)             # the fourth video, and the rows of its clips
        clips.directions[clips.rows(3)]           # float32 (n_clips, K)

`Index.clips` holds all vectors in memory, twice while it sorts them. Here one batch of rows is held at a time.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import StoreError
from c3dvideo.files import writing
from c3dvideo.probing.descriptors import Array
from c3dvideo.search.index_tables import matrix_of

_BATCH_BYTES = 32 << 20
_HASH_BYTES = 16


@dataclass(frozen=True, eq=False)
class SpooledClips:
    """The clips of an index: n clips of V videos.

    names: of the videos, sorted. first_rows: int64 (V + 1,), the first row of each video, and n. start_seconds,
    end_seconds: float64 (n,). directions: float32 (n, K), mapped from a file. vector_hashes: uint8 (n, 16), of the
    stored vectors, equal for equal vectors only.
    """

    names: list[str]
    first_rows: Array
    start_seconds: Array
    end_seconds: Array
    directions: Array
    vector_hashes: Array

    def __len__(self) -> int:
        return len(self.start_seconds)

    def rows(self, video: int) -> slice:
        """The rows of one video, by its number."""
        return slice(int(self.first_rows[video]), int(self.first_rows[video + 1]))

    @cached_property
    def video_of_row(self) -> Array:
        """The number of the video of every clip, int64 (n,)."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.first_rows))


def spool_clips(clip_rows: Any, videos: Mapping[str, Mapping[str, Any]], folder: Path) -> SpooledClips:
    """Copy a table of clips to `folder`; videos: the stored row of each, by name, sorted.

    Rows that no video refers to are passed over. Raises StoreError when clips are missing, as when somebody changes the
    index meanwhile, and when the disk is full.
    """
    lengths = [row["n_clips"] for row in videos.values()]
    first_rows = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    first_of_part = {row["part"]: int(first) for row, first in zip(videos.values(), first_rows[:-1], strict=True)}
    n, width = int(first_rows[-1]), clip_rows.schema.field("direction").type.list_size
    starts, ends, hashes = np.full(n, np.nan), np.full(n, np.nan), np.zeros((n, _HASH_BYTES), np.uint8)
    n_found, path = 0, folder / "directions"
    row_bytes = 4 * (width + clip_rows.schema.field("vector").type.list_size)
    columns = ["part", "position", "start_seconds", "end_seconds", "direction", "vector"]
    batches = clip_rows.search().select(columns).limit(None).to_batches(batch_size=max(1, _BATCH_BYTES // row_bytes))
    with writing(path), path.open("wb", buffering=0) as file:
        for batch in batches:
            firsts = np.array([first_of_part.get(part, -1) for part in batch["part"].to_pylist()], np.int64)
            kept = np.flatnonzero(firsts >= 0)
            rows = (firsts + batch["position"].to_numpy())[kept]
            starts[rows], ends[rows] = (batch[name].to_numpy()[kept] for name in ("start_seconds", "end_seconds"))
            for row, vector in zip(rows, matrix_of(batch["vector"])[kept], strict=True):
                hashes[row] = np.frombuffer(hashlib.blake2b(vector, digest_size=_HASH_BYTES).digest(), np.uint8)
            _write_rows(file, rows, matrix_of(batch["direction"])[kept])
            n_found += len(rows)
    if n_found != n:
        raise StoreError(f"the index holds {n_found:,} clips where its videos name {n:,}; run `c3dvideo index` again")
    # An empty file cannot be mapped.
    shape = (n, width)
    directions = np.memmap(path, np.float32, "r", shape=shape) if n else np.zeros(shape, np.float32)
    return SpooledClips(list(videos), first_rows, starts, ends, directions, hashes)


def _write_rows(file: Any, rows: Array, matrix: Array) -> None:
    """Write a matrix to the places of its rows; neighbouring rows, which most are, in one piece."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for piece in np.split(np.arange(len(rows)), breaks):
        if len(piece):
            file.seek(int(rows[piece[0]]) * matrix.shape[1] * 4)
            left = memoryview(matrix[piece[0] : piece[-1] + 1].tobytes())
            while left:  # an unbuffered write may be cut short, and the next one then states why
                left = left[file.write(left) :]
