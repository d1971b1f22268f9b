"""One run in a folder of features: which videos it has claimed, what it has stored, and what has failed.

    with FolderRun(Path("features/"), extractor.manifest, report=print) as run:
        for source in run.claimed(sources): ...
        run.settle(store(outcome, Path("features/"), extractor.features))

A video is settled once: done, found stored already, or failed. Settling it records the outcome in the folder, releases
the claim and reports.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from c3dvideo import __version__
from c3dvideo.errors import StoreError
from c3dvideo.features.activations import FailedVideo, Outcome, StoredVideo, VideoActivations
from c3dvideo.features.claims import Claim, FolderLocks
from c3dvideo.features.decoding import Checked
from c3dvideo.features.failures import Failure, append_failure, settle_failures
from c3dvideo.features.manifest import Manifest, claim_folder
from c3dvideo.features.store import VideoFeatures, feature_path, write_features
from c3dvideo.storage import Location
from c3dvideo.video.access import shown
from c3dvideo.video.sources import Source

_DISK_IS_UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EHOSTUNREACH, errno.EREMOTEIO)
PARTIAL = "partial"
"""The stage of a failure whose video has features of what comes before its damage."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """`n_clips` more clips have been decoded."""

    n_clips: int


@dataclass(frozen=True, kw_only=True)
class Settled:
    """One video is done, was stored already, or has failed.

    n_clips: of what has been stored now. failure: why it failed, or where it is damaged, of a video that is done as far
    as that. is_stale: whether features under its name are of a content that it no longer has.
    """

    source: Source
    state: Literal["done", "skipped", "failed"]
    n_clips: int = 0
    failure: Failure | None = None
    is_stale: bool = False


Report = Callable[[Decoded | Settled], None]


def store(
    outcome: Outcome, out: Location, features: Callable[[VideoActivations], VideoFeatures] | None = None
) -> Settled:
    """Write the features of one video, if it has any, and return what has become of it.

    features: makes what is stored of VideoActivations. Raises StoreError when the whole disk is full or read-only.
    """
    source = outcome.source
    if isinstance(outcome, FailedVideo):
        return _failed(source, outcome.checked, outcome.failure)
    damage = outcome.checked.damage if isinstance(outcome, StoredVideo) else outcome.damage
    failure = None if damage is None else _failure(source, PARTIAL, damage)
    if isinstance(outcome, StoredVideo):
        return Settled(source=source, state="skipped", failure=failure)
    assert features is not None
    try:
        write_features(feature_path(out, source.name), features(outcome))
    except StoreError as error:
        reason = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        if reason in _DISK_IS_UNUSABLE or (reason == errno.EACCES and not isinstance(out, Path)):
            raise
        return _failed(source, outcome.checked, _failure(source, "write", str(error)))
    return Settled(source=source, state="done", n_clips=len(outcome.start_frame), failure=failure)


def _failed(source: Source, checked: Checked | None, failure: Failure) -> Settled:
    # Features are only deleted when the content is known to be another one. A server that does not answer, or a file
    # that cannot be read, says nothing about that.
    is_stale = checked is not None and checked.content_sha256 is not None
    return Settled(source=source, state="failed", failure=failure, is_stale=is_stale)


def _failure(source: Source, stage: str, message: str) -> Failure:
    return Failure(name=source.name, path=shown(source.path), stage=stage, message=message)


class FolderRun:
    """The claims of one run and its records in the folder. `settle` may be called from any thread.

    Raises StoreError when the folder holds features of other settings or cannot be written.
    """

    def __init__(self, out: Location, manifest: Manifest, *, report: Report) -> None:
        self._out = out
        self._manifest = manifest
        self._report = report
        self._locks = FolderLocks(out)
        self._claims: dict[str, Claim] = {}
        self._solved: list[str] = []
        self._failures: list[Failure] = []

    def __enter__(self) -> Self:
        self._locks.__enter__()
        try:
            with self._locks.updating():
                claim_folder(self._out, self._manifest, version=__version__)
        except BaseException:
            self._locks.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for claim in list(self._claims.values()):  # what is still claimed when a run stops early
            claim.release()
        if kind is None:
            with self._locks.updating():
                # Without locks, another run may have rewritten the file between reading it and our line.
                settle_failures(self._out, self._solved, failed=self._failures, is_locked=self._locks.supported)
        self._locks.__exit__(kind, error, trace)

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

    def sweep_at_exit(self) -> None:
        """Delete half-written files of processes of this run that died, unless another run is in the folder."""
        self._locks.sweep_at_exit = True

    def settle(self, video: Settled) -> None:
        """Record the outcome of one video and let go of it, if it was claimed."""
        name = video.source.name
        if video.is_stale:
            with suppress(OSError):
                feature_path(self._out, name).unlink()
        if video.failure is None:
            self._solved.append(name)
        else:
            self._failures.append(video.failure)
            with self._locks.updating():
                append_failure(self._out, video.failure)
        if claim := self._claims.pop(name, None):
            claim.release()
        self._report(video)
