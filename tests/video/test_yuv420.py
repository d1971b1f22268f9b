"""Frames that are converted while they are resized: FFmpeg's conversion to the last bit, or FFmpeg's conversion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from c3dvideo.video import yuv420
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video
from c3dvideo.video.preprocess import CAFFE, PROFILES, prepare_frame, resize_frame
from c3dvideo.video.reader import read_clips
from c3dvideo.video.resize import Pixels, Yuv420, resample
from c3dvideo.video.yuv420 import yuv420_of

Pattern = Callable[..., np.ndarray]


def noise(height: int, width: int, name: str = "yuv420p", color_range: int = 0, colorspace: int = 2) -> Any:
    frame: Any = av.VideoFrame(width, height, name)
    generator = np.random.default_rng(height * width)
    for plane in frame.planes:
        plane.update(generator.bytes(plane.buffer_size))
    frame.color_range, frame.colorspace = color_range, colorspace
    return frame


def by_ffmpeg(frame: Any, channel_order: str = "bgr") -> Pixels:
    picture = VideoReformatter().reformat(frame, format=f"{channel_order}24", threads=1)
    plane: Any = picture.planes[0]
    rows = np.array(np.frombuffer(plane, np.uint8).reshape(picture.height, plane.line_size))
    return rows[:, : 3 * picture.width].reshape(picture.height, picture.width, 3)


@pytest.fixture
def vectors() -> None:
    """Skips on processors for which FFmpeg's arithmetic is another one."""
    if yuv420_of(noise(240, 320), "bgr", lambda: by_ffmpeg(noise(240, 320))) is None:
        pytest.skip("this processor, or a machine without a compiler, leaves the conversion to FFmpeg")


@pytest.mark.parametrize("channel_order", ["bgr", "rgb"])
@pytest.mark.parametrize("name", ["yuv420p", "yuvj420p"])
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("colorspace", [1, 2, 5, 6, 7, 9])
def test_every_range_and_matrix(
    vectors: None, colorspace: int, color_range: int, name: str, channel_order: Any
) -> None:
    frame = noise(120, 162, name, color_range, colorspace)
    picture = yuv420_of(frame, channel_order, lambda: by_ffmpeg(frame, channel_order))
    assert picture is not None
    window: Any = {"size": (100, 171), "rows": (3, 98), "columns": (1, 170)}
    expected = resample(by_ffmpeg(frame, channel_order), "opencv_bilinear", **window)
    np.testing.assert_array_equal(resample(picture, "opencv_bilinear", **window), expected)


@pytest.mark.parametrize("size", [(2, 4), (2, 5), (16, 16), (18, 17), (34, 31), (240, 320), (240, 321), (480, 854)])
@pytest.mark.parametrize("profile", ["caffe", "mmaction2", "davidea"])
def test_every_size(vectors: None, size: tuple[int, int], profile: str) -> None:
    frame = noise(*size)
    picture = yuv420_of(frame, "bgr", lambda: by_ffmpeg(frame))
    assert picture is not None
    for views in (PROFILES[profile].views("centre"), PROFILES[profile].views("ten")):
        expected = prepare_frame(by_ffmpeg(frame), PROFILES[profile], views)
        np.testing.assert_array_equal(prepare_frame(picture, PROFILES[profile], views), expected)


@pytest.mark.parametrize(
    "frame", [noise(241, 320), noise(240, 320, "yuv422p"), noise(2, 2), noise(240, 320, colorspace=10)]
)
def test_what_ffmpeg_converts_in_another_way_is_left_to_it(frame: Any) -> None:
    assert yuv420_of(frame, "bgr", lambda: by_ffmpeg(frame)) is None


def test_another_arithmetic_is_noticed_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = yuv420._coefficients("yuv420p", 0, 2)
    yuv420._is_exact.cache_clear()
    monkeypatch.setattr(yuv420, "_coefficients", lambda *_: right + np.array([0, 0, 1, 0, 0, 0], np.int16))
    assert yuv420_of(noise(64, 96), "bgr", lambda: by_ffmpeg(noise(64, 96))) is None
    yuv420._is_exact.cache_clear()


def test_other_ways_of_resizing_get_the_converted_frame(vectors: None) -> None:
    frame = noise(128, 171)
    picture = yuv420_of(frame, "bgr", lambda: by_ffmpeg(frame))
    assert picture is not None
    np.testing.assert_array_equal(resize_frame(picture, CAFFE), by_ffmpeg(frame).transpose(2, 0, 1))


@pytest.mark.parametrize("rotation", [0, 90])
def test_clips_are_those_of_ffmpeg_s_conversion(tmp_path: Path, pattern: Pattern, rotation: int) -> None:
    write_video(tmp_path / "a.mp4", [pattern(96, 128, phase) for phase in range(17)], rotation=rotation)
    with open_video(tmp_path / "a.mp4") as video:
        frames = list(video.frames())
        assert rotation == 0 or not any(isinstance(frame.picture, Yuv420) for frame in frames)
        prepared = [prepare_frame(frame.pixels, CAFFE, CAFFE.views()) for frame in frames]
    (clip,) = read_clips(tmp_path / "a.mp4")
    np.testing.assert_array_equal(clip.pixels, np.stack(prepared[:16], axis=2))
