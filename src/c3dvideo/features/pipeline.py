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
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from c3dvideo.features.activations import FailedVideo, Outcome, StoredVideo, Video, VideoActivations
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import ClipStream
from c3dvideo.features.decoding import Begun
from c3dvideo.features.timings import Timings
from c3dvideo.inference.engine import Engine
from c3dvideo.inference.engine_arrays import Activations

Array = np.ndarray[Any, Any]

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
    on_clips: called with the number of clips that have just been decoded.

    However long the videos are, clips in flight never exceed four batches and one clip per decoder.
    """
    batch = _Batch(engine, timings or Timings())
    videos: dict[str, Video] = {}
    n_views = len(engine.views)
    for message in stream.messages():
        if message is None:
            yield from batch.finish()
            continue
        source, content = message
        if isinstance(content, Begun):
            if content.checked.is_stored:
                yield StoredVideo(source, content.checked)
            else:
                videos[source.name] = Video(source, content.checked, n_views=n_views, scratch=scratch)
        elif isinstance(content, Filled):
            on_clips(1)
            video = videos[source.name]
            video.begin_clip(content.start_frame, content.start_seconds)
            for view, pixels in enumerate(stream.clips[content.slot]):
                yield from batch.add(video, view, pixels)
            # Its pixels have been copied; the decoder fills the slot while the network computes.
            stream.release(content.slot)
        else:
            if source.name not in videos:  # its content could not even be checked
                videos[source.name] = Video(source, None, n_views=n_views, scratch=scratch)
            video = videos.pop(source.name)
            video.end = content
            yield from video.outcome()
    yield from batch.finish()


def buffer_for(shape: tuple[int, ...], device: torch.device) -> Array:
    """Memory for one batch of clips, uint8.

    For a GPU it is pinned: the engine then copies from it directly, and not by way of pinned memory of its own. At
    thousands of clips per second, each copy in main memory takes a quarter of the time that the network does.
    """
    buffer: Array = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda").numpy()
    return buffer


class _Batch:
    """Clips of any videos until they fill one call of the network."""

    def __init__(self, engine: Engine, timings: Timings) -> None:
        self._engine = engine
        self._size = engine.batch_clips
        self._on_cpu = engine.device.type == "cpu"
        # While a GPU computes one batch, the next is filled and sent.
        self._most_running = 0 if self._on_cpu else 1
        self._timings = timings
        self._buffers: list[Array] = []
        self._pixels: Array | None = None
        self._views = np.zeros(self._size, np.int64)
        self._videos: list[Video] = []
        self._running: deque[tuple[list[Video], Array, Array, Callable[[], Activations]]] = deque()

    def add(self, video: Video, view: int, pixels: Array) -> Iterator[VideoActivations | FailedVideo]:
        """Take one clip; the outcomes of videos for which that completes the last batch."""
        if self._pixels is None:
            self._pixels = (
                self._buffers.pop() if self._buffers else buffer_for((self._size, *pixels.shape), self._engine.device)
            )
        self._pixels[len(self._videos)] = pixels
        self._views[len(self._videos)] = view
        self._videos.append(video)
        if len(self._videos) == self._size:
            yield from self._submit()

    def finish(self) -> Iterator[VideoActivations | FailedVideo]:
        """Compute what is left; the outcomes of all videos that are complete with it."""
        if self._videos:
            yield from self._submit()
        while self._running:
            yield from self._collect()

    def _submit(self) -> Iterator[VideoActivations | FailedVideo]:
        assert self._pixels is not None
        started = time.perf_counter()
        n_clips = len(self._videos)
        if self._on_cpu:
            order = self._neighbours()
            places = np.argsort(order)
            wait = self._engine.submit(self._pixels[order], self._views[order])
        else:  # a GPU shares nothing between clips, so their order is free
            places = np.arange(n_clips)
            wait = self._engine.submit(self._pixels[:n_clips], self._views[:n_clips])
        self._timings.network += time.perf_counter() - started
        self._running.append((self._videos, places, self._pixels, wait))
        self._videos, self._pixels = [], None
        while len(self._running) > self._most_running:
            yield from self._collect()

    def _neighbours(self) -> list[int]:
        """The rows ordered by view and video, so that the engine can share work between clips that overlap."""
        place = {video: place for place, video in enumerate(dict.fromkeys(self._videos))}
        return sorted(range(len(self._videos)), key=lambda row: (self._views[row], place[self._videos[row]]))

    def _collect(self) -> Iterator[VideoActivations | FailedVideo]:
        videos, places, pixels, wait = self._running.popleft()
        started = time.perf_counter()
        layers = wait()
        self._timings.network += time.perf_counter() - started
        self._buffers.append(pixels)
        rows: dict[Video, list[int]] = {}
        for video, place in zip(videos, places, strict=True):
            rows.setdefault(video, []).append(place)
        for video, mine in rows.items():
            if not video.settled:
                video.add_rows({name: array[mine] for name, array in layers.items()})
                yield from video.outcome()


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
