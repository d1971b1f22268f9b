"""What people see of a video: pieces that browsers play, and strips of frames."""

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from c3dvideo.errors import DecodeError
from c3dvideo.video.encode import write_video
from c3dvideo.video.viewing import frames_between, sprite, view_info, write_piece

FPS = 10


def numbered(n: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Frames whose grey level is twice their number."""
    return [np.full((height, width, 3), 2 * index, np.uint8) for index in range(n)]


def levels(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second-by-second recognisable video of ten seconds in several formats, and as a folder of pictures."""
    folder = tmp_path_factory.mktemp("videos")
    frames = numbered(100)
    for name, codec in [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mpg", "mpeg2video"), ("a.webm", "libvpx")]:
        write_video(folder / name, frames, fps=25 if name == "a.mpg" else FPS, codec=codec)
    (folder / "frames").mkdir()
    for index, pixels in enumerate(frames[:60]):
        Image.fromarray(pixels).save(folder / "frames" / f"{index}.png")
    return folder


def test_browsers_play_some_files_as_they_are_and_others_converted(videos: Path) -> None:
    assert view_info(videos / "a.mp4").mime == "video/mp4"
    assert view_info(videos / "a.webm").mime == "video/webm"
    for name in ("a.avi", "a.mpg", "frames"):
        assert view_info(videos / name).mime is None
    info = view_info(videos / "a.avi")
    assert (info.width, info.height, info.codec, info.seconds) == (96, 64, "mpeg4", 10.0)
    assert view_info(videos / "frames").seconds == 60 / 25


def test_h264_with_ten_bits_is_converted(tmp_path: Path) -> None:
    write_video(tmp_path / "ten.mp4", numbered(5), codec="libx264", pixel_format="yuv420p10le")
    assert view_info(tmp_path / "ten.mp4").mime is None


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.webm"])
@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_a_piece_holds_the_frames_of_its_seconds(videos: Path, tmp_path: Path, name: str, format: str) -> None:
    out = tmp_path / f"piece.{format}"
    assert write_piece(videos / name, out, start_seconds=4, seconds=4, format=format) == 40  # type: ignore[arg-type]
    found = levels(out)
    assert len(found) == 40
    assert abs(found[0] - 80) < 8
    assert abs(found[-1] - 158) < 8


def test_a_piece_begins_at_time_zero_and_plays_by_itself(videos: Path, tmp_path: Path) -> None:
    write_piece(videos / "a.avi", tmp_path / "piece.mp4", start_seconds=8, seconds=4)
    with av.open(str(tmp_path / "piece.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name == "h264"
    assert times[0] == 0
    assert np.allclose(np.diff(times), 0.1, atol=0.01)


def test_pieces_of_a_frame_folder_are_at_25_frames_per_second(videos: Path, tmp_path: Path) -> None:
    assert write_piece(videos / "frames", tmp_path / "piece.mp4", start_seconds=1, seconds=1) == 25
    assert abs(levels(tmp_path / "piece.mp4")[0] - 50) < 4


def test_there_is_no_piece_behind_the_end(videos: Path, tmp_path: Path) -> None:
    assert write_piece(videos / "a.avi", tmp_path / "piece.mp4", start_seconds=12, seconds=4) == 0
    assert not (tmp_path / "piece.mp4").exists()


def test_large_frames_are_scaled_and_odd_sides_become_even(tmp_path: Path) -> None:
    write_video(tmp_path / "large.avi", numbered(3, 1000, 602), codec="ffv1", pixel_format="yuv444p")
    write_piece(tmp_path / "large.avi", tmp_path / "piece.mp4", start_seconds=0, seconds=1)
    assert (view_info(tmp_path / "piece.mp4").height, view_info(tmp_path / "piece.mp4").width) == (480, 288)


def test_a_rotated_video_is_shown_upright(tmp_path: Path) -> None:
    write_video(tmp_path / "phone.mp4", numbered(5), rotation=90)
    ((_, pixels), *_) = frames_between(tmp_path / "phone.mp4", 0, 1, max_height=480)
    assert pixels.shape == (96, 64, 3)


def test_a_sprite_shows_every_moment_in_a_column(videos: Path) -> None:
    sheet = np.asarray(Image.open(BytesIO(sprite(videos / "a.avi", [0.0, 5.0], rows=4, step_seconds=0.2))))
    assert sheet.shape == (4 * 120, 2 * 160, 3)
    cells = sheet.reshape(4, 120, 2, 160, 3).mean(axis=(1, 3, 4))
    assert np.allclose(cells, [[0, 100], [4, 104], [8, 108], [12, 112]], atol=6)


def test_a_sprite_behind_the_end_shows_the_last_frames(videos: Path) -> None:
    sheet = np.asarray(Image.open(BytesIO(sprite(videos / "a.mp4", [10.5], rows=1))))
    assert sheet.mean() > 170


def test_what_is_no_video_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for name in ("text.mp4", "empty", "absent.mp4"):
        with pytest.raises(DecodeError):
            view_info(tmp_path / name)
        with pytest.raises(DecodeError):
            sprite(tmp_path / name, [0.0])


def test_pictures_that_link_out_of_their_folder_are_not_shown(tmp_path: Path) -> None:
    Image.fromarray(numbered(1)[0]).save(tmp_path / "secret.png")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "000.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DecodeError, match="no pictures"):
        view_info(tmp_path / "frames")


def test_a_playlist_is_not_followed(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {videos / 'a.mp4'}\n")
    with pytest.raises(DecodeError):
        view_info(tmp_path / "list.mp4")
