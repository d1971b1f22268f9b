"""Extract: videos in, one feature file per video out. Started again, it does what is missing.

    summary = extract(["my_videos/"], "features/", layers=["fc6"])
    summary.n_done, summary.n_failed

Weights, profile, layers, clip plan, crops, pooling and precision determine the numbers. They are the folder's
fingerprint; a folder never mixes two. Several runs may work on one folder at once: each video is done by one of them.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c3dvideo.choices import Crops, Damaged, EngineName, Pool, PrecisionChoice
from c3dvideo.counts import count
from c3dvideo.features.activations import scratch_folder
from c3dvideo.features.check_stored import StoredCheck
from c3dvideo.features.decoders import open_decoders
from c3dvideo.features.decoding import STALL_SECONDS
from c3dvideo.features.default_weights import note_on_default_weights
from c3dvideo.features.device_process import Share
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.features.folder_run import Decoded, FolderRun, Settled, store
from c3dvideo.features.pipeline import Writer, compute
from c3dvideo.features.prepare_network import default_device
from c3dvideo.features.processes import compute_on_devices
from c3dvideo.features.shards import parse_shard, take_shard
from c3dvideo.features.timings import Timings
from c3dvideo.inference.devices import devices
from c3dvideo.network.c3d import C3D
from c3dvideo.progress import Bar, progress
from c3dvideo.storage import Location, location
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import Profile
from c3dvideo.video.sources import Source, find_sources

if TYPE_CHECKING:
    from c3dvideo.features.cluster import Cluster


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """What one run did.

    devices: where it ran, with one process each when there are several. n_videos counts all inputs: n_done + n_skipped
    (stored before) + n_failed + those in `not_done`. n_partial of those that are done or stored end before their
    damage. n_clips counts clips of videos that are done; seconds is wall time, and `timings` where it went, summed over
    the processes. n_overflows counts clips that were computed again in fp32. failures: of this run, with those of
    partial videos. lost_processes: how each process ended that died; the videos that are missing because of that are in
    `not_done`, and another run does them.
    """

    out: str
    devices: tuple[str, ...]
    n_videos: int
    n_done: int
    n_skipped: int
    n_failed: int
    n_partial: int
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
        """Clips of finished videos per second of wall time."""
        return self.n_clips / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**asdict(self), "clips_per_second": self.clips_per_second}

    def __str__(self) -> str:
        """What was done, how fast, and where the time went, in three lines."""
        partial = f", {self.n_partial} partial" * bool(self.n_partial)
        overflows = f"; {count(self.n_overflows, 'clip')} overflowed, computed again in fp32" * bool(self.n_overflows)
        several = f" of {len(self.devices)} processes" * (len(self.devices) > 1)
        done = f"{count(self.n_done, 'video')} done, {self.n_skipped} already there, {self.n_failed} failed{partial}"
        return (
            f"{self.out}: {done}\n"
            f"{count(self.n_clips, 'clip')} in {self.seconds:.1f} s, {self.clips_per_second:.2f} clips/s{overflows}\n"
            f"seconds{several}: {self.timings}"
        )


def extract(
    inputs: str | Path | Iterable[str | Path],
    out: str | Location,
    *,
    weights: str | Path | C3D | None = None,
    layers: Sequence[str] = ("fc6",),
    plan: ClipPlan | None = None,
    crops: Crops = "centre",
    pool: Pool | None = None,
    profile: Profile | str | None = None,
    profile_changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    engine: EngineName = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    damaged: Damaged = "error",
    stall_seconds: float = STALL_SECONDS,
    deterministic: bool = False,
    shard: str | None = None,
    cluster: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> ExtractSummary:
    """Store the features of every video of `inputs` under `out`. Returns what was done.

    inputs: what `find_sources` takes: files, folders, frame folders, a CSV, "-", and s3:// or gs:// addresses.
    out: a folder, or an address such as s3://bucket/features.
    weights: what `load_weights` takes, a network, or the path of an ONNX file that `c3dvideo export` wrote.
    profile, profile_changes: replace the profile of the weights, or single fields of it, as in
        {"channel_order": "rgb"}.
    plan: clips of the network's length every 16 frames, unless given. crops: "five" and "ten" add an axis of views.
    pool: "mean" stores one row per layer: the mean over clips and views, with one L2 norm.
    device: "auto" (all GPUs, else the CPU), "cpu", "cuda" (all GPUs), "cuda:1", or several separated by commas. Several
        devices get one process each.
    precision: arithmetic of the network; "auto" is fp16 on a GPU and fp32 on a CPU.
    batch_size: clips per call of the network; None is a choice for the device.
    workers: processes that decode. None is one per core beside a GPU and one per four cores beside a network on the
        CPU; 0 decodes in the calling process, for debugging.
    damaged: "keep" stores the clips before the damage of a damaged video and lists it as partial.
    stall_seconds: a video without a new frame for so long fails.
    deterministic: have every run on a GPU of one kind give the same bits, at some cost in speed. On a CPU every run
        does anyway.
    shard: "3/16" takes the third of sixteen parts of the videos, by their names: for machines that share `out`.
    cluster: where a Ray cluster is: "auto" for the one of this machine, "local" to start one here, or "host:port".
        `device` is then auto, cpu or cuda, for all of the cluster, and `workers` counts decoders on all machines.
    note: called with one line about what the run uses.

    A video that fails is recorded in failures.jsonl and the run continues. Raises UsageError for inputs or settings
    that cannot be used, WeightsError for weights, StoreError when `out` holds features of other settings or cannot be
    written.

    >>> summary = extract(["my_videos"], "features")
    >>> summary.n_videos, summary.n_failed
    (40, 0)
    >>> from c3dvideo import read_features
    >>> read_features("features/waving_flag/waving_flag_000.mp4.npz").layers["fc6"].shape
    (3, 1024)
    """
    part = None if shard is None else parse_shard(shard)
    found = find_sources(inputs)
    if left_out := found.note():
        note(left_out)
    sources: Sequence[Source] = found
    if part is not None:
        sources = take_shard(found, *part)
        note(f"shard {shard}: {len(sources)} of {len(found)} videos")
    with ExitStack() as stack:
        machines = None if cluster is None else stack.enter_context(_connect(cluster))
        if machines is None:
            names = devices(default_device(weights, device))[: max(1, len(sources))]
        else:
            names = machines.devices(device, workers)
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
            damaged=damaged,
            stall_seconds=stall_seconds,
            deterministic=deterministic,
            is_elsewhere=machines is not None,
        )
        if caveat := note_on_default_weights(extractor.settings):
            note(caveat)
        started = time.perf_counter()
        tally = _Tally(stack.enter_context(progress("extracting", unit="clips")), sources)
        run = FolderRun(location(out), extractor.manifest, report=tally)
        if machines is None:
            shares, lost = _run(extractor, sources, location(out), names, run, tally, note)
        else:
            shares, lost = machines.compute(
                run, sources, extractor, out=location(out), workers=workers, report=tally, note=note
            )
    timings = Timings()
    for share in shares:
        timings.add(share.timings)
    return ExtractSummary(
        out=str(location(out)),
        devices=tuple(names),
        n_videos=len(sources),
        n_done=tally.n["done"],
        n_skipped=tally.n["skipped"],
        n_failed=tally.n["failed"],
        n_partial=len(tally.failures) - tally.n["failed"],
        n_clips=tally.n_clips,
        n_overflows=sum(share.n_overflows for share in shares),
        seconds=time.perf_counter() - started,
        timings=timings,
        settings=extractor.settings,
        fingerprint=extractor.manifest.fingerprint,
        failures=tuple(sorted(tally.failures, key=lambda failure: failure.name)),
        lost_processes=lost,
        not_done=tuple(tally.left),
    )


def _connect(address: str) -> "Cluster":
    # Ray reads this when it is imported: a thread that outlives a connection must not start another Ray by itself.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    from c3dvideo.features.cluster import Cluster  # imports Ray, which only this needs

    return Cluster(address)


def _run(
    extractor: Extractor,
    sources: Sequence[Source],
    out: Location,
    names: Sequence[str],
    run: FolderRun,
    tally: "_Tally",
    note: Callable[[str], None],
) -> tuple[list[Share], tuple[str, ...]]:
    """Extract on one device in this process, or on several with one process each."""
    check = StoredCheck(out, extractor.manifest.fingerprint, extractor.stall_seconds)
    timings = Timings()
    with run:
        claimed = run.claimed(sources)
        if len(names) > 1:
            shares, lost = compute_on_devices(
                run, claimed, extractor, names, out=out, check=check, timings=timings, report=tally, note=note
            )
            return [*shares, Share(timings, n_overflows=0)], lost
        note(str(extractor))
        with (
            Writer(lambda outcome: run.settle(store(outcome, out, extractor.features)), timings) as writer,
            open_decoders(
                claimed,
                extractor.decode_settings(check),
                n_decoders=extractor.workers,
                n_slots=extractor.n_slots,
                timings=timings,
            ) as decoders,
        ):
            for outcome in compute(
                decoders,
                extractor.engine,
                scratch=scratch_folder(out),
                timings=timings,
                on_clips=lambda n_clips: tally(Decoded(n_clips=n_clips)),
            ):
                writer.put(outcome)
    return [Share(timings, extractor.engine.n_overflows)], ()


class _Tally:
    """Counts what is reported, from any thread, and keeps the progress bar.

    How many clips there will be is an estimate: as many per byte as in the videos that are done.
    """

    def __init__(self, bar: Bar, sources: Iterable[Source]) -> None:
        self.left = dict.fromkeys(source.name for source in sources)
        self.n = {"done": 0, "skipped": 0, "failed": 0}
        self.n_clips = 0
        self.failures: list[Failure] = []
        self._bar = bar
        self._lock = threading.Lock()
        self._bytes_left = sum(map(_size, sources))
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
        size = _size(video.source)
        self._bytes_left -= size
        if video.n_clips:
            self._bytes_done += size
            self.n_clips += video.n_clips
        if self._bytes_done:
            expected = self.n_clips * (1 + self._bytes_left / self._bytes_done)
            self._bar.expect(round(expected), about=bool(self.left))


def _size(source: Source) -> int:
    """Bytes of a file; a small number for anything else."""
    try:
        return Path(source.path).stat().st_size
    except (OSError, ValueError):
        return 0
