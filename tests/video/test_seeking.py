"""A clip from the middle of a video equals that of reading from the start, and the frames before it are not decoded."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from c3dvideo.errors import DecodeError
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.encode import write_video
from c3dvideo.video.preprocess import CAFFE
from c3dvideo.video.reader import Clip, read_clips
from c3dvideo.video.seeking import sought_clip

PLAN = ClipPlan(clip_length=8, stride_frames=6)
N_FRAMES = 90


def noise() -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    small = generator.integers(0, 255, (N_FRAMES + 24, 9, 12, 3), dtype=np.uint8)
    for index in range(N_FRAMES):
        picture = np.kron(small[index // 3], np.ones((8, 8, 1), np.uint8))
        picture[:, (5 * index) % 90 : (5 * index) % 90 + 6] = 255
        yield picture


def found(path: Path, clips: list[Clip]) -> list[Clip]:
    """The sought clips, each of which has to equal the one that was read from the start."""
    sought = []
    for clip in clips:
        again = sought_clip(path, round(clip.start_seconds, 3), plan=PLAN, profile=CAFFE)
        if again is not None:
            assert (again.start_frame, again.start_seconds) == (clip.start_frame, clip.start_seconds)
            assert np.array_equal(again.pixels, clip.pixels)
            sought.append(again)
    return sought


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"g": "12", "bf": "3", "b_strategy": "0"}),
        ("no_b_frames.mkv", "libx264", {"g": "10", "bf": "0"}),
        ("vp9.webm", "libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
        ("mpeg4.mp4", "mpeg4", {"g": "12", "bf": "2"}),
        ("pictures.mov", "mjpeg", {}),
    ],
)
def test_every_clip_is_that_of_reading_from_the_start(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    kind = {"pixel_format": "yuvj420p"} if codec == "mjpeg" else {}
    write_video(tmp_path / name, noise(), fps=25, codec=codec, codec_options=options, **kind)
    clips = list(read_clips(tmp_path / name, plan=PLAN))
    assert len(clips) == 14
    assert len(found(tmp_path / name, clips)) == 14


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        (
            "open.mp4",
            "libx264",
            {"g": "12", "bf": "3", "b_strategy": "0", "flags": "-cgop", "x264-params": "open-gop=1"},
        ),
        ("refresh.mp4", "libx264", {"g": "30", "x264-params": "intra-refresh=1"}),
        ("a.avi", "mpeg4", {"g": "12"}),
        ("a.ts", "libx264", {"g": "12"}),
    ],
)
def test_a_doubtful_file_gives_the_same_or_nothing(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    write_video(tmp_path / name, noise(), fps=25, codec=codec, codec_options=options)
    clips = list(read_clips(tmp_path / name, plan=PLAN))
    assert len(clips) == 14
    assert len(found(tmp_path / name, clips)) < 14


def test_variable_frame_rates_and_every_second_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    seconds = np.cumsum(np.random.default_rng(1).uniform(0.02, 0.1, N_FRAMES))
    write_video(path, noise(), seconds=seconds - seconds[0], codec_options={"g": "12"})
    assert len(found(path, list(read_clips(path, plan=PLAN)))) == 14
    plan = ClipPlan(clip_length=4, sampling_rate=2, stride_frames=5)
    for clip in read_clips(path, plan=plan):
        again = sought_clip(path, clip.start_seconds, plan=plan, profile=CAFFE)
        assert again is not None
        assert np.array_equal(again.pixels, clip.pixels)


def test_what_lies_before_the_key_frame_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, noise(), fps=25, codec_options={"g": "12", "bf": "0"})
    *_, last = read_clips(path, plan=PLAN)
    with av.open(str(path)) as container:
        packet = next(container.demux(video=0))
        end = packet.pos + packet.size
    content = bytearray(path.read_bytes())
    content[end - 300 : end] = b"\xaa" * 300  # the end of the first key frame, which only a decoder reads
    path.write_bytes(content)
    with pytest.raises(DecodeError):
        list(read_clips(path, plan=PLAN))
    again = sought_clip(path, last.start_seconds, plan=PLAN, profile=CAFFE)
    assert again is not None
    assert np.array_equal(again.pixels, last.pixels)


def test_where_no_clip_begins_there_is_none(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", noise(), fps=25)
    for seconds in (0.1, 3.4, 100.0):  # between two clips, in the tail, behind the end
        assert sought_clip(tmp_path / "a.mp4", seconds, plan=PLAN, profile=CAFFE) is None
    (tmp_path / "frames").mkdir()
    for index, picture in enumerate(noise()):
        Image.fromarray(picture).save(tmp_path / f"frames/{index:04d}.png")
    assert sought_clip(tmp_path / "frames", 0.0, plan=PLAN, profile=CAFFE) is None
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(DecodeError):
        sought_clip(tmp_path / "broken.mp4", 0.0, plan=PLAN, profile=CAFFE)
