"""Multi-scale spans: every file against the mean recomputed from its name, read as TALL and 2D-TAN read them."""

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features.convert import tall_hdf5_writer, tall_writer
from c3dvideo.features.convert.spans import span_starts
from c3dvideo.features.store import VideoFeatures


def mean_of_frames(features: VideoFeatures, start: int, end: int) -> np.ndarray | None:
    """The mean of the 16-frame clips all of whose frames are among [start, end), from sets of frame numbers."""
    span = set(range(start, end))
    inside = [i for i, first in enumerate(features.start_frame) if set(range(first, first + 16)) <= span]
    return features.layers["fc6"][inside].astype(np.float64).mean(axis=0) if inside else None


def name_parts(path: Path) -> tuple[str, int, int]:
    """As TALL's loader takes a name apart."""
    assert path.name.split(".")[2] == "npy"
    video, start, rest = path.name.split("_")
    return video, int(start), int(rest.split(".")[0])


@pytest.mark.parametrize("stride_frames", [4, 8, 16])
def test_every_file_is_the_mean_of_the_clips_inside_its_span(tmp_path: Path, video, stride_frames: int) -> None:
    features = video("s23-d34.avi", n_clips=640 // stride_frames, stride_frames=stride_frames, n_frames=660)
    with tall_writer(tmp_path) as write:
        write("s23-d34.avi", features)
    found = {}
    for path in tmp_path.iterdir():
        name, start, end = name_parts(path)
        assert name == "s23-d34.avi"
        vector = np.load(path)
        assert vector.dtype == np.float32 and vector.shape == (8,)
        assert np.allclose(vector, mean_of_frames(features, start - 1, end - 1), rtol=1e-6)
        found.setdefault(end - start, []).append(start)
    assert {length: sorted(starts) for length, starts in found.items()} == {
        length: list(range(1, 660 - length + 2, length // 5)) for length in (64, 128, 256, 512)
    }


def test_published_names_are_on_the_grid() -> None:
    # s23-d34.avi_1117_1181.npy and s23-d34.avi_1123_1379.npy, of the published TACoS features
    assert 1117 - 1 in span_starts(5000, 64) and 1123 - 1 in span_starts(5000, 256)


@given(st.integers(1, 3000), st.sampled_from([64, 128, 256, 512]))
def test_spans_stay_inside_and_overlap_by_four_fifths(n_frames: int, length: int) -> None:
    starts = list(span_starts(n_frames, length))
    assert all(start >= 0 and start + length <= n_frames for start in starts)
    assert bool(starts) == (n_frames >= length)
    assert all(length - 0.8 * length >= b - a > 0.19 * length - 1 for a, b in itertools.pairwise(starts))
    assert not starts or starts[-1] + length + length // 5 > n_frames


def test_context_is_left_centre_right(tmp_path: Path, video) -> None:
    features = video("v.avi", n_clips=100, stride_frames=8, n_frames=808)
    with tall_writer(tmp_path, span_frames=[128], context=True) as write:
        write("v.avi", features)
    for path in tmp_path.iterdir():
        _, start, end = name_parts(path)
        centre = mean_of_frames(features, start - 1, end - 1)
        left, right = mean_of_frames(features, start - 129, start - 1), mean_of_frames(features, end - 1, end + 127)
        expected = np.concatenate([centre if left is None else left, centre, centre if right is None else right])
        vector = np.load(path)
        assert vector.shape == (24,) and np.allclose(vector, expected, rtol=1e-6)
    assert mean_of_frames(features, -128, 0) is None  # so the first file's left is its centre


def test_merged_file_has_a_row_every_twelve_frames(tmp_path: Path, video) -> None:
    features = video("s13-d21.avi", n_clips=60, stride_frames=8, n_frames=490)
    with tall_hdf5_writer(tmp_path / "tall_c3d_64_features.hdf5") as write:
        write("s13-d21.avi", features)
    with h5py.File(tmp_path / "tall_c3d_64_features.hdf5") as file:
        rows = file["s13-d21.avi"][:]
        assert file["s13-d21.avi"].compression == "gzip"
    assert rows.shape == (len(range(0, 490 - 63, 12)), 8) and rows.dtype == np.float32
    for row, start in zip(rows, range(0, 490 - 63, 12), strict=True):
        assert np.allclose(row, mean_of_frames(features, start, start + 64), rtol=1e-6)


def test_longer_spans_than_the_video_are_left_out(tmp_path: Path, video) -> None:
    with tall_writer(tmp_path) as write:
        write("a.avi", video("a.avi", n_clips=9))  # 144 frames
    assert {end - start for _, start, end in map(name_parts, tmp_path.iterdir())} == {64, 128}


def test_sampled_clips_reach_further(tmp_path: Path, video) -> None:
    features = video("a.avi", n_clips=20, sampling_rate=4)  # clips of 61 frames
    with tall_writer(tmp_path, span_frames=[80]) as write:
        write("a.avi", features)
    assert np.array_equal(np.load(tmp_path / "a.avi_1_81.npy"), features.layers["fc6"][:2].mean(axis=0))


def test_too_short_and_too_coarse_are_refused(tmp_path: Path, video) -> None:
    with tall_writer(tmp_path) as write:
        with pytest.raises(StoreError, match=r"has 48 frames, fewer than the shortest span \(64\)"):
            write("a.avi", video(n_clips=3))
        with pytest.raises(StoreError, match=r"no clip inside frames \[12, 76\).*smaller `stride_frames="):
            write("a.avi", video(n_clips=4, stride_frames=80))
    assert not list(tmp_path.iterdir())


def test_lengths_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected at least one length"), tall_writer(tmp_path, span_frames=[0]):
        pass
    with pytest.raises(UsageError, match="one length"), tall_hdf5_writer(tmp_path / "a.h5", span_frames=[64, 128]):
        pass
