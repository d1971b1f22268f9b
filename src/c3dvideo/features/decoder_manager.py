"""The thread behind `Decoders`: it gives decoder processes videos and slots, and replaces those that fail.

    manager = Manager(iter(sources), settings, layout, slots, inbox, timings)
    threading.Thread(target=manager.run).start()         # messages arrive in the inbox, then Over
    manager.stop()

A thread of its own, because the main thread is inside the network for a second at a time on a CPU; decoders that have
finished a video would wait for the next one meanwhile.
"""

import queue
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

from c3dvideo.errors import C3DVideoError
from c3dvideo.features.child_process import ChildProcess, signal_name
from c3dvideo.features.clip_slots import ClipSlots, SlotLayout
from c3dvideo.features.decoder_process import Decode, Done, Filled, Grant, Ready, Setup, Skip
from c3dvideo.features.decoding import Begun, End, Failed, ReadSettings
from c3dvideo.features.timings import Timings
from c3dvideo.video.access import shown
from c3dvideo.video.resize import compiled_loop
from c3dvideo.video.sources import Source

Content = Begun | Filled | End | Failed
Message = tuple[Source, Content]

_SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_UNTIL_NEXT_TRY = 0.1
_SECONDS_TO_START = 120.0
_SECONDS_TO_END = 1.0
_MOST_GRANTED = 4
_MOST_LOST_IDLE = 3
# Later than a read that times out by itself, whose message has more detail.
_EXTRA_STALL_SECONDS = 1.0
_FUNCTION = "c3dvideo.features.decoder_process:serve"
# A pool of threads per decoder would only cost memory.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Over:
    """There are no more messages."""


Inbox = queue.SimpleQueue[Message | Over | BaseException | None]


class Manager:
    """The thread executes `run`; `release`, `skip` and `stop` are for other threads. Arguments as of `Decoders`."""

    def __init__(
        self,
        sources: Iterator[Source | None],
        settings: ReadSettings,
        layout: SlotLayout,
        slots: ClipSlots,
        inbox: Inbox,
        timings: Timings,
    ) -> None:
        self._sources = sources
        self._settings = settings
        self._layout = layout
        self._slots = slots
        self._inbox = inbox
        self._timings = timings
        self._free = list(range(layout.n_slots))
        self._released: deque[int] = deque()
        self._skipped: deque[str] = deque()
        # Slow decoders hold at most a quarter of the queue.
        spare = (layout.n_slots - layout.n_decoders) // (4 * layout.n_decoders)
        self._most_granted = min(_MOST_GRANTED, 1 + spare)
        self._decoders: dict[int, _Decoder] = {}
        self._retired: list[_Decoder] = []
        self._stuck: list[_Decoder] = []
        self._drawn_all = False
        self._next_draw = 0.0
        self._lost_idle = 0
        self._looked = time.monotonic()
        self._stopping = False
        self._starving = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()  # what is sent to one end wakes the thread at the other
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ, self._silence)

    def run(self) -> None:
        """Work until every video is decoded or `stop` is called."""
        try:
            compiled_loop()  # built once here, and not by every decoder at the same time
            while not self._stopping:
                self._give_videos()
                self._give_slots()
                if not self._decoders and self._drawn_all:
                    return
                for key, _ in self._selector.select(self._patience()):
                    key.data()
                self._find_stalled()
        except BaseException as error:
            self._inbox.put(error)
        finally:
            self._end_processes()
            self._inbox.put(Over())

    def release(self, slots: Iterable[int]) -> None:
        """Let slots be filled again."""
        self._released.extend(slots)
        if self._starving:
            self._wake()

    def skip(self, name: str) -> None:
        """Stop decoding a video."""
        self._skipped.append(name)
        self._wake()

    def stop(self) -> None:
        """End `run`, and with it the decoders."""
        self._stopping = True
        self._wake()

    def close(self) -> None:
        """Close what the threads share; after `run` has ended."""
        self._bell.close()
        self._ring.close()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full, so it will wake anyway
            self._ring.send(b"\0")

    def _silence(self) -> None:
        with suppress(BlockingIOError):
            self._bell.recv(4096)

    def _patience(self) -> float:
        """Seconds until there is something to do without a message."""
        until_draw = self._next_draw - time.monotonic()
        return min(_SECONDS_BETWEEN_LOOKS, until_draw) if until_draw > 0 else _SECONDS_BETWEEN_LOOKS

    def _give_videos(self) -> None:
        while not self._drawn_all and time.monotonic() >= self._next_draw:
            idle = next((each for each in self._decoders.values() if each.source is None), None)
            if idle is None and len(self._decoders) + len(self._stuck) == self._layout.n_decoders:
                return
            try:
                source = next(self._sources)
            except StopIteration:
                self._drawn_all = True
                break
            if source is None:
                self._inbox.put(None)
                self._next_draw = time.monotonic() + SECONDS_UNTIL_NEXT_TRY
                return
            (idle or self._start()).begin(source)
        if self._drawn_all:
            for decoder in [each for each in self._decoders.values() if each.source is None]:
                self._selector.unregister(decoder.child.connection)
                # Ends it, in its own time: waiting for the exit here would keep the others without slots.
                decoder.child.connection.close()
                self._forget(decoder)
                self._retired.append(decoder)

    def _start(self) -> "_Decoder":
        used = {decoder.number for decoder in (*self._decoders.values(), *self._stuck)}
        number = min(set(range(self._layout.n_decoders)) - used)
        decoder = _Decoder(Setup(self._settings, self._layout, number), self._slots)
        self._decoders[number] = decoder
        self._selector.register(decoder.child.connection, selectors.EVENT_READ, lambda: self._receive(decoder))
        return decoder

    def _give_slots(self) -> None:
        """First a slot to every decoder that has none, then more to those that are running out."""
        self._starving = True  # set first: what is released from here on wakes this thread
        while self._released:
            self._free.append(self._released.popleft())
        while self._skipped:
            name = self._skipped.popleft()
            for decoder in self._decoders.values():
                if decoder.source is not None and decoder.source.name == name:
                    decoder.child.send(Skip(name))
        working = [each for each in self._decoders.values() if each.source is not None]
        for most in (1, self._most_granted):
            for decoder in working:
                missing = most - len(decoder.granted)
                # Two or more at a time, where that is possible: a message per slot would be one per clip.
                if self._free and missing > 0 and 2 * missing >= most:
                    taken = self._free[-missing:]
                    del self._free[-missing:]
                    decoder.grant(taken)
        self._starving = any(not decoder.granted for decoder in working)

    def _receive(self, decoder: "_Decoder") -> None:
        try:
            message = decoder.child.connection.recv()
        except (EOFError, OSError):
            self._lose(decoder)
            return
        decoder.still_seconds = 0.0
        if isinstance(message, Ready):
            decoder.is_ready = True
        elif isinstance(message, Done):
            decoder.source = None
            self._timings.add(message.timings)
        else:
            assert decoder.source is not None
            if isinstance(message, Filled):
                decoder.granted.discard(message.slot)
            self._inbox.put((decoder.source, message))

    def _find_stalled(self) -> None:
        """Kill decoders that have made no progress for too long.

        Their time is counted in steps of a second at most. If this process itself was halted meanwhile (Ctrl-Z, a
        suspended machine), that time does not count.
        """
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 1.0), now
        for decoder in [each for each in self._decoders.values() if each.source is not None]:
            decoder.watch(int(self._slots.activity[decoder.number]), passed)
            limit = self._settings.stall_seconds + _EXTRA_STALL_SECONDS if decoder.is_ready else _SECONDS_TO_START
            if decoder.still_seconds > limit + _SECONDS_TO_END:
                self._lose(decoder)  # killed, and still there: blocked inside the system
            elif decoder.still_seconds > limit:
                decoder.kill(f"no progress for {self._settings.stall_seconds:g} seconds{self._settings.stall_advice}")

    def _lose(self, decoder: "_Decoder") -> None:
        """Count the video of a dead decoder as failed; the next video starts another one."""
        self._selector.unregister(decoder.child.connection)
        has_ended, reason = decoder.end()
        self._forget(decoder, is_stuck=not has_ended)
        if not decoder.is_ready:
            raise C3DVideoError(
                f"a decoder could not be started: {reason}; see above for its message{self._settings.start_advice}"
            )
        if decoder.source is not None:
            self._inbox.put((decoder.source, Failed("decode", f"{shown(decoder.source.path)!r}: {reason}")))
        else:
            self._lost_idle += 1
        if self._lost_idle > _MOST_LOST_IDLE or len(self._stuck) == self._layout.n_decoders:
            raise C3DVideoError(f"no decoder can be kept running; the last one has ended: {reason}")

    def _forget(self, decoder: "_Decoder", *, is_stuck: bool = False) -> None:
        del self._decoders[decoder.number]
        if is_stuck:  # it could still write to its slots, should it ever leave the system
            self._stuck.append(decoder)
            return
        self._free.extend(decoder.granted)
        decoder.granted.clear()

    def _end_processes(self) -> None:
        running = [*self._decoders.values(), *self._retired, *self._stuck]
        for decoder in running:
            decoder.child.kill()
        deadline = time.monotonic() + _SECONDS_TO_END
        for decoder in running:
            decoder.child.end(max(0.0, deadline - time.monotonic()))
        self._selector.close()


class _Decoder:
    """One decoder process: its video, and the slots that it may fill."""

    def __init__(self, setup: Setup, slots: ClipSlots) -> None:
        self.child = ChildProcess(_FUNCTION, slots.descriptor, environment=_ENVIRONMENT)
        self.number = setup.number
        self.source: Source | None = None
        self.granted: set[int] = set()
        self.is_ready = False
        self.still_seconds = 0.0
        self._activity = -1
        self._killed_because = ""
        self.child.send(setup)

    def begin(self, source: Source) -> None:
        self.source = source
        self.still_seconds = 0.0
        self.child.send(Decode(source))

    def grant(self, slots: list[int]) -> None:
        self.granted.update(slots)
        self.child.send(Grant(tuple(slots)))

    def watch(self, activity: int, seconds: float) -> None:
        """Count the seconds since `activity` has changed."""
        self.still_seconds = self.still_seconds + seconds if activity == self._activity else 0.0
        self._activity = activity

    def kill(self, reason: str) -> None:
        """End the process because of its video."""
        self._killed_because = reason
        self.child.kill()

    def end(self) -> tuple[bool, str]:
        """Whether the process has ended, and why, in words."""
        code = self.child.end(_SECONDS_TO_END)
        if self._killed_because:
            return code is not None, self._killed_because
        if code is None:
            return False, "the decoder does not answer and cannot be ended"
        if code == -signal.SIGKILL:
            return True, "the decoder was killed (SIGKILL), as the system does when memory runs out"
        if code < 0:
            return True, f"the decoder crashed ({signal_name(code)}); repair or re-encode the file"
        return True, f"the decoder ended with exit code {code}"
