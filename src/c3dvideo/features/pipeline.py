"""From many videos to the activations of each: decoders in threads, clips of all videos in common batches, one network.

    for outcome in compute(find_sources(["videos/"]), Extractor("my_weights", layers=["fc6"])):
        outcome.layers["fc6"]            # or the outcome is a Failure: that video could not be turned into clips

Decoding runs in threads, not processes: FFmpeg and numpy let go of the interpreter while they work (two threads decode
1.7 times the frames of one on two cores), and clips need no copy from one process to another.

The engine gives a clip the same numbers, to the bit, whatever clips are beside it; so the features of a video do not
depend on which other videos a run had to do, nor on how decoders and network happened to take turns.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from c3dvideo.errors import C3DVideoError, ShortVideoError
from c3dvideo.features.activations import End, Video, VideoActivations
from c3dvideo.features.store import Array, Failure
from c3dvideo.inference.engine_arrays import Activations
from c3dvideo.video.reader import Clip, read_clips
from c3dvideo.video.sources import Source

if TYPE_CHECKING:
    from c3dvideo.features.extractor import Extractor


@dataclass
class Timings:
    """Where the seconds of a run went, by the clock on the wall.

    The network: `network` is what its calls took; waiting_for_clips and waiting_for_writer are seconds in which it
        stood still. Together they are the run, up to its start and end.
    The decoding threads, whose seconds are summed: `check` reads a video to see whether its features are there
        already, `decode` and `preprocess` make its clips, and in waiting_for_network the clips found no room.
    The writer: `write`.
    """

    check: float = 0.0
    decode: float = 0.0
    preprocess: float = 0.0
    network: float = 0.0
    write: float = 0.0
    waiting_for_clips: float = 0.0
    waiting_for_writer: float = 0.0
    waiting_for_network: float = 0.0

    def add(self, other: "Timings") -> None:
        """Count the seconds of another thread or process too."""
        for name, seconds in vars(other).items():
            setattr(self, name, getattr(self, name) + seconds)


def compute(
    sources: Iterable[Source | None],
    extractor: "Extractor",
    *,
    begin: Callable[[Source], bool] = lambda source: True,
    scratch: Path | None = None,
    timings: Timings | None = None,
    on_clips: Callable[[int], None] = lambda n_clips: None,
) -> Generator[VideoActivations | Failure, None, None]:
    """The activations of every video, each as soon as it is complete, or why it has none.

    sources: drawn from one at a time as decoders become free, under a lock; None means "nothing to do just now".
    begin: called in the decoding thread; False leaves the video out.
    scratch: folder for activations of one video beyond SPILL_BYTES; they are then memory maps.
    on_clips: told how many clips have just been decoded.

    However long the videos are, clips in flight never exceed four batches and one clip a worker.
    """
    timings = timings or Timings()
    engine, profile = extractor.engine, extractor.network.profile
    batch = _Batch(extractor, timings)

    def decode(video: Video, seconds: Timings) -> Iterator[Clip | End]:
        started = time.perf_counter()
        try:
            missing = begin(video.source)
        finally:
            seconds.check += time.perf_counter() - started
        if missing:
            reader = read_clips(video.source.path, plan=extractor.plan, profile=profile, views=engine.views)
            try:
                yield from reader
            finally:
                seconds.decode += reader.decode_seconds
                seconds.preprocess += reader.preprocess_seconds
            yield End(reader.fps, reader.n_frames)

    queued = max(2, 2 * extractor.batch_size // len(engine.views))
    new_video = partial(Video, n_views=len(engine.views), scratch=scratch)
    with _Decoders(sources, new_video, decode, timings, workers=extractor.workers, queued=queued) as decoders:
        for message in decoders.messages():
            if message is None:
                yield from batch.finish()
                continue
            video, content = message
            if isinstance(content, Clip):
                on_clips(1)
                video.begin_clip(content)
                for index, pixels in enumerate(content.pixels):
                    yield from batch.add(video, index, pixels)
            elif not video.settled:
                video.end = content
                yield from video.outcome()
        yield from batch.finish()


class _Batch:
    """Clips of any videos until they fill one call of the network."""

    def __init__(self, extractor: "Extractor", timings: Timings) -> None:
        self._engine = extractor.engine
        self._size = extractor.batch_size
        self._on_cpu = extractor.engine.device.type == "cpu"
        # While a GPU computes, the next batch is filled and sent.
        self._most_running = 0 if self._on_cpu else 1
        self._timings = timings
        self._pixels: Array | None = None
        self._views = np.zeros(self._size, np.int64)
        self._videos: list[Video] = []
        self._running: deque[tuple[list[Video], Array, Callable[[], Activations]]] = deque()

    def add(self, video: Video, view: int, pixels: Array) -> Iterator[VideoActivations | Failure]:
        """Take one clip; the outcomes of videos for which that completes the last batch."""
        if self._pixels is None:
            self._pixels = np.empty((self._size, *pixels.shape), np.uint8)
        self._pixels[len(self._videos)] = pixels
        self._views[len(self._videos)] = view
        self._videos.append(video)
        if len(self._videos) == self._size:
            yield from self._submit()

    def finish(self) -> Iterator[VideoActivations | Failure]:
        """Run what is left; the outcomes of all videos that are not out yet."""
        if self._videos:
            yield from self._submit()
        while self._running:
            yield from self._collect()

    def _submit(self) -> Iterator[VideoActivations | Failure]:
        assert self._pixels is not None
        started = time.perf_counter()
        n_clips = len(self._videos)
        if self._on_cpu:
            order = self._neighbours()
            places = np.argsort(order)
            wait = self._engine.submit(self._pixels[order], self._views[order])
        else:  # nothing is shared there, and the copy would cost a fast GPU's time
            places = np.arange(n_clips)
            wait = self._engine.submit(self._pixels[:n_clips], self._views[:n_clips])
        self._timings.network += time.perf_counter() - started
        self._running.append((self._videos, places, wait))
        self._videos = []
        while len(self._running) > self._most_running:
            yield from self._collect()

    def _neighbours(self) -> list[int]:
        """The rows with each view of a video in one run, in order: the engine shares work between overlapping clips."""
        place = {video: place for place, video in enumerate(dict.fromkeys(self._videos))}
        return sorted(range(len(self._videos)), key=lambda row: (self._views[row], place[self._videos[row]]))

    def _collect(self) -> Iterator[VideoActivations | Failure]:
        videos, places, wait = self._running.popleft()
        started = time.perf_counter()
        layers = wait()
        self._timings.network += time.perf_counter() - started
        for video in dict.fromkeys(videos):
            if not video.settled:
                mine = places[[row for row, each in enumerate(videos) if each is video]]
                video.add_rows({name: array[mine] for name, array in layers.items()})
                yield from video.outcome()


class _Signal(Enum):
    IDLE = auto()
    DONE = auto()


_Message = tuple[Video, Clip | End | Failure]


class _Decoders:
    """Threads that turn videos into messages (video, content), at most `queued` of which wait to be read."""

    def __init__(
        self,
        sources: Iterable[Source | None],
        new_video: Callable[[Source], Video],
        decode: Callable[[Video, Timings], Iterator[Clip | End]],
        timings: Timings,
        *,
        workers: int,
        queued: int,
    ) -> None:
        self._sources = iter(sources)
        self._new_video = new_video
        self._decode = decode
        self._timings = timings
        self._seconds = [Timings() for _ in range(workers)]
        self._taking = threading.Lock()
        self._stop = threading.Event()
        self._queue: queue.Queue[_Message | _Signal | BaseException] = queue.Queue(queued)
        self._threads = [
            threading.Thread(target=self._work, args=(seconds,), name=f"decoder {n}", daemon=True)
            for n, seconds in enumerate(self._seconds)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread, seconds in zip(self._threads, self._seconds, strict=True):
            thread.join()
            self._timings.add(seconds)

    def messages(self) -> Iterator[_Message | None]:
        """What the threads have to say, until all of them are done; raises what drawing from the sources raised.

        None is said when there is nothing to decode just now. Whoever holds clips back should then let them go: what
        the sources wait for may be another run, that waits for a video of this one.
        """
        running = len(self._threads)
        while running:
            started = time.perf_counter()
            message = self._queue.get()
            self._timings.waiting_for_clips += time.perf_counter() - started
            if isinstance(message, BaseException):
                raise message
            if message is _Signal.DONE:
                running -= 1
            elif isinstance(message, _Signal):
                yield None
            else:
                yield message

    def _work(self, seconds: Timings) -> None:
        try:
            while not self._stop.is_set():
                with self._taking:
                    try:
                        source = next(self._sources)
                    except StopIteration:
                        return
                if source is None:
                    self._put(_Signal.IDLE)
                    self._stop.wait(0.1)
                else:
                    self._do(self._new_video(source), seconds)
        except BaseException as error:
            self._put(error)
        finally:
            self._put(_Signal.DONE)

    def _do(self, video: Video, seconds: Timings) -> None:
        try:
            for content in self._decode(video, seconds):
                started = time.perf_counter()
                self._put((video, content))
                seconds.waiting_for_network += time.perf_counter() - started
                if video.settled or self._stop.is_set():
                    return
        except Exception as error:  # whatever one video does to us, the others go on
            self._put((video, video.failure(_stage(error), _message(error))))

    def _put(self, message: _Message | _Signal | BaseException) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._queue.put(message, timeout=0.1)
                return


class Writer:
    """A thread that hands outcomes to `keep`, a few at a time in waiting, while the network goes on.

    What `keep` raises is raised by the next `put`, or at the end of the block. A block that is left by an error still
    keeps what was put before.
    """

    def __init__(self, keep: Callable[[VideoActivations | Failure], None], timings: Timings) -> None:
        self._keep = keep
        self._timings = timings
        self._queue: queue.Queue[VideoActivations | Failure | None] = queue.Queue(4)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def put(self, outcome: VideoActivations | Failure) -> None:
        """Have one outcome kept; waits while too many are ahead of it."""
        started = time.perf_counter()
        self._queue.put(outcome)
        self._timings.waiting_for_writer += time.perf_counter() - started
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        started = time.perf_counter()
        self._queue.put(None)
        self._thread.join()
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


def _stage(error: Exception) -> str:
    if isinstance(error, ShortVideoError):
        return "clips"
    return "read" if isinstance(error, OSError) or isinstance(error.__cause__, OSError) else "decode"


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, C3DVideoError) else f"{type(error).__name__}: {error}"
