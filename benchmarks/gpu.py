"""Throughput on a GPU, where there is one: every precision beside plain eager fp32 and the matrix product rate, and
from files to features."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from benchmarks.network import GFLOP_A_CLIP, seeded_network
from benchmarks.turns import Row, rows_of, take_turns
from benchmarks.video import write_folder
from c3dvideo.choices import Precision
from c3dvideo.features.extract import extract
from c3dvideo.inference.direct import DTYPES, switches
from c3dvideo.inference.engine import Engine, make_engine
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D

EAGER = "PyTorch eager fp32"
DEFAULTS = "PyTorch eager, its own choice of fp32 or TF32"
PAPER, PAPER_RATE = "the paper's K40", 313.9  # frames a second
TOLERANCES = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2}


def measure(*, quick: bool) -> Iterator[Row]:
    """Seconds a clip on the device (model only) and from host memory to host memory, and shares of the product rate."""
    if not torch.cuda.is_available():
        return
    network = seeded_network()
    network.mean_volume = np.full((3, 16, 128, 171), 100, np.float32)
    engines = {one: make_engine(network, layers=["fc6"], device="cuda", precision=one) for one in DTYPES}  # type: ignore[arg-type]
    batch = min(engine.batch_clips for engine in engines.values())
    for engine in engines.values():
        engine.batch_clips = batch
    clips = np.random.default_rng(0).integers(0, 256, (batch, 3, 16, 112, 112), dtype=np.uint8)
    on_device = 60 * torch.randn(batch, 3, 16, 112, 112, device="cuda")
    eager = seeded_network().cuda()

    def run_eager() -> Tensor:
        return eager.activations(on_device, ["fc6"])["fc6"]

    def run_exact() -> Tensor:
        with switches("fp32"):
            return run_eager()

    ways: dict[str, Callable[[], object]] = {EAGER: run_exact, DEFAULTS: run_eager}
    for name, engine in engines.items():
        ways[name] = lambda direct=engine._direct[name]: direct(on_device)
    with torch.inference_mode():
        expected = run_exact()
        for name, engine in engines.items():
            found = engine._direct[name](on_device)[0]["fc6"]
            distance = float((found - expected).norm() / expected.norm())
            if not distance < TOLERANCES[name]:
                raise SystemExit(f"{name} computes something else: relative L2 distance {distance:.2g} to eager fp32")
            yield Row(section="gpu model", name=f"distance of {name}", value=distance, unit="relative L2")
        seconds = take_turns({name: _finished(run) for name, run in ways.items()}, rounds=5 if quick else 20)
    yield from rows_of("gpu model", seconds, against=EAGER, per=batch, unit="s/clip")
    for name in DTYPES:
        rate = _product_rate(name)  # type: ignore[arg-type]
        share = GFLOP_A_CLIP * batch / np.median(seconds[name]) / rate
        yield Row(section="gpu model", name=f"{name}: share of the rate", value=float(share), unit="of matrix product")
        yield Row(section="gpu model", name=f"{name}: matrix product", value=rate / 1000, unit="TFLOP/s")
    for name, engine in engines.items():
        yield Row(section="gpu from host", name=name, value=_streamed(engine, clips), unit="clips/s")
    del engines, ways
    for name in ("fp32", "bf16"):
        alone = float(np.median(seconds[name])) / batch
        yield from from_files(network, device="cuda:0", precision=name, alone=alone, n_videos=16 if quick else 128)


def from_files(
    network: C3D, *, device: str, precision: Precision, alone: float, n_videos: int, n_frames: int = 640
) -> Iterator[Row]:
    """320x240 H.264 files in, features out: frames a second, and whether the device or the decoders were busy.

    alone: seconds a clip of the network by itself. The device counts as busy for as long as it needs by itself, so the
    share is a lower bound; the decoders' is their threads' time at work.
    """
    section, workers = f"files to features, {precision}", n_cores()
    with tempfile.TemporaryDirectory() as folder:
        videos = write_folder(Path(folder, "videos"), n_videos, n_frames, 240, 320)
        done = extract(
            [videos], Path(folder, "out"), weights=network, device=device, precision=precision, workers=workers
        )
    frames = 16 * done.clips_per_second
    spent = done.timings
    yield Row(section=section, name="all", value=frames, unit="frames/s", against=PAPER, ratio=frames / PAPER_RATE)
    yield Row(section=section, name="device busy", value=alone * done.n_clips / done.seconds, unit="of wall")
    at_work = (spent.check + spent.decode + spent.preprocess) / (workers * done.seconds)
    yield Row(section=section, name=f"{workers} decoders busy", value=at_work, unit="of wall")
    for name in ("waiting_for_clips", "waiting_for_writer"):
        yield Row(section=section, name=name, value=getattr(spent, name) / done.seconds, unit="of wall")


def _finished(run: Callable[[], object]) -> Callable[[], None]:
    def wait() -> None:
        run()
        torch.cuda.synchronize()

    return wait


def _product_rate(precision: Precision) -> float:
    """GFLOP/s of a large matrix product."""
    size = 8192
    left, right = (torch.randn(size, size, device="cuda", dtype=DTYPES[precision]) for _ in range(2))
    with switches(precision):
        times = take_turns({"product": _finished(lambda: left @ right)}, rounds=10)["product"]
    return float(2 * size**3 / np.median(times) / 1e9)


def _streamed(engine: Engine, clips: np.ndarray) -> float:
    """Clips a second with two batches in flight."""
    engine(clips)
    n_batches = 20
    started = perf_counter()
    waiting = engine.submit(clips)
    for _ in range(n_batches - 1):
        following = engine.submit(clips)
        waiting()
        waiting = following
    waiting()
    return n_batches * len(clips) / (perf_counter() - started)
