"""The 32-segment text files of UCF-Crime anomaly detection (Sultani et al., CVPR 2018) and of its Python ports.

with ucf_crime_writer(Path("Train")) as write:
    write("Abuse001_x264", read_features("features/Abuse001_x264.mp4.npz"))
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from c3dvideo.choices import Rounding
from c3dvideo.errors import StoreError
from c3dvideo.features.convert.common import Floats, Write, clip_matrix
from c3dvideo.features.convert.outputs import Outputs
from c3dvideo.features.store import VideoFeatures

N_SEGMENTS = 32


def segment_bounds(n_clips: int, rounding: Rounding = "matlab") -> NDArray[np.int64]:
    """The 33 clip numbers, from 0, between which the segments lie: int64, rising from 0 to n_clips - 1.

    They are round(linspace(0, n_clips - 1, 33)). "matlab" rounds halves up, as Matlab rounds round(linspace(1, n, 33));
    "python" rounds halves to even, as numpy does. The last clip is the last bound, so it belongs to no segment unless
    that segment is empty: true of both originals, and kept.
    """
    position = np.arange(N_SEGMENTS + 1) * (n_clips - 1) / N_SEGMENTS
    return (np.floor(position + 0.5) if rounding == "matlab" else np.round(position)).astype(np.int64)


def segment_features(clips: Floats, rounding: Rounding = "matlab") -> NDArray[Any]:
    """The clips (n, D) as at most 32 rows of D: the mean of each segment's clips, then one L2 norm per row.

    A segment between equal bounds is the clip at that bound, so that short videos repeat clips. Values are float64 for
    "matlab" and float32 for "python", like the originals'. A segment of zeros has no L2 norm: "matlab" raises
    StoreError, "python" leaves its row out, so that fewer than 32 remain, and raises StoreError when none does.
    """
    precise = clips.astype(np.float64 if rounding == "matlab" else np.float32)
    bounds = segment_bounds(len(clips), rounding)
    segments = np.stack([precise[start : max(end, start + 1)].mean(axis=0) for start, end in pairwise(bounds)])
    norms = np.linalg.norm(segments, axis=1, keepdims=True)
    has_norm = norms[:, 0] > 0
    if not has_norm.any() or (rounding == "matlab" and not has_norm.all()):
        raise StoreError(f"segment {int(has_norm.argmin())} of 32 has only zeros, so it has no L2 norm")
    return np.asarray(segments[has_norm] / norms[has_norm])


@contextmanager
def ucf_crime_writer(
    out: Path, *, layer: str | None = None, rounding: Rounding = "matlab", overwrite: bool = False
) -> Iterator[Write]:
    """A function that writes the segments of one video, one line per segment.

    "matlab": `<name>_C.txt`, 32 lines, every number as "%f " (so each line ends in a space), as the authors'
    Save_C3DFeatures_32Segments.m. Raises StoreError for a clip or a segment of zeros only, on which it stops too.
    "python": `<name>.txt`, the shortest text that reads back as the same number, a space between two. Lines of zeros
    are left out, as `to_segments` of the port means to do.
    """
    outputs = Outputs(out, overwrite=overwrite)

    def write(name: str, features: VideoFeatures) -> None:
        clips = clip_matrix(features, layer)
        if rounding == "matlab" and not clips.any(axis=1).all():
            start = int(features.start_frame[clips.any(axis=1).argmin()])
            raise StoreError(f"{features.name}: the clip at frame {start} has only zeros, so it has no L2 norm")
        try:
            segments = segment_features(clips, rounding)
        except StoreError as error:
            raise StoreError(f"{features.name}: {error}") from error
        if rounding == "matlab":
            suffix, lines = "_C.txt", ["%f " * len(row) % tuple(row) for row in segments]
        else:
            suffix, lines = ".txt", [" ".join(map(str, row.tolist())) for row in segments]
        with outputs.video(), outputs.file(name, suffix) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())

    yield write
