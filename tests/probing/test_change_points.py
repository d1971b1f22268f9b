"""Change points: planted changes are found at their frame and time, steady videos have none, bad input is named."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.change_points import join, matches

from c3dvideo.cli import segment_command
from c3dvideo.errors import MissingExtraError, UsageError
from c3dvideo.features.store import VideoFeatures, write_features
from c3dvideo.network.c3d import C3D
from c3dvideo.probing import change_points as module
from c3dvideo.probing.change_points import change_points, segment
from c3dvideo.probing.colour_histograms import histogram
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video


def planted(lengths: list[int], *, noise: float = 0.3, seed: int = 0, width: int = 64) -> np.ndarray:
    """Vectors around one random direction per length."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(len(lengths), width))
    rows = np.repeat(centres, lengths, axis=0)
    return (rows + noise * generator.normal(size=rows.shape)).astype(np.float32)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A video of three still scenes with a little noise: 40, 48 and 32 frames."""
    generator = np.random.default_rng(3)
    pictures = []
    for length in (40, 48, 32):
        coarse = generator.integers(0, 255, (4, 5, 3)).astype(np.uint8)
        pictures += [np.kron(coarse, np.ones((12, 12, 1), np.uint8))] * length
    path = tmp_path / "scenes.mp4"
    write_video(path, pictures, fps=25)
    return path


def stored(path: Path, **changes: object) -> Path:
    """A feature file of 30 clips with one change, at clip 12."""
    features = VideoFeatures(
        name="a.mp4",
        layers={"fc6": planted([12, 18])},
        start_frame=8 * np.arange(30),
        start_seconds=0.32 * np.arange(30),
        metadata={"settings": {"plan": {"clip_length": 16, "sampling_rate": 1}}, "n_frames": 250, "fps": "25"},
    )
    metadata = {**features.metadata, **changes}
    write_features(path, replace(features, metadata=metadata))
    return path


def test_planted_changes_are_found_between_the_centres_of_their_clips() -> None:
    found = change_points(planted([20, 15, 25]), 4 * np.arange(60))
    assert [frame for frame, _ in found] == [4 * 20 - 2 + 8, 4 * 35 - 2 + 8]
    assert all(strength > 1 for _, strength in found)


def test_a_higher_threshold_gives_no_more_boundaries() -> None:
    rows = planted([9, 14, 5, 20, 8], noise=1.5)
    counts = [len(change_points(rows, 4 * np.arange(len(rows)), threshold=t)) for t in (0.05, 0.2, 0.5, 1, 5, 50)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 0


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_scale_of_the_vectors_does_not_matter(scale: float) -> None:
    rows = planted([20, 15, 25])
    scaled, plain = (np.array(change_points(factor * rows, 4 * np.arange(60))) for factor in (scale, 1.0))
    assert np.allclose(scaled, plain, rtol=1e-4)


@pytest.mark.parametrize("rows", [np.zeros((30, 8)), np.ones((30, 8)), np.ones((1, 8)), np.ones((3, 8))])
def test_equal_and_few_clips_have_no_boundary(rows: np.ndarray) -> None:
    assert change_points(rows.astype(np.float32), np.arange(len(rows))) == []


def test_boundaries_of_a_video_lie_within_one_clip_of_the_planted_ones(scenes: Path) -> None:
    (video,) = segment([scenes], workers=0).videos
    frames = [boundary.frame for boundary in video.boundaries]
    assert len(frames) == 2
    assert matches([40, 88], frames) == 2
    assert [boundary.seconds for boundary in video.boundaries] == pytest.approx([frame / 25 for frame in frames])
    assert [(part.start_frame, part.end_frame) for part in video.segments] == list(
        zip([0, *frames], [*frames, 120], strict=True)
    )
    assert video.segments[-1].end_seconds == pytest.approx(120 / 25)


def test_a_feature_file_gives_the_same_as_its_vectors(tmp_path: Path) -> None:
    (video,) = segment([stored(tmp_path / "a.mp4.npz")]).videos
    assert [boundary.frame for boundary in video.boundaries] == [8 * 12 - 4 + 8]
    assert video.boundaries[0].seconds == pytest.approx(4.0)
    assert video.segments[-1].end_seconds == pytest.approx(10.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": None},
        {"settings": {"plan": {"clip_length": "many", "sampling_rate": 1}}},
        {"n_frames": None},
        {"fps": "a lot"},
        {"fps": "1/0"},
        {"settings": {"pool": "mean"}},
    ],
)
def test_a_feature_file_without_the_facts_is_a_failure(changes: dict[str, object], tmp_path: Path) -> None:
    outcome = segment([stored(tmp_path / "a.npz", **changes), stored(tmp_path / "b.npz")])
    assert len(outcome.videos) == 1
    assert "extract" in outcome.failures[0].message


def test_a_frame_folder_has_frames_but_no_seconds(tmp_path: Path) -> None:
    (video,) = segment([stored(tmp_path / "a.npz", fps=None)]).videos
    assert video.boundaries[0].frame == 100
    assert video.boundaries[0].seconds is None


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf")])
def test_a_threshold_that_is_no_positive_number_is_refused(threshold: float, scenes: Path) -> None:
    with pytest.raises(UsageError, match="threshold="):
        segment([scenes], threshold=threshold)


def test_without_ruptures_the_extra_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch, scenes: Path) -> None:
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(MissingExtraError, match=r"c3dvideo\[segment\]"):
        segment([scenes])


def test_other_networks_and_short_or_broken_videos(
    tiny_network: C3D, tmp_path: Path, moving_square: Callable[..., Path]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    short = moving_square(tmp_path / "short.mp4", n_frames=5)
    outcome = segment([short, tmp_path / "broken.mp4"], weights=tiny_network, workers=0)
    assert [(video.name, len(video.segments)) for video in outcome.videos] == [("short.mp4", 1)]
    assert [failure.name for failure in outcome.failures] == ["broken.mp4"]


def test_the_command_prints_json_and_a_table(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from c3dvideo.cli import main

    monkeypatch.setattr(sys, "argv", ["c3dvideo", "segment", str(scenes), "--json", "--workers", "0"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    document = json.loads(capsys.readouterr().out)
    assert [len(video["segments"]) for video in document["videos"]] == [3]
    monkeypatch.setattr(sys, "argv", ["c3dvideo", "segment", str(scenes.parent / "none.npz")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert (segment_command._STRIDE_FRAMES, segment_command._THRESHOLD) == (module.STRIDE_FRAMES, module.THRESHOLD)
    assert {"descriptors": segment_command._THRESHOLD, **segment_command._OTHERS} == module.THRESHOLDS
    monkeypatch.setattr(sys, "argv", ["c3dvideo", "segment", str(scenes), "--method", "colours", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    document = json.loads(capsys.readouterr().out)
    assert [len(video["segments"]) for video in document["videos"]] == [3]


def test_the_benchmark_joins_at_the_frames_that_it_states() -> None:
    parts = [np.full((30, 4, 6, 3), shade, np.uint8) for shade in (0, 200, 100)]
    joined, boundaries = join(parts, 0)
    assert (len(joined), boundaries) == (90, [30, 60])
    joined, boundaries = join(parts, 8)
    assert (len(joined), boundaries) == (74, [26, 48])
    assert abs(int(joined[26].mean()) - 100) <= 15
    assert matches([30, 60], [14, 31, 77]) == 1


def test_colours_find_the_same_boundaries_without_a_network(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_weights", None)
    (video,) = segment([scenes], method="colours").videos
    assert matches([40, 88], [boundary.frame for boundary in video.boundaries]) == len(video.boundaries) == 2
    assert video.segments[-1].end_seconds == pytest.approx(120 / 25)


def test_both_find_what_either_shows(scenes: Path) -> None:
    rows, starts = planted([20, 40]), 4 * np.arange(60)
    colours = planted([40, 20], seed=1)
    assert len(change_points(rows, starts)) == len(change_points(colours, starts)) == 1
    assert [frame for frame, _ in change_points(rows, starts, colours=colours)] == [86, 166]
    (video,) = segment([scenes], method="both", workers=0).videos
    assert matches([40, 88], [boundary.frame for boundary in video.boundaries]) == len(video.boundaries) == 2


def test_colours_of_short_broken_and_cut_videos(
    tmp_path: Path, scenes: Path, moving_square: Callable[..., Path]
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    moving_square(tmp_path / "videos" / "short.mp4", n_frames=5)
    cut = tmp_path / "videos" / "cut.ts"
    with open_video(scenes, channel_order="rgb") as video:
        write_video(cut, [frame.pixels.copy() for frame in video.frames()], fps=25)
    cut.write_bytes(cut.read_bytes()[:-4000])
    outcome = segment([tmp_path / "videos"], method="colours", damaged="keep")
    assert [video.name for video in outcome.videos] == ["cut.ts", "short.mp4"]
    assert 60 < outcome.videos[0].n_frames <= 120 and outcome.videos[1].n_frames == 5
    assert [(failure.name, failure.stage) for failure in outcome.failures] == [("broken.mp4", "decode")]


def test_colours_need_videos_and_no_network(tmp_path: Path, scenes: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no colours; .*`method=descriptors`"):
        segment([stored(tmp_path / "a.mp4.npz")], method="colours")
    with pytest.raises(UsageError, match="uses no network; leave out `weights=`"):
        segment([scenes], method="colours", layer="fc6")


def test_the_histogram_counts_every_colour() -> None:
    frame = np.zeros((600, 700, 3), np.uint8)
    frame[:, 350:] = (255, 0, 64)
    found = histogram(frame)
    assert found.sum() == pytest.approx(1)
    assert found[0] == pytest.approx(0.5) and found[7 * 64 + 2] == pytest.approx(0.5)
