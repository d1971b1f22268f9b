"""Processes: one a device, fed from one list of videos, all filling one folder.

    extractor = Extractor("my_weights", layers=["fc6"])
    shares, lost = work_in_processes(sources, Path("out/"), ["cuda:0", "cuda:1"], extractor, report=print, note=print)

Each process asks for its next video when a decoder of its own is free, so none waits for another's long video. A
process that dies takes the videos it had begun with it, and no others; they are not tried again in this run, because
one of them may be what killed it. Processes end by themselves when the one that started them goes away.
"""

import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import torch

from c3dvideo.errors import C3DVideoError
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.worker import Decoded, Report, Settled, Share, work
from c3dvideo.video.sources import Source

_SECONDS_BETWEEN_REPORTS = 0.1
_SECONDS_TO_STOP = 15.0


@dataclass(frozen=True)
class _Here:
    """A process has started and asks for its extractor."""


@dataclass(frozen=True)
class _Wanted:
    """A process asks for its next video."""


@dataclass(frozen=True)
class _Note:
    text: str


class _ParentGone(BaseException):
    """Nobody is there any more to work for; no error of any video, so no Exception."""


def work_in_processes(
    sources: Iterable[Source],
    out: Path,
    devices: Sequence[str],
    extractor: Extractor,
    *,
    report: Report,
    note: Callable[[str], None],
) -> tuple[list[Share], tuple[str, ...]]:
    """Do what `work` does in a process a device; their shares, and a line about each process that died.

    Raises what any process raises on purpose, after stopping the others, and C3DVideoError when all of them died.
    """
    waiting = iter(sources)
    # Pickled here, because multiprocessing would move the tensors of a network to shared memory; and sent when a
    # process is there to read it, because it would otherwise hold up the start of the next.
    pickled = pickle.dumps(extractor)
    shares: list[Share] = []
    lost: list[str] = []
    processes: dict[Connection, _Process] = {}
    try:
        with _deaf_to_interrupts():
            for number, _ in enumerate(devices):
                process = _Process(number, devices, out)
                processes[process.connection] = process
        running = set(processes)
        while running:
            for connection in cast(list[Connection], wait(list(running))):
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    running.remove(connection)
                    if not processes[connection].finished:
                        lost.append(processes[connection].end())
                    continue
                if isinstance(message, _Here | _Wanted):
                    with suppress(OSError):  # it died while it asked, which the next turn notices
                        connection.send(pickled if isinstance(message, _Here) else next(waiting, None))
                elif isinstance(message, _Note):
                    note(message.text)
                elif isinstance(message, C3DVideoError):
                    raise message
                elif isinstance(message, Share):
                    processes[connection].finished = True
                    shares.append(message)
                else:
                    report(message)
    finally:
        _stop(processes.values())
    if not shares:
        raise C3DVideoError(f"{'; '.join(lost)}; what was finished is kept, the same command goes on from there")
    return shares, tuple(lost)


class _Process:
    """One started process and our end of the line to it."""

    def __init__(self, number: int, devices: Sequence[str], out: Path) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.finished = False
        self._device = devices[number]
        arguments = (theirs, number, list(devices), out)
        self.process = context.Process(target=_serve, args=arguments, name=f"c3dvideo-{number}", daemon=True)
        self.process.start()
        theirs.close()

    def end(self) -> str:
        """How the process ended, in words."""
        self.process.join(_SECONDS_TO_STOP)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"the process on {self._device} was killed by {signal.Signals(-code).name}"
        return f"the process on {self._device} ended with exit code {code}"


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Have processes that are started ignore Ctrl-C from their first moment on: it is ours to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(processes: Iterable[_Process]) -> None:
    """End what still runs: nicely, by hanging up, then by force."""
    for each in processes:
        each.connection.close()
    deadline = time.monotonic() + _SECONDS_TO_STOP
    for each in processes:
        each.process.join(max(0.0, deadline - time.monotonic()))
        if each.process.is_alive():
            each.process.kill()
            each.process.join()


def _serve(connection: Connection, number: int, devices: Sequence[str], out: Path) -> None:
    """What a process does; any error that is not ours ends it with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = _Line(connection)
    with suppress(_ParentGone):
        try:
            line.send(_work_on(line, number, devices, out))
        except C3DVideoError as error:
            line.send(error)


def _work_on(line: "_Line", number: int, devices: Sequence[str], out: Path) -> Share:
    device = devices[number]
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # else every process would also take memory of the first GPU
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    extractor: Extractor = pickle.loads(line.ask(_Here())).on(device, n_processes=len(devices))
    if number == 0:
        line.send(_Note(f"{extractor}, and a process each on {', '.join(devices[1:])}"))
    return work(line.sources(), out, extractor, report=line.report)


class _Line:
    """A process's end of the line: what it tells, from any of its threads, and the videos it is given."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._n_clips = 0
        self._reported = 0.0

    def send(self, message: object) -> None:
        with self._lock:
            self._send(message)

    def report(self, event: Decoded | Settled) -> None:
        """Pass on what `work` reports, decoded clips a few times a second."""
        with self._lock:
            if isinstance(event, Settled):
                self._send(event)
                return
            self._n_clips += event.n_clips
            if time.monotonic() - self._reported > _SECONDS_BETWEEN_REPORTS:
                self._send(Decoded(n_clips=self._n_clips))
                self._n_clips, self._reported = 0, time.monotonic()

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise _ParentGone from error

    def ask(self, question: _Here | _Wanted) -> Any:
        """The answer; only one thread at a time may ask."""
        self.send(question)
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise _ParentGone from error

    def sources(self) -> Iterator[Source]:
        """The videos to do, each when it is asked for."""
        while (source := self.ask(_Wanted())) is not None:
            yield source
