"""What the actors of a cluster do: one decodes videos into clips, one computes the activations of clips.

    decoder = DecodeStage(settings, folder, version)
    for table in decoder({"source": [pickle.dumps(NumberedSource("a.mp4", "a.mp4", number=0))]}): ...
    network = NetworkStage(fetch, "cpu", version=version)
    for table in network(table): ...

`cluster` runs both as actors of Ray Data and collects what the second yields. A table is a dict of columns with one row
per clip, and one row with a message at the end of every video. A cluster runs a task again when its worker is lost, so
a row may arrive twice or out of order; every row therefore names its video, its attempt and the number of its clip.

Neither stage imports Ray, and the first does not import torch.
"""

import json
import os
import pickle
import queue
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from c3dvideo import __version__
from c3dvideo.errors import C3DVideoError
from c3dvideo.features.check_stored import identify, is_same_content
from c3dvideo.features.decoder_process import Filled
from c3dvideo.features.decoders import Decoders
from c3dvideo.features.decoding import Begun, Checked, DecodeSettings, End, Failed
from c3dvideo.features.timings import Timings
from c3dvideo.video.sources import Source

if TYPE_CHECKING:
    from c3dvideo.features.extractor import Extractor
    from c3dvideo.inference.engine import Engine

NO_VIDEO = -1
"""The video of a row that is about an actor and not about a video."""
TABLE_BYTES = 8 << 20
"""About how large a table becomes before it is passed on: what a lost worker loses, and a share of the memory."""

_N_SLOTS = 4

Table = dict[str, Any]


@dataclass(frozen=True)
class NumberedSource(Source):
    """A source, its number in the run, and what is stored under its name, if that is whole and has these settings."""

    number: int = NO_VIDEO
    stored: Checked | None = None


@dataclass(frozen=True)
class Final:
    """How one attempt at a video ended, after `n_clips` clips. content: None when its features are stored already."""

    checked: Checked | None
    content: End | Failed | None
    n_clips: int
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True)
class NetworkReport:
    """What an actor has computed since its last report, and the engine that it computes with."""

    engine: Mapping[str, Any]
    n_overflows: int
    seconds: float


@dataclass(frozen=True)
class ActorError:
    """Why an actor cannot work at all; the run ends with it."""

    message: str


Message = Final | NetworkReport | ActorError


class Row(NamedTuple):
    """One row of a table. data: pixels of a clip, later its activations. message: pickled, empty for a clip."""

    video: int
    attempt: str
    clip: int
    start_frame: int
    start_seconds: float
    message: bytes
    data: bytes


@dataclass(frozen=True)
class ClusterCheck:
    """Compares a video with what the main process has found stored under its name; must survive pickling."""

    stall_seconds: float

    def __call__(self, source: Source, step: Callable[[], None]) -> Checked:
        """What is known of the video before it is decoded."""
        found = identify(source, step, stall_seconds=self.stall_seconds)
        stored = source.stored if isinstance(source, NumberedSource) else None
        if stored is None or not is_same_content(found, stored):
            return found
        return replace(found, is_stored=True, damage=stored.damage)


def table_of(rows: Sequence[Row]) -> Table:
    """The rows as columns. Bytes are columns of objects, since numpy would cut zeros off their ends."""
    columns: Table = {}
    for index, (name, kind) in enumerate(Row.__annotations__.items()):
        values = [row[index] for row in rows]
        columns[name] = np.array(values, dtype=object if kind is bytes else None)
    return columns


def rows_of(table: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a table."""
    for values in zip(*(table[name] for name in Row._fields), strict=True):
        row = Row(*values)
        yield row._replace(video=int(row.video), clip=int(row.clip), attempt=str(row.attempt))


def unpickled(content: Any) -> Any:
    """What another process of this run has pickled, as Ray itself does with all that its processes send each other."""
    return pickle.loads(content)  # noqa: S301 - from a process of this run


class DecodeStage:
    """Decodes the videos of a table one after the other, in one decoder process that it keeps.

    One after the other, because a task that is run again must yield the same rows in the same tables. In a process of
    its own, because a video that crashes it or makes it hang must cost that video and not the actor.
    folder: where relative paths start. version: of the main process; another one here is an error.
    """

    def __init__(self, settings: DecodeSettings, folder: str, version: str) -> None:
        self._settings = settings
        self._version = version
        self._decoder: _KeptDecoder | None = None
        with suppress(OSError):  # a machine without this folder reports the paths that it does not have
            os.chdir(folder)

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[Table]:
        """Tables of clips, each video's ended by a row with its `Final`."""
        finished = False
        try:
            _check_version(self._version)
            self._decoder = self._decoder or _KeptDecoder(self._settings)
            rows: list[Row] = []
            n_bytes = 0
            for pickled in batch["source"]:
                for row in self._decoder.rows(unpickled(pickled)):
                    rows.append(row)
                    n_bytes += len(row.data)
                    if n_bytes > TABLE_BYTES:
                        yield table_of(rows)
                        rows, n_bytes = [], 0
            if rows:
                yield table_of(rows)
            finished = True
        except Exception as error:
            finished = True
            yield _error_table(error)
        finally:
            if not finished and self._decoder is not None:  # the task was stopped in the middle of a video
                self._decoder.close()
                self._decoder = None


class _KeptDecoder:
    """One decoder process for many videos: starting one takes as long as decoding a short video."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._timings = Timings()
        self._videos: queue.SimpleQueue[Source | None] = queue.SimpleQueue()
        self._decoders = Decoders(
            iter(self._videos.get, None), settings, n_decoders=1, n_slots=_N_SLOTS, timings=self._timings
        )
        self._decoders.__enter__()
        self._messages = self._decoders.messages()

    def rows(self, source: NumberedSource) -> Iterator[Row]:
        """One row per clip, then one with the `Final`."""
        checked: Checked | None = None
        n_clips, attempt = 0, ""
        self._videos.put(source)
        for message in self._messages:
            if message is None:
                continue
            content = message[1]
            if isinstance(content, Begun):
                checked, attempt = content.checked, _attempt(content.checked)
            elif isinstance(content, Filled):
                pixels = self._decoders.clips[content.slot].tobytes()
                self._decoders.release([content.slot])
                yield Row(source.number, attempt, n_clips, content.start_frame, content.start_seconds, b"", pixels)
                n_clips += 1
            is_stored = checked is not None and checked.is_stored
            end = content if isinstance(content, End | Failed) else None
            if is_stored or end is not None:
                final = Final(checked, end, n_clips, self._taken())
                yield Row(source.number, attempt, n_clips, 0, 0.0, pickle.dumps(final), b"")
                return
        raise C3DVideoError("the decoder has ended")

    def _taken(self) -> Timings:
        """The seconds since the last call."""
        taken, self._timings.__dict__ = Timings(**vars(self._timings)), vars(Timings())
        return taken

    def close(self) -> None:
        """End the process."""
        self._videos.put(None)
        self._decoders.__exit__(None, None, None)


def _attempt(checked: Checked) -> str:
    """What clips of one attempt have in common, and clips of another attempt only when the content is the same.

    A video may be replaced while it waits to be decoded again. Without a known content no two attempts are the same.
    """
    if checked.content_sha256 is not None:
        return checked.content_sha256
    if checked.url_state is not None:
        return json.dumps(checked.url_state, sort_keys=True)
    return secrets.token_hex(16)


class NetworkStage:
    """Computes the activations of the clips of a table, which may be of many videos; passes on every other row.

    fetch: returns a pickled Extractor, as uint8.
    """

    def __init__(self, fetch: Callable[[], Any], device: str, version: str) -> None:
        self._arguments = fetch, device, version
        self._extractor: Extractor | None = None
        self._n_overflows = 0
        self._since = 0.0

    def _load(self) -> "Extractor":
        import torch

        fetch, device, version = self._arguments
        _check_version(version)
        if device == "cpu":
            torch.set_num_threads(1)  # a CPU per actor
        extractor: Extractor = unpickled(memoryview(fetch()))
        return extractor.on(device)

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[Table]:
        """Tables with the pickled activations of every clip, by layer and with an axis of views, in place of pixels."""
        try:
            # Here and not in the constructor, whose errors Ray tries again and reports with a traceback.
            self._extractor = self._extractor or self._load()
            self._since = time.perf_counter()
            yield from self._compute(self._extractor, list(rows_of(batch)))
        except Exception as error:
            yield _error_table(error)

    def _compute(self, extractor: "Extractor", rows: list[Row]) -> Iterator[Table]:
        # Clips of one video beside each other and in order: the engine can share work between clips that overlap.
        rows.sort(key=lambda row: (row.video, row.attempt, row.clip))
        done = [row for row in rows if row.message]
        n_bytes = 0
        for row in _with_activations(extractor, [row for row in rows if not row.message]):
            done.append(row)
            n_bytes += len(row.data)
            if n_bytes > TABLE_BYTES:
                yield self._reported(extractor.engine, done)
                done, n_bytes = [], 0
        yield self._reported(extractor.engine, done)

    def _reported(self, engine: "Engine", rows: Sequence[Row]) -> Table:
        """The rows behind a report of their engine, which the stored features have to state."""
        now = time.perf_counter()
        report = NetworkReport(engine.description(), engine.n_overflows - self._n_overflows, now - self._since)
        self._n_overflows, self._since = engine.n_overflows, now
        return table_of([_message_row(report), *rows])


def _with_activations(extractor: "Extractor", rows: Sequence[Row]) -> Iterator[Row]:
    """The rows with activations in place of pixels. A GPU computes one batch while the next is sent to it."""
    engine = extractor.engine
    shape = extractor.decode_settings(None).clip_shape
    n_views = shape[0]
    per_call = max(1, engine.batch_clips // n_views)
    running: deque[tuple[Sequence[Row], Callable[[], Mapping[str, Any]]]] = deque()
    for first in range(0, len(rows), per_call):
        part = rows[first : first + per_call]
        pixels = np.stack([np.frombuffer(row.data, np.uint8).reshape(shape) for row in part], axis=1)
        # By view and then in the order of the clips, for the work that the engine shares.
        wait = engine.submit(pixels.reshape(-1, *shape[1:]), np.repeat(np.arange(n_views), len(part)))
        running.append((part, wait))
        if len(running) > 1 or engine.device.type == "cpu":
            yield from _finished(*running.popleft())
    while running:
        yield from _finished(*running.popleft())


def _finished(rows: Sequence[Row], wait: Callable[[], Mapping[str, Any]]) -> Iterator[Row]:
    layers = wait()
    for index, row in enumerate(rows):
        found = {name: np.ascontiguousarray(array[index :: len(rows)]) for name, array in layers.items()}
        yield row._replace(data=pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL))


def _check_version(version: str) -> None:
    if version != __version__:
        raise C3DVideoError(
            f"a machine of the cluster has c3dvideo {__version__} and the main process {version}; install one version "
            "on all of them"
        )


def _error_table(error: Exception) -> Table:
    text = str(error) if isinstance(error, C3DVideoError) else f"{type(error).__name__}: {error}"
    return table_of([_message_row(ActorError(text))])


def _message_row(message: Message) -> Row:
    return Row(NO_VIDEO, "", 0, 0, 0.0, pickle.dumps(message), b"")
