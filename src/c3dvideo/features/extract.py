"""Extract: any pile of videos in, one feature file a video out; stopped and started again, it does what is missing.

    summary = extract(["my_videos/"], "features/", layers=["fc6"])
    summary.n_done, summary.n_failed

What decides the numbers (weights, profile, layers, clip plan, crops, pooling, precision) is the folder's fingerprint.
Several runs may work on one folder at once: each video is done by one of them. Several GPUs get a process each.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from c3dvideo.choices import Crops, EngineName, Pool, Precision
from c3dvideo.features.claims import FolderLocks
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.pipeline import Timings
from c3dvideo.features.processes import work_in_processes
from c3dvideo.features.store import Failure, settle_failures
from c3dvideo.features.worker import Decoded, Settled, work
from c3dvideo.inference.devices import devices
from c3dvideo.network.c3d import C3D
from c3dvideo.progress import Bar, progress
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import Profile
from c3dvideo.video.sources import Source, find_sources


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """What one run did.

    devices: where it ran, a process each when there are several. n_videos counts all inputs: n_done + n_skipped (they
    were already there) + n_failed + those in `not_done`. n_clips counts clips of videos that are done; seconds is wall
    time, `timings` says where it went, summed over the processes. n_overflows counts clips that had to be computed
    again in fp32. `failures` are those of this run. lost_processes: what became of processes that died, if any did;
    the videos that are missing because of that are in `not_done`, and another run does them.
    """

    out: str
    devices: tuple[str, ...]
    n_videos: int
    n_done: int
    n_skipped: int
    n_failed: int
    n_clips: int
    n_overflows: int
    seconds: float
    timings: Timings
    settings: Mapping[str, Any]
    fingerprint: str
    failures: tuple[Failure, ...]
    lost_processes: tuple[str, ...] = ()
    not_done: tuple[str, ...] = ()

    @property
    def clips_per_second(self) -> float:
        """Clips of finished videos a second of wall time."""
        return self.n_clips / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**asdict(self), "clips_per_second": self.clips_per_second}


def extract(
    inputs: Iterable[str | Path],
    out: str | Path,
    *,
    weights: str | Path | C3D | None = None,
    layers: Sequence[str] = ("fc6",),
    plan: ClipPlan | None = None,
    crops: Crops = "centre",
    pool: Pool | None = None,
    profile: Profile | str | None = None,
    profile_changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    engine: EngineName = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> ExtractSummary:
    """Store the features of every video of `inputs` under `out` and say what was done.

    inputs: what `find_sources` takes: files, folders, frame folders, a CSV, "-".
    weights: what `load_weights` takes, or a network. profile, profile_changes: replace the profile of the weights, or
        single fields of it, as in {"channel_order": "rgb"}.
    plan: clips of the network's length every 16 frames, unless given. crops: "five" and "ten" add an axis of views.
    pool: "mean" stores one row a layer: the mean over clips and views, with one L2 norm.
    device: "auto" (all GPUs, else the CPU), "cpu", "cuda" (all GPUs), "cuda:1", or several with commas between. Several
        devices get a process each, which share the videos out; a script then needs `if __name__ == "__main__":`.
    batch_size, workers: clips a call of the network, decoding threads of a process; None is a choice for the device.
    note: told, in one line, what the run uses.

    A video that fails is recorded in failures.jsonl and the run goes on. Raises UsageError for inputs or settings that
    cannot be, WeightsError for weights, StoreError when `out` holds features of other settings or cannot be written.

    >>> summary = extract(["my_videos"], "features")
    >>> summary.n_videos, summary.n_failed
    (40, 0)
    >>> from c3dvideo import read_features
    >>> read_features("features/waving_flag/waving_flag_000.mp4.npz").layers["fc6"].shape
    (3, 1024)
    """
    sources = find_sources(inputs)
    if left_out := sources.note():
        note(left_out)
    names = devices(device)[: max(1, len(sources))]
    extractor = Extractor(
        weights,
        layers=layers,
        plan=plan,
        crops=crops,
        pool=pool,
        profile=profile,
        profile_changes=profile_changes,
        device=names[0],
        precision=precision,
        engine=engine,
        batch_size=batch_size,
        workers=workers,
    )
    started = time.perf_counter()
    with progress("extracting", unit="clips") as bar:
        tally = _Tally(bar, sources)
        lost: tuple[str, ...] = ()
        if len(names) > 1:
            shares, lost = work_in_processes(sources, Path(out), names, extractor, report=tally, note=note)
        else:
            note(str(extractor))
            shares = [work(sources, Path(out), extractor, report=tally)]
    if lost:
        _tidy(Path(out), tally.solved)
    timings = Timings()
    for share in shares:
        timings.add(share.timings)
    return ExtractSummary(
        out=str(out),
        devices=tuple(names),
        n_videos=len(sources),
        n_done=tally.n["done"],
        n_skipped=tally.n["skipped"],
        n_failed=len(tally.failures),
        n_clips=tally.n_clips,
        n_overflows=sum(share.n_overflows for share in shares),
        seconds=time.perf_counter() - started,
        timings=timings,
        settings=shares[0].settings,
        fingerprint=shares[0].fingerprint,
        failures=tuple(sorted(tally.failures, key=lambda failure: failure.name)),
        lost_processes=lost,
        not_done=tuple(tally.left),
    )


def _tidy(out: Path, solved: Iterable[str]) -> None:
    """Do what processes that died could not: remove their half-written files, and failures that are none any more."""
    with FolderLocks(out) as locks, locks.updating():
        settle_failures(out, solved)


class _Tally:
    """Counts what is reported, from any thread, and keeps the progress bar: as many clips a byte as so far."""

    def __init__(self, bar: Bar, sources: Iterable[Source]) -> None:
        self.left = dict.fromkeys(source.name for source in sources)
        self.n = {"done": 0, "skipped": 0, "failed": 0}
        self.n_clips = 0
        self.solved: list[str] = []
        self.failures: list[Failure] = []
        self._bar = bar
        self._lock = threading.Lock()
        self._bytes_left = sum(_size(source) for source in sources)
        self._bytes_done = 0

    def __call__(self, event: Decoded | Settled) -> None:
        with self._lock:
            if isinstance(event, Decoded):
                self._bar.advance(event.n_clips)
            else:
                self._settle(event)

    def _settle(self, video: Settled) -> None:
        del self.left[video.source.name]
        self.n[video.state] += 1
        if video.failure is not None:
            self.failures.append(video.failure)
        else:
            self.solved.append(video.source.name)
        size = _size(video.source)
        self._bytes_left -= size
        if video.n_clips:
            self._bytes_done += size
            self.n_clips += video.n_clips
        if self._bytes_done:
            self._bar.expect(self.n_clips * (1 + self._bytes_left / self._bytes_done), about=self._bytes_left > 0)


def _size(source: Source) -> int:
    """Bytes of a file; for anything else a rough stand-in."""
    try:
        return Path(source.path).stat().st_size
    except OSError:
        return 0
