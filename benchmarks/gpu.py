"""Throughput on a GPU, where there is one: every precision beside plain PyTorch and the matrix product rate, from host
memory, updates of training, and from files to features."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from benchmarks.network import GFLOP_A_CLIP, seeded_network
from benchmarks.training import updates_on
from benchmarks.turns import Row, rows_of, take_turns
from benchmarks.video import write_folder
from c3dvideo.choices import Precision
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import open_decoders, slots_needed
from c3dvideo.features.decoding import DecodeSettings
from c3dvideo.features.extract import extract
from c3dvideo.features.timings import Timings
from c3dvideo.inference.direct import DTYPES
from c3dvideo.inference.engine import make_engine
from c3dvideo.inference.gpu.fused_network import network_on_gpu
from c3dvideo.inference.gpu.gpu_engine import GpuEngine
from c3dvideo.inference.scaling import Scaling
from c3dvideo.inference.switches import switches
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.sources import find_sources

EAGER = "PyTorch eager, its defaults, autotuned"
EXACT = "PyTorch eager, fp32, deterministic"
EAGER_16_BIT = "PyTorch eager, bf16, autotuned"
PAPER, PAPER_RATE = "the paper's K40", 313.9  # frames per second
TOLERANCES = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2}
CALLS_PER_TURN = 4  # so that launching and waiting count as they do in a run, where batches follow each other


def measure(*, quick: bool) -> Iterator[Row]:
    """Seconds per clip on the device and from host memory to host memory, shares of the product rate, and files."""
    if not torch.cuda.is_available():
        return
    network = seeded_network()
    network.mean_volume = np.full((3, 16, 128, 171), 100, np.float32)
    seconds = yield from on_device(network, rounds=5 if quick else 20)
    for precision in DTYPES:
        yield from from_host(network, precision, n_batches=20)
    yield from updates_on(torch.device("cuda"), rounds=5 if quick else 15)
    alone = {precision: median(seconds[precision]) for precision in DTYPES}
    yield from from_files(network, device="cuda:0", alone=alone, n_videos=200 if quick else 800)


def on_device(network: C3D, *, rounds: int, n_clips: int = 64) -> Generator[Row, None, dict[str, list[float]]]:
    """The network up to fc6, from clips on the device, beside PyTorch's own ways; returns seconds per clip by way."""
    device = torch.device("cuda")
    pixels = torch.randint(0, 256, (n_clips, 3, 16, 112, 112), dtype=torch.uint8, device=device)
    views = torch.zeros(n_clips, dtype=torch.int64, device=device)
    scaling = Scaling.of(network, network.profile.views("centre"), device)
    x = scaling.apply(pixels)
    eager, eager_16_bit = deepcopy(network).cuda(), deepcopy(network).cuda().bfloat16()

    def exact() -> Tensor:
        with switches("fp32"):
            return eager.activations(x, ["fc6"])["fc6"]

    torch.backends.cudnn.benchmark = True  # as a user sets it who cares for speed; `switches` sets its own
    ways: dict[str, Callable[[], object]] = {
        EAGER: partial(eager.activations, x, ["fc6"]),
        EXACT: exact,
        EAGER_16_BIT: partial(eager_16_bit.activations, x.bfloat16(), ["fc6"]),
    }
    with torch.inference_mode():
        expected = exact()
        for precision in DTYPES:
            ours = network_on_gpu(network, ["fc6"], device=device, precision=precision, scaling=scaling)
            distance = float((ours(pixels, views)[0]["fc6"] - expected).norm() / expected.norm())
            if not distance < TOLERANCES[precision]:
                raise SystemExit(f"{precision}: relative L2 distance {distance:.2g} to eager fp32; another network")
            yield Row(section="gpu model", name=f"distance of {precision}", value=distance, unit="relative L2")
            ways[precision] = partial(ours, pixels, views)
        turns = take_turns({name: _finished(run) for name, run in ways.items()}, rounds=rounds)
    seconds = {name: [time / (CALLS_PER_TURN * n_clips) for time in times] for name, times in turns.items()}
    yield from rows_of("gpu model", seconds, against=EAGER, unit="s/clip")
    for precision in DTYPES:
        rate = _product_rate(precision)
        share = GFLOP_A_CLIP / median(seconds[precision]) / rate
        yield Row(section="gpu model", name=f"{precision}: share of the rate", value=share, unit="of matrix product")
        yield Row(section="gpu model", name=f"{precision}: matrix product", value=rate / 1000, unit="TFLOP/s")
    return seconds


def from_host(network: C3D, precision: Precision, *, n_batches: int) -> Iterator[Row]:
    """Clips per second from host memory to host memory, two batches in flight, and how busy the device was."""
    engine = make_engine(network, layers=["fc6"], device="cuda", precision=precision)
    assert isinstance(engine, GpuEngine)
    shape = (engine.batch_clips, 3, 16, 112, 112)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    engine(clips)
    engine.busy_seconds, started = 0.0, perf_counter()
    waiting = engine.submit(clips)
    for _ in range(n_batches - 1):
        following = engine.submit(clips)
        waiting()
        waiting = following
    waiting()
    spent = perf_counter() - started
    rate = n_batches * len(clips) / spent
    yield Row(section="gpu from host", name=precision, value=rate, unit="clips/s")
    yield Row(
        section="gpu from host", name=f"{precision}: device busy", value=engine.busy_seconds / spent, unit="of wall"
    )


def from_files(
    network: C3D, *, device: str, alone: Mapping[Precision, float], n_videos: int, n_frames: int = 640
) -> Iterator[Row]:
    """320x240 H.264 files in, features out: frames per second, beside what the decoders reach by themselves.

    alone: seconds per clip of the network by itself, by precision; the fastest two are measured, and fp32 on an eighth
    of the videos. The device counts as busy for as long as the network needs by itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        videos = write_folder(Path(folder, "videos"), n_videos, n_frames, 240, 320)
        paths = sorted(videos.iterdir())
        n_decoders, most = 1, 0.0
        while n_decoders <= n_cores():
            some = paths[: max(4, n_videos * n_decoders // (2 * n_cores()))]
            most = decoding_alone(network, some, n_frames=n_frames, n_decoders=n_decoders)
            yield Row(section="decoders alone", name=f"{n_decoders} processes", value=most, unit="frames/s")
            n_decoders *= 2
        fastest = sorted(alone, key=lambda each: alone[each])[:2]
        for precision in dict.fromkeys([*fastest, "fp32"]):
            some = paths[: -(-n_videos // 8)] if precision == "fp32" else paths
            done = extract(some, Path(folder, precision), weights=network, device=device, precision=precision)
            section, frames = f"files to features, {precision}", 16 * done.clips_per_second
            spent = done.timings
            yield Row(
                section=section, name="all", value=frames, unit="frames/s", against=PAPER, ratio=frames / PAPER_RATE
            )
            yield Row(section=section, name="of the decoders alone", value=frames / most, unit="of their rate")
            busy = alone[precision] * done.n_clips / done.seconds
            yield Row(section=section, name="device busy", value=busy, unit="of wall")
            for name in ("network", "waiting_for_clips", "waiting_for_writer"):
                yield Row(section=section, name=name, value=getattr(spent, name) / done.seconds, unit="of wall")


def decoding_alone(network: C3D, paths: Sequence[Path], *, n_frames: int, n_decoders: int) -> float:
    """Frames per second of decoder processes whose clips nobody computes with, their start not counted."""
    settings = DecodeSettings(plan=ClipPlan(), profile=network.profile, views=network.profile.views("centre"))
    sources = find_sources(paths)
    n_clips, started = 0, 0.0
    with open_decoders(
        sources, settings, n_decoders=n_decoders, n_slots=slots_needed([64], 1, n_decoders), timings=Timings()
    ) as decoders:
        for message in decoders.messages():
            if message is not None and isinstance(message[1], Filled):
                started = started or perf_counter()
                n_clips += 1
                decoders.release([message[1].slot])
    return 16 * n_clips / (perf_counter() - started)


def _finished(run: Callable[[], object]) -> Callable[[], None]:
    def wait() -> None:
        for _ in range(CALLS_PER_TURN):
            run()
        torch.cuda.synchronize()

    return wait


def _product_rate(precision: Precision) -> float:
    """GFLOP/s of a large matrix product."""
    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=DTYPES[precision]) for _ in range(2))
    with switches(precision):
        times = take_turns({"product": _finished(lambda: left @ right)}, rounds=10)["product"]
    return CALLS_PER_TURN * 2 * size**3 / median(times) / 1e9
