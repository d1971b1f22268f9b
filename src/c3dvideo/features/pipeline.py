"""From clips of many videos to the activations of each: common batches, one network, one writer.

    with open_decoders(sources, settings, n_decoders=2, n_slots=24, timings=timings) as decoders:
        for outcome in compute(decoders, engine):
            outcome.layers["fc6"]        # or the outcome is a FailedVideo or a StoredVideo

Clips of all videos share batches, because most videos do not fill one. The engine gives a clip the same numbers, to the
bit, whatever clips are beside it; so the features of a video do not depend on which other videos a run had to do, nor
on the order in which decoders deliver.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from c3dvideo.features.activations import FailedVideo, Outcome, StoredVideo, Video, VideoActivations
from c3dvideo.features.clip_slots import Pixels
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import ClipStream
from c3dvideo.features.decoding import Begun
from c3dvideo.features.timings import Timings
from c3dvideo.inference.engine import Engine
from c3dvideo.inference.engine_arrays import Activations

_MOST_WAITING_FOR_WRITER = 4
_SECONDS_TO_STOP = 1.5


def compute(
    stream: ClipStream,
    engine: Engine,
    *,
    scratch: Path | None = None,
    timings: Timings | None = None,
    on_clips: Callable[[int], None] = lambda n_clips: None,
) -> Generator[Outcome, None, None]:
    """The outcome of every video of the stream, each as soon as it is complete.

    scratch: folder for activations of one video beyond SPILL_BYTES; they are then memory maps.
    on_clips: called with the number of clips that have just been sent to the network.

    However long the videos are, clips in flight never exceed four batches and one clip per decoder.
    """
    batch = _Batch(stream, engine, timings or Timings(), on_clips)
    videos: dict[str, Video] = {}
    n_views = len(engine.views)
    for message in stream.messages():
        # None: the decoders wait, perhaps for a video of another run, which may wait for one that this run holds back.
        # Partly filled batches are computed now, so that no two runs wait for each other.
        if message is None:
            yield from batch.finish()
            continue
        source, content = message
        if isinstance(content, Filled):
            video = videos[source.name]
            video.begin_clip(content.start_frame, content.start_seconds)
            for view in range(n_views):
                if batch.add(video, content.slot, view):
                    yield from batch.submit()
        elif isinstance(content, Begun):
            if content.checked.is_stored:
                yield StoredVideo(source, content.checked)
            else:
                videos[source.name] = Video(source, content.checked, n_views=n_views, scratch=scratch)
        else:
            if source.name not in videos:  # its content could not even be checked
                videos[source.name] = Video(source, None, n_views=n_views, scratch=scratch)
            video = videos.pop(source.name)
            video.end = content
            yield from video.outcome()
    yield from batch.finish()


def buffer_for(shape: tuple[int, ...], device: torch.device) -> Pixels:
    """Memory for one batch of clips, uint8.

    For a GPU it is pinned: the engine then copies from it directly, and not by way of pinned memory of its own.
    """
    buffer: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda").numpy()
    return buffer


class _Batch:
    """Clips of any videos until they fill one call of the network.

    Only the numbers of slots are collected. When the batch is full, one call copies all of its clips: at thousands of
    clips per second, work in Python per clip would be slower than the network.
    """

    def __init__(self, stream: ClipStream, engine: Engine, timings: Timings, on_clips: Callable[[int], None]) -> None:
        self._on_clips = on_clips
        self._stream = stream
        self._engine = engine
        self._size = engine.batch_clips
        self._on_cpu = engine.device.type == "cpu"
        # While a GPU computes one batch, the next is filled and sent. A CPU would gain nothing, and hold more memory.
        self._most_running = 0 if self._on_cpu else 1
        self._timings = timings
        self._n_views = len(engine.views)
        self._clips = stream.clips.reshape(-1, *stream.clips.shape[2:])
        self._buffers: list[Pixels] = []
        self._videos: list[Video] = []
        self._slots: list[int] = []
        self._views: list[int] = []
        self._running: deque[_Running] = deque()

    def add(self, video: Video, slot: int, view: int) -> bool:
        """Take one view of the clip in a slot; True when the batch is full, to be submitted."""
        self._videos.append(video)
        self._slots.append(slot)
        self._views.append(view)
        return len(self._videos) == self._size

    def finish(self) -> Iterator[VideoActivations | FailedVideo]:
        """Compute what is left; the outcomes of all videos that are complete with it."""
        if self._videos:
            yield from self.submit()
        while self._running:
            yield from self._collect()

    def submit(self) -> Iterator[VideoActivations | FailedVideo]:
        """Compute the batch; the outcomes of videos that are complete with it or with one before."""
        started = time.perf_counter()
        order = self._order()
        # A buffer is in use until its activations are there, because a GPU reads it in the meantime. Then it serves
        # again, because pinning memory is slow.
        buffer = self._buffers.pop() if self._buffers else self._new_buffer()
        rows = [self._slots[row] * self._n_views + self._views[row] for row in order]
        # By numpy in this one thread: PyTorch's threads would wait for cores that the decoders keep busy.
        pixels = np.take(self._clips, rows, axis=0, out=buffer[: len(order)], mode="clip")
        self._release()
        views = np.array([self._views[row] for row in order], np.int64)
        wait = self._engine.submit(pixels, views)
        self._timings.network += time.perf_counter() - started
        places: dict[Video, list[int]] = {}
        for video, place in zip(self._videos, np.argsort(order).tolist(), strict=True):
            places.setdefault(video, []).append(place)
        self._running.append(_Running(places, buffer, wait))
        self._videos, self._slots, self._views = [], [], []
        while len(self._running) > self._most_running:
            yield from self._collect()

    def _new_buffer(self) -> Pixels:
        return buffer_for((self._size, *self._clips.shape[1:]), self._engine.device)

    def _order(self) -> list[int]:
        """The rows by view and video, each video's clips in order, so that the engine can share work between clips that
        overlap. A GPU shares nothing, but there the order costs nothing either."""
        first = {video: place for place, video in enumerate(dict.fromkeys(self._videos))}
        return sorted(range(len(self._videos)), key=lambda row: (self._views[row], first[self._videos[row]]))

    def _release(self) -> None:
        """Let the slots be filled again whose last view has been copied."""
        last = self._n_views - 1
        done = [slot for slot, view in zip(self._slots, self._views, strict=True) if view == last]
        self._stream.release(done)
        self._on_clips(len(done))

    def _collect(self) -> Iterator[VideoActivations | FailedVideo]:
        running = self._running.popleft()
        started = time.perf_counter()
        layers = running.wait()
        self._timings.network += time.perf_counter() - started
        self._buffers.append(running.buffer)
        for video, places in running.places.items():
            # A video that failed while its clips were computed has been reported already.
            if not video.settled:
                video.add_rows({name: array[places] for name, array in layers.items()})
                yield from video.outcome()


@dataclass(frozen=True)
class _Running:
    """One batch that is being computed. places: the rows of each video in it, in the order of its clips."""

    places: dict[Video, list[int]]
    buffer: Pixels
    wait: Callable[[], Activations]


class Writer:
    """A thread that passes outcomes to `keep`, so that the network need not wait for the disk.

    What `keep` raises is raised by the next `put`, or at the end of the block. A block that is left by an error still
    keeps what was put before.
    """

    def __init__(self, keep: Callable[[Outcome], None], timings: Timings) -> None:
        self._keep = keep
        self._timings = timings
        self._queue: queue.Queue[Outcome | None] = queue.Queue(_MOST_WAITING_FOR_WRITER)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def put(self, outcome: Outcome) -> None:
        """Have one outcome kept; waits while too many are ahead of it."""
        started = time.perf_counter()
        self._queue.put(outcome)
        self._timings.waiting_for_writer += time.perf_counter() - started
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        started = time.perf_counter()
        # A disk that does not answer must not hold up Ctrl-C. A file that is not complete by then never appears.
        patience = _SECONDS_TO_STOP if kind is KeyboardInterrupt else None
        with suppress(queue.Full):
            self._queue.put(None, timeout=patience)
        self._thread.join(patience)
        self._timings.waiting_for_writer += time.perf_counter() - started
        if self._error is not None and error is None:
            raise self._error

    def _work(self) -> None:
        while (outcome := self._queue.get()) is not None:
            if self._error is None:
                started = time.perf_counter()
                try:
                    self._keep(outcome)
                except BaseException as error:
                    self._error = error
                self._timings.write += time.perf_counter() - started
