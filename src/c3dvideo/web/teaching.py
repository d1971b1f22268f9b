"""The classifier of the page: fitted in the background on the labels, or a probe from a file; and its predictions.

teaching = Teaching(collection, labels, workers, folder, probe=None)
teaching.fit()                       # returns at once
teaching.state()                     # "none", "fitting", "ready" or "failed", with accuracy and chance level
teaching.predictions()               # float32 (n_clips, n_classes), or None
"""

import threading
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from c3dvideo.errors import UsageError
from c3dvideo.web.labels_file import LabelsFile
from c3dvideo.web.web_collection import Array, Collection
from c3dvideo.web.workers import Workers

_FIT_SECONDS = 1800.0


@dataclass(frozen=True)
class TeachingState:
    """What is known of the classifier. number: rises with every fit. about: classes, accuracy, chance, ...

    is_outdated: labels or the index have changed since the fit began.
    """

    state: Literal["none", "fitting", "ready", "failed"]
    number: int = 0
    message: str = ""
    is_outdated: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


class Teaching:
    """The latest fit of one collection. folder: where the probe and the predictions lie."""

    def __init__(
        self,
        collection: Collection,
        labels: LabelsFile,
        workers: Workers,
        folder: str | Path,
        *,
        probe: str | Path | None = None,
    ) -> None:
        self._collection = collection
        self._labels = labels
        self._workers = workers
        self._folder = Path(folder)
        self._given = None if probe is None else str(probe)
        self._lock = threading.Lock()
        self._number = 0
        self._job: Future[Any] | None = None
        self._basis: tuple[str, int] = ("", 0)
        self._ready: tuple[int, str, Array, dict[str, Any], Path] | None = None

    def fit(self) -> TeachingState:
        """Fit on the labels as they are now; while one fit runs, no other begins.

        Raises UsageError for labels of fewer than two classes.
        """
        snapshot = self._collection.now()
        labels = self._labels.of_clips(snapshot)
        if (n_classes := len(set(labels) - {""})) < 2:
            raise UsageError(f"clips of {n_classes} classes have labels; label some of at least two")
        return self._begin("fit", {"labels": labels}, snapshot.version)

    def begin(self) -> TeachingState:
        """Apply the given probe, or fit one where the collection is labelled, unless this has been done."""
        if self._job is not None or self._ready is not None:
            return self.state()
        snapshot = self._collection.now()
        if self._given is not None:
            return self._begin("apply", {"probe": self._given}, snapshot.version)
        if len(set(self._labels.of_clips(snapshot)) - {""}) < 2:
            return self.state()
        return self.fit()

    def _begin(self, function: str, arguments: dict[str, Any], version: str) -> TeachingState:
        with self._lock:
            if self._job is None or self._job.done():
                self._number += 1
                self._basis = (version, self._labels.version)
                folder = self._folder / str(self._number)
                folder.mkdir(parents=True, exist_ok=True)
                self._job = self._workers.start(
                    f"c3dvideo.web.teaching_jobs:{function}",
                    {"db": self._collection.db, "version": version, "folder": str(folder), **arguments},
                    seconds=_FIT_SECONDS,
                )
        return self.state()

    def state(self) -> TeachingState:
        """How far it is."""
        with self._lock:
            if self._job is None:
                return TeachingState("none")
            if not self._job.done():
                return TeachingState("fitting", self._number)
            error = self._job.exception()
            if error is not None:
                return TeachingState("failed", self._number, str(error))
            self._take(self._job.result())
            outdated = self._basis != (self._collection.now().version, self._labels.version)
            return TeachingState("ready", self._number, is_outdated=outdated, about=self._job.result())

    def _take(self, about: dict[str, Any]) -> None:
        if self._ready is None or self._ready[0] != self._number:
            folder = self._folder / str(self._number)
            shares = np.load(folder / "predictions.npy", allow_pickle=False)
            self._ready = (self._number, self._basis[0], shares, about, folder / "probe.npz")

    def wait(self, seconds: float) -> None:
        """Return when no fit runs any more, or after `seconds`."""
        job = self._job
        if job is not None:
            wait([job], seconds)

    def predictions(self) -> tuple[list[str], Array] | None:
        """The classes and the probability of each for every clip, of the latest fit of this version of the index."""
        self.state()
        ready = self._ready
        if ready is None or ready[1] != self._collection.now().version:
            return None
        return ready[3]["classes"], ready[2]

    def probe(self) -> tuple[Path, float] | None:
        """The file of the latest probe and the temperature of its probabilities."""
        self.state()
        ready = self._ready
        return None if ready is None else (ready[4], float(ready[3]["temperature"]))
