"""How fast videos become clips on one core, and how much memory that takes: python benchmarks/video.py [VIDEO...]

Prints JSON: milliseconds of processor time per frame, median and least of the repetitions, of decoding, of
preprocessing and of clips, which is all of it. Without videos of your own, it measures generated ones, and the peak
memory of a process that reads every clip of a one-minute and of a two-hour video.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import av
import numpy as np

from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video
from c3dvideo.video.preprocess import CAFFE, prepare_frame
from c3dvideo.video.reader import read_clips

REPETITIONS = 9
PEAK = "--peak"


def main(paths: list[str]) -> None:
    if paths:
        print(json.dumps({"videos": len(paths), **milliseconds_a_frame(list(map(Path, paths)))}, indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "320x240.mp4"), Path(folder, "1920x1080.mp4")
        write_video(small, moving_texture(300, 240, 320))
        write_video(large, moving_texture(60, 1080, 1920))
        write_repeated(small, Path(folder, "minute.mp4"), 5)
        write_repeated(small, Path(folder, "two_hours.mp4"), 600)
        result: dict[str, object] = {path.stem: milliseconds_a_frame([path]) for path in (small, large)}
        for name in ("minute", "two_hours"):
            result[f"{name} peak MB"] = peak_megabytes(Path(folder, f"{name}.mp4"))
    print(json.dumps(result, indent=1))


def milliseconds_a_frame(paths: list[Path]) -> dict[str, list[float]]:
    """Processor time per frame: [median, least] of each part."""

    def decode() -> int:
        n_frames = 0
        for path in paths:
            with open_video(path) as video:
                n_frames += sum(frame.pixels.ndim == 3 for frame in video.frames())
        return n_frames

    def clips() -> int:
        n_frames = 0
        for path in paths:
            reader = read_clips(path, plan=ClipPlan(short="repeat_last"))
            for _ in reader:
                pass
            n_frames += reader.n_frames
        return n_frames

    with open_video(paths[0]) as video:
        frames = [frame.pixels for frame in islice(video.frames(), 32)]

    def preprocess() -> int:
        for pixels in frames:
            prepare_frame(pixels, CAFFE, CAFFE.views())
        return len(frames)

    ways = {"decode": decode, "preprocess": preprocess, "clips": clips}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(REPETITIONS + 1):
        for name, count_frames in ways.items():
            start = time.process_time()
            n_frames = count_frames()
            if turn:  # the first one warms up
                times[name].append(1000 * (time.process_time() - start) / n_frames)
    return {name: [round(median(each), 3), round(min(each), 3)] for name, each in times.items()}


def peak_megabytes(path: Path) -> float:
    """Peak resident memory of a fresh process that reads every clip of `path`, in MB; Linux."""
    return float(subprocess.run([sys.executable, __file__, PEAK, str(path)], check=True, capture_output=True).stdout)


def read_and_print_peak(path: str) -> None:
    for _ in read_clips(path):
        pass
    # Not ru_maxrss: that starts from the memory of the parent process.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def moving_texture(n_frames: int, height: int, width: int) -> Iterator[np.ndarray]:
    """A textured background that pans, with a square that crosses it: frames as heavy for a decoder as real ones."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (height // 8 + 9, width // 8 + 9, 3), dtype=np.uint8)
    background = coarse.repeat(8, axis=0).repeat(8, axis=1)
    background = (background // 2 + background[::-1, ::-1] // 4 + generator.integers(0, 8, background.shape)) % 256
    for index in range(n_frames):
        shift = index % 64
        picture = background[shift : shift + height, shift : shift + width].astype(np.uint8)
        left = 7 * index % (width - width // 5)
        picture[height // 3 : height // 2, left : left + width // 5] = (250, 180, 40)
        yield picture


def write_folder(folder: Path, n_videos: int, n_frames: int, height: int, width: int) -> Path:
    """A new folder of equal videos 0.mp4, 1.mp4, ..., encoded once."""
    folder.mkdir()
    write_video(folder / "0.mp4", moving_texture(n_frames, height, width))
    for index in range(1, n_videos):
        shutil.copyfile(folder / "0.mp4", folder / f"{index}.mp4")
    return folder


def write_repeated(source: Path, target: Path, times: int) -> None:
    """The packets of `source`, `times` in a row, without decoding: long videos in seconds."""
    with av.open(str(source)) as short:
        packets = [packet for packet in short.demux(video=0) if packet.dts is not None]
        ticks = max(packet.pts + packet.duration for packet in packets)
        stamps = [(packet.pts, packet.dts) for packet in packets]
        with av.open(str(target), "w") as long:
            stream = long.add_stream_from_template(short.streams.video[0])
            for turn in range(times):
                for packet, (pts, dts) in zip(packets, stamps, strict=True):
                    packet.stream, packet.time_base = stream, short.streams.video[0].time_base
                    packet.pts, packet.dts = pts + turn * ticks, dts + turn * ticks
                    long.mux(packet)


if __name__ == "__main__":
    read_and_print_peak(sys.argv[2]) if sys.argv[1:2] == [PEAK] else main(sys.argv[1:])
