"""Multi-scale spans for moment retrieval on TACoS: TALL/CTRL's one file per span, and 2D-TAN's one HDF5 file.

    with tall_writer(Path("Interval64_128_256_512_overlap0.8_c3d_fc6")) as write:
        write("s23-d34.avi", read_features("features/s23-d34.avi.npz"))

A span of L frames starts at every multiple of L // 5 frames (overlap 0.8) at which it lies wholly inside the video. Its
vector is the mean of the clips that lie wholly inside it, taken in float64 and stored as float32. Clips that cross a
border of the span are left out: extract with a small stride (4 or 8 frames) to have many inside.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features.convert.common import Floats, Write, clip_frames, clip_matrix, recorded_integer
from c3dvideo.features.convert.hdf5_output import hdf5_file
from c3dvideo.features.convert.outputs import Outputs, write_npy
from c3dvideo.features.store import VideoFeatures

SPAN_FRAMES = (64, 128, 256, 512)
CONTEXT_FRAMES = 128


def span_starts(n_frames: int, span_frames: int) -> range:
    """First frames, from 0, of the spans of `span_frames` frames in a video of `n_frames`."""
    return range(0, n_frames - span_frames + 1, span_frames // 5)


class _Clips:
    """The clips of one video, to be averaged over spans of frames."""

    def __init__(self, features: VideoFeatures, layer: str | None) -> None:
        self.name = features.name
        self.values = clip_matrix(features, layer)
        self.first, self.end = clip_frames(features)
        self.n_frames = recorded_integer(features, "n_frames")

    def inside(self, start: int, end: int) -> NDArray[np.bool_]:
        """Which clips lie wholly inside frames [start, end)."""
        return np.asarray((self.first >= start) & (self.end <= end))

    def mean(self, start: int, end: int) -> Floats:
        """The mean of the clips wholly inside frames [start, end), float32 (D,)."""
        mean: Floats = self.values[self.inside(start, end)].mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    def spans(self, lengths: Sequence[int]) -> list[tuple[int, int]]:
        """Every span of these lengths as frames [start, end); raises StoreError for none, or one without a clip."""
        spans = []
        for length in lengths:
            for start in span_starts(self.n_frames, length):
                # Checked one by one: a file that claims a billion frames has few spans with a clip inside.
                if not self.inside(start, start + length).any():
                    raise StoreError(
                        f"{self.name} has no clip inside frames [{start}, {start + length}); its clips have "
                        f"{self.end[0] - self.first[0]} frames each: extract again with a smaller `stride_frames=`"
                    )
                spans.append((start, start + length))
        if not spans:
            raise StoreError(f"{self.name} has {self.n_frames} frames, fewer than the shortest span ({min(lengths)})")
        return spans


def _check(span_frames: Sequence[int]) -> None:
    if not span_frames or min(span_frames) < 5:
        raise UsageError(f"spans of {list(span_frames)} frames: expected at least one length, of 5 frames or more")


@contextmanager
def tall_writer(
    out: Path,
    *,
    layer: str | None = None,
    span_frames: Sequence[int] = SPAN_FRAMES,
    context: bool = False,
    overwrite: bool = False,
) -> Iterator[Write]:
    """A function that writes `<name>_<start>_<end>.npy` for every span of one video, float32 (D,).

    start counts from 1 and end is start + L, as in `s23-d34.avi_1117_1181.npy`: frames [start - 1, end - 1) from 0.
    With `context` a file holds (3 D,): the 128 frames before the span, the span, the 128 frames after; where no clip
    lies inside those, the span's own vector is used, as in TALL's loader. Lengths longer than the video are left out.
    """
    _check(span_frames)
    outputs = Outputs(out, overwrite=overwrite)

    def write(name: str, features: VideoFeatures) -> None:
        clips = _Clips(features, layer)
        spans = clips.spans(span_frames)
        with outputs.video():
            for start, end in spans:
                ranges = [(start, end)]
                if context:
                    around = (start - CONTEXT_FRAMES, start), (end, end + CONTEXT_FRAMES)
                    before, after = (side if clips.inside(*side).any() else (start, end) for side in around)
                    ranges = [before, (start, end), after]
                with outputs.file(name, f"_{start + 1}_{end + 1}.npy") as file:
                    write_npy(file, np.concatenate([clips.mean(*frames) for frames in ranges]))

    yield write


@contextmanager
def tall_hdf5_writer(
    out: Path, *, layer: str | None = None, span_frames: Sequence[int] = (64,), overwrite: bool = False
) -> Iterator[Write]:
    """A function that adds one video to the HDF5 file `out` as the data set `<name>`, float32 (spans, D), gzip.

    Rows are the spans of one length in order of time: with 64 frames, one every 12. Raises UsageError for more lengths.
    """
    _check(span_frames)
    if len(span_frames) != 1:
        raise UsageError(f"one HDF5 file of spans holds one length, got {list(span_frames)}: give one `span_frames=`")
    with hdf5_file(out, overwrite=overwrite) as put:

        def write(name: str, features: VideoFeatures) -> None:
            clips = _Clips(features, layer)
            put(name, np.stack([clips.mean(*span) for span in clips.spans(span_frames)]))

        yield write
