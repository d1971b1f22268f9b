"""Writing videos: what goes in comes out, with the size, rate and times that were asked for."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from c3dvideo import synthetic
from c3dvideo.video.encode import write_video

Pattern = Callable[..., np.ndarray]


def test_lossless_frames_come_back(tmp_path: Path, pattern: Pattern) -> None:
    frames = [pattern(9, 15, phase) for phase in range(5)]
    write_video(tmp_path / "a.mkv", iter(frames), codec="ffv1", pixel_format="bgr0", fps=Fraction(30000, 1001))
    with av.open(str(tmp_path / "a.mkv")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (15, 9)
        assert float(stream.average_rate) == pytest.approx(29.97, abs=0.01)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    np.testing.assert_array_equal(decoded, frames)


def test_times_rotation_and_options_are_written(tmp_path: Path, pattern: Pattern) -> None:
    frames = [pattern(32, 48, phase) for phase in range(4)]
    write_video(
        tmp_path / "a.mp4",
        frames,
        seconds=[0, 0.1, 1, 3],
        rotation=90,
        codec_options={"g": "1"},
        container_options={"movflags": "faststart"},
    )
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = list(container.decode(video=0))
    assert [frame.time for frame in decoded] == pytest.approx([0, 0.1, 1, 3], abs=0.001)
    assert {frame.rotation for frame in decoded} == {90}
    assert all(frame.key_frame for frame in decoded)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.find(b"moov") < content.find(b"mdat")


def test_quality_follows_crf(tmp_path: Path, pattern: Pattern) -> None:
    sizes = []
    for crf in (10, 40):
        write_video(tmp_path / "a.mp4", [pattern(48, 64)] * 3, crf=crf)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes[0] > 2 * sizes[1]


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    """160 pixels are no multiple of 64: there libx264's look ahead reads what happens to lie beside the picture."""
    for index, name in enumerate(synthetic.EVERYDAY[:4]):
        scene = synthetic.everyday_scene(name, seed=0, index=index, n_frames=24)
        frames = synthetic.render([scene], height=120, width=160)[0].permute(1, 2, 3, 0).numpy()
        files = [tmp_path / f"{index}{letter}.mp4" for letter in "abc"]
        for file in files:
            write_video(file, frames)
        assert len({file.read_bytes() for file in files}) == 1, name
