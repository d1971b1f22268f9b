"""Decoding: exact pixels and times of every kind of video, and the message that every kind of damage gets."""

import functools
import http.server
import os
import shutil
import threading
import time
import warnings
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from c3dvideo.errors import DecodeError
from c3dvideo.video.content import content_sha256
from c3dvideo.video.damage import Inspector
from c3dvideo.video.decode import Frame, open_video
from c3dvideo.video.encode import write_video

Pattern = Callable[..., np.ndarray]


def read(path: str | Path, **options: object) -> list[Frame]:
    with open_video(path, **options) as video:  # type: ignore[arg-type]
        return list(video.frames())


@pytest.fixture
def frames(pattern: Pattern) -> list[np.ndarray]:
    return [pattern(48, 64, phase) for phase in range(20)]


def folder_of(path: Path, frames: list[np.ndarray], first: int = 1, suffix: str = ".png") -> Path:
    from PIL import Image

    path.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(frames, first):
        Image.fromarray(pixels).save(path / f"{number}{suffix}")
    return path


# Pixels and times


@pytest.mark.parametrize("channel_order", ["rgb", "bgr"])
def test_lossless_video_comes_back_bit_for_bit(tmp_path: Path, frames: list[np.ndarray], channel_order: str) -> None:
    write_video(tmp_path / "a.mkv", frames, codec="ffv1", pixel_format="bgr0")
    decoded = read(tmp_path / "a.mkv", channel_order=channel_order)
    step = 1 if channel_order == "rgb" else -1
    np.testing.assert_array_equal([frame.pixels[:, :, ::step] for frame in decoded], frames)
    assert [frame.index for frame in decoded] == list(range(20))


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(25), Fraction(15, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_fps_is_a_fraction_and_times_follow_it(
    tmp_path: Path, frames: list[np.ndarray], suffix: str, fps: Fraction
) -> None:
    path = tmp_path / f"a{suffix}"
    write_video(path, frames, fps=fps, codec="mpeg4")
    with open_video(path) as video:
        assert video.fps is not None
        assert float(video.fps) == pytest.approx(float(fps), rel=1e-4)
        assert suffix == ".mkv" or video.fps == fps
        seconds = [frame.seconds for frame in video.frames()]
    np.testing.assert_allclose(seconds, np.arange(20) / float(fps), atol=0.001)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_keeps_true_times(tmp_path: Path, frames: list[np.ndarray], suffix: str) -> None:
    seconds = [0.0, 0.04, 0.1, 0.5, 0.52, 2.0, 2.5]
    path = tmp_path / f"a{suffix}"
    write_video(path, frames, seconds=seconds)
    assert [frame.seconds for frame in read(path)] == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (270, 3), (-90, 3)])
def test_a_phone_video_is_turned_upright(tmp_path: Path, frames: list[np.ndarray], rotation: int, turns: int) -> None:
    write_video(tmp_path / "a.mp4", frames)
    write_video(tmp_path / "b.mp4", frames, rotation=rotation)
    upright = np.rot90(read(tmp_path / "a.mp4")[0].pixels, turns)
    np.testing.assert_array_equal(read(tmp_path / "b.mp4")[0].pixels, upright)


def test_a_mirrored_display_matrix_is_honoured(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mp4", frames)
    plain = read(tmp_path / "a.mp4")[0].pixels
    identity = b"".join(value.to_bytes(4, signed=True) for value in (1 << 16, 0, 0, 0, 1 << 16, 0))
    for matrix, expected in (
        ((-1 << 16, 0, 0, 0, 1 << 16, 0), plain[:, ::-1]),
        ((1 << 16, 0, 0, 0, -1 << 16, 0), plain[::-1]),
        ((0, 1 << 16, 0, 1 << 16, 0, 0), plain.swapaxes(0, 1)),
    ):
        content = (tmp_path / "a.mp4").read_bytes()
        head, track = content.split(b"tkhd")
        replacement = b"".join(value.to_bytes(4, signed=True) for value in matrix)
        (tmp_path / "b.mp4").write_bytes(head + b"tkhd" + track.replace(identity, replacement, 1))
        np.testing.assert_array_equal(read(tmp_path / "b.mp4")[0].pixels, expected)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("gray.mkv", "ffv1", "gray"),
        ("ten_bit.mp4", "libx264", "yuv420p10le"),
        ("alpha.mkv", "ffv1", "yuva420p"),
        ("rgb.mp4", "libx264rgb", "bgr24"),
        ("444.mp4", "libx264", "yuv444p"),
        ("full_range.avi", "mjpeg", "yuvj420p"),
        ("old.mpg", "mpeg2video", "yuv420p"),
        ("web.webm", "libvpx", "yuv420p"),
        ("stream.ts", "libx264", "yuv420p"),
        ("frames.y4m", "wrapped_avframe", "yuv420p"),
    ],
)
def test_every_pixel_format_and_container(
    tmp_path: Path, pattern: Pattern, name: str, codec: str, pixel_format: str
) -> None:
    smooth = [np.repeat(np.repeat(pattern(6, 8, phase // 10), 8, 0), 8, 1) for phase in range(20)]
    write_video(tmp_path / name, smooth, codec=codec, pixel_format=pixel_format)
    decoded = read(tmp_path / name, channel_order="rgb")
    assert len(decoded) == 20 and decoded[0].pixels.shape == (48, 64, 3) and decoded[0].pixels.dtype == np.uint8
    expected = np.repeat(smooth[0].mean(2, keepdims=True), 3, 2) if name == "gray.mkv" else smooth[0]
    assert np.corrcoef(decoded[0].pixels.ravel(), expected.ravel())[0, 1] > 0.8


def test_interlaced_video_is_taken_as_it_is(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mpg", frames, codec="mpeg2video", codec_options={"flags": "+ildct+ilme"})
    assert len(read(tmp_path / "a.mpg")) == 20


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 4096)])
def test_odd_sizes(tmp_path: Path, pattern: Pattern, size: tuple[int, int]) -> None:
    picture = pattern(*size)
    write_video(tmp_path / "a.mkv", [picture] * 3, codec="ffv1", pixel_format="bgr0")
    decoded = read(tmp_path / "a.mkv", channel_order="rgb")
    np.testing.assert_array_equal([frame.pixels for frame in decoded], [picture] * 3)


def test_one_frame_is_a_video(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mp4", frames[:1])
    assert [(frame.index, frame.seconds) for frame in read(tmp_path / "a.mp4")] == [(0, 0.0)]


def test_a_stream_without_time_stamps_counts_frames(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.h264", frames, codec_options={"bf": "0"})
    decoded = read(tmp_path / "a.h264")
    assert [frame.seconds for frame in decoded] == pytest.approx([index / 25 for index in range(20)], abs=0.021)


@pytest.mark.parametrize(
    "name", ["with space.mp4", "-dash.mp4", "umläut 动作.mp4", "new\nline.mp4", "col:on.mp4", "%03d.mp4"]
)
def test_odd_names(tmp_path: Path, frames: list[np.ndarray], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(name, frames)
    assert len(read(name)) == len(read(tmp_path / name)) == 20


def test_a_url_is_read_over_the_network(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mp4", frames)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            root = f"http://127.0.0.1:{server.server_port}"
            assert len(read(f"{root}/a.mp4")) == 20
            with pytest.raises(DecodeError, match=r"b.mp4': FFmpeg cannot read it as a video: .*404"):
                read(f"{root}/b.mp4")
        finally:
            server.shutdown()
            thread.join()


def test_decoding_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    with pytest.raises(DecodeError):
        read(tmp_path / "a.mp4")
    assert capfd.readouterr() == ("", "")


# Frame folders


@pytest.mark.parametrize("first", [0, 1, 998])
def test_frame_folders_are_read_in_natural_order(tmp_path: Path, frames: list[np.ndarray], first: int) -> None:
    folder = folder_of(tmp_path / "v", frames, first)
    with open_video(folder, channel_order="rgb") as video:
        assert video.fps is None
        decoded = list(video.frames())
    np.testing.assert_array_equal([frame.pixels for frame in decoded], frames)
    assert all(np.isnan(frame.seconds) for frame in decoded)


def test_frame_folders_are_bgr_by_default(tmp_path: Path, frames: list[np.ndarray]) -> None:
    np.testing.assert_array_equal(read(folder_of(tmp_path, frames))[3].pixels, frames[3][:, :, ::-1])


def test_every_fifth_frame_is_a_numbering_too(tmp_path: Path, frames: list[np.ndarray]) -> None:
    folder = folder_of(tmp_path / "v", frames)
    for number in range(1, 21):
        if number % 5:
            (folder / f"{number}.png").unlink()
    np.testing.assert_array_equal([frame.pixels for frame in read(folder, channel_order="rgb")], frames[4::5])


def test_grey_and_transparent_pictures_become_colour(tmp_path: Path, frames: list[np.ndarray]) -> None:
    from PIL import Image

    Image.fromarray(frames[0]).convert("L").save(tmp_path / "1.png")
    Image.fromarray(frames[0]).convert("RGBA").save(tmp_path / "2.png")
    decoded = read(tmp_path, channel_order="rgb")
    assert decoded[0].pixels.shape == (48, 64, 3)
    np.testing.assert_array_equal(decoded[1].pixels, frames[0])


def test_jpeg_equals_opencv(tmp_path: Path, golden: Path) -> None:
    import hashlib
    import json

    shutil.copy(golden / "frame.jpg", tmp_path / "000001.jpg")
    pixels = read(tmp_path)[0].pixels
    hashes = json.loads((golden / "resize.json").read_text())
    assert hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() == hashes["frame.jpg"]


def test_exif_orientation_is_honoured(tmp_path: Path, frames: list[np.ndarray]) -> None:
    from PIL import Image

    picture = Image.fromarray(frames[0])
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "1.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path, channel_order="rgb")[0].pixels, np.rot90(frames[0], -1))


def break_missing(folder: Path) -> None:
    (folder / "3.png").unlink()


def break_size(folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32)).save(folder / "4.png")


def break_picture(folder: Path) -> None:
    path = folder / "5.png"
    path.write_bytes(path.read_bytes()[:200])


def break_text(folder: Path) -> None:
    (folder / "5.png").write_text("no picture")


def break_twin(folder: Path) -> None:
    shutil.copy(folder / "5.png", folder / "005.png")


def break_stray(folder: Path) -> None:
    shutil.copy(folder / "5.png", folder / "cover.png")


def break_depth(folder: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((48, 64), 40000, np.uint16)).save(folder / "2.png")


def break_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_missing, r"frame number 3 is missing between '2.png' and '4.png'; add it, or number the frames anew"),
        (break_size, r"frame 3 is 32x32, the frames before it are 64x48; split or re-encode"),
        (break_picture, r"'5.png' cannot be read as a picture: "),
        (break_text, r"'5.png' cannot be read as a picture: cannot identify image file"),
        (break_twin, r"'005.png' and '5.png' have the same frame number; remove one of them"),
        (break_stray, r"'cover.png' does not continue the numbering that begins with '1.png'"),
        (break_depth, r"'2.png' has more than 8 bits per channel; convert it to 8"),
        (break_all, r"the folder holds no pictures"),
    ],
)
def test_damaged_frame_folders(
    tmp_path: Path, frames: list[np.ndarray], damage: Callable[[Path], None], message: str
) -> None:
    folder = folder_of(tmp_path / "v", frames)
    damage(folder)
    with pytest.raises(DecodeError, match=r"v': " + message):
        read(folder)


def test_a_truncated_jpeg_is_not_filled_with_grey(tmp_path: Path, golden: Path) -> None:
    content = (golden / "frame.jpg").read_bytes()
    (tmp_path / "000001.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DecodeError, match=r"'000001.jpg' cannot be read as a picture: .*truncated"):
        read(tmp_path)


# Damaged files


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"gone.mp4': no such file"):
        open_video(tmp_path / "gone.mp4")


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DecodeError, match=r"a.mp4': the file is empty \(0 bytes\)"):
        open_video(tmp_path / "a.mp4")


def test_text_named_mp4(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("not a video\n" * 100)
    with pytest.raises(DecodeError, match=r"FFmpeg cannot read it as a video: Invalid data .*; it holds text"):
        open_video(tmp_path / "a.mp4")


def test_unreadable_file(tmp_path: Path, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", frames)
    (tmp_path / "a.mp4").chmod(0)
    if os.access(tmp_path / "a.mp4", os.R_OK):  # root reads everything

        def denied(path: Path, *_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DecodeError, match=r"a.mp4': cannot be read: permission is denied"):
        open_video(tmp_path / "a.mp4")


def test_audio_only(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.mp4"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with pytest.raises(DecodeError, match=r"there is no video stream in it \(its streams: audio\)"):
        open_video(tmp_path / "a.mp4")


def test_a_cover_picture_is_no_video(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "cover.mp4", frames[:1], codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(tmp_path / "cover.mp4")) as source, av.open(str(tmp_path / "a.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(DecodeError, match=r"there is no video stream in it \(its streams: video\)"):
        open_video(tmp_path / "a.mp4")


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def test_mp4_without_its_index(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mp4", frames)
    with pytest.raises(DecodeError, match=r"an MP4 file without its index \(moov\), as an interrupted recording"):
        open_video(cut(tmp_path / "a.mp4", 0.6))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fast.mp4", {"container_options": {"movflags": "faststart"}}),
        ("pieces.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "codec_options": {"g": "5"}}),
        ("a.mkv", {}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("b.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        ("a.wmv", {"codec": "wmv2"}),
        ("a.flv", {}),
        ("a.ogv", {"codec": "libvpx"}),
    ],
)
def test_files_cut_in_the_middle(
    tmp_path: Path, frames: list[np.ndarray], name: str, options: dict[str, object], share: float
) -> None:
    write_video(tmp_path / name, frames, **options)  # type: ignore[arg-type]
    assert len(read(tmp_path / name)) == 20
    with pytest.raises(DecodeError, match="was cut short"):
        read(cut(tmp_path / name, share))


def test_a_transport_stream_ends_where_it_ends(tmp_path: Path, frames: list[np.ndarray]) -> None:
    """It states no length; only a cut inside a frame can be seen."""
    write_video(tmp_path / "a.ts", frames, codec="mpeg2video")
    content = (tmp_path / "a.ts").read_bytes()
    starts = [at for at in range(188, len(content), 188) if content[at + 1] & 0x40 and content[at + 2] == 0]
    (tmp_path / "a.ts").write_bytes(content[: starts[-6]])
    assert 0 < len(read(tmp_path / "a.ts")) < 20


def overwrite(path: Path, share: float, until: float) -> Path:
    content = bytearray(path.read_bytes())
    hole = slice(int(len(content) * share), int(len(content) * until))
    content[hole] = bytes(hole.stop - hole.start)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mpg", "mpeg2video")])
def test_corrupt_packets(tmp_path: Path, frames: list[np.ndarray], name: str, codec: str) -> None:
    write_video(tmp_path / name, frames, codec=codec)
    with pytest.raises(
        DecodeError, match=r"the file is damaged or was cut short: FFmpeg stumbles after \d+ good frames"
    ):
        read(overwrite(tmp_path / name, 0.4, 0.7))


def test_a_live_stream_goes_on_after_damage(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mkv", frames, codec_options={"g": "5"})
    path = overwrite(tmp_path / "a.mkv", 0.4, 0.5)
    assert 10 < len(read(f"file://{path}")) <= 20


def test_a_change_of_size_is_refused(tmp_path: Path, pattern: Pattern) -> None:
    for name, size in (("a.h264", (48, 64)), ("b.h264", (64, 48))):
        write_video(tmp_path / name, [pattern(*size)] * 5)
    joined = tmp_path / "c.h264"
    joined.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    with pytest.raises(DecodeError, match=r"frame 5 is 48x64, the frames before it are 64x48; split or re-encode"):
        read(joined)


def test_frames_are_counted_by_decoding(tmp_path: Path, frames: list[np.ndarray]) -> None:
    """An AVI header that claims 9,999 frames."""
    write_video(tmp_path / "a.avi", frames, codec="mpeg4")
    content = bytearray((tmp_path / "a.avi").read_bytes())
    for at in (content.find(b"avih") + 8 + 16, content.find(b"strh") + 8 + 32):
        assert int.from_bytes(content[at : at + 4], "little") == 20
        content[at : at + 4] = (9999).to_bytes(4, "little")
    (tmp_path / "a.avi").write_bytes(content)
    assert len(read(tmp_path / "a.avi")) == 20


def test_a_file_that_does_not_name_its_size_is_read(tmp_path: Path, frames: list[np.ndarray]) -> None:
    """Live Matroska recordings carry an unknown segment size."""
    write_video(tmp_path / "a.mkv", frames, container_options={"live": "1"})
    assert len(read(tmp_path / "a.mkv")) == 20


# Damage that reaches FFmpeg's log only, and files that state their length


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.ogv", {"codec": "libvpx"}, "CRC mismatch!"),
        (
            "a.mkv",
            {"codec": "ffv1", "pixel_format": "bgr0", "codec_options": {"level": "3", "slicecrc": "1"}},
            "slice CRC mismatch",
        ),
        ("a.apng", {"codec": "apng", "pixel_format": "rgb24"}, "CRC mismatch in chunk"),
    ],
)
def test_checksums_and_limits_that_ffmpeg_checks(
    tmp_path: Path, frames: list[np.ndarray], name: str, options: dict[str, object], reason: str
) -> None:
    write_video(tmp_path / name, frames, **options)  # type: ignore[arg-type]
    content = bytearray((tmp_path / name).read_bytes())
    middle = slice(len(content) * 51 // 100, len(content) * 51 // 100 + 40)
    content[middle] = bytes(255 - value for value in content[middle])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DecodeError, match=rf"is damaged or was cut short: FFmpeg .*\({reason}"):
        read(tmp_path / name)


def test_a_half_drawn_gif(tmp_path: Path, pattern: Pattern) -> None:
    write_video(tmp_path / "a.gif", [pattern(64, 96, n) for n in range(10)], codec="gif", pixel_format="rgb8")
    assert len(read(tmp_path / "a.gif")) == 10
    with pytest.raises(DecodeError, match=r"FFmpeg stumbles after \d good frames \(LZW decode failed\)"):
        read(cut(tmp_path / "a.gif", 0.75))


@pytest.mark.parametrize("codec", ["wmv1", "wmv2"])
@pytest.mark.parametrize("share", [0.3, 0.45, 0.6])
def test_damaged_windows_media(tmp_path: Path, frames: list[np.ndarray], codec: str, share: float) -> None:
    write_video(tmp_path / "a.wmv", frames, codec=codec)
    assert len(read(tmp_path / "a.wmv")) == 20
    with pytest.raises(DecodeError, match="is damaged or was cut short"):
        read(overwrite(tmp_path / "a.wmv", share, share + 0.05))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("codec", ["libx264", "libvpx"])
def test_an_interrupted_recording_of_unknown_size(
    tmp_path: Path, frames: list[np.ndarray], codec: str, share: float
) -> None:
    write_video(tmp_path / "a.mkv", frames, codec=codec, container_options={"live": "1"})
    cut(tmp_path / "a.mkv", share)
    with pytest.raises(DecodeError, match=r"\(File ended prematurely\)"):
        read(tmp_path / "a.mkv")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("live.mkv", {"container_options": {"live": "1"}}),
        ("a.mkv", {}),
        ("a.avi", {"codec": "mpeg4", "codec_options": {"bf": "2", "g": "12"}}),
        ("fast.mp4", {"container_options": {"movflags": "faststart"}}),
        ("a.flv", {}),
        ("a.ogv", {"codec": "libvpx"}),
    ],
)
def test_frames_before_a_cut_have_no_gap(
    tmp_path: Path, frames: list[np.ndarray], name: str, options: dict[str, object]
) -> None:
    """Where B-frames are cut off, the decoder still holds a later frame, which must not follow the last good one."""
    write_video(tmp_path / name, frames, **options)  # type: ignore[arg-type]
    whole, content = read(tmp_path / name), (tmp_path / name).read_bytes()
    counts = []
    for share in np.linspace(0.5, 0.95, 12):
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        found: list[Frame] = []
        with open_video(tmp_path / name, damaged="keep") as video, pytest.raises(DecodeError, match="cut short"):
            for frame in video.frames():
                found.append(frame)
        counts.append(len(found))
        for frame, expected in zip(found, whole, strict=False):
            assert frame.seconds == expected.seconds
            np.testing.assert_array_equal(frame.pixels, expected.pixels)
    assert counts == sorted(counts) and 0 < counts[-1] < 20


@pytest.mark.parametrize(
    ("name", "options", "size", "message"),
    [
        ("a.ts", {"codec": "mpeg2video"}, (48, 64), r"its last transport packet has \d+ of 188 bytes"),
        ("a.m2ts", {}, (48, 64), r"its last transport packet has \d+ of 192 bytes"),
        ("a.y4m", {"codec": "wrapped_avframe"}, (48, 64), r"\(the last frame is incomplete\)"),
        ("a.dv", {"codec": "dvvideo"}, (576, 720), r"\(the last frame is incomplete\)"),
    ],
)
def test_formats_of_fixed_pieces_that_end_inside_one(
    tmp_path: Path, pattern: Pattern, name: str, options: dict[str, str], size: tuple[int, int], message: str
) -> None:
    write_video(tmp_path / name, [pattern(*size, n) for n in range(5)], **options)  # type: ignore[arg-type]
    assert len(read(tmp_path / name)) == 5
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-100])
    with pytest.raises(DecodeError, match=message):
        read(tmp_path / name)


def kept(path: Path) -> list[np.ndarray]:
    """The frames before the damage."""
    found = []
    with open_video(path, damaged="keep") as video, pytest.raises(DecodeError, match="cut short"):
        for frame in video.frames():
            found.append(frame.pixels)
    return found


@pytest.mark.parametrize("n_left", [1, 48000, 143_999])
def test_half_a_dv_frame_is_not_kept(tmp_path: Path, pattern: Pattern, n_left: int) -> None:
    write_video(tmp_path / "a.dv", [pattern(576, 720, n) for n in range(4)], codec="dvvideo")
    whole, content = read(tmp_path / "a.dv"), (tmp_path / "a.dv").read_bytes()
    (tmp_path / "a.dv").write_bytes(content[: 2 * 144_000 + n_left])
    np.testing.assert_array_equal(kept(tmp_path / "a.dv"), [frame.pixels for frame in whole[:2]])


def test_av1_units_that_are_cut_short(tmp_path: Path, pattern: Pattern) -> None:
    frames = [pattern(48, 64, 5 * n) for n in range(20)]
    write_video(tmp_path / "a.obu", frames, codec="libsvtav1")
    whole, content = read(tmp_path / "a.obu"), (tmp_path / "a.obu").read_bytes()
    for share in (0.6, 0.7, 0.8, 0.9):
        (tmp_path / "a.obu").write_bytes(content[: int(share * len(content))])
        with pytest.raises(DecodeError, match="cut short"):
            read(tmp_path / "a.obu")
        found = kept(tmp_path / "a.obu")
        np.testing.assert_array_equal(found, [frame.pixels for frame in whole[: len(found)]])


@pytest.mark.parametrize("n_missing", [1, 9, 14, 5000])
def test_a_dirac_unit_that_is_cut_short(tmp_path: Path, pattern: Pattern, n_missing: int) -> None:
    frames = [pattern(144, 176, n) for n in range(4)]
    write_video(tmp_path / "a.drc", frames, codec="vc2", container_format="dirac", codec_options={"b": "600M"})
    whole, content = read(tmp_path / "a.drc"), (tmp_path / "a.drc").read_bytes()
    assert len(whole) == 4
    (tmp_path / "a.drc").write_bytes(content[:-n_missing])
    with pytest.raises(DecodeError, match="the file was cut short"):
        read(tmp_path / "a.drc")
    found = kept(tmp_path / "a.drc")
    np.testing.assert_array_equal(found, [frame.pixels for frame in whole[: len(found)]])


def test_bytes_behind_the_last_transport_packet_do_no_harm(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.ts", frames, codec="mpeg2video")
    content = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(content + b"\n")
    assert len(read(tmp_path / "a.ts")) == 20
    (tmp_path / "a.ts").write_bytes(content + b"\x47")
    with pytest.raises(DecodeError, match="its last transport packet has 1 of 188 bytes"):
        read(tmp_path / "a.ts")


def test_bare_dirac_frames_are_timed_by_their_rate(tmp_path: Path, pattern: Pattern) -> None:
    frames = [pattern(144, 176, n) for n in range(20)]
    write_video(tmp_path / "a.drc", frames, codec="vc2", container_format="dirac", codec_options={"b": "600M"})
    assert [frame.seconds for frame in read(tmp_path / "a.drc")] == pytest.approx([n / 25 for n in range(20)])


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libx265"])
@pytest.mark.parametrize("bf", ["0", "2"])
def test_joined_transport_streams(tmp_path: Path, frames: list[np.ndarray], codec: str, bf: str) -> None:
    """FFmpeg flags packets at the join as corrupt, because the counters of the second recording start over."""
    options = {"bf": bf, "x265-params": "log-level=none"}
    write_video(tmp_path / "a.ts", frames, codec=codec, codec_options=options)
    write_video(tmp_path / "b.ts", frames[5:], codec=codec, codec_options=options)
    both = read(tmp_path / "a.ts") + read(tmp_path / "b.ts")
    joined = tmp_path / "c.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    found = read(joined)
    assert [frame.seconds for frame in found] == pytest.approx([index / 25 for index in range(35)])
    for frame, expected in zip(found, both, strict=True):
        np.testing.assert_array_equal(frame.pixels, expected.pixels)


def test_a_lost_transport_packet_is_damage(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.ts", frames)
    whole = [frame.pixels for frame in read(tmp_path / "a.ts")]
    content = (tmp_path / "a.ts").read_bytes()
    n_noticed, places = 0, range(len(content) // 564, len(content) // 376)
    for lost in places:
        (tmp_path / "b.ts").write_bytes(content[: 188 * lost] + content[188 * (lost + 1) :])
        try:
            found = [frame.pixels for frame in read(tmp_path / "b.ts")]
        except DecodeError:
            n_noticed += 1
        else:  # it held a table of the stream, of which there are many
            np.testing.assert_array_equal(found, whole)
    assert n_noticed > 0.8 * len(places)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "10", "bf": "0"}),
        ("libx264", {"x264-params": "open-gop=1:keyint=10:min-keyint=10:bframes=2:b-adapt=0:scenecut=0"}),
        (
            "libx265",
            {"x265-params": "log-level=none:open-gop=1:keyint=10:min-keyint=10:bframes=2:b-adapt=0:scenecut=0"},
        ),
        ("mpeg2video", {"g": "10", "bf": "2"}),
    ],
)
def test_a_broadcast_that_is_recorded_from_its_middle(
    tmp_path: Path, frames: list[np.ndarray], codec: str, options: dict[str, str]
) -> None:
    """What comes before the first key frame, in the file or in time, cannot be decoded and is no damage."""
    write_video(tmp_path / "a.ts", frames * 2, codec=codec, codec_options=options)
    content = (tmp_path / "a.ts").read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    whole = read(tmp_path / "a.ts")
    for share in (0.2, 0.33, 0.5):
        (tmp_path / "b.ts").write_bytes(b"".join(packets[:3] + packets[int(share * len(packets)) :]))
        found = read(tmp_path / "b.ts")
        assert 10 <= len(found) < 40
        for frame, expected in zip(found[5:], whole[5 - len(found) :], strict=True):
            np.testing.assert_array_equal(frame.pixels, expected.pixels)


def test_the_headers_of_a_joined_theora_file_are_no_damage(tmp_path: Path) -> None:
    """PyAV writes no Theora: these are the packets and the refusal that FFmpeg gives for `cat a.ogv b.ogv`."""
    comment, picture = av.Packet(b"\x81theora"), av.Packet(b"\x3f")
    picture.is_keyframe = True
    refusal = PermissionError(1, "Operation not permitted")
    log = [(16, "theora", "Header packet passed to frame decoder, skipping")]
    inspector = Inspector("ogg", tmp_path, may_begin_anywhere=True)
    frame = av.VideoFrame(16, 16)
    assert list(inspector.good_frames(picture, [frame], None, [])) == [frame]
    assert list(inspector.good_frames(comment, [], refusal, log)) == []
    with pytest.raises(DecodeError, match="FFmpeg stumbles after 1 good frames"):
        list(inspector.good_frames(picture, [], refusal, log))


def test_threads_do_not_see_each_other_s_damage(tmp_path: Path, frames: list[np.ndarray]) -> None:
    """FFmpeg's log is one per process; PyAV keeps the messages of each thread apart."""
    from concurrent.futures import ThreadPoolExecutor

    options = {"codec": "ffv1", "pixel_format": "bgr0", "codec_options": {"level": "3", "slicecrc": "1"}}
    write_video(tmp_path / "good.mkv", frames, **options)  # type: ignore[arg-type]
    shutil.copy(tmp_path / "good.mkv", tmp_path / "bad.mkv")
    overwrite(tmp_path / "bad.mkv", 0.5, 0.51)

    def outcome(name: str) -> int | str:
        try:
            return len(read(tmp_path / name))
        except DecodeError as error:
            return "slice CRC mismatch" if "slice CRC mismatch" in str(error) else str(error)

    names = ["good.mkv", "bad.mkv"] * 20
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outcome, names)) == [20, "slice CRC mismatch"] * 20


# What is not opened, and what is chosen


def test_an_unknown_codec(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mp4", frames)
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(DecodeError, match="FFmpeg has no decoder for its video"):
        open_video(tmp_path / "a.mp4")


def test_an_animated_webp(tmp_path: Path, frames: list[np.ndarray]) -> None:
    from PIL import Image

    first, *others = [Image.fromarray(pixels) for pixels in frames]
    first.save(tmp_path / "a.webp", save_all=True, append_images=others)
    with pytest.raises(DecodeError, match="cannot read animated WebP; convert it to GIF, APNG or MP4"):
        open_video(tmp_path / "a.webp")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    for read_pipe in (open_video, content_sha256):
        with pytest.raises(DecodeError, match=r"a.mp4': it is a named pipe, which may never end; save what"):
            read_pipe(str(tmp_path / "a.mp4"))


@pytest.mark.parametrize("default", [0, 1])
def test_of_two_video_streams_the_default_is_read(tmp_path: Path, pattern: Pattern, default: int) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("ffv1", rate=25, width=64, height=48 + 16 * n, pix_fmt="bgr0") for n in (0, 1)]
        for number, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if number == default else 0
        for stream in streams:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pattern(stream.height, 64), format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    assert read(tmp_path / "a.mkv")[0].size == (48 + 16 * default, 64)


SCRIPTS = {
    "concat": "ffconcat version 1.0\nfile {secret}\n",
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{secret}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet><Representation id="0" '
    'mimeType="video/mp4"><BaseURL>{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("name", ["a.mp4", "a.ffconcat", "a.m3u8", "a.mpd", "a.sdp"])
def test_scripts_that_name_other_files_are_not_followed(
    tmp_path: Path, frames: list[np.ndarray], kind: str, name: str
) -> None:
    write_video(tmp_path / "secret.ts", frames)
    (tmp_path / name).write_text(SCRIPTS[kind].format(secret="secret.ts"))
    with pytest.raises(DecodeError, match="FFmpeg cannot read it as a video"):
        open_video(tmp_path / name)


@pytest.mark.parametrize(
    "address",
    ["concat://{0}|{0}", "subfile://,,start,0,end,0,,:{0}", "pipe://0", "data://video/mp4;base64,AAAA", "cache://{0}",
     "unix://{0}", "crypto://{0}", "async://{0}", "gopher://127.0.0.1/{0}", "lavfi://testsrc", "fd://0"],
)  # fmt: skip
def test_other_protocols_are_refused(tmp_path: Path, frames: list[np.ndarray], address: str) -> None:
    write_video(tmp_path / "a.ts", frames)
    with pytest.raises(DecodeError, match=r"of the protocol '[a-z]+' are not opened; allowed are files, http"):
        open_video(address.format(tmp_path / "a.ts"))


def test_a_playlist_from_a_server_reads_no_local_file(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "secret.ts", frames)
    playlist = SCRIPTS["hls"].format(secret=f"file://{tmp_path}/secret.ts").encode()
    with serving(lambda handler: answer(handler, playlist)) as root, pytest.raises(DecodeError):
        read(f"{root}/a.m3u8")


def test_frames_beyond_the_limit_on_pixels_are_refused(
    tmp_path: Path, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    Image.new("1", (8193, 8192)).save(tmp_path / "1.png")
    with pytest.raises(DecodeError, match=r"'1.png': 8193x8192 is more than the 67,108,864 pixels"):
        read(tmp_path)
    write_video(tmp_path / "a.mp4", frames)
    monkeypatch.setattr("c3dvideo.video.container.MAX_PIXELS", 3071)
    with pytest.raises(DecodeError, match=r"its frames: 64x48 is more than the .* pixels that a frame may have"):
        open_video(tmp_path / "a.mp4")


def test_a_decompression_bomb_among_frames_is_an_error_of_its_folder(
    tmp_path: Path, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow refuses pictures of more than twice its own limit, with an exception that is no OSError."""
    folder = folder_of(tmp_path / "v", frames)
    for most in (1000, 2000):  # 64 x 48 pixels are more than twice the limit, and then only more: Pillow would warn
        monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", most)
        with (
            warnings.catch_warnings(record=True) as shown,
            pytest.raises(DecodeError, match=r"'1.png' is far larger than 67,108,864 pixels; scale it down"),
        ):
            warnings.simplefilter("always")
            read(folder)
        assert not shown


def test_colours_that_ffmpeg_cannot_convert(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mp4", frames, codec_options={"x264-params": "colormatrix=bt2020c"})
    with pytest.raises(DecodeError, match=r"a.mp4': FFmpeg cannot convert its colours: Operation not supported"):
        [frame.pixels for frame in read(tmp_path / "a.mp4")]


# Servers

FAST_START = {"movflags": "faststart"}


@contextmanager
def serving(respond: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on this machine that answers every GET with `respond`; the address of its root."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            respond(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def answer(
    handler: http.server.BaseHTTPRequestHandler, content: bytes, *, stated: int | None = None, pause: float = 0
) -> None:
    handler.send_response(200)
    if stated is not None:
        handler.send_header("Content-Length", str(stated))
    handler.end_headers()
    with suppress(OSError):  # the reader may be gone
        handler.wfile.write(content)
        handler.wfile.flush()
        time.sleep(pause)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_an_answer_that_is_cut_short_is_an_error(tmp_path: Path, frames: list[np.ndarray], name: str) -> None:
    write_video(tmp_path / name, frames)
    content = (tmp_path / name).read_bytes()
    part = content[: len(content) * 6 // 10]
    with (
        serving(lambda handler: answer(handler, part, stated=len(content))) as root,
        pytest.raises(DecodeError, match=r"damaged, or its transfer was cut short: .*fetch it again"),
    ):
        read(f"{root}/{name}")


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_a_connection_that_is_closed_early_is_no_fault_of_a_disk(
    tmp_path: Path, pattern: Pattern, share: float
) -> None:
    write_video(tmp_path / "a.mp4", [pattern(48, 64, 5 * n) for n in range(20)], container_options=FAST_START)
    content = (tmp_path / "a.mp4").read_bytes()
    part = content[: int(share * len(content))]
    with (
        serving(lambda handler: answer(handler, part, stated=len(content))) as root,
        pytest.raises(DecodeError, match=r"prematurely|transfer was cut short") as caught,
    ):
        read(f"{root}/a.mp4")
    assert "disk" not in str(caught.value)


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_a_server_that_stops_half_way_is_named(tmp_path: Path, pattern: Pattern, share: float) -> None:
    write_video(tmp_path / "a.mp4", [pattern(48, 64, 5 * n) for n in range(20)], container_options=FAST_START)
    content = (tmp_path / "a.mp4").read_bytes()
    part = content[: int(share * len(content))]
    with (
        serving(lambda handler: answer(handler, part, stated=len(content), pause=2)) as root,
        pytest.raises(DecodeError, match=r"no data came for 0.3 seconds"),
    ):
        read(f"{root}/a.mp4", stall_seconds=0.3)


def test_redirects_in_a_circle_are_a_fault_of_the_server() -> None:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(respond) as root, pytest.raises(DecodeError, match="the server") as caught:
        read(f"{root}/a.mp4")
    assert "disk" not in str(caught.value)


def test_letters_beyond_ascii_and_spaces_in_an_address_are_encoded(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mkv", frames)
    paths = []

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        paths.append(handler.path)
        answer(handler, (tmp_path / "a.mkv").read_bytes())

    with serving(respond) as root:
        assert len(read(f"{root}/Fußball 1%20.mkv?q=ü")) == 20
    assert set(paths) == {"/Fu%C3%9Fball%201%20.mkv?q=%C3%BC"}


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_a_server_need_not_state_a_length(tmp_path: Path, frames: list[np.ndarray], name: str) -> None:
    write_video(tmp_path / name, frames)
    with serving(lambda handler: answer(handler, (tmp_path / name).read_bytes())) as root:
        assert len(read(f"{root}/{name}")) == 20


@pytest.mark.parametrize(("flags", "share"), [("", 1), ("faststart", 1), ("faststart", 0.6)])
def test_an_index_at_the_end_needs_a_server_that_sends_parts(tmp_path: Path, flags: str, share: float) -> None:
    noise = iter(np.random.default_rng(0).integers(0, 256, (40, 120, 160, 3), np.uint8))  # more than FFmpeg buffers
    write_video(tmp_path / "a.mp4", noise, container_options={"movflags": flags} if flags else {})
    content = (tmp_path / "a.mp4").read_bytes()
    part = content[: int(share * len(content))]
    with serving(lambda handler: answer(handler, part, stated=len(content))) as root:
        if flags and share == 1:
            assert len(read(f"{root}/a.mp4")) == 40
            return
        reason = "its server cannot send parts of a file" if not flags else "its transfer was cut short"
        with pytest.raises(DecodeError, match=reason):
            read(f"{root}/a.mp4")


@pytest.mark.parametrize("share", [0, 0.6])
def test_a_silent_server_is_given_up_on(tmp_path: Path, frames: list[np.ndarray], share: float) -> None:
    write_video(tmp_path / "a.mkv", frames)
    content = (tmp_path / "a.mkv").read_bytes()
    part = content[: int(share * len(content))]
    with serving(lambda handler: answer(handler, part, stated=len(content), pause=3)) as root:
        started = time.monotonic()
        with pytest.raises(DecodeError, match=r"no data came for 0.5 seconds"):
            read(f"{root}/a.mkv", stall_seconds=0.5)
        assert time.monotonic() - started < 2.5


# The authors' videos


@pytest.mark.oracle
def test_times_and_counts_of_real_videos(reference: Path) -> None:
    for name, fps, n_frames in (
        ("data/ucf101/v_ApplyEyeMakeup_g01_c01.avi", Fraction(25), 164),
        ("data/ucf101/v_BaseballPitch_g01_c01.avi", Fraction(30000, 1001), 107),
        ("oracle/demo.mp4", Fraction(28), 280),
    ):
        with open_video(reference / name) as video:
            assert video.fps == fps
            seconds = [frame.seconds for frame in video.frames()]
        assert len(seconds) == n_frames
        np.testing.assert_allclose(seconds, np.arange(n_frames) / float(fps), atol=0.001)


@pytest.mark.oracle
def test_pixels_equal_opencv_s_decoder(reference: Path) -> None:
    cv2 = pytest.importorskip("cv2")

    def opencv_frames(path: Path) -> Iterator[np.ndarray]:
        capture = cv2.VideoCapture(str(path))
        while (got := capture.read())[0]:
            yield got[1]

    for name in ("data/ucf101/v_BaseballPitch_g01_c01.avi", "oracle/demo.mp4"):
        with open_video(reference / name) as video:
            for frame, expected in zip(video.frames(), opencv_frames(reference / name), strict=True):
                np.testing.assert_array_equal(frame.pixels, expected)
