"""Decoders: processes that turn the videos of one list into clips in shared memory, several videos at a time.

    with Decoders(sources, settings, n_decoders=16, n_slots=144) as decoders:
        for message in decoders.messages():
            source, content = message                    # content: Begun, Filled, End or Failed
            decoders.clips[content.slot]                 # uint8 (views, 3, 16, 112, 112), of a Filled
            decoders.release([content.slot])

Processes and not threads, because sixteen threads on sixteen cores decode 4,000 frames per second and sixteen processes
24,000: the short Python parts between the frames exclude each other. A process can also be replaced. One that crashes,
makes no progress or takes too much memory costs the video it was working on, and the run continues.

Pixels are never pickled. A decoder writes a clip into a slot that was granted to it and announces the slot; a granted
slot belongs to one decoder, so there is nothing to lock and nothing to repair when one dies. No free slot means that
the network is slower than the decoders, and the decoders wait.
"""

import errno
import math
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, Self

import numpy as np

from c3dvideo.errors import UsageError
from c3dvideo.features.clip_slots import ClipSlots, Pixels, SlotLayout
from c3dvideo.features.decoder_manager import SECONDS_UNTIL_NEXT_TRY, Inbox, Manager, Message, Over
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoding import Activity, ReadSettings, decode
from c3dvideo.features.timings import Timings
from c3dvideo.video.reader import Clip
from c3dvideo.video.sources import Source

_SECONDS_TO_STOP = 1.5


class ClipStream(Protocol):
    """Clips as they are decoded: from `Decoders`, or passed on from another process."""

    @property
    def clips(self) -> Pixels:
        """uint8 (n_slots, views, 3, T, H, W)."""
        ...

    def messages(self) -> Iterator[Message | None]:
        """What happens to the videos, in order for each; None when nothing can be decoded just now."""
        ...

    def release(self, slots: Iterable[int]) -> None:
        """Let slots be filled again."""
        ...


def slots_needed(batch_clips: Sequence[int], n_views: int, n_decoders: int) -> int:
    """The number of slots: two batches of clips per network, and never fewer than one per decoder and one more.

    With two batches, the next is there when one has been computed. A decoder without a slot cannot continue.
    """
    return max(2, n_decoders + 1, sum(2 * clips // n_views for clips in batch_clips))


def open_decoders(
    sources: Iterable[Source | None],
    settings: ReadSettings,
    *,
    n_decoders: int,
    n_slots: int,
    timings: Timings,
) -> "Decoders | InProcessDecoder":
    """Decoder processes, or, for n_decoders 0, decoding in the process that reads the messages.

    Always the latter on Windows, where a process cannot be given memory that has no name. Raises UsageError when there
    is not enough memory for `n_slots` clips.
    """
    n_bytes = n_slots * math.prod(settings.clip_shape)
    short = f"the memory for {n_slots:,} clips of a batch and its queue ({n_bytes / 1e9:,.1f} GB) cannot be reserved"
    advice = "choose a smaller `batch_size=` or fewer `workers=`"
    if max(n_bytes, 8 * n_decoders) > _memory_bytes():
        raise UsageError(f"{short}; {advice}")
    try:
        if n_decoders == 0 or os.name == "nt":
            return InProcessDecoder(sources, settings, n_slots=n_slots, timings=timings)
        return Decoders(sources, settings, n_decoders=n_decoders, n_slots=n_slots, timings=timings)
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOMEM, errno.ENOSPC, errno.EINVAL):
            raise
        raise UsageError(f"{short}; {advice}") from error


def _memory_bytes() -> int:
    """Bytes of memory of this machine, where the system reports them."""
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class InProcessDecoder:
    """The same messages, decoded by the process that reads them: for debugging, and where no process can be started."""

    def __init__(
        self, sources: Iterable[Source | None], settings: ReadSettings, *, n_slots: int, timings: Timings
    ) -> None:
        # Slots here, too, although no other process is involved: a batch may hold clips until it is full.
        self.clips: Pixels = np.empty((n_slots, *settings.clip_shape), np.uint8)
        self._sources = sources
        self._settings = settings
        self._timings = timings
        self._free = deque(range(n_slots))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def messages(self) -> Iterator[Message | None]:
        """What happens to the videos, one after the other."""
        activity = Activity()
        for source in self._sources:
            if source is None:
                yield None
                # Other runs do the videos that are left, and nothing in this process shows when one of them is done.
                time.sleep(SECONDS_UNTIL_NEXT_TRY)
                continue
            for message in decode(source, self._settings, activity):
                if isinstance(message, Clip):
                    # Never empty: the reader releases a batch before it takes more, and there are slots for two.
                    slot = self._free.popleft()
                    self.clips[slot] = message.pixels
                    yield source, Filled(slot, message.start_frame, message.start_seconds)
                else:
                    yield source, message
            # After the whole video, as `Done` of a decoder process does: until then its reader still counts seconds.
            self._timings.add(activity.timings())

    def release(self, slots: Iterable[int]) -> None:
        """Let slots be filled again."""
        self._free.extend(slots)


class Decoders:
    """Processes that decode, and the thread that gives them videos and slots and replaces them.

    sources: drawn one at a time as decoders become free; None means "nothing to do just now". n_decoders: the most
    processes; no more are started than there are videos. timings: the seconds of all decoders are added to it.
    slots: memory that other processes have open, too.
    """

    def __init__(
        self,
        sources: Iterable[Source | None],
        settings: ReadSettings,
        *,
        n_decoders: int,
        n_slots: int,
        timings: Timings,
        slots: ClipSlots | None = None,
    ) -> None:
        # Without a limit: what waits in it is a few numbers per clip, and the slots limit the clips.
        self._inbox: Inbox = queue.SimpleQueue()
        self._timings = timings
        self._slots = slots or ClipSlots.create()
        self.layout = SlotLayout(n_slots=n_slots, clip_shape=settings.clip_shape, n_decoders=n_decoders)
        self._slots.use(self.layout)
        self.clips = self._slots.clips
        self._manager = Manager(iter(sources), settings, self.layout, self._slots, self._inbox, timings)
        # A daemon, so that a decoder that the system cannot end does not keep Python from ending.
        self._thread = threading.Thread(target=self._manager.run, name="decoders", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.stop()
        # Not joined without a limit: the thread may be drawing a source, which can wait for a lock on a network disk.
        self._thread.join(_SECONDS_TO_STOP)
        # What a thread still uses stays open: a closed descriptor could be another file's by then.
        if not self._thread.is_alive():
            self._manager.close()
            self._slots.close()

    def messages(self) -> Iterator[Message | None]:
        """What happens to the videos, in order for each; raises what drawing from the sources raised.

        None means that nothing can be decoded just now. A caller that holds clips back should then compute them:
        the sources may be waiting for another run, which in turn waits for a video of this one.
        """
        while True:
            started = time.perf_counter()
            message = self._inbox.get()
            self._timings.waiting_for_clips += time.perf_counter() - started
            if isinstance(message, Over):
                return
            if isinstance(message, BaseException):
                raise message
            yield message

    def release(self, slots: Iterable[int]) -> None:
        """Let slots be filled again."""
        self._manager.release(slots)

    def skip(self, name: str) -> None:
        """Stop decoding a video whose clips are not needed any more; its messages may end without an End."""
        self._manager.skip(name)

    def interrupt(self, error: BaseException) -> None:
        """Have `messages` raise an error; for other threads."""
        # Through the inbox and not a flag: the reader may be blocked in `get`, which nothing else ends.
        self._inbox.put(error)
