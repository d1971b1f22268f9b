"""The 32 segments of UCF-Crime, against literal transcriptions of the two originals and against published files."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.errors import StoreError
from c3dvideo.features.convert import ucf_crime_writer
from c3dvideo.features.convert.segments import segment_bounds, segment_features

counts = st.integers(1, 5000)


def matlab_ranges(n_clips: int) -> list[tuple[int, int]]:
    """First and last clip of each segment, from 1, both included, in the steps of Save_C3DFeatures_32Segments.m."""
    shots = []
    for i in range(33):
        position = 1 + i * (n_clips - 1) / 32
        shots.append(int(position) + (position - int(position) >= 0.5))  # Matlab's round: halves away from zero
    ranges = []
    for i in range(32):
        first, last = shots[i], shots[i + 1] - 1
        ranges.append((first, max(first, last)))  # its "elseif ee < ss" takes the clip at ss
    return ranges


def python_ranges(n_clips: int) -> list[tuple[int, int]]:
    """First clip and the clip after the last, from 0, in the steps of the Python port."""
    shots = np.round(np.linspace(0, n_clips - 1, num=33)).astype(int)
    return [(a, a + 1) if a == b else (a, b) for a, b in itertools.pairwise(shots)]


def read_as_downstream(path: Path, width: int) -> np.ndarray:
    """As the training code reads: all words of the file, a segment every `width` of them."""
    words = path.read_text().split()
    assert len(words) % width == 0
    return np.array([np.float32(words[i : i + width]) for i in range(0, len(words), width)])


@given(counts)
def test_matlab_bounds_equal_the_original(n_clips: int) -> None:
    bounds = segment_bounds(n_clips, "matlab")
    ours = [(a + 1, max(b, a + 1)) for a, b in itertools.pairwise(bounds)]
    assert ours == matlab_ranges(n_clips)


@given(counts)
def test_python_bounds_equal_the_port(n_clips: int) -> None:
    bounds = segment_bounds(n_clips, "python")
    ours = [(a, max(b, a + 1)) for a, b in itertools.pairwise(bounds)]
    assert ours == python_ranges(n_clips)


@given(counts, st.sampled_from(["matlab", "python"]))
def test_segments_cover_all_clips_in_order_but_the_last(n_clips: int, rounding) -> None:
    bounds = segment_bounds(n_clips, rounding)
    assert len(bounds) == 33 and bounds[0] == 0 and bounds[-1] == n_clips - 1 and (np.diff(bounds) >= 0).all()
    covered = {clip for a, b in itertools.pairwise(bounds) for clip in range(a, max(b, a + 1))}
    assert covered >= set(range(n_clips - 1))
    assert ((n_clips - 1) in covered) == (n_clips <= 17)  # the originals' quirk: the last clip is only a bound


def test_the_two_roundings_differ_where_a_half_meets_an_even_number() -> None:
    assert segment_bounds(17, "matlab")[:6].tolist() == [0, 1, 1, 2, 2, 3]
    assert segment_bounds(17, "python")[:6].tolist() == [0, 0, 1, 2, 2, 2]


@given(st.integers(1, 120), st.sampled_from(["matlab", "python"]), st.integers(0, 100))
def test_rows_are_normalised_means(n_clips: int, rounding, seed: int) -> None:
    clips = np.random.default_rng(seed).gamma(1, 1, (n_clips, 7)).astype(np.float32)
    rows = segment_features(clips, rounding)
    ranges = [(a - 1, b) for a, b in matlab_ranges(n_clips)] if rounding == "matlab" else python_ranges(n_clips)
    for row, (first, end) in zip(rows, ranges, strict=True):
        mean = np.mean([clips[i] for i in range(first, end)], axis=0, dtype=np.float64)
        assert np.allclose(row, mean / np.sqrt((mean**2).sum()), rtol=2e-6)


@pytest.mark.parametrize("n_clips", [1, 5, 33, 100])
def test_matlab_file(tmp_path: Path, video, n_clips: int) -> None:
    features = video("Abuse/Abuse001_x264.mp4", n_clips=n_clips, layers={"fc6": (4096,)})
    with ucf_crime_writer(tmp_path) as write:
        write("Abuse/Abuse001_x264", features)
    path = tmp_path / "Abuse" / "Abuse001_x264_C.txt"
    assert path.read_bytes().count(b"\n") == 32
    assert re.fullmatch(rb"((\d\.\d{6} ){4096}\n){32}", path.read_bytes())
    rows = read_as_downstream(path, 4096)
    assert rows.shape == (32, 4096)
    expected = segment_features(features.layers["fc6"])
    assert np.abs(rows - expected).max() <= 5.1e-7
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 2e-5


def test_python_file(tmp_path: Path, video) -> None:
    features = video(n_clips=50, layers={"fc6": (12,)})
    with ucf_crime_writer(tmp_path, rounding="python") as write:
        write("a", features)
    lines = (tmp_path / "a.txt").read_text().splitlines()
    # float() of every piece between single spaces, as the port's read_features: a trailing space would fail there
    rows = np.array([[float(word) for word in line.split(" ")] for line in lines])
    assert rows.shape == (32, 12)
    assert np.array_equal(rows.astype(np.float32), segment_features(features.layers["fc6"], "python"))


def test_matlab_refuses_a_clip_of_zeros_by_its_frame(tmp_path: Path, video) -> None:
    features = video(n_clips=40)
    features.layers["fc6"][2] = 0
    with (
        ucf_crime_writer(tmp_path, rounding="matlab") as write,
        pytest.raises(StoreError, match="frame 32 has only zeros"),
    ):
        write("a", features)
    assert not list(tmp_path.iterdir())


def test_matlab_refuses_a_segment_that_cancels_out() -> None:
    clips = np.ones((65, 3), np.float32)
    clips[1] = -1
    with pytest.raises(StoreError, match="segment 0 of 32"):
        segment_features(clips, "matlab")


def test_python_leaves_out_segments_of_zeros_and_no_others(tmp_path: Path, video) -> None:
    features = video(n_clips=33, layers={"fc6": (12,)})  # with 33 clips, segment i is clip i
    whole = segment_features(features.layers["fc6"].copy(), "python")
    features.layers["fc6"][[0, 7, 8, 31]] = 0
    with ucf_crime_writer(tmp_path, rounding="python") as write:
        write("a", features)
    rows = read_as_downstream(tmp_path / "a.txt", 12)
    kept = [i for i in range(32) if i not in (0, 7, 8, 31)]
    assert rows.shape == (28, 12)
    assert np.array_equal(rows, whole[kept])


def test_python_averages_clips_of_zeros_with_the_others_of_their_segment() -> None:
    clips = np.random.default_rng(0).gamma(1, 1, (65, 5)).astype(np.float32)  # two clips per segment
    clips[0] = 0
    rows = segment_features(clips, "python")
    assert rows.shape == (32, 5)
    assert np.allclose(rows[0], clips[1] / np.linalg.norm(clips[1]), rtol=1e-6)


@pytest.mark.parametrize("rounding", ["matlab", "python"])
def test_a_video_of_zeros_only_is_refused(tmp_path: Path, video, rounding) -> None:
    features = video(n_clips=40)
    features.layers["fc6"][:] = 0
    with ucf_crime_writer(tmp_path, rounding=rounding) as write, pytest.raises(StoreError, match=r"a\.mp4: .*zeros"):
        write("a", features)
    assert not list(tmp_path.iterdir())


@pytest.mark.oracle
def test_shape_and_number_format_equal_published_files(tmp_path: Path, reference: Path, video) -> None:
    published = sorted((reference / "data" / "ucfcrime_fc6").glob("*.txt"))
    assert len(published) == 10
    for theirs in published[:3]:
        rows = read_as_downstream(theirs, 4096)
        features = video(n_clips=33, layers={"fc6": (4096,)})  # with 33 clips, segment i is clip i
        features.layers["fc6"][:32] = rows
        with ucf_crime_writer(tmp_path) as write:
            write(theirs.stem, features)
        ours = tmp_path / f"{theirs.stem}_C.txt"
        assert ours.stat().st_size == theirs.stat().st_size == 1179680
        line_lengths = [[len(line) for line in path.read_bytes().splitlines()] for path in (ours, theirs)]
        assert line_lengths[0] == line_lengths[1]
        assert np.abs(read_as_downstream(ours, 4096) - rows).max() <= 1.5e-6
        same = np.frombuffer(ours.read_bytes(), np.uint8) == np.frombuffer(theirs.read_bytes(), np.uint8)
        assert same.mean() > 0.999  # the published rows were rounded once already, so some last digits move
