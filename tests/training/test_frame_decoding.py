"""Decoder processes fill the frame cache: any number of them with the same frames, and a crash costs one video."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.features.decoding import End
from c3dvideo.training.frame_decoding import Excerpt, FrameSettings, decode_excerpts
from c3dvideo.training.frames import Frames, load_frames
from c3dvideo.video.decode import open_video
from c3dvideo.video.preprocess import Profile, resize_frame

SMALL = Profile(name="small", resize_height=24, resize_width=32, crop_size=16, crop_top=None, crop_left=None)
LENGTHS = (5, 16, 33, 48)


@pytest.fixture
def dataset(tmp_path: Path, moving_square: Callable[..., Path]) -> Dataset:
    """Videos shorter than a block of frames, of whole blocks, and of blocks and a rest."""
    for n_frames in LENGTHS:
        moving_square(tmp_path / f"videos/{n_frames}.mp4", n_frames=n_frames, height=48, width=64, seed=n_frames)
    examples = tuple(Example(f"{n_frames}.mp4", "x") for n_frames in LENGTHS)
    return Dataset(examples, ("x",), root=tmp_path / "videos")


def whole(frames: Frames) -> list[np.ndarray]:
    return [np.array(frames.clip(number, np.arange(n))) for number, n in enumerate(frames.n_frames)]


def test_any_number_of_decoders_fills_the_cache_alike(dataset: Dataset, tmp_path: Path) -> None:
    expected = []
    for n_frames in LENGTHS:
        with open_video(dataset.root / f"{n_frames}.mp4") as video:
            expected.append(np.stack([resize_frame(frame.pixels, SMALL) for frame in video.frames()]))
    for workers in (0, 1, 3):
        frames = load_frames(dataset, SMALL, cache=tmp_path / f"cache{workers}", workers=workers)
        assert frames.n_frames.tolist() == list(LENGTHS)
        assert all(np.array_equal(one, other) for one, other in zip(whole(frames), expected, strict=True))
        (stored,) = (tmp_path / f"cache{workers}").glob("*.u8")
        assert stored.stat().st_size == sum(LENGTHS) * 3 * 24 * 32
        assert load_frames(dataset, SMALL, workers=workers).n_frames.tolist() == list(LENGTHS)


def test_a_crash_while_the_cache_is_filled_costs_one_video(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import frame_faults

    monkeypatch.setattr("c3dvideo.training.frames.FrameSettings", frame_faults.Crashing)
    (dataset.root / "5.mp4").rename(dataset.root / "crash.mp4")
    crashing = Dataset((Example("crash.mp4", "x"), *dataset.examples[1:]), ("x",), root=dataset.root)
    frames = load_frames(crashing, SMALL, cache=tmp_path / "cache", workers=1)
    assert frames.n_frames.tolist() == [0, *LENGTHS[1:]]
    assert "the decoder was killed" in frames.problems["crash.mp4"]
    del sys.modules["frame_faults"]


def test_frames_outside_an_excerpt_count_as_progress(dataset: Dataset) -> None:
    """A decoder that is on its way to a late excerpt must not look as if it made no progress."""
    steps: list[None] = []
    excerpt = Excerpt(str(dataset.root / "48.mp4"), "late", start_seconds=1.6)
    blocks = FrameSettings(profile=SMALL).reader(excerpt, lambda: steps.append(None))
    assert len(list(blocks)) == 1
    assert (len(steps), blocks.n_frames) == (40, 8)


def test_counting_sends_no_pixels(dataset: Dataset) -> None:
    excerpts = [Excerpt(str(dataset.root / "33.mp4"), "a")]
    settings = FrameSettings(profile=SMALL, count_only=True)
    (found,) = decode_excerpts(excerpts, settings, n_decoders=0, description="counting")
    assert found == (excerpts[0], End(None, 33))
