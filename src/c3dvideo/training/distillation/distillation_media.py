"""The pixels of a distillation run: pictures in memory, clips of videos in files that are mapped into memory.

    media = load_media(inputs, Path("run/clips"), side=160, clips_per_video=8, workers=2)
    media.pictures                           # uint8 (n, 3, 160, 160), RGB, squeezed to squares
    media.clips(torch.tensor([0, 5]))        # uint8 (2, 3, 16, 128, 171)
    media.unreadable                         # {"bad.jpg": "... cannot be read as a picture ..."}

A video is decoded once: its clips lie in the run's folder under the hash of its bytes, so that a run that is continued
starts at once. Pictures are decoded at every start, which takes milliseconds each.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from c3dvideo.errors import C3DVideoError, DatasetError, DecodeError
from c3dvideo.files import atomic_file, file_sha256, os_reason
from c3dvideo.parallel import in_parallel
from c3dvideo.training.distillation.distillation_inputs import DistilInputs
from c3dvideo.training.pretraining.pretraining_input import PROFILE
from c3dvideo.video.clips import ClipPlan, stream_clips
from c3dvideo.video.content import content_sha256
from c3dvideo.video.decode import Frame, open_video
from c3dvideo.video.frame_folder import read_picture
from c3dvideo.video.preprocess import resize_frame
from c3dvideo.video.resize import Pixels, resample
from c3dvideo.video.sources import Source

FRAMES = 16
MIDDLE = FRAMES // 2
_MIDDLE_SIZE = (192, 256)
"""Middle frames are kept larger than clips, because the teacher sees more detail than the student."""
_PARTS = ("starts", "middles", "clips")
Job = TypeVar("Job")
Result = TypeVar("Result")
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Media:
    """Everything a run learns from, except generated clips.

    pictures: uint8 (n, 3, side, side), RGB. picture_paths, picture_names: of each, where it was found.
    picture_keys: of each, the sha256 of its file. clip_keys: of each clip, the sha256 of its video and its first frame.
    clip_names: of each clip, the name of its video. unreadable: why, by path.
    """

    pictures: Tensor
    picture_names: tuple[str, ...]
    picture_paths: tuple[str, ...]
    picture_keys: tuple[str, ...]
    clip_names: tuple[str, ...]
    clip_keys: tuple[str, ...]
    unreadable: dict[str, str]
    _files: tuple[tuple[Path, int], ...]

    def clips(self, index: Tensor) -> Tensor:
        """The clips of these numbers, uint8 (n, 3, 16, 128, 171), RGB."""
        return self._rows("clips", index).transpose(1, 2)

    def middles(self, index: Tensor) -> Tensor:
        """The middle frames of these clips, uint8 (n, 3, 192, 256), RGB."""
        return self._rows("middles", index)

    def _rows(self, part: str, index: Tensor) -> Tensor:
        places = [self._files[number] for number in index.tolist()]
        rows = [np.load(_part(stem, part), mmap_mode="r")[row] for stem, row in places]
        return torch.from_numpy(np.stack(rows))

    def digest(self) -> str:
        """One sha256 of the contents, whatever the names of the files."""
        return hashlib.sha256("\n".join((*self.picture_keys, "", *self.clip_keys)).encode()).hexdigest()


def load_media(inputs: DistilInputs, folder: Path, *, side: int, clips_per_video: int, workers: int = 1) -> Media:
    """All pictures and the clips of all videos that can be read; the others are in `unreadable`.

    folder: where clips are kept. Raises DatasetError when fewer than two pictures and clips can be read.
    """
    unreadable: dict[str, str] = {}
    read: list[tuple[Source, str, Pixels]] = []
    jobs = [(source, side) for source in inputs.pictures]
    for number, found in in_order(in_parallel(_read, jobs, workers=workers, description="reading", unit="pictures")):
        if isinstance(found, C3DVideoError):
            unreadable[inputs.pictures[number].path] = str(found)
        else:
            read.append((inputs.pictures[number], *found))
    kept: list[tuple[Source, str, Path, Array]] = []
    videos = [(source, folder, clips_per_video) for source in inputs.videos]
    for number, cut in in_order(in_parallel(_cut, videos, workers=workers, description="reading", unit="videos")):
        if isinstance(cut, C3DVideoError):
            unreadable[inputs.videos[number].path] = str(cut)
        else:
            kept.append((inputs.videos[number], *cut))
    rows = [(source, key, stem, row, start) for source, key, stem, starts in kept for row, start in enumerate(starts)]
    if len(read) + len(rows) < 2:
        path, problem = next(iter(unreadable.items()), ("", "only one picture was named"))
        raise DatasetError(
            f"{len(read)} pictures and {len(rows)} clips of videos can be read; expected two or more. {path}: {problem}"
        )
    pixels = [picture for _, _, picture in read]
    return Media(
        pictures=torch.from_numpy(np.stack(pixels)) if pixels else torch.zeros(0, 3, side, side, dtype=torch.uint8),
        picture_names=tuple(source.name for source, _, _ in read),
        picture_paths=tuple(source.path for source, _, _ in read),
        picture_keys=tuple(key for _, key, _ in read),
        clip_names=tuple(source.name for source, *_ in rows),
        clip_keys=tuple(f"{key}-{start}" for _, key, _, _, start in rows),
        unreadable=unreadable,
        _files=tuple((stem, row) for _, _, stem, row, _ in rows),
    )


def in_order(results: Iterator[tuple[int, Result]]) -> Iterator[tuple[int, Result]]:
    """Numbered results in the order of their numbers, so that nothing depends on which job finished first."""
    waiting: dict[int, Result] = {}
    following = 0
    for number, result in results:
        waiting[number] = result
        while following in waiting:
            yield following, waiting.pop(following)
            following += 1


def picture_square(path: str, side: int) -> Pixels:
    """A picture squeezed to side x side, uint8 (3, side, side), RGB; raises DecodeError, see `read_picture`."""
    try:
        pixels = read_picture(Path(path), "rgb")
    except DecodeError as error:
        raise DecodeError(f"{path!r}: {error}") from error
    return _resized(pixels, (side, side))


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return resample(pixels, "antialias_bilinear", size=size, rows=(0, size[0]), columns=(0, size[1]))


def _read(job: tuple[Source, int]) -> tuple[str, Pixels]:
    source, side = job
    try:
        key = file_sha256(source.path)
    except OSError as error:
        raise DecodeError(f"{source.path!r} cannot be read: {os_reason(error)}") from error
    return key, picture_square(source.path, side)


def _part(stem: Path, part: str) -> Path:
    return stem.with_name(f"{stem.name}.{part}.npy")


def _cut(job: tuple[Source, Path, int]) -> tuple[str, Path, Array]:
    """The hash of a video, the stem of the files of its clips, and the first frame of each."""
    source, folder, n_clips = job
    key = content_sha256(source.path)
    if key is None:
        raise DecodeError(f"{source.path!r} is an address; download the video first")
    stem = folder / f"{key[:32]}-{n_clips}"
    starts = _whole(stem)
    if starts is None:
        starts, middles, clips = _clips_of(source.path, n_clips)
        # `starts` comes last: where it exists, the others are complete.
        for part, array in (("clips", clips), ("middles", middles), ("starts", starts)):
            with atomic_file(_part(stem, part), sync=False) as file:
                np.save(file, array)
    return key, stem, starts


def _whole(stem: Path) -> Array | None:
    """The first frames of the clips that an earlier run kept; None unless all its files are whole."""
    try:
        starts, *others = (np.load(_part(stem, part), mmap_mode="r") for part in _PARTS)
    except (OSError, ValueError, EOFError):
        return None
    return np.array(starts) if all(len(other) == len(starts) for other in others) else None


def _clips_of(path: str, n_clips: int) -> tuple[Array, Array, Array]:
    """First frames (n,), middle frames and clips (n, 16, 3, 128, 171) of at most n_clips clips, evenly spaced.

    Memory is bounded whatever the length of the video: when twice as many clips as wanted are held, every second one
    is dropped, and from then on so is every second one that comes.
    """
    held: list[tuple[int, Pixels, Pixels]] = []
    every = 1
    with open_video(path, channel_order="rgb") as video:
        for number, (start, items) in enumerate(stream_clips(map(_small, video.frames()), ClipPlan())):
            if number % every:
                continue
            middle = items[MIDDLE][1]
            assert middle is not None
            held.append((start, middle, np.stack([small for small, _ in items])))
            if len(held) == 2 * n_clips:
                held, every = held[::2], 2 * every
    chosen = np.linspace(0, len(held) - 1, min(n_clips, len(held))).round().astype(int)
    starts, middles, clips = zip(*(held[number] for number in chosen), strict=True)
    return np.array(starts), np.stack(middles), np.stack(clips)


def _small(frame: Frame) -> tuple[Pixels, Pixels | None]:
    """A frame as clips keep it and, where it is the middle of a clip, as the teacher sees it."""
    pixels = frame.pixels
    # Clips start at every 16th frame, so their middles are known before the clip is whole.
    return resize_frame(pixels, PROFILE), _resized(pixels, _MIDDLE_SIZE) if frame.index % FRAMES == MIDDLE else None
