"""Clips of one video: the release's pixels bit for bit, start times, policies and bounded memory."""

import hashlib
import json
import subprocess
import sys
import tarfile
import textwrap
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo.errors import DecodeError, ShortVideoError
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.encode import write_video
from c3dvideo.video.preprocess import CAFFE, PROFILES, prepare_frame
from c3dvideo.video.reader import read_clips

Pattern = Callable[..., np.ndarray]


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def lossless(path: Path, frames: list[np.ndarray]) -> Path:
    write_video(path, frames, codec="ffv1", pixel_format="bgr0")
    return path


def test_a_clip_equals_the_golden_one(tmp_path: Path, pattern: Pattern, golden: Path) -> None:
    frames = [pattern(240, 320, phase)[:, :, ::-1] for phase in range(16)]
    reader = read_clips(lossless(tmp_path / "a.mkv", frames))
    (clip,) = reader
    assert clip.pixels.shape == (1, 3, 16, 112, 112) and clip.pixels.dtype == np.uint8
    assert sha256(clip.pixels[0]) == json.loads((golden / "resize.json").read_text())["clip of 16 frames 240x320"]
    assert (clip.start_frame, clip.start_seconds, reader.n_frames, reader.fps) == (0, 0.0, 16, 25)


def test_overlapping_clips_share_their_frames(tmp_path: Path, pattern: Pattern) -> None:
    frames = [pattern(60, 80, phase) for phase in range(41)]
    plan = ClipPlan(stride_frames=8, tail="shift_back")
    profile = PROFILES["mmaction2"]
    views = profile.views("ten")
    reader = read_clips(lossless(tmp_path / "a.mkv", frames), plan=plan, profile=profile, views=views)
    clips = list(reader)
    assert [clip.start_frame for clip in clips] == [0, 8, 16, 24, 25]
    assert [clip.start_seconds for clip in clips] == pytest.approx([0, 0.32, 0.64, 0.96, 1.0])
    assert reader.n_frames == 41
    prepared = np.stack([prepare_frame(pixels, profile, views) for pixels in frames])
    for clip, indices in zip(clips, plan.indices(41), strict=True):
        np.testing.assert_array_equal(clip.pixels, prepared[indices].transpose(1, 2, 0, 3, 4))


def test_frames_that_no_clip_uses_are_decoded_and_no_more(
    tmp_path: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = 0

    def count(*arguments: Any) -> Any:
        nonlocal prepared
        prepared += 1
        return prepare_frame(*arguments)

    monkeypatch.setattr("c3dvideo.video.reader.prepare_frame", count)
    frames = [pattern(48, 64, phase) for phase in range(50)]
    path = lossless(tmp_path / "a.mkv", frames)
    plan = ClipPlan(clip_length=4, sampling_rate=3, stride_frames=20)
    reader = read_clips(path, plan=plan)
    clips = list(reader)
    assert (reader.n_frames, prepared) == (50, 2 * 4 + 4)
    assert [clip.start_frame for clip in clips] == [0, 20]
    expected = [prepare_frame(frames[20 + 3 * n][:, :, ::-1], CAFFE, CAFFE.views()) for n in range(4)]
    np.testing.assert_array_equal(clips[1].pixels, np.stack(expected, axis=2))


def test_short_videos_fail_unless_told_otherwise(tmp_path: Path, pattern: Pattern) -> None:
    path = lossless(tmp_path / "a.mkv", [pattern(48, 64, phase) for phase in range(15)])
    reader = read_clips(path)
    with pytest.raises(ShortVideoError, match=r"a.mkv': the video has 15 frames and one clip needs 16"):
        list(reader)
    assert reader.n_frames == 15
    (repeated,) = read_clips(path, plan=ClipPlan(short="repeat_last"))
    np.testing.assert_array_equal(repeated.pixels[:, :, 15], repeated.pixels[:, :, 14])
    (looped,) = read_clips(path, plan=ClipPlan(short="loop"))
    np.testing.assert_array_equal(looped.pixels[:, :, 15], looped.pixels[:, :, 0])


def test_seventeen_frames_make_one_clip(tmp_path: Path, pattern: Pattern) -> None:
    path = lossless(tmp_path / "a.mkv", [pattern(48, 64, phase) for phase in range(17)])
    assert [clip.start_frame for clip in read_clips(path)] == [0]


def test_damage_is_reported_after_the_clips_before_it(tmp_path: Path, pattern: Pattern) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, [pattern(48, 64, phase) for phase in range(60)])
    content = bytearray(path.read_bytes())
    hole = slice(len(content) * 6 // 10, len(content) * 8 // 10)
    content[hole] = bytes(hole.stop - hole.start)
    path.write_bytes(content)
    clips = iter(read_clips(path))
    assert next(clips).start_frame == 0
    with pytest.raises(DecodeError, match=r"a.mp4': the file is damaged or was cut short"):
        list(clips)


@pytest.mark.parametrize("tail", ["drop", "repeat_last", "shift_back"])
def test_the_clips_before_the_damage_can_be_kept(tmp_path: Path, pattern: Pattern, tail: str) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, [pattern(48, 64, phase) for phase in range(60)], codec="mjpeg", pixel_format="yuvj420p")
    whole = list(read_clips(path))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 7 // 10])
    plan = ClipPlan(tail=tail)  # type: ignore[arg-type]
    with pytest.raises(DecodeError, match="was cut short"):
        read_clips(path, plan=plan)
    reader = read_clips(path, plan=plan, damaged="keep")
    kept = list(reader)
    assert [clip.start_frame for clip in kept] == [0, 16]
    for clip, expected in zip(kept, whole, strict=False):
        np.testing.assert_array_equal(clip.pixels, expected.pixels)
    assert reader.damage is not None
    assert reader.damage.endswith("was cut short: FFmpeg stumbles after 41 good frames (File ended prematurely)")


def test_damage_before_the_first_clip_is_an_error_even_when_damaged_videos_are_kept(
    tmp_path: Path, pattern: Pattern
) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, [pattern(48, 64, phase) for phase in range(20)], codec="mjpeg", pixel_format="yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DecodeError, match="was cut short"):
        list(read_clips(path, plan=ClipPlan(short="repeat_last"), damaged="keep"))


def test_a_whole_video_has_no_damage_to_report(tmp_path: Path, pattern: Pattern) -> None:
    reader = read_clips(lossless(tmp_path / "a.mkv", [pattern(48, 64, n) for n in range(20)]), damaged="keep")
    assert len(list(reader)) == 1 and reader.damage is None


def test_a_frame_folder_is_kept_up_to_its_hole(tmp_path: Path, pattern: Pattern) -> None:
    from PIL import Image

    for number in range(40):
        if number != 35:
            Image.fromarray(pattern(48, 64, number)).save(tmp_path / f"{number}.png")
    with pytest.raises(DecodeError, match="frame number 35 is missing"):
        read_clips(tmp_path)
    reader = read_clips(tmp_path, damaged="keep")
    assert len(list(reader)) == 2 and reader.n_frames == 35
    assert reader.damage is not None and "frame number 35 is missing" in reader.damage


def peak_megabytes(path: Path) -> float:
    """Peak resident memory of a fresh process that reads every clip of `path`, in MB."""
    script = """
        import sys
        from pathlib import Path
        from c3dvideo.video.reader import read_clips
        sum(1 for _ in read_clips(sys.argv[1]))
        print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_length(tmp_path: Path, pattern: Pattern) -> None:
    pictures = [pattern(240, 320, phase) for phase in range(10)]
    for name, n_frames in (("short.avi", 100), ("long.avi", 1500)):
        frames = (pictures[index % 10] for index in range(n_frames))
        write_video(tmp_path / name, frames, codec="mjpeg", pixel_format="yuvj420p")
    assert peak_megabytes(tmp_path / "long.avi") < peak_megabytes(tmp_path / "short.avi") + 20


@pytest.fixture(scope="module")
def reference_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """Unpacks a frame folder of the reference data once."""
    root = tmp_path_factory.mktemp("frames")

    def unpack(reference: Path, video: str) -> Path:
        if not (root / video).exists():
            with tarfile.open(reference / "data" / "ucf101" / f"{video}.tar.gz") as archive:
                archive.extractall(root, filter="data")
        return root / video

    return unpack


RECORDED = ("video_s16", "video_s8", "video_rate2", "full_video", "frm_s16", "full_frm")


@pytest.mark.oracle
@pytest.mark.parametrize("recorded", RECORDED)
def test_crops_equal_the_release_s_bit_for_bit(
    reference: Path, reference_folders: Callable[[Path, str], Path], recorded: str
) -> None:
    hashes = json.loads((reference / "oracle" / "sha256_uint8_crops.json").read_text())
    expected: dict[str, dict[int, str]] = defaultdict(dict)
    for key, value in hashes.items():
        name, video, start = key.split("/")
        assert name in RECORDED
        if name == recorded:
            expected[video][int(start)] = value
    from_frames = recorded in ("frm_s16", "full_frm")
    plan = ClipPlan(stride_frames=1, sampling_rate=2 if recorded == "video_rate2" else 1)
    assert expected
    for video, clips in expected.items():
        avi = reference / "data" / "ucf101" / f"{video}.avi"
        path = reference_folders(reference, video) if from_frames else avi
        found = {
            start: sha256(clip.pixels[0])
            for clip in read_clips(path, plan=plan)
            # The release counts the frames of folders from 1.
            if (start := clip.start_frame + from_frames) in clips
        }
        assert found == clips


@pytest.mark.oracle
def test_clips_of_an_mp4_equal_opencv_s(reference: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = reference / "oracle" / "demo.mp4"
    capture = cv2.VideoCapture(str(path))
    for clip in read_clips(path):
        pictures = [cv2.resize(capture.read()[1], (171, 128))[8:120, 29:141] for _ in range(16)]
        np.testing.assert_array_equal(clip.pixels[0], np.stack(pictures).transpose(3, 0, 1, 2))
    assert CAFFE.channel_order == "bgr"


def test_reading_clips_imports_no_pytorch(tmp_path: Path, pattern: Pattern) -> None:
    """Decoding processes start fast and stay small."""
    path = lossless(tmp_path / "a.mkv", [pattern(48, 64, phase) for phase in range(16)])
    script = """
        import dataclasses, sys
        from c3dvideo.video.preprocess import CAFFE
        from c3dvideo.video.reader import read_clips
        smooth = dataclasses.replace(CAFFE, interpolation="antialias_bilinear")
        for profile in (CAFFE, smooth):
            print(len(list(read_clips(sys.argv[1], profile=profile))))
        print("torch" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == ["1", "1", "False"]


@pytest.mark.parametrize("crops", ["centre", "five"])
@pytest.mark.parametrize(
    "plan",
    [
        ClipPlan(),
        ClipPlan(stride_frames=8),
        ClipPlan(stride_frames=5, clip_length=4, sampling_rate=3),
        ClipPlan(stride_frames=20, clip_length=4),
        ClipPlan(clip_length=64, stride_frames=64, short="repeat_last"),
        ClipPlan(clip_length=64, stride_frames=8, short="repeat_last"),
        ClipPlan(clip_length=64, stride_frames=8, short="loop"),
        ClipPlan(clip_length=64, stride_frames=64, short="loop"),
        ClipPlan(clip_length=32, sampling_rate=2, short="loop"),
        ClipPlan(stride_frames=8, tail="repeat_last"),
        ClipPlan(stride_frames=7, sampling_rate=2, tail="shift_back"),
    ],
)
def test_clips_of_every_plan_show_the_frames_that_it_names(
    tmp_path: Path, pattern: Pattern, plan: ClipPlan, crops: str
) -> None:
    frames = [pattern(48, 64, phase) for phase in range(45)]
    views = CAFFE.views(crops)  # type: ignore[arg-type]
    clips = list(read_clips(lossless(tmp_path / "a.mkv", frames), plan=plan, views=views))
    expected = plan.indices(45)
    assert [clip.start_frame for clip in clips] == expected[:, 0].tolist()
    assert [clip.start_seconds for clip in clips] == pytest.approx((expected[:, 0] / 25).tolist())
    prepared = np.stack([prepare_frame(pixels[:, :, ::-1], CAFFE, views) for pixels in frames])
    for clip, indices in zip(clips, expected, strict=True):
        np.testing.assert_array_equal(clip.pixels, prepared[indices].transpose(1, 2, 0, 3, 4))
