"""A discrete-event simulation of `extract`: decoders, slots for clips, batches, the network and the writer.

    found = simulate([Load(n_frames=640, n_clips=40)] * 100, rates, Machine(cores=16, n_decoders=16, ...))
    found.seconds, found.bottleneck                 # 12.8, "decoders"

Every part is a process that computes, waits for a slot or a clip, or waits for another part. Computing parts share the
cores that other programs leave: with more running threads than such cores, each gets an equal part. simpy has no
resource of this kind, which determines the rate of a machine whose network runs on the cores that decode.
"""

import heapq
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Bottleneck = Literal["decoders", "network", "writer"]
_MOST_WAITING_FOR_WRITER = 4  # as in `pipeline`


@dataclass(frozen=True)
class Load:
    """The work of one video: frames to decode, and clips to compute."""

    n_frames: int
    n_clips: int


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds that the parts of a run take when each has the machine to itself.

    video: to check and open a video, on one core. frame: to decode and resize a frame, on one core. batch, clip: one
    call of the network takes `batch` + n * `clip`. write: to write the features of a video. start: until the first
    clip arrives, mostly on one core.
    """

    video: float
    frame: float
    batch: float
    clip: float
    write: float
    start: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What computes. network_threads: cores that the network takes while it computes; 0 for a GPU.

    free_cores: cores that this program gets with a busy thread per core; fewer than `cores` when others compute.
    """

    cores: int
    n_decoders: int
    n_slots: int
    batch_clips: int
    network_threads: int
    free_cores: float | None = None

    def speed(self, threads: float) -> float:
        """What a thread gets of a core when `threads` of this program compute at the same time.

        >>> Machine(cores=2, n_decoders=1, n_slots=16, batch_clips=8, network_threads=2).speed(3)
        0.6666666666666666
        """
        free = self.cores if self.free_cores is None else self.free_cores
        return min(1.0, free / threads) if threads else 1.0


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """The wall time of a run, and the share of it in which each part was busy (of all decoders, for decoders)."""

    seconds: float
    network_busy: float
    decoders_busy: float
    writer_busy: float

    @property
    def bottleneck(self) -> Bottleneck:
        """The part that is busy for most of the time, which more of anything else would not make faster."""
        shares: dict[Bottleneck, float] = {
            "network": self.network_busy,
            "decoders": self.decoders_busy,
            "writer": self.writer_busy,
        }
        return max(shares, key=lambda name: shares[name])


@dataclass(frozen=True)
class Compute:
    """Work for `threads` threads, `seconds` long when each has a core to itself."""

    seconds: float
    threads: int


@dataclass(frozen=True)
class Sleep:
    """Time that passes without a core: a disk or a GPU works."""

    seconds: float


@dataclass
class Counter:
    """A number of things that processes take one by one and wait for when there are none."""

    n: int = 0
    waiting: "deque[Process]" = field(default_factory=deque)


Process = Generator[Compute | Sleep | Counter, None, None]


@dataclass
class _Job:
    process: Process
    left: float
    threads: int


class Clock:
    """Runs processes in simulated time; `now` is in seconds. speed: see `Machine.speed`."""

    def __init__(self, speed: Callable[[float], float]) -> None:
        self.now = 0.0
        self._speed = speed
        self._jobs: list[_Job] = []
        self._sleeping: list[tuple[float, int, Process]] = []
        self._ready: deque[Process] = deque()
        self._n = 0

    def start(self, process: Process) -> None:
        """Let a process run from now on."""
        self._ready.append(process)

    def put(self, counter: Counter, n: int = 1) -> None:
        """Add things to a counter; processes that wait for one continue, in the order in which they came."""
        for _ in range(n):
            if counter.waiting:
                self._ready.append(counter.waiting.popleft())
            else:
                counter.n += 1

    def run(self) -> None:
        """Run until no process has anything left to do."""
        while True:
            # All that is possible at one moment happens before time passes: it may start more jobs, which share cores.
            while self._ready:
                self._step(self._ready.popleft())
            if not self._jobs and not self._sleeping:
                return
            self._advance()

    def _step(self, process: Process) -> None:
        wanted = next(process, None)
        if isinstance(wanted, Compute):
            self._jobs.append(_Job(process, wanted.seconds, wanted.threads))
        elif isinstance(wanted, Sleep):
            self._n += 1  # so that heapq never compares processes
            heapq.heappush(self._sleeping, (self.now + wanted.seconds, self._n, process))
        elif wanted is not None:
            if wanted.n:
                wanted.n -= 1
                self._ready.append(process)
            else:
                wanted.waiting.append(process)

    def _advance(self) -> None:
        """Let time pass until the next job or sleep ends."""
        speed = self._speed(sum(job.threads for job in self._jobs))
        passed = min((job.left for job in self._jobs), default=float("inf")) / speed
        if self._sleeping:
            passed = min(passed, self._sleeping[0][0] - self.now)
        passed = max(passed, 0.0)
        self.now += passed
        for job in self._jobs:
            job.left -= passed * speed
        # Rounding may leave a job a little work; a step of so little time would not change `now`, and never end.
        done = [job for job in self._jobs if job.left <= 1e-12]
        self._jobs = [job for job in self._jobs if job.left > 1e-12]
        self._ready.extend(job.process for job in done)
        while self._sleeping and self._sleeping[0][0] <= self.now + 1e-12:
            self._ready.append(heapq.heappop(self._sleeping)[2])


def simulate(loads: Sequence[Load], rates: Rates, machine: Machine) -> Simulated:
    """The course of one run over `loads`, in their order, on one machine."""
    if machine.n_decoders == 0:
        return _one_after_the_other(loads, rates, machine)
    run = _Run(loads, rates, machine)
    run.clock.run()
    total = run.clock.now + rates.start / machine.speed(1)
    return Simulated(
        seconds=total,
        network_busy=run.network_seconds / total,
        decoders_busy=run.decoder_seconds / (total * machine.n_decoders),
        writer_busy=run.writer_seconds / total,
    )


def _one_after_the_other(loads: Sequence[Load], rates: Rates, machine: Machine) -> Simulated:
    """A run that decodes in the process of the network: nothing happens beside anything else but the writer."""
    n_clips = sum(load.n_clips for load in loads)
    decoding = sum(rates.video + rates.frame * load.n_frames for load in loads) / machine.speed(1)
    network = rates.clip * n_clips + rates.batch * -(-n_clips // machine.batch_clips)
    network /= machine.speed(machine.network_threads)
    writing = rates.write * len(loads)
    total = rates.start / machine.speed(1) + max(decoding + network, writing)
    return Simulated(
        seconds=total, network_busy=network / total, decoders_busy=decoding / total, writer_busy=writing / total
    )


class _Run:
    """The processes of one run, and how long each part was at work."""

    def __init__(self, loads: Sequence[Load], rates: Rates, machine: Machine) -> None:
        self.clock = Clock(machine.speed)
        self.network_seconds = self.decoder_seconds = self.writer_seconds = 0.0
        self._rates, self._machine = rates, machine
        self._videos = deque(enumerate(loads))
        self._left = [load.n_clips for load in loads]
        self._slots = Counter(machine.n_slots)
        self._messages: deque[int | None] = deque()  # the video of each clip that is in a slot; None: a decoder's end
        self._arrived = Counter()
        self._to_write: Counter = Counter()
        self._room = Counter(_MOST_WAITING_FOR_WRITER)
        self._n_decoders = min(machine.n_decoders, len(loads))
        for _ in range(self._n_decoders):
            self.clock.start(self._decoder())
        self.clock.start(self._network())
        self.clock.start(self._writer(sum(load.n_clips > 0 for load in loads)))

    def _decoder(self) -> Process:
        while self._videos:
            number, load = self._videos.popleft()
            yield from self._decode(self._rates.video)
            if load.n_clips == 0:  # too short for a clip, which only decoding shows
                yield from self._decode(self._rates.frame * load.n_frames)
            for _ in range(load.n_clips):
                yield from self._decode(self._rates.frame * load.n_frames / load.n_clips)
                yield self._slots
                self._send(number)
        self._send(None)

    def _decode(self, seconds: float) -> Process:
        started = self.clock.now
        yield Compute(seconds, 1)
        self.decoder_seconds += self.clock.now - started

    def _send(self, message: int | None) -> None:
        self._messages.append(message)
        self.clock.put(self._arrived)

    def _network(self) -> Process:
        running, batch = self._n_decoders, list[int]()
        done_at = 0.0
        while running or batch:
            if running:
                yield self._arrived
                message = self._messages.popleft()
                if message is None:
                    running -= 1
                else:
                    batch.append(message)
            if batch and (len(batch) == self._machine.batch_clips or not running):
                # Before the network computes, as in `pipeline`: a batch is copied out of its slots.
                self.clock.put(self._slots, len(batch))
                seconds = self._rates.batch + self._rates.clip * len(batch)
                started = self.clock.now
                if self._machine.network_threads:
                    yield Compute(seconds, self._machine.network_threads)
                    self.network_seconds += self.clock.now - started
                else:  # one batch runs while the next is filled
                    yield Sleep(max(0.0, done_at - started))
                    done_at = self.clock.now + seconds
                    self.network_seconds += seconds
                yield from self._finish(batch)
                batch = []
        yield Sleep(max(0.0, done_at - self.clock.now))

    def _finish(self, batch: list[int]) -> Process:
        for number in batch:
            self._left[number] -= 1
            if self._left[number] == 0:
                yield self._room
                self.clock.put(self._to_write)

    def _writer(self, n_videos: int) -> Process:
        for _ in range(n_videos):
            yield self._to_write
            self.writer_seconds += self._rates.write
            yield Sleep(self._rates.write)
            self.clock.put(self._room)
