"""A decoder: a process that turns one video at a time into clips in shared memory.

The process that started it sends `Setup`, then `Decode` per video and `Grant` for free slots. The decoder sends
`Filled` per clip and otherwise the messages of `decoding`, and `Done` when it is free for the next video. The other end
is in `decoders`.

torch is never imported here: that would take two seconds and 300 MB per process.
"""

import os
import queue
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from c3dvideo.features.child_process import end_with_parent, limit_memory
from c3dvideo.features.clip_slots import ClipSlots, SlotLayout
from c3dvideo.features.decoding import Activity, ReadSettings, decode
from c3dvideo.features.timings import Timings
from c3dvideo.video.reader import Clip
from c3dvideo.video.sources import Source

_SECONDS_BETWEEN_COUNTS = 0.25


@dataclass(frozen=True)
class Setup:
    """How to read videos, and which counter of the shared memory belongs to this decoder."""

    settings: ReadSettings
    layout: SlotLayout
    number: int


@dataclass(frozen=True)
class Decode:
    """The next video."""

    source: Source


@dataclass(frozen=True)
class Grant:
    """Slots that this decoder may fill."""

    slots: tuple[int, ...]


@dataclass(frozen=True)
class Skip:
    """The rest of a video is not needed."""

    name: str


@dataclass(frozen=True)
class Ready:
    """The process has started."""


@dataclass(frozen=True)
class Filled:
    """A clip is in a slot."""

    slot: int
    start_frame: int
    start_seconds: float


@dataclass(frozen=True)
class Done:
    """The decoder is free for the next video; what the last one took."""

    timings: Timings


def serve(connection_descriptor: int, slots_descriptor: int) -> None:
    """Decode what comes over the connection, until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    end_with_parent()
    # Bare descriptors, because this process was not started by multiprocessing: see `child_process`.
    connection = Connection(connection_descriptor)
    with suppress(OSError, EOFError):  # the other end is closed: the clips have no receiver
        _Decoder(connection, ClipSlots(slots_descriptor)).run()


class _Decoder:
    def __init__(self, connection: Connection, slots: ClipSlots) -> None:
        self._connection = connection
        # Sent before anything can go wrong with a video: a process that dies earlier could not be started at all.
        connection.send(Ready())
        setup: Setup = connection.recv()
        slots.use(setup.layout)
        self._slots = slots
        self._number = setup.number
        self._settings = setup.settings
        self._activity = Activity()
        self._videos: queue.SimpleQueue[Source] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._is_waiting = False
        self._skipped = ""
        limit_memory(setup.settings.memory_bytes)

    def run(self) -> None:
        """Decode videos until the connection breaks."""
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        while True:
            self._decode(self._videos.get())

    def _decode(self, source: Source) -> None:
        waited = 0.0
        for message in decode(source, self._settings, self._activity):
            if isinstance(message, Clip):
                started = time.perf_counter()
                slot = self._free_slot()
                waited += time.perf_counter() - started
                self._slots.clips[slot] = message.pixels
                self._connection.send(Filled(slot, message.start_frame, message.start_seconds))
                # Between clips only: a library cannot be left in the middle of a frame.
                if self._skipped == source.name:
                    break
            else:
                self._connection.send(message)
        timings = self._activity.timings()
        timings.waiting_for_network = waited
        self._connection.send(Done(timings))

    def _free_slot(self) -> int:
        self._is_waiting = True
        slot = self._free.get()
        self._is_waiting = False
        return slot

    def _listen(self) -> None:
        """Take messages while a video is decoded, publish the progress, and end the process with its connection.

        In a thread, because the main one may be inside a library that hangs: it could neither listen nor end itself.
        """
        try:
            while True:
                if self._connection.poll(_SECONDS_BETWEEN_COUNTS):
                    self._take(self._connection.recv())
                if self._is_waiting:
                    self._activity.step()  # the network is the slower part, which is no standstill
                self._slots.activity[self._number] = self._activity.total()
        except (OSError, EOFError):
            os._exit(0)

    def _take(self, message: Decode | Grant | Skip) -> None:
        if isinstance(message, Grant):
            for slot in message.slots:
                self._free.put(slot)
        elif isinstance(message, Decode):
            self._videos.put(message.source)
        else:
            self._skipped = message.name
