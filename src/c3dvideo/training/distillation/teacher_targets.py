"""What the student has to predict for each clip: the teacher's vector and map of the middle frame.

    targets = teacher_of_views(teacher)                          # the teacher runs on every view
    targets = teacher_once(teacher, media, device=device)        # once per picture, kept in the cache folder
    targets = given_vectors(read_vectors("v.npz"), media)        # computed beforehand
    vectors, maps = targets(batch)

With "once", the map of a whole picture is sampled through the camera of each view, so that a view costs no run of the
teacher. Two things are lost: the detail of a closer view, and the light of the view. A kept map has at most 256
channels, a fixed random projection that leaves cosines as they are to about 0.06.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from c3dvideo.errors import C3DVideoError, StoreError, UsageError
from c3dvideo.files import atomic_file, cache_folder
from c3dvideo.parallel import in_parallel
from c3dvideo.progress import track
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_arrays import read_npy
from c3dvideo.training.distillation.distillation_media import Media, in_order, picture_square
from c3dvideo.training.distillation.student_batches import StudentBatch
from c3dvideo.training.distillation.teacher import Teacher, pooled

KEPT_WIDTH = 256
_SAMPLED_SIDE = 16
"""Places along each side at which a kept map is sampled for a view."""
_TEACHER_BATCH = 16


@dataclass(frozen=True)
class Targets:
    """Targets of batches: float vectors (N, width) and maps (N, width, 4, 4); `has_map` is False for vectors only."""

    width: int
    has_map: bool
    of: Callable[[StudentBatch], tuple[Tensor, Tensor]]

    def __call__(self, batch: StudentBatch) -> tuple[Tensor, Tensor]:
        return self.of(batch)


def teacher_of_views(teacher: Teacher) -> Targets:
    """Targets from a run of the teacher on the middle frame of every clip."""

    def of(batch: StudentBatch) -> tuple[Tensor, Tensor]:
        return teacher(torch.cat([views.moving.teacher_views(teacher.size) for views in batch.views]))

    return Targets(teacher.width, teacher.has_map, of)


def teacher_once(teacher: Teacher, media: Media, *, device: torch.device, workers: int = 1) -> Targets:
    """Targets sampled from the teacher's maps of whole pictures, which are computed now or come from the cache."""
    cache = cache_folder() / "distillation" / teacher.identity
    middles = (media.middles(torch.tensor([number]))[0].numpy() for number in range(len(media.clip_keys)))
    jobs = [
        (path, teacher.size, _kept(cache, key))
        for path, key in zip(media.picture_paths, media.picture_keys, strict=True)
    ]
    pictures = in_order(in_parallel(_unseen, jobs, workers=workers, description="running the teacher", unit="pictures"))
    frames = track(middles, "running the teacher", total=len(media.clip_keys), unit="clips")
    maps = {
        "pictures": _maps(teacher, media.picture_keys, (_or_raise(found) for _, found in pictures), cache, device),
        "clips": _maps(teacher, media.clip_keys, frames, cache, device),
    }
    width = next(len(each[0]) for each in maps.values() if each is not None)
    return Targets(width, teacher.has_map, _sampling(maps, device))


def given_vectors(vectors: dict[str, Tensor], media: Media, *, device: torch.device) -> Targets:
    """Targets from vectors by name; a clip has the vector of its video, and no map.

    Raises UsageError that names pictures and videos without a vector, and two different pictures of one name.
    """
    for names, keys in ((media.picture_names, media.picture_keys), (media.clip_names, media.clip_keys)):
        contents: dict[str, str] = {}
        for name, key in zip(names, keys, strict=True):
            if contents.setdefault(name, key.partition("-")[0]) != key.partition("-")[0]:
                raise UsageError(f"two different files are named {name!r}; name the folder above both")
    found: dict[str, Tensor | None] = {}
    missing: list[str] = []
    for kind, names in (("pictures", media.picture_names), ("clips", media.clip_names)):
        keys_of = [
            next((key for key in (name, Path(name).with_suffix("").as_posix()) if key in vectors), None)
            for name in names
        ]
        missing += [name for name, key in zip(names, keys_of, strict=True) if key is None]
        rows = [vectors[key] for key in keys_of if key is not None]
        found[kind] = torch.stack(rows)[:, :, None, None] if rows else None
    if missing:
        names_text = ", ".join(dict.fromkeys(missing[:5]))
        raise UsageError(
            f"`teacher=` has no vector for {len(set(missing))} pictures or videos, such as {names_text}; expected one "
            "array per path below the folder, with or without its suffix"
        )
    width = next(each.shape[1] for each in found.values() if each is not None)
    return Targets(width, False, _sampling(found, device))


def _sampling(maps: dict[str, Tensor | None], device: torch.device) -> Callable[[StudentBatch], tuple[Tensor, Tensor]]:
    """Targets sampled from the maps through the camera of each view."""

    def of(batch: StudentBatch) -> tuple[Tensor, Tensor]:
        seen = []
        for views in batch.views:
            of_kind = maps[views.kind]
            assert of_kind is not None
            seen.append(views.moving.sampled(of_kind[views.index].to(device), _SAMPLED_SIDE))
        return pooled(torch.cat(seen))

    return of


def _maps(
    teacher: Teacher,
    keys: Sequence[str],
    pictures: Iterator[np.ndarray | None],
    cache: Path,
    device: torch.device,
) -> Tensor | None:
    """The kept maps, float16 (n, at most 256, h, w); None for no keys. `pictures` yields None for what is in the cache.

    A map is written before the next ones are computed, so a stopped run loses at most one batch.
    """
    projection = _projection(teacher.width).to(device)
    waiting: list[tuple[str, Tensor]] = []

    def encode_waiting() -> None:
        if not waiting:
            return
        seen = teacher.map_of(torch.stack([picture for _, picture in waiting]).to(device).float())
        rows = torch.einsum("kw,nwij->nkij", projection, seen).half().cpu().numpy()
        for (key, _), row in zip(waiting, rows, strict=True):
            with atomic_file(_kept(cache, key), sync=False) as file:
                np.save(file, row)
        waiting.clear()

    done: set[str] = set()
    for key, picture in zip(keys, pictures, strict=True):
        if picture is not None and key not in done and _stored(_kept(cache, key)) is None:
            waiting.append((key, torch.tensor(picture)))
            done.add(key)
        if len(waiting) == _TEACHER_BATCH:
            encode_waiting()
    encode_waiting()
    if not keys:
        return None
    rows = []
    for key in keys:
        row = _stored(_kept(cache, key))
        if row is None:
            raise StoreError(f"{_kept(cache, key)} was deleted or damaged during the run; run the same command again")
        rows.append(torch.tensor(row))
    return torch.stack(rows)


def _projection(width: int) -> Tensor:
    """(KEPT_WIDTH, width) with orthonormal rows times a factor that keeps lengths; the identity for a small width."""
    if width <= KEPT_WIDTH:
        return torch.eye(width)
    generator = torch.Generator().manual_seed(width)
    basis = torch.linalg.qr(torch.randn(width, KEPT_WIDTH, generator=generator))[0]
    scaled: Tensor = basis.T * (width / KEPT_WIDTH) ** 0.5
    return scaled


def _kept(cache: Path, key: str) -> Path:
    """Where the map of one picture is kept; 256 folders, because one folder of all files is slow."""
    return cache / hashlib.sha256(key.encode()).hexdigest()[:2] / f"{key}.npy"


def _stored(path: Path) -> np.ndarray | None:
    """A map in the cache, or None where there is none or it is damaged."""
    if not path.is_file():
        return None
    try:
        return read_npy(ForeignFile(path, StoreError, "a map of a teacher"), kinds="f", shape=(None, None, None))
    except StoreError:
        return None


def _unseen(job: tuple[str, int, Path]) -> np.ndarray | None:
    """The picture as the teacher sees it, or None where its map is in the cache."""
    path, size, kept = job
    return picture_square(path, size) if _stored(kept) is None else None


def _or_raise(found: np.ndarray | C3DVideoError | None) -> np.ndarray | None:
    if isinstance(found, C3DVideoError):
        raise found
    return found
