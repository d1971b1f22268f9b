"""The rows of an index as Arrow tables: one per clip, and one per video.

clip_table([VideoRows(video="a.mp4", ...)], [part], space)
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from c3dvideo.features.store import descriptor
from c3dvideo.probing.descriptors import Array
from c3dvideo.search.vector_space import VectorSpace


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoRows:
    """What is written of one video.

    state: changes when the features or the labels do. label: of the whole video. clip_labels: one per clip, or None.
    vectors: float32 (n_clips, D).
    """

    video: str
    state: str
    content_sha256: str | None
    start_seconds: Array
    end_seconds: Array
    label: str | None
    clip_labels: Sequence[str | None]
    vectors: Array


def name_key(name: str) -> str:
    """A video's key: hexadecimal, so that no file name ever stands in a query."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def clip_schema(space: VectorSpace) -> Any:
    """The columns of a table of clips."""
    import pyarrow as pa

    return pa.schema(
        [
            ("part", pa.string()),
            ("position", pa.int32()),
            ("video", pa.string()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            ("label", pa.string()),
            ("vector", pa.list_(pa.float32(), space.dimensions)),
            ("direction", pa.list_(pa.float32(), space.n_direction)),
        ]
    )


def video_schema(space: VectorSpace) -> Any:
    """The columns of a table of videos."""
    import pyarrow as pa

    return pa.schema(
        [
            ("key", pa.string()),
            ("part", pa.string()),
            ("name", pa.binary()),
            ("video", pa.string()),
            ("state", pa.string()),
            ("content_sha256", pa.string()),
            ("n_clips", pa.int32()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            ("label", pa.string()),
            ("vector", pa.list_(pa.float32(), space.dimensions)),
            ("direction", pa.list_(pa.float32(), space.n_direction)),
        ]
    )


def clip_table(videos: Sequence[VideoRows], parts: Sequence[str], space: VectorSpace) -> Any:
    """The clips of several videos as rows of a table."""
    import pyarrow as pa

    lengths = [len(rows.vectors) for rows in videos]
    vectors = np.concatenate([rows.vectors for rows in videos])
    columns = {
        "part": np.repeat(np.array(parts, object), lengths),
        "position": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        "video": np.repeat(np.array([_readable(rows.video) for rows in videos], object), lengths),
        "start_seconds": np.concatenate([rows.start_seconds for rows in videos]),
        "end_seconds": np.concatenate([rows.end_seconds for rows in videos]),
        "label": [label for rows in videos for label in rows.clip_labels],
        "vector": _lists(vectors),
        "direction": _lists(space.directions(vectors)),
    }
    return pa.table(columns, schema=clip_schema(space))


def video_table(videos: Sequence[VideoRows], parts: Sequence[str], space: VectorSpace) -> Any:
    """The rows of several videos, which make their clips visible."""
    import pyarrow as pa

    vectors = np.stack([descriptor(rows.vectors) for rows in videos])
    columns = {
        "key": [name_key(rows.video) for rows in videos],
        "part": list(parts),
        "name": [os.fsencode(rows.video) for rows in videos],
        "video": [_readable(rows.video) for rows in videos],
        "state": [rows.state for rows in videos],
        "content_sha256": [rows.content_sha256 for rows in videos],
        "n_clips": np.array([len(rows.vectors) for rows in videos], np.int32),
        "start_seconds": np.array([rows.start_seconds[0] for rows in videos]),
        "end_seconds": np.array([rows.end_seconds[-1] for rows in videos]),
        "label": [rows.label for rows in videos],
        "vector": _lists(vectors),
        "direction": _lists(space.directions(vectors)),
    }
    return pa.table(columns, schema=video_schema(space))


def _lists(matrix: Array) -> Any:
    """Rows (n, D) as an Arrow array of lists of one size."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(matrix, np.float32).ravel()), matrix.shape[1]
    )


def _readable(name: str) -> str:
    r"""A name for people who read the tables: a byte that is not UTF-8 becomes \xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
