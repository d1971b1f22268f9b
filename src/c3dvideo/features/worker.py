"""Work: one process's share of a run over many videos, and what it reports while it goes.

    share = work(sources, Path("features/"), Extractor("my_weights", layers=["fc6"]), report=print)
    share.timings, share.fingerprint

Sources are drawn one at a time as decoders become free, so several processes can be given them from one list. A video
is skipped when its stored file can be read and has the fingerprint and the content hash of the video as it is now.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from c3dvideo import __version__
from c3dvideo.errors import StoreError
from c3dvideo.features.activations import VideoActivations
from c3dvideo.features.claims import Claim, FolderLocks
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.pipeline import Timings, Writer, compute
from c3dvideo.features.store import (
    Failure,
    append_failure,
    claim_folder,
    feature_path,
    read_features,
    settle_failures,
    write_features,
)
from c3dvideo.video.content import content_sha256
from c3dvideo.video.sources import Source

_DISK_IS_UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """So many more clips are on their way."""

    n_clips: int


@dataclass(frozen=True, kw_only=True)
class Settled:
    """One video is dealt with: stored, found stored already, or failed. n_clips: of what is stored now."""

    source: Source
    state: Literal["done", "skipped", "failed"]
    n_clips: int = 0
    failure: Failure | None = None


Report = Callable[[Decoded | Settled], None]


@dataclass(frozen=True, kw_only=True)
class Share:
    """What is true of one process's share as a whole."""

    timings: Timings
    n_overflows: int
    settings: Mapping[str, Any]
    fingerprint: str


def work(sources: Iterable[Source], out: Path, extractor: Extractor, *, report: Report) -> Share:
    """Store the features of every video of `sources` under `out`, reporting (from any thread) as it goes.

    Raises StoreError when `out` holds features of other settings or cannot be written.
    """
    manifest = extractor.manifest
    timings = Timings()
    with FolderLocks(out) as locks:
        with locks.updating():
            claim_folder(out, manifest, version=__version__)
        run = _Run(out, extractor, locks=locks, report=report)
        outcomes = compute(
            run.claimed(sources),
            extractor,
            begin=run.is_missing,
            scratch=out,
            timings=timings,
            on_clips=lambda n_clips: report(Decoded(n_clips=n_clips)),
        )
        try:
            with Writer(run.keep, timings) as writer:
                for outcome in outcomes:
                    writer.put(outcome)
        finally:
            outcomes.close()
            run.close()
        with locks.updating():
            settle_failures(out, solved=run.solved)
    return Share(
        timings=timings,
        n_overflows=extractor.engine.n_overflows,
        settings=manifest.settings,
        fingerprint=manifest.fingerprint,
    )


class _Run:
    """What a share has claimed in the folder, and what it has stored or found there."""

    def __init__(self, out: Path, extractor: Extractor, *, locks: FolderLocks, report: Report) -> None:
        self.solved: list[str] = []
        self._out = out
        self._manifest = extractor.manifest
        self._locks = locks
        self._extractor = extractor
        self._report = report
        self._claims: dict[str, Claim] = {}
        self._hashes: dict[str, str | None] = {}

    def claimed(self, sources: Iterable[Source]) -> Iterator[Source | None]:
        """Each source once this run has claimed it; None while other runs work on all that are left."""
        waiting: deque[Source] = deque()
        for source in sources:
            if self._claim(source):
                yield source
            else:
                waiting.append(source)
        passed_over = 0
        while waiting:
            source = waiting.popleft()
            if self._claim(source):
                passed_over = 0
                yield source
            else:
                waiting.append(source)
                passed_over += 1
                if passed_over >= len(waiting):
                    passed_over = 0
                    yield None

    def _claim(self, source: Source) -> bool:
        claim = self._locks.claim(source.name)
        if claim is not None:
            self._claims[source.name] = claim
        return claim is not None

    def is_missing(self, source: Source) -> bool:
        """Whether the features of the video, as it is now, are not stored yet; called while it is claimed."""
        content = content_sha256(source.path)
        self._hashes[source.name] = content
        if content is None or not self._is_stored(source.name, content):
            return True
        self._settle(Settled(source=source, state="skipped"))
        return False

    def _is_stored(self, name: str, content: str) -> bool:
        try:
            metadata = read_features(feature_path(self._out, name)).metadata
        except StoreError:
            return False
        return (metadata.get("content_sha256"), metadata.get("fingerprint")) == (content, self._manifest.fingerprint)

    def keep(self, outcome: VideoActivations | Failure) -> None:
        """Store the features or record the failure of one video, then let go of it."""
        if isinstance(outcome, Failure):
            self._record(Source(outcome.path, outcome.name), outcome)
            return
        source = outcome.source
        features = self._extractor.features(outcome, content_sha256=self._hashes[source.name])
        try:
            write_features(feature_path(self._out, source.name), features)
        except StoreError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_IS_UNUSABLE:
                raise
            self._record(source, Failure(name=source.name, path=source.path, stage="write", message=str(error)))
        else:
            self._settle(Settled(source=source, state="done", n_clips=len(outcome.start_frame)))

    def _record(self, source: Source, failure: Failure) -> None:
        """Record a failure; features of an earlier content of that video are stale now and go."""
        if failure.name in self._hashes:
            with suppress(OSError):
                feature_path(self._out, failure.name).unlink()
        with self._locks.updating():
            append_failure(self._out, failure)
        self._settle(Settled(source=source, state="failed", failure=failure))

    def _settle(self, settled: Settled) -> None:
        if settled.state != "failed":
            self.solved.append(settled.source.name)
        self._claims.pop(settled.source.name).release()
        self._report(settled)

    def close(self) -> None:
        """Let go of what is still claimed, when a run stops early."""
        for claim in self._claims.values():
            claim.release()
