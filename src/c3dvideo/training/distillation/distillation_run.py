"""Distil an image network into C3D on pictures, videos and generated clips, as one resumable run.

    inputs = find_inputs(images=["pictures/"], videos=["my_videos/"])
    result = distil("run", inputs=inputs, teacher=TeacherChoice("efficientnet-lite2"))
    result.weights                           # run/weights, which enters every command that takes weights

1. Pictures become moving clips (`moving_stills`), videos are cut into clips (`distillation_media`), and generated clips
   come with their motion (`pretraining.batches`).
2. fc6 learns to predict the teacher's vector of the middle frame and its neighbours in the batch, the upper
   convolutions the teacher's map, pool5 and fc6 the motion (`student_heads`).
3. The normalisations settle on clips of 112 x 112 pixels and are folded; fc7 and fc8 are fitted in closed form.

Every step is a function of the seed and its number, so a continued run ends with the weights of an uninterrupted one.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from c3dvideo import __version__
from c3dvideo.errors import StoreError, UsageError
from c3dvideo.files import atomic_text, writing
from c3dvideo.inference.devices import find_device
from c3dvideo.machine import n_cores
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import save_folder
from c3dvideo.progress import progress
from c3dvideo.reading import ForeignFile, read_json
from c3dvideo.training.arithmetic import choose_precision, keep_freed_memory
from c3dvideo.training.distillation.distillation_card import card
from c3dvideo.training.distillation.distillation_inputs import DistilInputs, TeacherChoice
from c3dvideo.training.distillation.distillation_media import Media, load_media
from c3dvideo.training.distillation.distillation_settings import DistilSettings
from c3dvideo.training.distillation.student_batches import StudentBatches
from c3dvideo.training.distillation.student_heads import StudentHeads
from c3dvideo.training.distillation.student_start import start_student
from c3dvideo.training.distillation.student_steps import SETTLING_STEPS, GeneratedPart, StudentSteps
from c3dvideo.training.distillation.teacher import Teacher, load_teacher, read_vectors
from c3dvideo.training.distillation.teacher_targets import Targets, given_vectors, teacher_of_views, teacher_once
from c3dvideo.training.folding import folded
from c3dvideo.training.pretraining.batches import Batch, batches
from c3dvideo.training.pretraining.objectives import Heads
from c3dvideo.training.pretraining.pretraining_input import network_input
from c3dvideo.training.pretraining.pretraining_run import fit_head
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings
from c3dvideo.training.run_folder import SETTINGS_FILE, held, save_state

_CHECKPOINT_EVERY = 100
_SETTLING_BATCH = 16
_VIEWS_SIDE, _SMALLEST_SIDE = 260, 128
"""Pixels at which pictures are kept: for a teacher that sees every view, and at least for a student alone."""


@dataclass(frozen=True, kw_only=True)
class DistilResult:
    """What a run left: the weights folder, the network, and why files could not be read, by path."""

    weights: Path
    network: C3D
    unreadable: dict[str, str]


def distil(
    out: str | Path,
    *,
    inputs: DistilInputs,
    teacher: TeacherChoice,
    init: str | None = "embedded",
    settings: DistilSettings | None = None,
    resume: bool = False,
    device: str = "auto",
    workers: int | None = None,
) -> DistilResult:
    """The student, also saved as the weights folder out/weights in half precision with a card.

    init: weights to start from, or None for random ones of the embedded network's width. resume: continue the run in
        `out` after its last checkpoint; without a run there, start one. workers: threads that decode, and processes
        that generate clips; None is one per core.
    Raises UsageError for a device that is not there, when `out` holds a run and resume is False, and when settings,
    teacher or data are not those of the run that is continued.
    """
    out, settings = Path(out), settings or DistilSettings()
    teacher.check()
    where = find_device(device)
    if (out / SETTINGS_FILE).is_file() and not resume:
        raise UsageError(f"{out} holds a run; continue it with `resume=True`, or choose another `out=`")
    keep_freed_memory()
    with held(out):
        n_workers = n_cores() if workers is None else workers
        return _distil(out, inputs, teacher, init, _choose(settings, where), where, n_workers)


def _distil(
    out: Path,
    inputs: DistilInputs,
    teacher: TeacherChoice,
    init: str | None,
    settings: DistilSettings,
    where: torch.device,
    workers: int,
) -> DistilResult:
    side = _VIEWS_SIDE if settings.targets == "views" else max(_SMALLEST_SIDE, settings.size * 3 // 2)
    media = load_media(
        inputs, out / "clips", side=side, clips_per_video=settings.clips_per_video, workers=max(1, workers)
    )
    loaded = None if teacher.kind == "vectors" else load_teacher(teacher, device=where)
    facts = {
        "init": init or "random weights",
        "teacher": loaded.source if loaded else f"vectors computed beforehand: {Path(teacher.name).name}",
        "sources": list(inputs.origins),
        "pictures": len(media.pictures),
        "clips_of_videos": len(media.clip_keys),
        "content": media.digest(),
    }
    _claim(out, settings, facts)
    targets = _targets(teacher, loaded, media, settings, where, workers)
    steps = _start(media, targets, settings, init=init, device=where)
    _take_steps(steps, out, settings, workers)
    network = _finish(steps, settings)
    fit_head(network, _generated_settings(settings), where, keep_fc6=True)
    network.provenance = {
        "source": "c3dvideo distil: an image network distilled on pictures, videos and generated clips",
        "recipe": json.loads(json.dumps(asdict(settings))),
        "clips_seen": settings.n_steps * (settings.n_distilled + 2 * settings.n_generated),
        "version": __version__,
        **facts,
    }
    save_folder(network, out / "weights", precision="fp16")
    with atomic_text(out / "weights" / "README.md") as text:
        text.write(card(network.provenance))
    return DistilResult(weights=out / "weights", network=network.eval(), unreadable=media.unreadable)


def _choose(settings: DistilSettings, device: torch.device) -> DistilSettings:
    """The settings with "auto" replaced by what fits the device."""
    chosen: Any = choose_precision(settings.precision, accelerator=device.type)
    targets: Any = settings.targets
    if targets == "auto":
        targets = "views" if device.type == "cuda" else "cached"
    return replace(settings, precision=chosen, targets=targets)


def _claim(out: Path, settings: DistilSettings, facts: dict[str, Any]) -> None:
    """Make `out` the folder of this run, or check that it is."""
    path = out / SETTINGS_FILE
    document = json.loads(json.dumps({"settings": asdict(settings), **facts}))
    if path.is_file():
        stored = read_json(ForeignFile(path, UsageError, "the settings of a run", "choose another `out=`"))
        other = [name for name, value in document.items() if stored.get(name) != value]
        if "settings" in other:
            there = stored.get("settings", {})
            other += [name for name, value in document["settings"].items() if there.get(name) != value]
            other.remove("settings")
        if other:
            raise UsageError(
                f"{out} holds a run with other {', '.join(other)}; choose another `out=`, or delete that folder"
            )
    with atomic_text(path) as text:
        text.write(json.dumps(document, indent=1, ensure_ascii=False))


def _targets(
    choice: TeacherChoice,
    teacher: Teacher | None,
    media: Media,
    settings: DistilSettings,
    device: torch.device,
    workers: int,
) -> Targets:
    if teacher is None:
        return given_vectors(read_vectors(choice.name), media, device=device)
    if settings.targets == "views":
        return teacher_of_views(teacher)
    return teacher_once(teacher, media, device=device, workers=max(1, workers))


def _generated_settings(settings: DistilSettings) -> PretrainSettings:
    """The settings of the generated clips, as pre-training takes them."""
    precision = settings.precision
    return PretrainSettings(
        seed=settings.seed,
        batch_size=max(2, settings.n_generated),
        crop=min(64, settings.size // 32 * 32),
        fc_clips=settings.fc_clips,
        everyday_clips=settings.everyday_clips,
        precision=precision,
    )


def _start(
    media: Media, targets: Targets, settings: DistilSettings, *, init: str | None, device: torch.device
) -> StudentSteps:
    """Student and heads before the first step; what is random in them comes from the seed."""
    torch.manual_seed(settings.seed)
    draws = StudentBatches(media, settings, device=device)
    student = start_student(init, draws)
    heads = StudentHeads(student, teacher_width=targets.width).to(device).train()
    student.to(device).to(memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    generated = None
    if settings.n_generated:
        part = _generated_settings(settings)
        generated = GeneratedPart(heads=Heads(student, crop=part.crop).to(device).train(), settings=part)
    return StudentSteps(student, heads, targets, draws, settings, generated)


def _take_steps(steps: StudentSteps, out: Path, settings: DistilSettings, workers: int) -> None:
    """All steps, from the checkpoint if there is one; out/log.jsonl gets a line with every checkpoint."""
    path, first = out / "checkpoint.pt", 0
    if path.is_file():
        try:
            state = torch.load(path, map_location=steps.device, weights_only=True)
            first = int(state.pop("step"))
            steps.load(state)
        except (RuntimeError, KeyError, ValueError, EOFError) as error:
            raise StoreError(f"{path} is damaged; delete it to start the run anew: {error}") from error
    else:
        steps.measure_mean()
    drawn: Iterator[Batch | None] = repeat(None)
    if steps.generated is not None and first < settings.n_steps:
        drawn = batches(steps.generated.settings, "clips", first=first, n_workers=workers)
    with progress("distilling", total=settings.n_steps, unit="steps") as bar:
        bar.skip(first)
        for step in range(first, settings.n_steps):
            row = steps.step(step, next(drawn))
            bar.advance()
            if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == settings.n_steps:
                numbers = _plain(row)
                bar.note(f"loss {numbers['loss']:.2f}, cosine {numbers['cosine']:.2f}")
                save_state({"step": step + 1} | steps.state(), path)
                with writing(out / "log.jsonl"), (out / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"step": step + 1, **numbers}) + "\n")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, dict) else round(float(value), 5) for name, value in row.items()}


@torch.no_grad()
def _finish(steps: StudentSteps, settings: DistilSettings) -> C3D:
    """The averaged network, its normalisations measured and folded, with the mean of its descriptors, on the CPU."""
    average = steps.average.module
    assert isinstance(average, C3D)
    for module in average.modules():
        if isinstance(module, nn.BatchNorm3d | nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None
    average.train()
    for clips in _settling_clips(steps, settings):
        x = average.activations(network_input(clips), ["pool5"])["pool5"]
        average.fc6(x.flatten(1))
    network = folded(average)
    unit = [
        nn.functional.normalize(network.activations(network_input(clips.cpu()), ["fc6"])["fc6"], dim=1)
        for clips in _settling_clips(steps, settings)
    ]
    network.descriptor_mean = torch.cat(unit).mean(0).numpy()
    return network


def _settling_clips(steps: StudentSteps, settings: DistilSettings) -> Iterator[Tensor]:
    size = steps.student.architecture["crop_size"]
    n_batches = -(-settings.settling_clips // _SETTLING_BATCH)
    with progress("settling", total=n_batches, unit="batches") as bar:
        for number in range(n_batches):
            yield steps.batches.batch(SETTLING_STEPS + number, n=_SETTLING_BATCH, size=size).clips
            bar.advance()
