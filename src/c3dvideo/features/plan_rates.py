"""Measure the rates of this machine for a plan: one decoder, the network, and the writer of feature files.

    sample = measure(extractor, find_sources(["my_videos/"]), seconds=20)
    sample.rates, sample.loads

The rates are those of cores that nothing else uses: what other programs take meanwhile is measured and taken out.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from c3dvideo.errors import UsageError
from c3dvideo.features.activations import FailedVideo, VideoActivations
from c3dvideo.features.check_stored import Identify
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import open_decoders
from c3dvideo.features.decoding import Begun, End, Failed
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.pipeline import compute
from c3dvideo.features.simulation import Load, Machine, Rates
from c3dvideo.features.store import feature_path, write_features
from c3dvideo.features.timings import Timings
from c3dvideo.machine import n_cores
from c3dvideo.video.sources import Source

_ALONE = 0.95  # of the cores: a program that gets a larger share is alone on them


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was measured: the rates, what the sample videos held, and the numbers per clip of every layer.

    free_cores: what other programs left of the cores meanwhile. The rates are those without them.
    """

    rates: Rates
    free_cores: float
    loads: list[Load]
    widths: dict[str, int]


def measure(extractor: Extractor, sources: Sequence[Source], *, seconds: float) -> Sample:
    """The rates of this machine with the first of `sources`, for about `seconds`.

    A third of the time is for the decoder, the rest for the network; the files go into a temporary folder.
    """
    extractor.engine.submit(_noise(extractor, 1))()  # whatever is built on first use
    before = free_cores(extractor.workers + torch.get_num_threads())
    decoded = _decode(extractor, sources, seconds=seconds / 3)
    times = _network(extractor, decoded, seconds=2 * seconds / 3)
    outcome = _one_video(extractor, sources[: decoded.n_videos])
    n_threads = extractor.workers + torch.get_num_threads()
    free = fmean((before, free_cores(n_threads)))
    here = machine_of(extractor, free_cores=free)
    batch, clip = (each * here.speed(here.network_threads) for each in times)
    widths = {name: int(np.prod(array.shape[1:])) for name, array in outcome.layers.items()}
    rates = Rates(
        video=decoded.per_video,
        frame=decoded.per_frame,
        batch=batch,
        clip=clip,
        write=_write(extractor, outcome),
        start=decoded.start,
    )
    return Sample(rates=rates, free_cores=free, loads=decoded.loads, widths=widths)


def free_cores(n_threads: int, *, seconds: float = 0.4) -> float:
    """Cores that `n_threads` busy threads of this program get together, at most all of them.

    Measured with all threads at once: a system that divides the cores among programs may give a program with more
    threads no more of them.
    """
    block, deadline = bytes(1 << 20), time.perf_counter() + seconds
    used, started = time.process_time(), time.perf_counter()

    def work() -> None:
        while time.perf_counter() < deadline:
            sha256(block)  # without Python's lock

    threads = [threading.Thread(target=work) for _ in range(max(n_threads, n_cores()))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = (time.process_time() - used) / (time.perf_counter() - started)
    return float(n_cores()) if found > _ALONE * n_cores() else found


def machine_of(extractor: Extractor, *, free_cores: float | None = None) -> Machine:
    """This machine, as an input of the simulation."""
    return Machine(
        cores=n_cores(),
        n_decoders=extractor.workers,
        n_slots=extractor.n_slots,
        batch_clips=max(1, extractor.engine.batch_clips // len(extractor.views)),
        network_threads=torch.get_num_threads() if extractor.device.type == "cpu" else 0,
        free_cores=free_cores,
    )


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """What one decoder did with the first videos, and the clips that it made.

    per_video, per_frame, start: seconds on a core of its own. share: what it got of a core.
    """

    loads: list[Load]
    n_videos: int
    per_video: float
    per_frame: float
    start: float
    share: float
    clips: np.ndarray[Any, np.dtype[np.uint8]]


def _decode(extractor: Extractor, sources: Sequence[Source], *, seconds: float) -> _Decoded:
    """Let one decoder work on videos until `seconds` have passed, while nothing else runs."""
    timings, loads, clips = Timings(), list[Load](), list[np.ndarray[Any, Any]]()
    settings = extractor.decode_settings(Identify(extractor.stall_seconds))
    n_kept = extractor.engine.batch_clips
    n_videos, n_clips, used = 0, 0, _seconds_of_children()
    failures: list[str] = []
    started = ended = time.perf_counter()
    first = 0.0
    with open_decoders(
        _until(sources, started + seconds), settings, n_decoders=1, n_slots=n_kept + 2, timings=timings
    ) as decoders:
        for message in decoders.messages():
            assert message is not None
            _, content = message
            if isinstance(content, Begun):
                first = first or time.perf_counter()
                n_videos, n_clips = n_videos + 1, 0
            elif isinstance(content, Filled):
                n_clips += 1
                if len(clips) < n_kept:
                    clips.append(decoders.clips[content.slot].copy())
                decoders.release([content.slot])
            elif isinstance(content, End):
                loads.append(Load(content.n_frames, n_clips))
                ended = time.perf_counter()
            elif isinstance(content, Failed):
                failures.append(content.message)
    if not loads or not clips:
        reason = f" (the first: {failures[0]})" if failures else ""
        raise UsageError(
            f"none of the first {max(n_videos, len(failures))} videos gives a clip{reason}; "
            "`c3dvideo dataset check` or `c3dvideo extract` shows the reason for each"
        )
    n_frames = sum(load.n_frames for load in loads)
    frames = timings.decode + timings.preprocess
    # What is not in the decoder's clocks is opening files and passing clips on.
    rest = max(0.0, ended - first - timings.check - frames)
    share = min(1.0, (_seconds_of_children() - used) / (ended - started)) if extractor.workers else 1.0
    return _Decoded(
        loads=loads,
        n_videos=n_videos,
        per_video=share * (timings.check + rest) / len(loads),
        per_frame=share * frames / n_frames,
        start=share * (first - started),
        share=share,
        clips=np.concatenate(clips),
    )


def _until(sources: Sequence[Source], deadline: float) -> Iterable[Source]:
    for number, source in enumerate(sources):
        if number and time.perf_counter() > deadline:
            return
        yield source


def _seconds_of_children() -> float:
    """Processor time of the child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _network(extractor: Extractor, decoded: _Decoded, *, seconds: float) -> tuple[float, float]:
    """Seconds per call and per clip of the network."""
    engine, views = extractor.engine, len(extractor.views)
    flat = decoded.clips[: engine.batch_clips]
    whole = np.resize(flat, (engine.batch_clips, *flat.shape[1:])) if len(flat) < engine.batch_clips else flat
    sizes = sorted({1, engine.batch_clips})
    times: dict[int, list[float]] = {size: [] for size in sizes}
    deadline = time.perf_counter() + seconds
    while not times[sizes[-1]] or (time.perf_counter() < deadline and len(times[sizes[-1]]) < 25):
        for size in sizes:
            started = time.perf_counter()
            engine.submit(whole[:size])()
            times[size].append(time.perf_counter() - started)
    whole_batch = median(times[sizes[-1]])
    per_clip = (whole_batch - median(times[1])) / max(1, sizes[-1] - 1) if len(sizes) > 1 else whole_batch
    per_clip = min(max(per_clip, 0.0), whole_batch / sizes[-1])
    return whole_batch - per_clip * sizes[-1], per_clip * views


def _one_video(extractor: Extractor, sources: Sequence[Source]) -> VideoActivations:
    """The activations of the first video that has any."""
    settings = extractor.decode_settings(Identify(extractor.stall_seconds))
    with open_decoders(sources, settings, n_decoders=0, n_slots=extractor.n_slots, timings=Timings()) as decoders:
        for outcome in compute(decoders, extractor.engine):
            if isinstance(outcome, VideoActivations):
                return outcome
            assert isinstance(outcome, FailedVideo)
    raise UsageError("no video of the sample gives features; `c3dvideo extract` shows the reason for each")


def _write(extractor: Extractor, outcome: VideoActivations) -> float:
    """Seconds to write the features of one video, here to the disk of temporary files."""
    features, times = extractor.features(outcome), []
    with tempfile.TemporaryDirectory(prefix="c3dvideo-plan-") as folder:
        for number in range(5):
            started = time.perf_counter()
            write_features(feature_path(folder, f"{number}"), features)
            times.append(time.perf_counter() - started)
    return median(times)


def _noise(extractor: Extractor, n_clips: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    length, size = extractor.plan.clip_length, extractor.network.profile.crop_size
    return np.random.default_rng(0).integers(0, 256, (n_clips, 3, length, size, size), np.uint8)
