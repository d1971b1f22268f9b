"""A device process: it holds the network on one device, and writes the features of the clips that it is sent.

The process that started it sends `Setup`, the layout of the shared clips, the messages of the decoders, and `Over`. The
device process sends `Started`, `Ready`, then `Freed` per batch and `Settled` per video, and in the end its `Share`; or
the error that it raises on purpose. The other end is in `processes`.
"""

import pickle
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from c3dvideo.errors import C3DVideoError
from c3dvideo.features.activations import scratch_folder
from c3dvideo.features.claims import FolderLocks
from c3dvideo.features.clip_slots import ClipSlots, Pixels
from c3dvideo.features.decoder_manager import Message
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.folder_run import store
from c3dvideo.features.pipeline import Writer, compute
from c3dvideo.features.timings import Timings
from c3dvideo.storage import Location


@dataclass(frozen=True)
class Share:
    """What one device process has done. n_overflows: clips that were computed again in fp32."""

    timings: Timings
    n_overflows: int


@dataclass(frozen=True)
class Started:
    """A process is there and waits for its extractor."""


@dataclass(frozen=True)
class Setup:
    """What a process computes with and where it writes. n_processes: how many share the cores."""

    extractor: bytes
    device: str
    out: Location
    n_processes: int


@dataclass(frozen=True)
class Ready:
    """A process has its network on the device."""

    batch_clips: int
    note: str


@dataclass(frozen=True)
class Freed:
    """Slots whose clips have been copied."""

    slots: tuple[int, ...]


@dataclass(frozen=True)
class Over:
    """There are no more clips."""


class _ParentGone(BaseException):
    """The main process has ended. Not an Exception, because it is no error of any video."""


def serve(connection_descriptor: int, slots_descriptor: int) -> None:
    """What a device process does. An error that is not raised on purpose ends it with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then ends this one
    line = _Line(Connection(connection_descriptor))
    with suppress(_ParentGone):
        try:
            line.send(_compute_here(line, ClipSlots(slots_descriptor)))
        except C3DVideoError as error:
            line.send(error)


def _compute_here(line: "_Line", slots: ClipSlots) -> Share:
    line.send(Started())
    setup: Setup = line.receive()
    extractor: Extractor = pickle.loads(setup.extractor).on(setup.device)  # noqa: S301 - from the parent, over its socket
    if extractor.device.type == "cuda":
        torch.cuda.set_device(extractor.device)  # else every process would also take memory of the first GPU
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // setup.n_processes))
    # Should the main process be killed, this one is still present in the folder until its last file is written.
    with FolderLocks(setup.out):
        engine = extractor.engine  # made here, since a network on a GPU cannot be sent
        line.send(Ready(engine.batch_clips, str(extractor)))
        slots.use(line.receive())
        timings = Timings()
        with Writer(lambda outcome: line.send(store(outcome, setup.out, extractor.features)), timings) as writer:
            clips, scratch = _SentClips(line, slots, timings), scratch_folder(setup.out)
            for outcome in compute(clips, engine, scratch=scratch, timings=timings):
                writer.put(outcome)
    return Share(timings, engine.n_overflows)


class _Line:
    """A device process's end of the connection, for all of its threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Send a message; raises _ParentGone."""
        with self._lock:  # the writer and the network send from two threads, and a long message is more than one write
            try:
                self._connection.send(message)
            except OSError as error:
                raise _ParentGone from error

    def receive(self) -> Any:
        """The next message, for one thread at a time; raises _ParentGone."""
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise _ParentGone from error


class _SentClips:
    """The clips that the main process sends to this one: a `ClipStream`."""

    def __init__(self, line: _Line, slots: ClipSlots, timings: Timings) -> None:
        self.clips: Pixels = slots.clips
        self._line = line
        self._timings = timings

    def messages(self) -> Iterator[Message | None]:
        """What happens to the videos of this device."""
        while True:
            started = time.perf_counter()
            message = self._line.receive()
            self._timings.waiting_for_clips += time.perf_counter() - started
            if isinstance(message, Over):
                return
            yield message

    def release(self, slots: Iterable[int]) -> None:
        """Let slots be filled again."""
        self._line.send(Freed(tuple(slots)))
