"""Times of frames: exact where a file states them, and a frame's distance apart where it does not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video
from c3dvideo.video.timestamps import Clock

Pattern = Callable[..., np.ndarray]
B_FRAMES = {"codec_options": {"bf": "2", "g": "12"}}


@pytest.fixture
def frames(pattern: Pattern) -> list[np.ndarray]:
    return [pattern(48, 64, phase) for phase in range(40)]


def times(path: Path) -> list[float]:
    with open_video(path) as video:
        return [frame.seconds for frame in video.frames()]


def assert_regular(found: list[float], n_frames: int, fps: Fraction | int = 25, *, within: float = 0.0011) -> None:
    """Every frame is 1 / fps after the one before, but for the rounding of the container."""
    assert len(found) == n_frames
    np.testing.assert_allclose(found, np.arange(n_frames) / float(fps), atol=within)
    assert (np.diff(found) > 0).all()


@dataclass
class Stamped:
    """Moves the time stamps of packets while they are copied."""

    shift: int = 0
    pts_is_dts: bool = False

    def copy(self, source: Path, target: Path, **options: str) -> Path:
        with av.open(str(source)) as reader, av.open(str(target), "w", container_options=options) as writer:
            stream = reader.streams.video[0]
            copied = writer.add_stream_from_template(stream)
            for number, packet in enumerate(reader.demux(stream)):
                if packet.size:
                    packet.stream = copied
                    if self.pts_is_dts:
                        packet.pts = packet.dts = round(number / (25 * packet.time_base))
                    packet.pts += self.shift
                    packet.dts = None if packet.dts is None else packet.dts + self.shift
                    writer.mux(packet)
        return target


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "libx264"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_an_avi_stream_copied_into_another_container(
    tmp_path: Path, frames: list[np.ndarray], codec: str, suffix: str
) -> None:
    """The copy carries decoding times as presentation times, so the decoder's frames come with 0, 2, 3, 1."""
    write_video(tmp_path / "a.avi", frames, codec=codec, **B_FRAMES)
    path = Stamped(pts_is_dts=True).copy(tmp_path / "a.avi", tmp_path / f"b{suffix}")
    with av.open(str(path)) as container:
        stated = [frame.pts for frame in container.decode(video=0)]
    assert stated != sorted(stated)
    assert_regular(times(path), 40)


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "libx264"])
def test_b_frames_in_an_avi(tmp_path: Path, frames: list[np.ndarray], codec: str) -> None:
    write_video(tmp_path / "a.avi", frames, codec=codec, codec_options={"bf": "3"})
    assert_regular(times(tmp_path / "a.avi"), 40)


@pytest.mark.parametrize("bf", ["0", "2"])
def test_a_gap_in_an_avi_is_kept(tmp_path: Path, frames: list[np.ndarray], bf: str) -> None:
    seconds = [index / 25 + (0.4 if index > 9 else 0) for index in range(40)]
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p", options={"bf": bf})
        stream.codec_context.time_base = Fraction(1, 25)
        for pixels, second in zip(frames, seconds, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(25 * second), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert times(tmp_path / "a.avi") == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("suffix", "codec", "times_in_a_row"),
    [
        (".mpg", "mpeg1video", 2),
        (".mpg", "mpeg2video", 3),
        (".vob", "mpeg2video", 2),
    ],
)
def test_joined_recordings_go_on_where_the_first_one_ended(
    tmp_path: Path, frames: list[np.ndarray], suffix: str, codec: str, times_in_a_row: int
) -> None:
    write_video(tmp_path / f"a{suffix}", frames, codec=codec, **B_FRAMES)
    joined = tmp_path / f"b{suffix}"
    joined.write_bytes((tmp_path / f"a{suffix}").read_bytes() * times_in_a_row)
    # FFmpeg misstates the times of frames that share a packet of a program stream; one stays half a frame off.
    assert_regular(times(joined), 40 * times_in_a_row, within=0.0011 if suffix == ".mpg" else 0.0201)


def test_joined_recordings_of_different_hours(tmp_path: Path, frames: list[np.ndarray]) -> None:
    write_video(tmp_path / "a.mpg", frames, codec="mpeg2video", **B_FRAMES)
    write_video(
        tmp_path / "b.ts", frames, codec="mpeg2video", container_options={"output_ts_offset": "100"}, **B_FRAMES
    )
    Stamped(shift=90_000 * 1000).copy(tmp_path / "a.mpg", tmp_path / "c.mpg")
    joined = tmp_path / "d.mpg"
    joined.write_bytes((tmp_path / "a.mpg").read_bytes() + (tmp_path / "c.mpg").read_bytes())
    assert_regular(times(joined), 80)


@pytest.mark.parametrize("bf", ["0", "3"])
def test_negative_times_in_matroska(tmp_path: Path, frames: list[np.ndarray], bf: str) -> None:
    """FFmpeg gives frames before zero no time at all."""
    write_video(tmp_path / "a.mkv", frames, codec_options={"bf": bf})
    path = Stamped(shift=-700).copy(tmp_path / "a.mkv", tmp_path / "b.mkv", avoid_negative_ts="disabled")
    with av.open(str(path)) as container:
        assert None in [frame.pts for frame in container.decode(video=0)]
    assert_regular(times(path), 40)


def test_two_frames_of_one_time(tmp_path: Path, frames: list[np.ndarray]) -> None:
    """The second one is shown half a frame later, and the times after it stay true."""
    write_video(tmp_path / "a.mkv", frames, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(tmp_path / "a.mkv")) as reader, av.open(str(tmp_path / "b.mkv"), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                if packet.pts == 400:
                    packet.pts = packet.dts = 360
                writer.mux(packet)
    found = times(tmp_path / "b.mkv")
    assert found[9:12] == pytest.approx([0.36, 0.38, 0.44])
    assert len(found) == 40 and found[-1] == pytest.approx(39 / 25)


@pytest.mark.parametrize(("fps", "size"), [(Fraction(25), (576, 720)), (Fraction(30000, 1001), (480, 720))])
@pytest.mark.parametrize("n_frames", [1, 3])
def test_the_rate_of_dv_is_that_of_its_frames(
    tmp_path: Path, pattern: Pattern, fps: Fraction, size: tuple[int, int], n_frames: int
) -> None:
    """FFmpeg's average rate of a DV file is 60000."""
    pixel_format = "yuv420p" if fps == 25 else "yuv411p"
    pictures = [pattern(*size, phase) for phase in range(n_frames)]
    write_video(tmp_path / "a.dv", pictures, fps=fps, codec="dvvideo", pixel_format=pixel_format)
    with open_video(tmp_path / "a.dv") as video:
        assert video.fps == fps
        assert_regular([frame.seconds for frame in video.frames()], n_frames, fps)


@dataclass
class Fake:
    """Stands for a packet, and for the frame that comes out of it."""

    pts: int | None
    dts: int | None = None
    size: int = 1
    pict_type: int = 1


def test_packets_without_a_picture_are_no_sign_of_decoding_times() -> None:
    """VP8 stores pictures that are never shown; their times rise like all others."""
    clock = Clock(fps=Fraction(25), time_base=Fraction(1, 1000), in_decoding_order=False, joins=False)
    found = []
    for pts in range(0, 400, 20):
        clock.add(Fake(pts, pts))
        if pts % 40 == 0:
            found.append(clock.seconds(Fake(pts, pts), reorder_depth=0))
    assert found == [index * 0.04 for index in range(10)]


def test_a_decoder_that_begins_to_hold_frames_back() -> None:
    """An H.264 stream in an AVI that does not state its B-frames."""
    clock = Clock(fps=Fraction(25), time_base=Fraction(1, 25), in_decoding_order=True, joins=False)
    found = [clock.seconds(Fake(None, index), reorder_depth=0) for index in range(5)]
    found += [clock.seconds(Fake(None, index + 2), reorder_depth=2) for index in range(5, 10)]
    found += [clock.seconds(Fake(None, None), reorder_depth=2) for _ in range(2)]
    assert_regular(found, 12)


stamps = st.one_of(st.none(), st.integers(-(2**33), 2**33), st.integers(-50, 50))


@given(
    stated=st.lists(st.tuples(stamps, stamps, st.integers(1, 3), st.integers(0, 3)), max_size=40),
    fps=st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(1, 3), None]),
    time_base=st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 25)]),
    kind=st.sampled_from([(False, False), (True, False), (False, True)]),
)
def test_times_rise_whatever_a_file_states(
    stated: list[tuple[int | None, int | None, int, int]],
    fps: Fraction | None,
    time_base: Fraction,
    kind: tuple[bool, bool],
) -> None:
    clock = Clock(fps=fps, time_base=time_base, in_decoding_order=kind[0], joins=kind[1])

    def found() -> Iterator[float]:
        for pts, dts, pict_type, reorder_depth in stated:
            clock.add(Fake(pts, dts))
            yield clock.seconds(Fake(pts, dts, pict_type=pict_type), reorder_depth=reorder_depth)

    seconds = list(found())
    assert seconds[:1] in ([], [0.0])
    assert all(earlier < later for earlier, later in pairwise(seconds))
