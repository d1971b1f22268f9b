"""What is seen now: the classes of a camera, a stream or a file as if live, clip by clip.

    for seen in watch("rtsp://camera/1", weights="my_weights"):
        seen.classes[0], seen.probabilities[0], seen.latency_seconds, seen.dropped_frames

Probabilities are smoothed over time. The latest frames are always the ones that are classified: a machine that is too
slow drops frames and counts them.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from c3dvideo.choices import PrecisionChoice
from c3dvideo.errors import UsageError
from c3dvideo.features.extractor import Extractor
from c3dvideo.network.c3d import C3D
from c3dvideo.probing.descriptors import clip_vectors, unit_rows
from c3dvideo.probing.predict import check_probe, note_on_classes
from c3dvideo.storage import is_object
from c3dvideo.video.access import check_url, is_url
from c3dvideo.video.camera import LiveFrames, LiveState, ShowFrame, Window
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.decode import Video
from c3dvideo.video.preprocess import Profile

if TYPE_CHECKING:
    from c3dvideo.probing.probe import Probe

STRIDE_FRAMES = 8
SMOOTH_SECONDS = 1.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One clip of a live source.

    time: when it was classified, UTC (ISO 8601). start_seconds, end_seconds: first and last frame of the clip, since
        the first frame of the source. classes: the best few, best first. probabilities: theirs, smoothed; with a probe
        its scores, and `are_scores` is true. latency_seconds: from the decoding of the clip's last frame to its
        classes. behind_seconds: how far the reading is behind the source. frames, dropped_frames: read so far, and not
        classified although the stride would. connections: how often the source was opened.
    """

    time: str
    start_seconds: float
    end_seconds: float
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    latency_seconds: float
    behind_seconds: float
    frames: int
    dropped_frames: int
    connections: int
    are_scores: bool = False

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON: the values of the classes as "probabilities", or those of a probe as "scores"."""
        values = "scores" if self.are_scores else "probabilities"
        document = asdict(self)
        del document["are_scores"]
        return {values if key == "probabilities" else key: value for key, value in document.items()}


@dataclass(kw_only=True)
class WatchSummary:
    """Counts of a whole run, its latencies in seconds and its state, filled while `watch` runs.

    problem: why the source was lost or could not be read, "" while it is watched; wait_seconds: how long `watch` then
        waits before it opens the source again.
    """

    state: LiveState = "starting"
    problem: str = ""
    wait_seconds: float = 0.0
    behind_seconds: float = 0.0

    frames: int = 0
    dropped_frames: int = 0
    clips: int = 0
    connections: int = 0
    seconds: float = 0.0
    latencies: list[float]

    def text(self) -> str:
        """One line for a terminal."""
        rate = self.frames / self.seconds if self.seconds > 0 else 0.0
        line = f"{self.clips} clips of {self.frames} frames in {self.seconds:.1f} s ({rate:.1f} frames/s); "
        line += f"{self.dropped_frames} frames dropped"
        if self.latencies:
            ordered = sorted(self.latencies)
            high = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
            line += f"; latency {1000 * median(ordered):.0f} ms, {1000 * high:.0f} ms at the 95th percentile"
        return line + (f"; connected {self.connections} times" if self.connections > 1 else "")


class Smoother:
    """An exponential mean over time: after `seconds`, a value counts 1/e of what it did; 0 keeps values as they are."""

    def __init__(self, seconds: float) -> None:
        if not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"`smooth_seconds={seconds}`; expected 0 or more")
        self._seconds = seconds
        self._mean: np.ndarray | None = None
        self._time = 0.0

    def __call__(self, values: np.ndarray, time_seconds: float) -> np.ndarray:
        """The mean after `values` at this time."""
        passed = max(0.0, time_seconds - self._time)
        share = 1.0 if self._mean is None or not self._seconds else 1.0 - math.exp(-passed / self._seconds)
        self._mean = values.copy() if self._mean is None else self._mean + share * (values - self._mean)
        self._time = time_seconds
        return self._mean


def watch(
    source: str | Path | Callable[[], Video],
    *,
    weights: str | Path | C3D | None = None,
    probe: "Probe | str | Path | None" = None,
    top: int = 3,
    stride_frames: int = STRIDE_FRAMES,
    sampling_rate: int = 1,
    smooth_seconds: float = SMOOTH_SECONDS,
    profile: Profile | str | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    stall_seconds: float = 10.0,
    max_seconds: float | None = None,
    summary: WatchSummary | None = None,
    note: Callable[[str], None] = lambda text: None,
    show: ShowFrame | None = None,
) -> Iterator[Seen]:
    """The classes of a live source, each clip as soon as it is classified; endless unless the source is a file.

    source: an address (RTSP, HTTP, ...), a file or frame folder, which is played at its own speed, or a camera:
        "/dev/video0", or its number. stride_frames: frames between clips. smooth_seconds: time constant of the mean
        over time. stall_seconds: a source that sends nothing for so long is opened again, after growing waits.
    max_seconds: None never stops. summary: filled with counts, latencies and the state. show: called in the reading
        thread with every frame, as a function that returns its RGB pixels, uint8 (H, W, 3).
    Raises VideoError for a file that cannot be read and for a protocol that is not allowed, UsageError for arguments
    that do not fit.
    """
    if isinstance(source, str) and is_url(source) and not is_object(source):
        check_url(source)  # here, because trying again will not help
    scorer = _load(probe)
    smooth = Smoother(smooth_seconds)
    extractor, plan = _extractor(weights, scorer, profile, device, precision, stride_frames, sampling_rate)
    note(str(extractor))
    if about := note_on_classes(extractor, scorer):
        note(about)
    names = scorer.classes if scorer else extractor.network.classes or _numbers(extractor.network)
    classify = _classifier(extractor, scorer)
    size, length = extractor.network.architecture["crop_size"], plan.clip_length
    classify(np.zeros((1, 3, length, size, size), np.uint8))  # builds the engine before the first frame comes
    summary = WatchSummary(latencies=[]) if summary is None else summary
    began = time.monotonic()
    live = LiveFrames(source, extractor.network.profile, plan, stall_seconds=stall_seconds, note=note, show=show)
    with live:
        while True:
            try:
                window = live.next_window(timeout_seconds=_POLL_SECONDS)
            finally:
                _count(summary, live, time.monotonic() - began)
            if (window is None and live.ended) or (max_seconds is not None and summary.seconds >= max_seconds):
                return
            if window is None:
                continue
            values = smooth(classify(window.pixels), window.end_seconds)
            seen = _seen(window, values, names, top, live, are_scores=scorer is not None)
            summary.clips += 1
            summary.latencies.append(seen.latency_seconds)
            del summary.latencies[:-10_000]
            yield seen


def _count(summary: WatchSummary, live: LiveFrames, seconds: float) -> None:
    summary.frames, summary.dropped_frames = live.n_frames, live.n_dropped
    summary.connections, summary.behind_seconds, summary.seconds = live.n_connections, live.behind_seconds, seconds
    summary.state, summary.problem, summary.wait_seconds = live.state, live.problem, live.wait_seconds


def _seen(
    window: Window, values: np.ndarray, names: tuple[str, ...], top: int, live: LiveFrames, *, are_scores: bool
) -> Seen:
    best = np.argsort(-values, kind="stable")[:top]
    return Seen(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        start_seconds=round(window.start_seconds, 3),
        end_seconds=round(window.end_seconds, 3),
        classes=tuple(names[index] for index in best),
        probabilities=tuple(round(float(values[index]), 4) for index in best),
        latency_seconds=round(time.monotonic() - window.arrived, 4),
        behind_seconds=round(live.behind_seconds, 3),
        frames=live.n_frames,
        dropped_frames=live.n_dropped,
        connections=live.n_connections,
        are_scores=are_scores,
    )


def _load(probe: "Probe | str | Path | None") -> "Probe | None":
    if not isinstance(probe, str | Path):
        return probe
    from c3dvideo.probing.probe import Probe  # takes scikit-learn along

    return Probe.load(probe)


def _extractor(
    weights: str | Path | C3D | None,
    scorer: "Probe | None",
    profile: Profile | str | None,
    device: str,
    precision: PrecisionChoice,
    stride_frames: int,
    sampling_rate: int,
) -> tuple[Extractor, ClipPlan]:
    """What computes, and which frames make a clip. The stride is free: a probe scores clips of any."""
    fitted = next((part.settings["plan"] for part in scorer.parts if "plan" in part.settings), None) if scorer else None
    extractor = Extractor(
        weights,
        layers=list(scorer.layers) if scorer else ["prob"],
        plan=None if fitted is None else ClipPlan(**fitted),
        profile=profile,
        device=device,
        precision=precision,
        batch_size=1,
    )
    if scorer is not None:
        check_probe(scorer, extractor)
    rate = extractor.plan.sampling_rate if fitted is not None else sampling_rate
    length = extractor.network.architecture["clip_length"]
    return extractor, ClipPlan(clip_length=length, stride_frames=stride_frames, sampling_rate=rate)


def _classifier(extractor: Extractor, scorer: "Probe | None") -> Callable[[np.ndarray], np.ndarray]:
    """A function from one clip, uint8 (1, 3, T, H, W), to its probabilities or scores, float64 (classes,)."""
    engine = extractor.engine

    def classify(clip: np.ndarray) -> np.ndarray:
        found = engine(clip)
        if scorer is None:
            probabilities: np.ndarray = found["prob"][0].astype(np.float64)
            return probabilities
        rows = [unit_rows(clip_vectors(found[layer])) for layer in scorer.layers]
        scores: np.ndarray = scorer.scores(np.concatenate(rows, axis=1))[0]
        return scores

    return classify


def _numbers(network: C3D) -> tuple[str, ...]:
    return tuple(str(index) for index in range(network.architecture["num_classes"]))
