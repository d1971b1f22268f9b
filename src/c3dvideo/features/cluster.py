"""Extraction on a Ray cluster: actors decode and compute, and the main process checks, collects and writes.

    with Cluster("auto") as cluster:
        kind = cluster.devices("auto", workers=None)[0]                   # "cuda" when the cluster has GPUs
        extractor = Extractor(device=kind, is_elsewhere=True)
        run = FolderRun(out, extractor.manifest, report=print)
        cluster.compute(run, sources, extractor, out=out, workers=None, report=print, note=print)

Videos flow through two pools of actors in Ray Data: one decodes on CPUs, the other computes on GPUs or CPUs. Ray runs a
task again when its worker is lost, so clips may arrive twice, out of order, or not at all. The main process is the only
writer: it collects the activations of each attempt by the number of the clip, and writes a video once all clips of one
attempt are there. What is then missing is done in another pass. A stored file is the only record that a video is done.

Memory: Ray Data halts decoders while the network is behind, within the object store of each node. The main process
holds the activations of the videos that are under way; more than SPILL_BYTES of one video go to a file.
"""

import logging
import math
import os
import pickle
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import RayError

from c3dvideo import __version__
from c3dvideo.errors import C3DVideoError, UsageError
from c3dvideo.features.cluster_collector import Collector
from c3dvideo.features.cluster_stages import ClusterCheck, DecodeStage, NetworkStage, NumberedSource
from c3dvideo.features.device_process import Share
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.folder_run import FolderRun, Report
from c3dvideo.features.pipeline import Writer
from c3dvideo.storage import Location
from c3dvideo.video.sources import Source

VIDEOS_PER_PASS = 20_000
"""How many videos one pass takes: what the main process and Ray's scheduler hold of them is bounded by it."""
_FRUITLESS_PASSES = 3
BLOCK_BYTES = 16 << 20
"""How much decoders pass on at a time: Ray Data holds two blocks per running task before it halts the task."""
SECONDS_WITHOUT_ROWS = 900
"""How long a pass may go without a row, counting the start of the actors, before the run is given up."""
_TABLES_AHEAD = 2
_BATCH_BYTES = 256 << 20
_CLIPS_ON_CPU = 8
_CLIPS_ON_GPU = 128
_VIDEOS_PER_TASK = 8
_TASKS_PER_DECODER = 4


@dataclass(frozen=True)
class Pools:
    """How many actors decode and compute, and the CPUs of each.

    >>> Pools.of(n_cpus=16, n_gpus=2, kind="cuda", workers=None)
    Pools(n_decoders=16, decoder_cpus=1.0, n_networks=2, network_cpus=0.0, network_gpus=1)
    >>> Pools.of(n_cpus=16, n_gpus=0, kind="cpu", workers=None)
    Pools(n_decoders=4, decoder_cpus=1.0, n_networks=12, network_cpus=1.0, network_gpus=0)
    """

    n_decoders: int
    decoder_cpus: float
    n_networks: int
    network_cpus: float
    network_gpus: int

    def __str__(self) -> str:
        return f"decoders: {self.n_decoders}, networks: {self.n_networks}, on {'GPUs' if self.network_gpus else 'CPUs'}"

    @classmethod
    def of(cls, *, n_cpus: float, n_gpus: float, kind: Literal["cpu", "cuda"], workers: int | None) -> Self:
        """The pools for a cluster. workers: decoders, by default one per CPU beside GPUs and else one per four CPUs."""
        if kind == "cuda":
            n_decoders = workers or max(1, int(n_cpus))
            return cls(n_decoders, _share(n_cpus, n_decoders), max(1, int(n_gpus)), 0.0, 1)
        n_decoders = workers or max(1, int(n_cpus) // 4)
        # Both pools together never need more than there is: each would wait for the other for ever.
        # One CPU per network, because larger shares do not always fit into the gaps that decoders leave on a machine.
        n_networks = max(1, int(n_cpus) - n_decoders)
        network_cpus = _share(max(n_cpus - n_decoders, n_cpus / 2), n_networks)
        return cls(n_decoders, _share(n_cpus - n_networks * network_cpus, n_decoders), n_networks, network_cpus, 0)


def _share(n_cpus: float, n_actors: int) -> float:
    """CPUs per actor, at most one, in the hundredths that Ray counts."""
    return max(0.01, int(100 * min(1.0, n_cpus / n_actors)) / 100)


class Cluster:
    """A connection to a Ray cluster, for the length of a `with` block.

    address: "auto" is the cluster to which this machine belongs, "local" starts Ray on this machine for the block, and
    "host:port" is another cluster. Within a program that has called `ray.init`, its connection is used. Raises
    UsageError for an address without a cluster.
    """

    def __init__(self, address: str) -> None:
        if address.startswith("ray://"):
            raise UsageError(
                f"`cluster=` is {address!r}, an address of Ray's client; run the command on a machine of the cluster, "
                "for example with `ray job submit`, and give auto"
            )
        self._address = address
        self._is_ours = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if not ray.is_initialized():
            self._connect()
            self._is_ours = True
            # Ray prints the loss of a worker on stdout, which belongs to the results.
            self._stack.enter_context(redirect_stdout(sys.stderr))
        _quiet()
        return self

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        only_local: dict[str, Any] = {"include_dashboard": False} if self._address == "local" else {}
        try:
            ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR, **only_local)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            raise UsageError(
                f"`cluster=` is {self._address!r}, and no Ray cluster answers there ({_first_line(error)}); start one "
                "with `ray start --head`, or give local to start Ray on this machine; a cluster with tokens needs "
                "RAY_AUTH_MODE=token in the environment"
            ) from error

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            ray.shutdown()
        self._stack.close()

    def devices(self, device: str, workers: int | None) -> list[str]:
        """The device of each actor that computes, all of one kind: ["cuda", "cuda"].

        device: "auto" is GPUs where the cluster has any. Raises UsageError for what the cluster does not have.
        """
        kind = self._kind(device)
        return [kind] * self._pools(kind, workers).n_networks

    def _kind(self, device: str) -> Literal["cpu", "cuda"]:
        has_gpus = self._n("GPU") >= 1
        if device == "auto":
            return "cuda" if has_gpus else "cpu"
        if device not in ("cpu", "cuda"):
            raise UsageError(f"`device=` is {device!r}; a cluster takes auto, cpu or cuda, and all devices of the kind")
        if device == "cuda" and not has_gpus:
            raise UsageError("`device=` is 'cuda', and the cluster has no GPU; give auto or cpu")
        return "cuda" if device == "cuda" else "cpu"

    def _pools(self, kind: Literal["cpu", "cuda"], workers: int | None) -> Pools:
        """The pools for the machines that are in the cluster now."""
        if workers == 0:
            raise UsageError("`workers=` is 0; a cluster needs at least one decoder")
        return Pools.of(n_cpus=self._n("CPU"), n_gpus=self._n("GPU"), kind=kind, workers=workers)

    def _n(self, resource: str) -> float:
        resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return float(resources.get(resource, 0))

    def compute(
        self,
        run: FolderRun,
        sources: Sequence[Source],
        extractor: Extractor,
        *,
        out: Location,
        workers: int | None,
        report: Report,
        note: Callable[[str], None],
    ) -> tuple[list[Share], tuple[str, ...]]:
        """Extract every source. Returns what was done, and why videos are missing.

        Raises C3DVideoError when the actors cannot work, and StoreError when the features cannot be written.
        """
        kind: Literal["cpu", "cuda"] = "cuda" if extractor.device.type == "cuda" else "cpu"
        network = ray.put(np.frombuffer(pickle.dumps(extractor), np.uint8))
        collector = Collector(extractor, out=out, report=report)
        waiting, n_fruitless = list(sources), 0
        note(f"{extractor.title} on a Ray cluster, {self._pools(kind, workers)}")
        with run, Writer(lambda outcome: run.settle(collector.store(outcome)), collector.timings) as writer:
            while waiting and n_fruitless < _FRUITLESS_PASSES:
                now, later = waiting[:VIDEOS_PER_PASS], waiting[VIDEOS_PER_PASS:]
                dataset = _dataset(collector.begin(now), extractor, network, self._pools(kind, workers))
                for table in _tables(dataset):
                    for outcome in collector.take(table):
                        writer.put(outcome)
                missing = collector.missing()
                n_fruitless = n_fruitless + 1 if len(missing) == len(now) else 0
                waiting = [*missing, *later]
        lost = f"the cluster lost the work on {len(waiting)} videos in {n_fruitless} passes"
        return [Share(collector.timings, collector.n_overflows)], (lost,) if waiting else ()


def _quiet() -> None:
    """Leave Ray Data's reports to its log files: what the actors could not do is reported by this package."""
    logger = logging.getLogger("ray.data")
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


def _dataset(sources: Sequence[NumberedSource], extractor: Extractor, network: Any, pools: Pools) -> Dataset:
    """The two pools as a pipeline over the sources; nothing runs before its rows are read."""
    settings = extractor.decode_settings(ClusterCheck(extractor.stall_seconds))
    is_cpu = extractor.device.type == "cpu"
    clip_bytes = math.prod(settings.clip_shape)
    clips_per_call = extractor.batch_size or (_CLIPS_ON_CPU if is_cpu else _CLIPS_ON_GPU)
    n_tasks = max(pools.n_decoders * _TASKS_PER_DECODER, math.ceil(len(sources) / _VIDEOS_PER_TASK))
    with DataContext.current(_context()):
        items = ray.data.from_items(
            [{"source": pickle.dumps(source)} for source in sources], override_num_blocks=min(n_tasks, len(sources))
        )
        clips = items.map_batches(
            DecodeStage,
            fn_constructor_args=(settings, str(Path.cwd()), __version__),
            batch_size=None,
            batch_format="numpy",
            compute=ActorPoolStrategy(size=pools.n_decoders, max_tasks_in_flight_per_actor=2),
            num_cpus=pools.decoder_cpus,
        )
        return clips.map_batches(
            NetworkStage,
            fn_constructor_args=(partial(ray.get, network), extractor.device.type, __version__),
            batch_size=max(1, min(clips_per_call, _BATCH_BYTES // clip_bytes)),
            batch_format="numpy",
            compute=ActorPoolStrategy(size=pools.n_networks, max_tasks_in_flight_per_actor=2),
            num_cpus=pools.network_cpus,
            num_gpus=pools.network_gpus,
        )


def _context() -> DataContext:
    """Ray Data's settings for this run."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    # A task that is lost for good costs its videos another pass, and does not end the run.
    context.max_errored_blocks = -1
    return context


def _tables(dataset: Dataset) -> Iterator[Mapping[str, Any]]:
    """The tables of a pass. Raises C3DVideoError when Ray fails as a whole, or returns nothing for too long.

    It waits without end when actors are to be started again on machines that have left the cluster.
    """
    tables: queue.Queue[Mapping[str, Any] | Exception | None] = queue.Queue(_TABLES_AHEAD)
    stopping = threading.Event()

    def put(table: Mapping[str, Any] | Exception | None) -> None:
        while not stopping.is_set():
            with suppress(queue.Full):
                tables.put(table, timeout=0.5)
                return

    def read() -> None:
        try:
            for table in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1):
                put(table)
                if stopping.is_set():
                    return
            put(None)
        except Exception as error:
            put(error)

    # In a thread, because iterating waits without a limit, and cannot be stopped meanwhile.
    threading.Thread(target=read, name="tables", daemon=True).start()
    try:
        while (table := tables.get(timeout=SECONDS_WITHOUT_ROWS)) is not None:
            if isinstance(table, Exception):
                raise C3DVideoError(
                    f"the Ray cluster has failed: {_last_line(table)}; what was finished is kept, the same command "
                    "continues from there"
                ) from table
            yield table
    except queue.Empty:
        raise C3DVideoError(
            f"the Ray cluster has returned nothing for {SECONDS_WITHOUT_ROWS} seconds, as when machines have left it; "
            "what was finished is kept, the same command continues with the machines that are there"
        ) from None
    finally:
        stopping.set()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _last_line(error: Exception) -> str:
    """The end of the traceback that Ray puts into its messages: what has happened in the worker."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)[
        :300
    ]
