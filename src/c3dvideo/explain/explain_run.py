"""Explain videos: moving pictures beside the input, and contact sheets, for every video and every unit.

done = explain(["a.mp4"], "explained", methods=["gradcam", "deconvolution"])
done.videos[0].clips[0].label, done.videos[0].files
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from c3dvideo.choices import Damaged, ExplainMethod
from c3dvideo.errors import UsageError, VideoError
from c3dvideo.explain.deconvolution import deconvolve, guided_backprop
from c3dvideo.explain.gradcam import clip_scores, grad_cam, map_layer
from c3dvideo.explain.layered import class_index, class_model
from c3dvideo.explain.pictures import beside, overlay, rgb_clip, signed, write_filters
from c3dvideo.explain.strongest import StrongClip, Unit, clip_pixels, strongest_clips
from c3dvideo.extras import require_extra
from c3dvideo.features.decoding import STALL_SECONDS
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.files import atomic_path, path_inside
from c3dvideo.network.c3d import C3D
from c3dvideo.plots import draw_grid
from c3dvideo.probing.predict import ClipScore, check_probe, note_on_classes, timeline_spans
from c3dvideo.progress import progress
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.encode import write_video
from c3dvideo.video.preprocess import Profile
from c3dvideo.video.reader import ClipReader, read_clips
from c3dvideo.video.sources import Source, find_sources

if TYPE_CHECKING:
    from c3dvideo.probing.probe import Probe

UNIT_LAYER = "conv5b"
"""The layer of the paper's Figure 4, whose units are shown by default."""
_OF_VIDEOS = ("gradcam", "gradcam++", "guided")
_MAPS = {"gradcam", "gradcam++"}
_OF_UNITS = {"units", "deconvolution"}
_SHEET = 24


@dataclass(frozen=True, kw_only=True)
class ExplainedVideo:
    """The clips of a video, each with the class that is explained, and the files written about it, by kind."""

    name: str
    path: str
    clips: tuple[ClipScore, ...]
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ExplainedUnit:
    """A unit, its strongest clips, and the files written about it, by kind."""

    layer: str
    unit: int
    clips: tuple[StrongClip, ...]
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """Everything that was written, and the videos that could not be read."""

    videos: tuple[ExplainedVideo, ...]
    units: tuple[ExplainedUnit, ...]
    filters: str | None
    failures: tuple[Failure, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


def explain(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    methods: Sequence[ExplainMethod | str] = ("gradcam",),
    weights: str | Path | C3D | None = None,
    probe: "Probe | str | Path | None" = None,
    target: str | int | None = None,
    layer: str | None = None,
    units: Sequence[int] = (),
    n_clips: int = 8,
    profile: Profile | str | None = None,
    device: str = "auto",
    damaged: Damaged = "error",
    stall_seconds: float = STALL_SECONDS,
    note: Callable[[str], None] = lambda text: None,
) -> Explanations:
    """Write explanations of videos below the folder `out`.

    inputs: videos as `extract` takes them; for "units" and "deconvolution" also folders of features that hold `layer`.
    methods: "gradcam" and "gradcam++" give <video>.<method>.<layer>.<class>.mp4 and .png, "guided" the same without
        the layer, for a class "best" without `target`, and all with .<probe> with a probe; "units" gives a sheet of the
        strongest clips of each unit, "deconvolution" one with their projections to the pixels, and an mp4;
        "filters" the first layer as a moving picture.
    target: the class by name or number; None explains the best class of each clip. probe: explain its classes.
    layer: where Grad-CAM is computed, or whose units are shown; None takes that of `gradcam.map_layer`, and conv5b for
        units. units: numbers; none takes the four most selective.
    n_clips: strongest clips per unit.
    Raises UsageError for arguments that do not fit, MissingExtraError without the extra "explain".
    """
    require_extra("explain")
    _check(inputs, methods)
    scorer = _load(probe)
    extractor = Extractor(
        weights, layers=list(scorer.layers) if scorer else ["fc8"], plan=_plan(scorer), profile=profile, device=device
    )
    if scorer is not None:
        check_probe(scorer, extractor)
    network = extractor.network.to(extractor.device)
    shown_class = "best" if target is None else _class_in_file_names(class_model(network, scorer)[1], target)
    if scorer is not None:
        shown_class += f".{_in_file_names(Path(probe).stem) if isinstance(probe, str | Path) else 'probe'}"
    mapped, shown_units = layer or map_layer(network), layer or UNIT_LAYER
    used = [mapped] * bool(_MAPS & set(methods)) + [shown_units] * bool(_OF_UNITS & set(methods))
    of_layers = f"{', '.join(dict.fromkeys(used))} of " if used else ""
    note(f"{of_layers}{extractor.label}, profile {network.profile.name}, on {extractor.device}")
    filters = None
    if "filters" in methods:
        path = Path(out, f"{network.steps[0]}.gif")
        write_filters(path, network)
        filters = str(path)
    failures: list[Failure] = []
    shown: list[ExplainedVideo] = []
    ways = [method for method in methods if method in _OF_VIDEOS]
    if ways:
        if about := note_on_classes(extractor, scorer):
            note(about)
        sources = find_sources(inputs)
        if left_out := sources.note():
            note(left_out)
        job = _Job(network, extractor.plan, scorer, target, shown_class, mapped, Path(out), damaged, stall_seconds)
        for source in sources:
            try:
                shown.append(_explain_video(source, ways, job))
            except VideoError as error:
                failures.append(Failure(name=source.name, path=source.path, stage="decode", message=str(error)))
    explained: list[ExplainedUnit] = []
    if _OF_UNITS & set(methods):
        # Half precision would round activations, and the engine of a CPU is exact in any case.
        responses = Extractor(
            network,
            layers=[shown_units],
            plan=extractor.plan,
            device=str(extractor.device),
            precision="fp32",
            damaged=damaged,
        )
        found, unread = strongest_clips(inputs, responses, units=units, n_clips=n_clips)
        known = {failure.name for failure in failures}
        failures += [failure for failure in unread if failure.name not in known]
        explained = [_explain_unit(unit, methods, responses, Path(out)) for unit in found if unit.clips]
        for unit in found:
            if not unit.clips:
                note(f"{shown_units} unit {unit.unit} responds to no clip")
    return Explanations(videos=tuple(shown), units=tuple(explained), filters=filters, failures=tuple(failures))


@dataclass(frozen=True)
class _Job:
    """What the explanation of every video shares."""

    network: C3D
    plan: ClipPlan
    probe: "Probe | None"
    target: str | int | None
    shown_class: str
    layer: str
    out: Path
    damaged: Damaged
    stall_seconds: float


def _check(inputs: Sequence[str | Path], methods: Sequence[str]) -> None:
    unknown = [method for method in methods if method not in get_args(ExplainMethod)]
    if unknown or not methods:
        raise UsageError(f"`method={', '.join(unknown)}`; choose among {', '.join(get_args(ExplainMethod))}")
    if not inputs and set(methods) != {"filters"}:
        raise UsageError("there is no video to explain; only the filters need none")


def _load(probe: "Probe | str | Path | None") -> "Probe | None":
    if not isinstance(probe, str | Path):
        return probe
    from c3dvideo.probing.probe import Probe  # takes scikit-learn along

    return Probe.load(probe)


def _plan(probe: "Probe | None") -> ClipPlan | None:
    """The plan of the features that a probe was fitted on; None is the network's own."""
    plan = next((part.settings["plan"] for part in probe.parts if "plan" in part.settings), None) if probe else None
    return None if plan is None else ClipPlan(**plan)


def _class_in_file_names(classes: Sequence[str], target: str | int) -> str:
    """The name of a class as a part of file names; with its number where the name alone could be that of another."""
    index = class_index(classes, target)
    safe = _in_file_names(classes[index])
    return safe if safe == classes[index] and safe != "best" else f"{safe}~{index}"


def _in_file_names(text: str) -> str:
    return re.sub(r"[^\w-]", "_", text)[:60]


def _explain_video(source: Source, ways: Sequence[str], job: _Job) -> ExplainedVideo:
    files: dict[str, str] = {}
    clips: list[ClipScore] = []
    for way in ways:
        sheet = _Sheet()
        clips = []
        reader = read_clips(
            source.path,
            plan=job.plan,
            profile=job.network.profile,
            damaged=job.damaged,
            stall_seconds=job.stall_seconds,
        )
        stem = f".{way}.{job.layer}.{job.shown_class}" if way in _MAPS else f".{way}.{job.shown_class}"
        path = path_inside(job.out, source.name, f"{stem}.mp4")
        with atomic_path(path) as temporary, progress(f"{way}: {source.name}", unit="clips") as bar:
            frames = _frames(reader, way, job, clips, sheet, bar.advance)
            # Of sampled frames, only every n-th is shown: at this rate they last as long as the video.
            fps = Fraction(reader.fps or 25).limit_denominator(1001) / job.plan.sampling_rate
            write_video(temporary, frames, fps=fps, container_format="mp4")
        files[way] = str(path)
        picture = path_inside(job.out, source.name, f"{stem}.png")
        draw_grid(picture, sheet.pictures, captions=sheet.captions, title=f"{source.name}: {way}")
        files[f"{way} sheet"] = str(picture)
    return ExplainedVideo(name=source.name, path=source.path, clips=_timed(clips, reader, job.plan), files=files)


def _timed(clips: Sequence[ClipScore], reader: ClipReader, plan: ClipPlan) -> tuple[ClipScore, ...]:
    """The clips of a video that has been read, with their ends as `predict` states them: those need all starts."""
    starts = [clip.start_frame for clip in clips]
    seconds = [np.nan if clip.start_seconds is None else clip.start_seconds for clip in clips]
    spans = timeline_spans(starts, seconds, plan=plan, n_frames=reader.n_frames, fps=reader.fps)
    return tuple(replace(clip, **span) for clip, span in zip(clips, spans, strict=True))


def _frames(
    reader: ClipReader,
    way: str,
    job: _Job,
    clips: list[ClipScore],
    sheet: "_Sheet",
    advance: Callable[[int], None],
) -> Iterator[np.ndarray]:
    """The frames of the video to write; fills the lists of clips and the sheet on the way."""
    order = job.network.profile.channel_order
    for clip in reader:
        scores, classes = clip_scores(job.network, clip.pixels, job.probe)
        best = int(scores[0].argmax()) if job.target is None else class_index(classes, job.target)
        rgb = rgb_clip(clip.pixels[0], order)
        if way == "guided":
            gradients = guided_backprop(job.network, clip.pixels, target=best, probe=job.probe)
            right = signed(gradients[0], order)
        else:
            maps = grad_cam(
                job.network,
                clip.pixels,
                target=best,
                probe=job.probe,
                layer=job.layer,
                plus_plus=way == "gradcam++",
            )
            right = overlay(rgb, maps[0])
        explained = ClipScore(
            **timeline_spans(
                [clip.start_frame], [clip.start_seconds], plan=job.plan, n_frames=reader.n_frames, fps=reader.fps
            )[0],
            label=classes[best],
            score=float(scores[0, best]),
        )
        clips.append(explained)
        text = f"{explained.label} {explained.score:.2f}"
        sheet.add(right[len(right) // 2], f"{_when(explained)} {text}")
        advance(1)
        # Clips that overlap are shown up to the start of the next.
        shown = min(len(rgb), max(1, job.plan.stride_frames // job.plan.sampling_rate))
        yield from beside(rgb[:shown], right[:shown], caption=f"{_when(explained)}   {text}")


def _when(clip: ClipScore) -> str:
    if clip.start_seconds is None or clip.end_seconds is None:
        return f"frames {clip.start_frame}-{clip.end_frame}"
    return f"{clip.start_seconds:.2f}-{clip.end_seconds:.2f} s"


class _Sheet:
    """At most `_SHEET` pictures, at even distances along the video, however long it is."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.captions: list[str] = []
        self._every, self._n = 1, 0

    def add(self, picture: np.ndarray, caption: str) -> None:
        if self._n % self._every == 0:
            self.pictures.append(picture)
            self.captions.append(caption)
        self._n += 1
        if len(self.pictures) > _SHEET:
            self.pictures, self.captions = self.pictures[::2], self.captions[::2]
            self._every *= 2


def _explain_unit(unit: Unit, methods: Sequence[str], extractor: Extractor, out: Path) -> ExplainedUnit:
    network = extractor.network
    order = network.profile.channel_order
    pixels = clip_pixels(unit.clips, extractor)
    clips = [clip for clip in unit.clips if clip in pixels]
    inputs = [rgb_clip(pixels[clip], order) for clip in clips]
    captions = [f"{clip.name} {_begins(clip)}, {clip.activation:.3g}" for clip in clips]
    stem = f"{unit.layer}_unit_{unit.unit}"
    title = f"{unit.layer} unit {unit.unit}: the clips that it responds to most"
    files: dict[str, str] = {}
    if "units" in methods:
        path = out / f"{stem}.units.png"
        draw_grid(path, [clip[len(clip) // 2] for clip in inputs], captions=captions, title=title)
        files["units"] = str(path)
    if "deconvolution" in methods:
        projected = [
            signed(deconvolve(network, pixels[clip][None], layer=unit.layer, unit=unit.unit)[0], order)
            for clip in clips
        ]
        path = out / f"{stem}.deconvolution.png"
        # Per clip its first and its middle frame, each before its projection.
        times = (0, len(inputs[0]) // 2)
        pictures = [side[time] for pair in zip(inputs, projected, strict=True) for time in times for side in pair]
        beneath = [text for caption in captions for text in (caption, "projection", "middle frame", "projection")]
        draw_grid(path, pictures, captions=beneath, title=f"{title}, projected to the pixels")
        files["deconvolution sheet"] = str(path)
        path = out / f"{stem}.deconvolution.mp4"
        with atomic_path(path) as temporary:
            frames = (
                frame
                for rgb, projection, caption in zip(inputs, projected, captions, strict=True)
                for frame in beside(rgb, projection, caption=caption)
            )
            write_video(temporary, frames, fps=8, container_format="mp4")
        files["deconvolution"] = str(path)
    return ExplainedUnit(layer=unit.layer, unit=unit.unit, clips=tuple(clips), files=files)


def _begins(clip: StrongClip) -> str:
    return f"frame {clip.start_frame}" if clip.start_seconds is None else f"{clip.start_seconds:.2f} s"
