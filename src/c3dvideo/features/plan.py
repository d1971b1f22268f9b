"""Plan: the hours, the storage and the bottleneck of a run, from a short measured sample of the videos.

    plan = make_plan(["my_videos/"], layers=["fc6"])
    plan.hours, plan.bottleneck, plan.storage["fc6"].fp32_bytes

Three rates are measured on this machine: a decoder with the sample videos, the network with their clips, and the
writer with their features. `simulation` computes a whole run from them, and `plan_scale` runs on many machines.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from c3dvideo.features.extractor import Extractor
from c3dvideo.features.plan_rates import machine_of, measure
from c3dvideo.features.plan_scale import Scaled, many_machines
from c3dvideo.features.simulation import Bottleneck, Load, Machine, Rates, Simulated, simulate
from c3dvideo.machine import n_cores, processor_name
from c3dvideo.parallel import in_parallel
from c3dvideo.video.length import VideoLength, stated_length
from c3dvideo.video.sources import find_sources

MOST_OPENED = 2_000
"""Videos whose container is opened for its length; of more, an even sample."""
MOST_SIMULATED = 300
"""Videos in the simulation; a longer run is one of these repeated."""
PCA_DIMENSIONS = 500
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
    `Rates`. seconds: of the whole run on this machine, of which each part is busy for a share (`simulated.network_busy`
    and so on).
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
    inputs: str | Path | Iterable[str | Path],
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


def whole_run(loads: Sequence[Load], factor: float, rates: Rates, machine: Machine) -> tuple[Simulated, float]:
    """The simulation of at most MOST_SIMULATED of `loads`, and the seconds of `factor` times all of them."""
    some = loads[:MOST_SIMULATED]
    found = simulate(some, rates, machine)
    work = factor * sum(load.n_clips or 1 for load in loads) / sum(load.n_clips or 1 for load in some)
    start = rates.start / machine.speed(1)
    return found, start + (found.seconds - start) * work


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
