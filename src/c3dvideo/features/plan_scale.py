"""Plan for many machines: hours, device-hours and the bottleneck for a million and a hundred million videos.

    for row in many_machines(loads, rates, machine, bytes_per_video=2e6, stored_per_video=3e5):
        row.kind, row.n_videos, row.n_machines, row.hours, row.bottleneck

Machines of this kind have the measured rates. The machines with a GPU have those of one NVIDIA H100 80GB in fp16, up to
fc6, from benchmarks/results/2026-11-26-nvidia-h100-16-cores.csv, and decode at the rate of its cores there: one decoder
takes 1 / 1,644.7 s per 320x240 frame on that machine, scaled by what the sample's frames take here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import Literal

from c3dvideo.features.simulation import Bottleneck, Load, Machine, Rates, simulate

H100_CLIPS_PER_SECOND = 7972.5  # "gpu from host, fp16": batches of 64 from host memory to host memory
H100_DECODER_FRAMES_PER_SECOND = 18876 / 16  # "decoders alone, 16 processes", 320x240 H.264, per process
H100_BATCH = 64
CORES_PER_GPU = (16, 64, 128)
N_VIDEOS = (1_000_000, 100_000_000)
N_MACHINES = (1, 10, 100, 1000)
SHARED_DISK_BYTES_PER_SECOND = 10e9
"""What the disk that all machines read from is assumed to deliver: 10 GB/s, about a hundred 1 Gb/s links."""
_MOST_SIMULATED = 150

Where = Bottleneck | Literal["shared disk"]


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """One line: `n_videos` like those of the sample on `n_machines` of a kind, and what they take.

    device_hours: hours of all machines together, which are GPU-hours where a machine has a GPU. read_gb_per_second: of
    all machines. bottleneck: what more of anything else would not make faster.
    """

    kind: str
    n_videos: int
    n_machines: int
    hours: float
    device_hours: float
    network_busy: float
    read_gb_per_second: float
    stored_tb: float
    bottleneck: Where


def many_machines(
    loads: Sequence[Load], rates: Rates, machine: Machine, *, bytes_per_video: float, stored_per_video: float
) -> tuple[Scaled, ...]:
    """A line per kind of machine, number of videos and number of machines."""
    rows = []
    for kind, here, its_rates in _kinds(rates, machine):
        some = _steady(loads, here)
        found = simulate(some, its_rates, here)
        per_video = (found.seconds - its_rates.start) / len(some)
        for n_videos in N_VIDEOS:
            for n_machines in N_MACHINES:
                seconds = its_rates.start + per_video * _most_videos(n_videos, n_machines, loads)
                read = n_videos * bytes_per_video / seconds
                where: Where = found.bottleneck
                if read > SHARED_DISK_BYTES_PER_SECOND:
                    seconds *= read / SHARED_DISK_BYTES_PER_SECOND
                    read, where = SHARED_DISK_BYTES_PER_SECOND, "shared disk"
                rows.append(
                    Scaled(
                        kind=kind,
                        n_videos=n_videos,
                        n_machines=n_machines,
                        hours=seconds / 3600,
                        device_hours=n_machines * seconds / 3600,
                        network_busy=found.network_busy,
                        read_gb_per_second=read / 1e9,
                        stored_tb=n_videos * stored_per_video / 1e12,
                        bottleneck=where,
                    )
                )
    return tuple(rows)


def _kinds(rates: Rates, machine: Machine) -> list[tuple[str, Machine, Rates]]:
    """This machine without other programs, and an H100 beside 16 cores, where it was measured, and beside more."""
    kinds = [("this machine", replace(machine, free_cores=None), rates)]
    per_batch = H100_BATCH / H100_CLIPS_PER_SECOND
    on_gpu = replace(rates, frame=1 / H100_DECODER_FRAMES_PER_SECOND, batch=per_batch, clip=0.0)
    for cores in CORES_PER_GPU:
        gpu = Machine(
            cores=cores, n_decoders=cores, n_slots=2 * H100_BATCH + cores, batch_clips=H100_BATCH, network_threads=0
        )
        kinds.append((f"H100, {cores} cores", gpu, on_gpu))
    return kinds


def _steady(loads: Sequence[Load], machine: Machine) -> list[Load]:
    """Enough videos that start and end of the simulated run do not matter: many per decoder, repeated if need be."""
    wanted = max(_MOST_SIMULATED, 12 * machine.n_decoders)
    return [loads[number % len(loads)] for number in range(wanted)]


def _most_videos(n_videos: int, n_machines: int, loads: Sequence[Load]) -> float:
    """The work of the machine that gets the most, in average videos, when a hash shares them out as `--shard` does."""
    mean = n_videos / n_machines
    if n_machines == 1:
        return mean
    lengths = [load.n_frames for load in loads]
    spread = pstdev(lengths) / max(fmean(lengths), 1.0)
    # The number of videos of a part varies as well (Poisson), each by its length; the largest of n normal numbers.
    return mean + math.sqrt(mean * (1 + spread**2)) * math.sqrt(2 * math.log(n_machines))
