"""From files: decoding beside other decoders, whole extractions, memory on long videos, many videos, start-up."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.turns import Row, rows_of, take_turns
from benchmarks.video import moving_texture, write_folder, write_repeated
from c3dvideo.features.extract import extract
from c3dvideo.network.c3d import C3D
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video

NAIVE = "PyAV, a new scaler a frame"


def narrow_network() -> C3D:
    """The release's topology a few channels wide, so that the work around the network shows."""
    network = C3D(num_classes=5, stages=((4,), (4,), (8, 8), (8, 8), (8, 8)), fc_width=16, filler="xavier")
    network.mean_volume = np.full((3, 16, 128, 171), 100, np.float32)
    return network.eval()


def measure_decoding(*, quick: bool) -> Iterator[Row]:
    """Milliseconds per decoded frame, 8-bit and three channels, of 320x240 H.264."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        n_frames = 150 if quick else 600
        write_video(path, moving_texture(n_frames, 240, 320))
        ways = dict(_decoders(path))
        reference = ways["c3dvideo"]()
        for name, count_and_sum in ways.items():
            n_decoded, brightness = count_and_sum()
            if n_decoded != n_frames or abs(brightness / reference[1] - 1) > 0.01:
                raise SystemExit(
                    f"{name} decodes {n_decoded} frames of mean {brightness}; expected {(n_frames, *reference)}"
                )
        seconds = take_turns(ways, rounds=3 if quick else 7)
        yield from rows_of("decoding", seconds, against=NAIVE, per=n_frames / 1000, unit="ms/frame")


def _decoders(path: Path) -> Iterator[tuple[str, Callable[[], tuple[int, float]]]]:
    """Each gives the number of frames and the mean of their first row."""

    def summed(frames: Iterator[np.ndarray]) -> tuple[int, float]:
        rows = [float(frame[0].mean()) for frame in frames]
        return len(rows), float(np.mean(rows))

    def naive() -> Iterator[np.ndarray]:
        import av

        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.reformat(format="bgr24").to_ndarray()

    def ours() -> Iterator[np.ndarray]:
        with open_video(path) as video:
            for frame in video.frames():
                yield frame.pixels

    yield NAIVE, lambda: summed(naive())
    yield "c3dvideo", lambda: summed(ours())
    try:
        import cv2
    except ImportError:
        pass
    else:

        def opencv() -> Iterator[np.ndarray]:
            capture = cv2.VideoCapture(str(path))
            while (read := capture.read())[0]:
                yield read[1]

        yield "OpenCV", lambda: summed(opencv())
    try:
        import decord
    except ImportError:
        return
    yield "decord", lambda: summed(frame.asnumpy() for frame in decord.VideoReader(str(path)))


def measure_end_to_end(*, quick: bool) -> Iterator[Row]:
    """Files in, features out, with the network of full width, and where the seconds went."""
    from benchmarks.network import seeded_network

    network = seeded_network()
    network.mean_volume = np.full((3, 16, 128, 171), 100, np.float32)
    n_videos, n_frames = (2, 64) if quick else (8, 320)
    with tempfile.TemporaryDirectory() as folder:
        videos = write_folder(Path(folder, "videos"), n_videos, n_frames, 240, 320)
        for turn in range(1 if quick else 3):
            done = extract([videos], Path(folder, f"features{turn}"), weights=network)
            section = "end to end"
            yield Row(section=section, name="wall", value=done.seconds / done.n_clips, unit="s/clip")
            yield Row(section=section, name="frames a second", value=16 * done.clips_per_second, unit="frames/s")
            for name, value in vars(done.timings).items():
                share = value / done.seconds
                yield Row(
                    section=section, name=name, value=value / done.n_clips, unit="s/clip", against="wall", ratio=share
                )


def measure_memory(*, quick: bool) -> Iterator[Row]:
    """Peak memory of one process: the network by each engine, and extraction of a short and of a two-hour video."""
    for batch in (1, 8):
        for way in ("eager", "winograd"):
            megabytes = _peak("network", way, str(batch))
            yield Row(section="memory", name=f"{way}, batch {batch}", value=megabytes, unit="MB")
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder, "short.mp4")
        write_video(short, moving_texture(300, 96, 128))
        # 10 seconds, repeated: one minute, and two hours (quick: six minutes).
        for name, times in (("one minute", 6), ("six minutes", 36) if quick else ("two hours", 720)):
            long = Path(folder, f"{name}.mp4")
            write_repeated(short, long, times)
            yield Row(section="memory", name=f"extract, {name}", value=_peak("extract", str(long), folder), unit="MB")


def measure_scaling(*, quick: bool) -> Iterator[Row]:
    """Milliseconds per clip of extracting 10, 100 and 1,000 short videos with a narrow network."""
    with tempfile.TemporaryDirectory() as folder:
        for count in (10, 50) if quick else (10, 100, 1000):
            videos = write_folder(Path(folder, f"videos{count}"), count, 32, 96, 128)
            done = extract([videos], Path(folder, f"features{count}"), weights=narrow_network())
            yield Row(
                section="scaling", name=f"{count} videos", value=1000 * done.seconds / done.n_clips, unit="ms/clip"
            )


def measure_start(*, quick: bool) -> Iterator[Row]:
    """Seconds until a command has said its first word."""
    commands = {
        "c3dvideo --help": ["-c", "from c3dvideo.cli import main; main()", "--help"],
        "import c3dvideo": ["-c", "import c3dvideo"],
        "import torch": ["-c", "import torch"],
    }
    for name, command in commands.items():
        times = []
        for _ in range(3 if quick else 7):
            started = perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times.append(perf_counter() - started)
        yield Row(section="start", name=name, value=median(times), unit="s")


def _peak(*arguments: str) -> float:
    """Peak resident memory in MB of a fresh process that runs `main` below with these arguments; Linux."""
    command = [sys.executable, "-m", "benchmarks.files", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main(task: str, *arguments: str) -> None:
    """Do one thing and print the peak memory of this process."""
    if task == "extract":
        extract([arguments[0]], Path(arguments[1], Path(arguments[0]).stem + ".features"), weights=narrow_network())
    else:
        _run_network(arguments[0], int(arguments[1]))
    # Not ru_maxrss: that starts from the memory of the parent process.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def _run_network(way: str, batch: int) -> None:
    import torch

    from c3dvideo.inference.cpu import kernels
    from c3dvideo.inference.cpu.winograd_network import WinogradNetwork
    from c3dvideo.network.c3d import c3d

    network = c3d().eval()
    clips = torch.randn(batch, 3, 16, 112, 112)
    if way == "eager":
        with torch.inference_mode():
            for _ in range(2):
                network.activations(clips, ["fc6"])
    else:
        fast = WinogradNetwork(network, ["fc6"], kernels=kernels.load())
        for _ in chain(fast(clips), fast(clips)):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
