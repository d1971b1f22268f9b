"""Collect what the actors of a cluster return, until all clips of one attempt at a video are there.

    collector = Collector(extractor, out=out, report=print)
    sources = collector.begin(sources)                # with their numbers and what is stored of each
    for outcome in collector.take(table):             # as the pipeline of one machine yields them
        run.settle(collector.store(outcome))
    collector.missing()                               # sources of which no attempt is complete

Rows may arrive twice, in any order, or not at all, and of several attempts at one video: a cluster runs a task again
when its worker is lost, also in the middle of a video. A video is complete when the numbers of its clips, from 0 to the
number that the end of an attempt states, have all arrived from attempts at the same content.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from c3dvideo.errors import C3DVideoError
from c3dvideo.features.activations import Outcome, StoredVideo, Video, scratch_folder
from c3dvideo.features.check_stored import what_is_stored
from c3dvideo.features.cluster_stages import (
    ActorError,
    Final,
    Message,
    NetworkReport,
    NumberedSource,
    Row,
    rows_of,
    unpickled,
)
from c3dvideo.features.decoding import Checked, Failed
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.folder_run import Decoded, Report, Settled, store
from c3dvideo.features.store import Array
from c3dvideo.features.timings import Timings
from c3dvideo.storage import Location
from c3dvideo.video.sources import Source

_CHECKS_AT_A_TIME = 16


class Collector:
    """Collects the rows of every pass of one run. timings and n_overflows: of all actors so far."""

    def __init__(self, extractor: Extractor, *, out: Location, report: Report) -> None:
        self.timings = Timings()
        self.n_overflows = 0
        self._extractor = extractor
        self._out = out
        self._report = report
        self._engine: Mapping[str, Any] | None = None
        self._sources: list[NumberedSource] = []
        self._left: set[int] = set()
        self._attempts: dict[int, dict[str, _Attempt]] = {}

    def begin(self, sources: Sequence[Source]) -> list[NumberedSource]:
        """Number the sources of the next pass, and look up what is stored of each.

        Here, because the machines of a cluster need not see the folder of features.
        """
        names = [source.name for source in sources]
        look_up = partial(_stored, self._out, self._extractor.manifest.fingerprint)
        with ThreadPoolExecutor(_CHECKS_AT_A_TIME) as pool:
            stored = list(pool.map(look_up, names))
        self._sources = [
            NumberedSource(source.path, source.name, number=number, stored=found)
            for number, (source, found) in enumerate(zip(sources, stored, strict=True))
        ]
        self._left = set(range(len(sources)))
        self._attempts = {}
        return self._sources

    def take(self, table: Mapping[str, Any]) -> Iterator[Outcome]:
        """The outcomes of the videos that are complete with these rows. Raises C3DVideoError for a broken actor."""
        n_clips = 0
        for row in rows_of(table):
            message: Message | None = unpickled(row.message) if row.message else None
            if isinstance(message, NetworkReport):
                self._note(message)
            elif isinstance(message, ActorError):
                raise C3DVideoError(f"an actor of the cluster cannot work: {message.message}")
            elif row.video in self._left:  # else a repetition of what is complete
                attempt = self._attempt(row)
                if message is None:
                    n_clips += attempt.add(row)
                else:
                    self.timings.add(message.timings)
                    attempt.final = message
                yield from self._outcome(row.video, attempt)
        self._report(Decoded(n_clips=n_clips))

    def missing(self) -> list[Source]:
        """The sources of this pass of which no attempt is complete."""
        return [Source(source.path, source.name) for source in self._sources if source.number in self._left]

    def store(self, outcome: Outcome) -> Settled:
        """Write what is complete, as a run on one machine does."""
        return store(outcome, self._out, partial(self._extractor.features, engine=self._engine))

    def _attempt(self, row: Row) -> "_Attempt":
        attempts = self._attempts.setdefault(row.video, {})
        if row.attempt not in attempts:
            source = self._sources[row.video]
            video = Video(source, None, n_views=len(self._extractor.views), scratch=scratch_folder(self._out))
            attempts[row.attempt] = _Attempt(video)
        return attempts[row.attempt]

    def _outcome(self, number: int, attempt: "_Attempt") -> Iterator[Outcome]:
        outcome = attempt.outcome()
        if outcome is None:
            return
        self._left.discard(number)
        for other in self._attempts.pop(number).values():
            other.close()
        source = self._sources[number]
        yield replace(outcome, source=Source(source.path, source.name))

    def _note(self, report: NetworkReport) -> None:
        """Count the work of an actor; raises C3DVideoError when the machines would not compute the same bits."""
        self.n_overflows += report.n_overflows
        self.timings.network += report.seconds
        engine = {**report.engine, "device": str(report.engine["device"]).partition(":")[0]}
        if self._engine is None:
            self._engine = engine
        elif engine != self._engine:
            different = "; ".join(
                f"{key}: {self._engine[key]} and {engine[key]}"
                for key in engine
                if engine[key] != self._engine.get(key)
            )
            raise C3DVideoError(
                f"the machines of the cluster compute with different engines ({different}), so that equal videos "
                "would get unequal features; give all of them a compiler, or choose `engine=direct`"
            )


class _Attempt:
    """The clips of one video that have arrived from attempts at one content. final: how the attempt has ended."""

    def __init__(self, video: Video) -> None:
        self.final: Final | None = None
        self._video = video
        self._n_in_order = 0
        self._early: dict[int, tuple[int, float, dict[str, Array]]] = {}

    def add(self, row: Row) -> int:
        """Take a clip, unless it is there already; the number of clips that were new."""
        if row.clip < self._n_in_order or row.clip in self._early:
            return 0
        self._early[row.clip] = int(row.start_frame), float(row.start_seconds), unpickled(row.data)
        while self._n_in_order in self._early:
            start_frame, start_seconds, layers = self._early.pop(self._n_in_order)
            self._video.begin_clip(start_frame, start_seconds)
            self._video.add_rows(layers)
            self._n_in_order += 1
        return 1

    def outcome(self) -> Outcome | None:
        """What has become of the video, None while clips are missing."""
        if self.final is None:
            return None
        checked, content = self.final.checked, self.final.content
        self._video.checked = checked
        if content is None:
            return StoredVideo(self._video.source, checked or Checked())
        if not isinstance(content, Failed) and self._n_in_order < self.final.n_clips:
            return None
        self._video.end = content
        return next(self._video.outcome())

    def close(self) -> None:
        """Let go of the files of an attempt that is not needed."""
        self._video.close()


def _stored(out: Location, fingerprint: str, name: str) -> Checked | None:
    return what_is_stored(out, name, fingerprint, lambda: None)
