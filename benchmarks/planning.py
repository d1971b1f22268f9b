"""How well `c3dvideo plan` predicts: simulated against measured seconds of whole extractions, setting by setting.

Each setting is measured in turns: a sample, an extraction, the next sample. Two predictions are compared with the
extraction: that of the sample before it, as a user gets it, and that of the mean of the samples around it, which shows
what the simulation itself gets wrong when the load of the machine changes in between.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.files import narrow_network
from benchmarks.turns import Row
from benchmarks.video import write_folder
from c3dvideo.features.extract import extract
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.plan import whole_run
from c3dvideo.features.plan_rates import machine_of, measure
from c3dvideo.features.simulation import Load
from c3dvideo.network.c3d import C3D
from c3dvideo.video.sources import find_sources

BOUND = 0.15
"""Largest relative error that a prediction should have."""
SAMPLE_SECONDS = 6.0
"""How long a plan measures here; the command's default is 20."""


@dataclass(frozen=True)
class Setting:
    """One kind of run: decoders, layers, and which videos."""

    name: str
    workers: int
    layers: tuple[str, ...]
    n_videos: int
    n_frames: int
    size: tuple[int, int] = (240, 320)
    narrow: bool = True


SETTINGS = (
    Setting("short videos, 1 decoder", 1, ("fc6",), 80, 80),
    Setting("short videos, 2 decoders", 2, ("fc6",), 80, 80),
    Setting("long videos, 1 decoder", 1, ("fc6",), 3, 960),
    Setting("long videos, 2 decoders", 2, ("fc6",), 3, 960),
    Setting("long videos, 2 decoders, conv3b and fc6", 2, ("conv3b", "fc6"), 3, 960),
    Setting("long videos, no decoder process", 0, ("fc6",), 3, 960),
    Setting("embedded weights, 1 decoder", 1, ("fc6",), 8, 320, narrow=False),
    Setting("embedded weights, 2 decoders, small frames", 2, ("fc6",), 8, 320, (96, 128), narrow=False),
)


def measure_planning(*, quick: bool) -> Iterator[Row]:
    """Predicted and measured clips per second of every setting, and the median and the largest error."""
    section, turns = "planning", 1 if quick else 5
    errors: dict[str, list[float]] = {"before": [], "around": []}
    for setting in SETTINGS[:2] if quick else SETTINGS:
        found = list(_turns(setting, turns))
        yield Row(section=section, name=setting.name, value=median(each["measured"] for each in found), unit="clips/s")
        for way, kept in errors.items():
            ratio = median(each[way] / each["measured"] for each in found)
            kept.append(abs(ratio - 1))
            yield Row(
                section=section,
                name=f"{setting.name}: sample {way}",
                value=median(each[way] for each in found),
                unit="clips/s",
                against="measured",
                ratio=ratio,
            )
    for way, kept in errors.items():
        yield Row(section=section, name=f"median error, sample {way}", value=median(kept), unit="of measured")
        yield Row(section=section, name=f"largest error, sample {way}", value=max(kept), unit="of measured")
        within = sum(error <= BOUND for error in kept)
        yield Row(section=section, name=f"settings within {BOUND:.0%}, sample {way}", value=within, unit="settings")


def _turns(setting: Setting, n_turns: int) -> Iterator[dict[str, float]]:
    """Clips per second of every turn: measured, and predicted from the sample before and from those around it."""
    weights: C3D | None = narrow_network() if setting.narrow else None
    with tempfile.TemporaryDirectory() as folder:
        videos = write_folder(Path(folder, "videos"), setting.n_videos, setting.n_frames, *setting.size)
        extractor = Extractor(weights, layers=setting.layers, workers=setting.workers)
        n_clips = setting.n_frames // 16
        loads = [Load(setting.n_frames, n_clips)] * setting.n_videos

        def predicted() -> float:
            sample = measure(extractor, find_sources([videos]), seconds=SAMPLE_SECONDS)
            machine = machine_of(extractor, free_cores=sample.free_cores)
            return whole_run(loads, 1.0, sample.rates, machine)[1]

        before = predicted()
        for turn in range(n_turns):
            out = Path(folder, f"out{turn}")
            done = extract([videos], out, weights=weights, layers=setting.layers, workers=setting.workers)
            after = predicted()
            seconds = {"measured": done.seconds, "before": before, "around": (before + after) / 2}
            yield {name: n_clips * setting.n_videos / value for name, value in seconds.items()}
            before = after
