"""Plan: the hours, the storage and the bottleneck of a run, from a short measured sample of the very videos.

    plan = make_plan(["my_videos/"], layers=["fc6"])
    plan.hours, plan.bottleneck, plan.storage["fc6"].fp32_bytes

Three rates are measured on this machine: a decoder with the sample videos, the network with their clips, and the
writer with their features. `simulation` makes a whole run of them, and `plan_scale` a run on many machines.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from c3dvideo.errors import UsageError
from c3dvideo.features.activations import FailedVideo, VideoActivations
from c3dvideo.features.check_stored import Identify
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import open_decoders
from c3dvideo.features.decoding import Begun, End
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.pipeline import compute
from c3dvideo.features.plan_scale import Scaled, many_machines
from c3dvideo.features.simulation import Bottleneck, Load, Machine, Rates, Simulated, simulate
from c3dvideo.features.store import feature_path, write_features
from c3dvideo.features.timings import Timings
from c3dvideo.machine import n_cores, processor_name
from c3dvideo.parallel import in_parallel
from c3dvideo.video.length import VideoLength, stated_length
from c3dvideo.video.sources import Source, find_sources

MOST_OPENED = 2_000
"""Videos whose container is opened for its length; of more, an even sample."""
MOST_SIMULATED = 300
"""Videos in the simulation; a longer run is one of these repeated."""
PCA_DIMENSIONS = 500
_ALONE = 0.95  # of the cores: whoever gets more of them has them alone
_FILE_BYTES = 2_000  # of a feature file, beside its arrays: names, metadata, starts


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Bytes of one layer of all videos: as stored, as 16-bit numbers, and after PCA to 500 dimensions (fp32)."""

    width: int
    fp32_bytes: int
    fp16_bytes: int
    pca500_bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run over all videos takes.

    n_videos: of the input. n_sampled: videos that were decoded for the rates. n_unreadable: of the opened ones, how
    many state no length; they count as average ones. video_hours, n_clips: of all videos. rates: measured here; see
    `Rates`. seconds: of the whole run on this machine, of which the parts are busy for `network_busy` and so on.
    many: the same videos, a million and a hundred million of them on one to a thousand machines.
    """

    n_videos: int
    n_opened: int
    n_unreadable: int
    n_sampled: int
    video_hours: float
    median_seconds: float
    n_frames: int
    n_clips: int
    input_bytes: int
    processor: str
    device: str
    machine: Machine
    rates: Rates
    seconds: float
    simulated: Simulated
    bottleneck: Bottleneck
    storage: dict[str, Storage]
    many: tuple[Scaled, ...]

    @property
    def hours(self) -> float:
        """Wall time of the whole run in hours."""
        return self.seconds / 3600

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**asdict(self), "hours": self.hours}


def make_plan(
    inputs: Iterable[str | Path],
    *,
    sample_seconds: float = 20.0,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
    **choices: Any,
) -> Plan:
    """The plan of `extract(inputs, ...)` on this machine and on many.

    sample_seconds: about how long to measure. seed: which videos are the sample. choices: as of `Extractor`.
    Raises UsageError when there is no video, and when none of the sample gives a clip.
    """
    extractor = Extractor(**choices)
    sources = find_sources(inputs)
    order = np.random.default_rng(seed).permutation(len(sources))[:MOST_OPENED]
    chosen = [sources[number] for number in order]
    opened = in_parallel(
        lambda source: stated_length(source.path), chosen, workers=n_cores(), description="reading lengths"
    )
    lengths = [one for _, one in sorted(opened, key=lambda pair: pair[0]) if isinstance(one, VideoLength)]
    note(f"measuring for about {sample_seconds:.0f} seconds with {extractor}")
    sample = measure(extractor, chosen, seconds=sample_seconds)
    loads = [_load(extractor, length.n_frames) for length in lengths] or sample.loads
    machine = machine_of(extractor, free_cores=sample.free_cores)
    factor = len(sources) / len(loads)
    simulated, seconds = whole_run(loads, factor, sample.rates, machine)
    n_clips = round(factor * sum(load.n_clips for load in loads))
    seconds_each = [length.seconds for length in lengths if length.seconds] or [0.0]
    input_bytes = round(len(sources) * fmean([length.n_bytes for length in lengths] or [0]))
    storage = {name: _storage(width, n_clips, len(sources)) for name, width in sample.widths.items()}
    return Plan(
        n_videos=len(sources),
        n_opened=len(order),
        n_unreadable=len(order) - len(lengths),
        n_sampled=len(sample.loads),
        video_hours=len(sources) * fmean(seconds_each) / 3600,
        median_seconds=median(seconds_each),
        n_frames=round(factor * sum(load.n_frames for load in loads)),
        n_clips=n_clips,
        input_bytes=input_bytes,
        processor=processor_name(),
        device=str(extractor.device),
        machine=machine,
        rates=sample.rates,
        seconds=seconds,
        simulated=simulated,
        bottleneck=simulated.bottleneck,
        storage=storage,
        many=many_machines(
            loads,
            sample.rates,
            machine,
            bytes_per_video=input_bytes / len(sources),
            stored_per_video=sum(each.fp32_bytes for each in storage.values()) / len(sources),
        ),
    )


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

    A third of the time is the decoder's, the rest the network's; the files go into a temporary folder.
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

    Threads and not their sum: a system that shares the cores among programs gives a program with more threads no more.
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
    """This machine, as the simulation sees it."""
    return Machine(
        cores=n_cores(),
        n_decoders=extractor.workers,
        n_slots=extractor.n_slots,
        batch_clips=max(1, extractor.engine.batch_clips // len(extractor.views)),
        network_threads=torch.get_num_threads() if extractor.device.type == "cpu" else 0,
        free_cores=free_cores,
    )


def whole_run(loads: Sequence[Load], factor: float, rates: Rates, machine: Machine) -> tuple[Simulated, float]:
    """The simulation of at most MOST_SIMULATED of `loads`, and the seconds of `factor` times all of them."""
    some = loads[:MOST_SIMULATED]
    found = simulate(some, rates, machine)
    work = factor * sum(load.n_clips or 1 for load in loads) / sum(load.n_clips or 1 for load in some)
    start = rates.start / machine.speed(1)
    return found, start + (found.seconds - start) * work


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
    """Let one decoder work on videos until `seconds` have passed, with nothing behind it."""
    timings, loads, clips = Timings(), list[Load](), list[np.ndarray[Any, Any]]()
    settings = extractor.decode_settings(Identify(extractor.stall_seconds))
    n_kept = extractor.engine.batch_clips
    n_videos, n_clips, used = 0, 0, _seconds_of_children()
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
    if not loads or not clips:
        raise UsageError(
            f"none of the first {n_videos} videos gives a clip; `c3dvideo dataset check` or `c3dvideo extract` "
            "shows the reason for each"
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


def _load(extractor: Extractor, n_frames: int) -> Load:
    plan = extractor.plan
    if n_frames == 0 or (n_frames < plan.span_frames and plan.short == "error"):
        return Load(n_frames, 0)
    return Load(n_frames, len(plan.indices(n_frames)))


def _storage(width: int, n_clips: int, n_videos: int) -> Storage:
    numbers, beside = n_clips * width, n_videos * _FILE_BYTES + 16 * n_clips
    pca = min(PCA_DIMENSIONS, width)
    return Storage(
        width=width,
        fp32_bytes=4 * numbers + beside,
        fp16_bytes=2 * numbers + beside,
        pca500_bytes=4 * n_clips * pca + beside,
    )
