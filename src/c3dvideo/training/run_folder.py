"""The folder of one training run: its lock, its settings, and the check that a resumed run is the same run.

    with run_folder(out, settings, dataset, resume=False):
        ...                                       # a second run in `out` raises UsageError meanwhile

`recipe.json`, named so by the first versions, holds the settings and a hash of the data set.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from c3dvideo.datasets.examples import Dataset
from c3dvideo.errors import StoreError, TrainingError, UsageError
from c3dvideo.files import atomic_file, sweep_leftovers, writing
from c3dvideo.reading import ForeignFile, parsing, read_json
from c3dvideo.training.settings import TrainSettings
from c3dvideo.weights.formats.pickles import write_torch

LAST, SETTINGS_FILE, LOCK = "last.ckpt", "recipe.json", ".lock"


@contextmanager
def run_folder(out: Path, settings: TrainSettings, dataset: Dataset, *, resume: bool, world: int = 1) -> Iterator[None]:
    """Hold the run's folder; it is created, or checked to hold this very run when it is resumed.

    world: number of processes that train; see `shared_evenly`.

    Raises UsageError when another process trains in the folder, when it holds a run already, or when `resume` finds
    no run, other settings or other data; StoreError when the folder cannot be written.
    """
    if resume:
        stored_settings(out)
    with held(out):
        _open(out, settings, dataset, resume=resume, world=world)
        yield


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Make the folder `out` and keep every other process from training in it; raises UsageError when one does."""
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK)
    # NotImplementedError: a file system without locks; two runs there are not noticed.
    with suppress(NotImplementedError), writing(out / LOCK):
        try:
            lock.acquire(timeout=0)
        except Timeout as taken:  # which is an OSError
            text = f"another process is training in {out}; wait for it, or choose another `out=`"
            raise UsageError(text) from taken
    try:
        # What a killed run left. Not in the frame cache, which other runs may share.
        for folder in (out, out / "checkpoints", out / "weights"):
            sweep_leftovers(folder, subfolders=False)
        yield
    finally:
        lock.release()


def check_not_deleted(out: Path) -> None:
    """Raise TrainingError when the folder of a run has lost its settings since the run started.

    Without this check, such a run would leave checkpoints that no later run could resume.
    """
    if not (out / SETTINGS_FILE).exists():
        raise TrainingError(f"{out / SETTINGS_FILE} was deleted or moved during the run; start the run again")


def save_state(state: Any, path: Path) -> None:
    """Write a checkpoint so that a stop leaves the old one or the new one; raises StoreError when it cannot be."""
    write_torch(state, path, error=StoreError)


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; raises TrainingError when the file is damaged or holds something else."""
    with parsing(_checkpoint(path)):
        return dict(torch.load(path, map_location="cpu", weights_only=True))


def check_state(path: Path) -> None:
    """Raise TrainingError when a checkpoint is damaged; its arrays are read for their checksums and not kept."""
    file = _checkpoint(path)
    with parsing(file):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise file.wrong(f"its part {damaged} is damaged")
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _checkpoint(path: Path) -> ForeignFile:
    advice = "delete it and start that part of the training again"
    return ForeignFile(path, TrainingError, "a checkpoint that can be continued", advice)


def stored_settings(out: Path) -> dict[str, Any]:
    """The settings of the run in `out`; raises UsageError when it holds no run that could be resumed."""
    return dict(_stored(out)["recipe"])


def differences(stored: Mapping[str, Any], settings: TrainSettings) -> list[str]:
    """What differs between settings read from JSON and `settings`, as `name: stored -> new`.

    A setting that the stored ones lack is newer than that run, which therefore had today's default.
    """
    now = json.loads(json.dumps(asdict(settings)))
    then = {**json.loads(json.dumps(asdict(TrainSettings()))), **stored}
    names = sorted(set(then) | set(now))
    return [f"{n}: {then.get(n)} -> {now.get(n)}" for n in names if then.get(n) != now.get(n)]


def shared_evenly(settings: TrainSettings, out: Path, *, world: int) -> TrainSettings:
    """The settings of a run that `world` processes resume: a batch keeps its clips, however many processes share it.

    With as many processes as before, the settings are returned as they are. Raises UsageError when the clips of a batch
    cannot be shared evenly.
    """
    stored, before = stored_settings(out), int(_stored(out).get("processes", 1))
    n_clips = stored["batch_size"] * before
    if settings.batch_size != stored["batch_size"] or world == before:
        return settings
    if n_clips % world:
        raise UsageError(
            f"{out} was started with batches of {n_clips} clips ({stored['batch_size']} on each of {before} devices), "
            f"which {world} devices cannot share evenly; resume it with a number of `devices=` that divides {n_clips}"
        )
    return replace(settings, batch_size=n_clips // world)


def _open(out: Path, settings: TrainSettings, dataset: Dataset, *, resume: bool, world: int) -> None:
    data = hashlib.sha256(json.dumps([asdict(example) for example in dataset.examples]).encode()).hexdigest()
    if resume:
        stored, before = stored_settings(out), int(_stored(out).get("processes", 1))
        if stored.get("batch_size", 0) * before == settings.batch_size * world:
            stored["batch_size"] = settings.batch_size  # the same batches, shared by another number of processes
        changed = differences(stored, settings)
        if changed:
            raise UsageError(f"{out} was started with other settings ({'; '.join(changed)}); resume with the same ones")
        if _stored(out).get("data") != data:
            raise UsageError(f"{out} was started with other data or another split; resume with the same data")
        return
    if (out / "checkpoints" / LAST).exists():
        raise UsageError(f"{out} already holds a run; continue it with `resume=True`, or choose another `out=`")
    with atomic_file(out / SETTINGS_FILE) as file:
        file.write(
            json.dumps({"recipe": asdict(settings), "data": data, "processes": world}, indent=2).encode() + b"\n"
        )


def _stored(out: Path) -> dict[str, Any]:
    file = out / SETTINGS_FILE
    if not (out / "checkpoints" / LAST).exists():
        raise UsageError(f"{out} holds no run to resume: there is no checkpoints/{LAST}; leave out `resume=True`")
    if not file.exists():
        raise UsageError(f"{out} cannot be resumed: there is no {SETTINGS_FILE}; train again in another folder")
    foreign = ForeignFile(
        file, error=UsageError, expected="the settings of a run", advice="train again in another folder"
    )
    stored = read_json(foreign)
    if not isinstance(stored.get("recipe"), dict):
        raise foreign.wrong("it holds no settings")
    return stored
