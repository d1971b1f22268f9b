"""One process per device, all fed by one pool of decoders, all filling one folder.

    with FolderRun(out, extractor.manifest, report=print) as run:
        lost = compute_on_devices(run, sources, extractor, ["cuda:0", "cuda:1"], out=out, check=check, note=print)

The main process holds the decoders, the claims and the records of the folder. A video goes, when its decoding begins,
to the device with the fewest clips waiting; all its clips follow. Only the numbers of slots are sent: the device
processes have the clips' memory open, too. A device process computes and writes the feature files.

A process that dies takes the videos with it that it had begun, and no others; they are not tried again in this run,
because one of them may be what killed it. Device processes end by themselves when the main process does.
"""

import pickle
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from c3dvideo.errors import C3DVideoError
from c3dvideo.features.activations import FailedVideo, StoredVideo
from c3dvideo.features.child_process import ChildProcess, signal_name
from c3dvideo.features.clip_slots import ClipSlots
from c3dvideo.features.decoder_manager import Content, Message
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import Decoders, slots_needed
from c3dvideo.features.decoding import Begun, Check, Failed
from c3dvideo.features.device_process import Freed, Over, Ready, Setup, Share
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.features.folder_run import Decoded, FolderRun, Report, Settled, store
from c3dvideo.features.timings import Timings
from c3dvideo.storage import Location
from c3dvideo.video.access import shown
from c3dvideo.video.sources import Source

_SECONDS_TO_FINISH = 15.0
_SECONDS_TO_STOP = 1.5
_FUNCTION = "c3dvideo.features.device_process:serve"


class _AllDied(Exception):
    """No device process is left."""


def compute_on_devices(
    run: FolderRun,
    sources: Iterable[Source | None],
    extractor: Extractor,
    devices: Sequence[str],
    *,
    out: Location,
    check: Check,
    timings: Timings,
    report: Report,
    note: Callable[[str], None],
) -> tuple[list[Share], tuple[str, ...]]:
    """Extract with one process per device. Returns the share of each, and one line per process that died.

    sources: as for `Decoders`. timings: the seconds of the decoders are added to it. Raises what any process raises on
    purpose, after stopping the others, and C3DVideoError when all of them have died.
    """
    slots = ClipSlots.create()
    # All are started before any is awaited: each imports torch and copies the weights, which takes seconds.
    processes = [_Device(each, slots) for each in devices]
    seconds_to_stop = _SECONDS_TO_STOP
    try:
        n_slots = _prepare(processes, extractor, out, note)
        with Decoders(
            sources,
            extractor.decode_settings(check),
            n_decoders=max(1, extractor.workers),
            n_slots=n_slots,
            timings=timings,
            slots=slots,
        ) as decoders:
            router = _Router(processes, decoders, run, out=out, report=report)
            for message in decoders.messages():
                router.route(message)
            router.finish()
        seconds_to_stop = _SECONDS_TO_FINISH  # all is well, so the processes may end by themselves
    except _AllDied:
        seconds_to_stop = _SECONDS_TO_FINISH
    finally:
        _stop(processes, seconds_to_stop)
    lost = tuple(process.how_it_ended() for process in processes if process.share is None)
    if lost:
        run.sweep_at_exit()
    if len(lost) == len(processes):
        raise C3DVideoError(f"{'; '.join(lost)}; what was finished is kept, and the same command does the rest")
    return [process.share for process in processes if process.share is not None], lost


def _prepare(processes: "Sequence[_Device]", extractor: Extractor, out: Location, note: Callable[[str], None]) -> int:
    """Send the network to every process and wait until all have it on their device; returns the slots they need."""
    # Pickled here, because a connection would move the tensors of the network to shared memory; and sent when a process
    # is there to read it, because it would otherwise hold up the start of the next.
    pickled = pickle.dumps(extractor)
    for process in processes:
        if process.receive() is not None:
            process.send(Setup(pickled, process.device, out, len(processes)))
    ready = [message for process in processes if isinstance(message := process.receive(), Ready)]
    if not ready:
        raise _AllDied
    note(f"{ready[0].note}, and a process each on {', '.join(process.device for process in processes[1:])}")
    return slots_needed([each.batch_clips for each in ready], len(extractor.views), max(1, extractor.workers))


class _Router:
    """Sends clips to the devices, and what the devices return to where it belongs.

    The devices' messages are read by a thread each; `route` and `finish` belong to the main thread.
    """

    def __init__(
        self, processes: "Sequence[_Device]", decoders: Decoders, run: FolderRun, *, out: Location, report: Report
    ) -> None:
        self._processes = processes
        self._decoders = decoders
        self._run = run
        self._out = out
        self._report = report
        self._device_of: dict[str, _Device] = {}
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._listeners = [
            threading.Thread(target=self._listen, args=(process,), name=f"device {process.device}", daemon=True)
            for process in processes
            if process.is_alive
        ]
        # The layout is known only now: the number of slots follows from the engines' batches, which `Ready` names.
        for process in processes:
            process.send(decoders.layout)
        for listener in self._listeners:
            listener.start()

    def route(self, message: Message | None) -> None:
        """Send one message of the decoders to the device that has the video, or settle the video here."""
        if message is None:
            for process in self._processes:
                process.send(None)
            return
        source, content = message
        if isinstance(content, Begun) and content.checked.is_stored:
            self._run.settle(store(StoredVideo(source, content.checked), self._out))
        elif isinstance(content, Failed) and source.name not in self._device_of:
            failure = Failure(name=source.name, path=shown(source.path), stage=content.stage, message=content.message)
            self._run.settle(store(FailedVideo(source, None, failure), self._out))
        else:
            self._pass_on(source, content)

    def _pass_on(self, source: Source, content: Content) -> None:
        # A video stays on one device, which collects its activations in order and writes its file. It begins where the
        # fewest clips wait; a fixed turn would leave a fast GPU idle beside a slow one.
        with self._lock:
            if isinstance(content, Begun):
                process = min(self._alive(), key=lambda process: process.load)
                process.give(source.name)
                self._device_of[source.name] = process
            process = self._device_of[source.name]
            if isinstance(content, Filled):
                self._report(Decoded(n_clips=1))
                # Under the lock: a process may die between this test and the addition, and `_lose` must find the slot.
                if process.is_alive:
                    process.held.add(content.slot)
                else:
                    self._decoders.release([content.slot])
        process.send((source, content))

    def _alive(self) -> "list[_Device]":
        alive = [process for process in self._processes if process.is_alive]
        if not alive:
            raise _AllDied
        return alive

    def finish(self) -> None:
        """Wait until the devices have computed and written everything; raises what one of them has raised."""
        for process in self._processes:
            process.send(Over())
        for listener in self._listeners:
            listener.join()
        if self._error is not None:
            raise self._error

    def _listen(self, process: "_Device") -> None:
        try:
            while (message := process.receive()) is not None:
                if isinstance(message, Share):
                    process.share = message
                    return
                if isinstance(message, Settled):
                    with self._lock:
                        process.unsettled.discard(message.source.name)
                    self._run.settle(message)
                elif isinstance(message, Freed):
                    with self._lock:
                        process.held.difference_update(message.slots)
                    self._decoders.release(message.slots)
            self._lose(process)
        except BaseException as error:  # of a thread, which would be lost: the main thread raises it
            self._error = error
            self._decoders.interrupt(error)

    def _lose(self, process: "_Device") -> None:
        """Free what a dead process held, and stop decoding its videos."""
        with self._lock:
            held, process.held = process.held, set()
        # Slots first: a decoder that waits for one notices only with the next clip that its video is skipped.
        self._decoders.release(held)
        for name in process.unsettled:
            self._decoders.skip(name)
        self._alive()


class _Device:
    """One started process, in the main process.

    held: slots with clips that it has not copied yet. unsettled: names of videos that it has not finished.
    """

    def __init__(self, device: str, slots: ClipSlots) -> None:
        self.device = device
        self.is_alive = True
        self.share: Share | None = None
        self.held: set[int] = set()
        self.unsettled: set[str] = set()
        self._n_given = 0
        self._child = ChildProcess(_FUNCTION, slots.descriptor)
        self._exit_code: int | None = None

    @property
    def load(self) -> tuple[int, int, int]:
        """Clips that wait, unfinished videos, and all so far: the next video goes to the smallest."""
        return len(self.held), len(self.unsettled), self._n_given

    def give(self, name: str) -> None:
        """Count one more video."""
        self.unsettled.add(name)
        self._n_given += 1

    def send(self, message: object) -> None:
        """Send a message, if there is still a process to read it."""
        if self.is_alive:
            self._child.send(message)

    def receive(self) -> Any:
        """The next message; None when the process has died. Raises the error that it sends."""
        if not self.is_alive:
            return None
        try:
            message = self._child.connection.recv()
        except (EOFError, OSError):
            self.is_alive = False
            return None
        if isinstance(message, C3DVideoError):
            raise message
        return message

    def hang_up(self) -> None:
        """Close the connection, which ends the process."""
        self._child.connection.close()

    def end(self, deadline: float) -> None:
        """Wait for the end of the process, and kill it at the deadline."""
        self._exit_code = self._child.end(max(0.0, deadline - time.monotonic()))

    def how_it_ended(self) -> str:
        """How the process ended, in words."""
        if self._exit_code is not None and self._exit_code < 0:
            return f"the process on {self.device} was killed by {signal_name(self._exit_code)}"
        return f"the process on {self.device} ended with exit code {self._exit_code}"


def _stop(processes: Iterable[_Device], seconds: float) -> None:
    """End what still runs: first by closing the connections, then by force."""
    for process in processes:
        process.hang_up()
    deadline = time.monotonic() + seconds
    for process in processes:
        process.end(deadline)
