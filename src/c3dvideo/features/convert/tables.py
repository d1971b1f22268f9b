"""Tables: the release's csv files, one per clip, and one Parquet file with one row per clip."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.errors import MissingExtraError, StoreError
from c3dvideo.features.convert.common import Write, clip_matrix
from c3dvideo.features.convert.outputs import Outputs, new_file, utf8_name
from c3dvideo.features.store import VideoFeatures
from c3dvideo.reading import ForeignFile, parsing


@contextmanager
def csv_writer(out: Path, *, layer: str | None = None, overwrite: bool = False) -> Iterator[Write]:
    """A function that writes `<name>_<start>.csv` for every clip: one line of numbers, "%.16f" between commas.

    start is the clip's first frame in six digits, from 0. The release's extract_C3D_feature.py writes such files.
    """
    outputs = Outputs(out, overwrite=overwrite)

    def write(name: str, features: VideoFeatures) -> None:
        matrix = clip_matrix(features, layer)
        with outputs.video():
            for start, clip in zip(features.start_frame, matrix, strict=True):
                with outputs.file(name, f"_{start:06d}.csv") as file:
                    np.savetxt(file, clip[None], fmt="%.16f", delimiter=",")

    yield write


@contextmanager
def parquet_writer(out: Path, *, layers: Sequence[str] = (), overwrite: bool = False) -> Iterator[Write]:
    """A function that appends one video's clips to the Parquet file `out`, as one row group.

    Columns: video (string), start_frame (int64), start_seconds (float64), and each of `layers` (every stored layer when
    empty) as a list of fixed size of float32. An older file at `out` is replaced when the new one has all of its rows,
    or with `overwrite`. Raises MissingExtraError without pyarrow.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    writer: Any = None
    with ExitStack() as stack:
        temporary = stack.enter_context(new_file(out, overwrite=overwrite, may_replace=_has_all_rows))
        file = stack.enter_context(temporary.open("wb"))

        def write(name: str, features: VideoFeatures) -> None:
            nonlocal writer
            table = pyarrow.table(_columns(utf8_name(name, "Parquet"), features, layers or tuple(features.layers)))
            if writer is None:
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(file, table.schema))
            elif table.schema != writer.schema:
                raise StoreError(
                    f"{features.name} does not fit: {_types(table.schema)}; before: {_types(writer.schema)}"
                )
            writer.write_table(table)

        yield write
        if writer is None:
            raise StoreError(f"{out} was not written: without a video its columns are not known")


def _columns(name: str, features: VideoFeatures, layers: Sequence[str]) -> dict[str, Any]:
    """The columns of one video's rows."""
    import pyarrow

    columns = {
        "video": pyarrow.array([name] * len(features.start_frame), pyarrow.string()),
        "start_frame": features.start_frame,
        "start_seconds": features.start_seconds,
    }
    for layer in layers:
        if layer in columns:
            raise StoreError(f"{features.name} has a layer {layer!r}, which is the name of another column")
        matrix = clip_matrix(features, layer, allow_pooled=True)
        columns[layer] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(matrix.ravel()), matrix.shape[1])
    return columns


def _has_all_rows(older: Path, newer: Path) -> bool:
    """Whether every row group (one video) of the older file is in the newer one, with the same values."""
    import pyarrow.parquet

    try:
        with (
            parsing(ForeignFile(older, error=StoreError, expected="a Parquet file")),
            pyarrow.parquet.ParquetFile(older) as old,
            pyarrow.parquet.ParquetFile(newer) as new,
        ):
            groups = {_video(new, number): number for number in range(new.num_row_groups)}
            return all(
                _video(old, number) in groups
                and old.read_row_group(number).equals(new.read_row_group(groups[_video(old, number)]))
                for number in range(old.num_row_groups)
            )
    except StoreError:
        return False


def _video(file: Any, number: int) -> str:
    return str(file.read_row_group(number, columns=["video"])["video"][0])


def _types(schema: Any) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
