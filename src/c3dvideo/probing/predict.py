"""What is in a video: its classes as a whole, and clip by clip along its time.

    outcome = predict(["a.mp4"], weights="my_weights", top=5)
    outcome.predictions[0].top[0].label
    outcome.predictions[0].timeline[0].start_seconds

A video's scores are the mean of its clips' class probabilities, as in the paper's Sports-1M experiments (section 3.3).
With a probe they are the probe's scores of the video's descriptor, and of each clip's own.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from c3dvideo.choices import Crops, Damaged, EngineName, PrecisionChoice
from c3dvideo.errors import UsageError
from c3dvideo.features.activations import VideoActivations
from c3dvideo.features.decoding import STALL_SECONDS
from c3dvideo.features.default_weights import note_on_default_weights
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.features.store import descriptor
from c3dvideo.network.c3d import C3D
from c3dvideo.probing.descriptors import Array, Part, clip_vectors, some, unit_rows
from c3dvideo.progress import progress
from c3dvideo.video.access import shown
from c3dvideo.video.clip_times import clip_spans
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import Profile
from c3dvideo.video.sources import find_sources

if TYPE_CHECKING:
    from c3dvideo.probing.probe import Probe


@dataclass(frozen=True)
class Score:
    """One class and its score: a probability, or a probe's signed distance."""

    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """The best class of one clip: frames [start_frame, end_frame); the seconds are None where they are unknown."""

    start_frame: int
    end_frame: int
    start_seconds: float | None
    end_seconds: float | None
    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The classes of one video: the best few of the whole, best first, and the best of each clip in order."""

    name: str
    path: str
    top: tuple[Score, ...]
    timeline: tuple[ClipScore, ...]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The predictions, in the order of the inputs, and the videos that have none.

    score_kind: what their scores are: probabilities, or signed distances ("score") of a probe.
    """

    predictions: tuple[Prediction, ...]
    failures: tuple[Failure, ...]
    score_kind: Literal["probability", "score"] = "probability"

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


def predict(
    inputs: str | Path | Iterable[str | Path],
    *,
    weights: str | Path | C3D | None = None,
    probe: "Probe | str | Path | None" = None,
    top: int = 5,
    plan: ClipPlan | None = None,
    plan_changes: Mapping[str, Any] | None = None,
    crops: Crops | None = None,
    profile: Profile | str | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    engine: EngineName = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    damaged: Damaged = "error",
    stall_seconds: float = STALL_SECONDS,
    note: Callable[[str], None] = lambda text: None,
) -> Predictions:
    """The classes of every video of `inputs`; arguments are those of `extract`.

    probe: a probe or its file, in place of the network's own last layer. top: how many classes to list per video.
    plan, crops: None takes those of the features that the probe was fitted on. plan_changes: single values of the plan,
        as in {"stride_frames": 8}.
    Raises UsageError for a probe that was fitted on other features.

    >>> found = predict(["my_videos/waving_flag/waving_flag_000.mp4"], probe="probe.npz", top=1)
    >>> prediction = found.predictions[0]
    >>> prediction.top[0].label
    'waving_flag'
    >>> [(clip.start_frame, clip.end_frame) for clip in prediction.timeline]
    [(0, 16), (16, 32), (32, 48)]
    """
    sources = find_sources(inputs)
    if left_out := sources.note():
        note(left_out)
    scorer = _load_probe(probe) if isinstance(probe, str | Path) else probe
    parts = () if scorer is None else scorer.parts
    tables = [part.layer for part in parts if not part.settings and not re.match(r"(conv|pool|fc)\d|prob$", part.layer)]
    if tables:
        raise UsageError(
            f"the probe was also fitted on {' and '.join(tables)}, tables beside its features, which videos alone do "
            "not give; score stored features and tables with `c3dvideo probe score`"
        )
    fitted = next((part.settings for part in parts if part.settings), {})
    extractor = Extractor(
        weights,
        layers=["prob"] if scorer is None else scorer.layers,
        plan=_plan(plan, plan_changes, fitted),
        crops=crops or fitted.get("crops", "centre"),
        profile=profile,
        device=device,
        precision=precision,
        engine=engine,
        batch_size=batch_size,
        workers=workers,
        damaged=damaged,
        stall_seconds=stall_seconds,
    )
    note(str(extractor))
    if scorer is not None:
        check_probe(scorer, extractor)
    if about := note_on_classes(extractor, scorer):
        note(about)
    found: dict[str, Prediction] = {}
    failures: dict[str, Failure] = {}
    with progress("predicting", unit="clips") as bar:
        for outcome in extractor.activations(sources, on_clips=bar.advance):
            if isinstance(outcome, Failure):
                failures[outcome.name] = outcome
            else:
                found[outcome.source.name] = _prediction(outcome, extractor, scorer, top)
    return Predictions(
        predictions=tuple(found[source.name] for source in sources if source.name in found),
        failures=tuple(failures[source.name] for source in sources if source.name in failures),
        score_kind="probability" if scorer is None else "score",
    )


def _plan(plan: ClipPlan | None, changes: Mapping[str, Any] | None, fitted: Mapping[str, Any]) -> ClipPlan | None:
    """The plan to use: the given one, else that of a probe's features, with the changes; None is the network's own."""
    if plan is None and "plan" in fitted:
        plan = ClipPlan(**fitted["plan"])
    if changes:
        plan = replace(plan or ClipPlan(), **changes)
    return plan


def note_on_classes(extractor: Extractor, probe: "Probe | None") -> str | None:
    """One line that says where the classes come from; with a probe, the note on the default weights or None."""
    default = note_on_default_weights(extractor.settings)
    if probe is not None:
        return default
    names = extractor.network.classes
    shown = f": {some(names)}" if names else ", without names"
    n_classes = math.prod(extractor.network.layer_shape("prob"))
    generated = " of generated clips" if default else ""
    return f"{n_classes} classes{generated}, those that the weights were trained on{shown}; choose others with `probe=`"


def _load_probe(path: str | Path) -> "Probe":
    from c3dvideo.probing.probe import Probe  # takes scikit-learn along

    return Probe.load(path)


def check_probe(probe: "Probe", extractor: Extractor) -> None:
    """Raise UsageError unless the probe was fitted on features like these. Pooling is done here, so it may differ."""
    probe.check_parts(
        [
            Part(
                layer=part.layer,
                width=math.prod(extractor.network.layer_shape(part.layer)),
                settings={**extractor.settings, "pool": part.settings.get("pool")},
            )
            for part in probe.parts
        ]
    )


def _prediction(found: VideoActivations, extractor: Extractor, probe: "Probe | None", top: int) -> Prediction:
    if probe is None:
        clips = clip_vectors(found.layers["prob"])
        video = clips.mean(axis=0, dtype=np.float64)
        names: Sequence[str] = extractor.network.classes or [str(index) for index in range(clips.shape[1])]
    else:
        vectors = [clip_vectors(found.layers[layer]) for layer in probe.layers]
        clips = probe.scores(np.concatenate([unit_rows(rows) for rows in vectors], axis=1))
        video = probe.scores(np.concatenate([descriptor(rows) for rows in vectors])[None])[0]
        names = probe.classes
    best = np.argsort(-video, kind="stable")[:top]
    spans = timeline_spans(
        found.start_frame, found.start_seconds, plan=extractor.plan, n_frames=found.n_frames, fps=found.fps
    )
    return Prediction(
        name=found.source.name,
        path=shown(found.source.path),
        top=tuple(Score(names[index], float(video[index])) for index in best),
        timeline=tuple(
            ClipScore(**span, label=names[int(scores.argmax())], score=float(scores.max()))
            for span, scores in zip(spans, clips, strict=True)
        ),
    )


def timeline_spans(
    start_frame: Sequence[int] | Array,
    start_seconds: Sequence[float] | Array,
    *,
    plan: ClipPlan,
    n_frames: int,
    fps: Fraction | None,
) -> list[dict[str, Any]]:
    """Where each clip begins and ends, as arguments of `ClipScore`; the seconds are None where they are unknown.

    start_frame, start_seconds: of all clips of one video, in order. n_frames, fps: of the video.
    """
    ends = clip_spans(start_frame, start_seconds, span_frames=plan.span_frames, n_frames=n_frames, fps=fps)
    spans = []
    for start, since, end, until in zip(start_frame, start_seconds, *ends, strict=True):
        timed = fps is not None and not math.isnan(until)
        spans.append(
            {
                "start_frame": int(start),
                "end_frame": int(end),
                "start_seconds": float(since) if timed else None,
                "end_seconds": float(until) if timed else None,
            }
        )
    return spans
