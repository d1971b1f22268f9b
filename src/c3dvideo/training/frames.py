"""Decode and resize the frames of a data set once, so that training does not wait for decoders.

    frames = load_frames(dataset, profile, cache="frames_cache")
    frames.clip(3, np.arange(16))                    # uint8 (16, 3, 128, 171) from a memory map
    frames.problems                                  # {"bad.mp4": "the file is damaged ..."}

A cache is a folder with two files per profile: `<profile>.u8`, all frames one after another, and `<profile>.jsonl`, one
line per video with the hash of its bytes. A cached video is not decoded again, even for another data set. A run that is
killed while it fills the cache loses only the videos that it was decoding. Without a cache, frames are counted first
and decoded at each use.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.errors import DatasetError, DecodeError, StoreError
from c3dvideo.features.decoding import End, Failed
from c3dvideo.files import atomic_file, os_reason
from c3dvideo.reading import ForeignFile, read_json_lines
from c3dvideo.training.frame_decoding import Excerpt, FrameSettings, decode_excerpts, excerpt_frames, stored_size
from c3dvideo.training.sampling import Ints, Pixels
from c3dvideo.video.content import content_sha256
from c3dvideo.video.preprocess import Profile

INDEX_BYTES = 1 << 30
"""Largest index of a cache, in bytes: about seven million videos."""


class Frames:
    """The resized frames of every example of a data set, uint8, in the profile's channel order.

    n_frames: int64 (n_examples,), 0 for an example that cannot be read. problems: path -> why it cannot be read.
    """

    def __init__(
        self,
        dataset: Dataset,
        profile: Profile,
        entries: Sequence[dict[str, Any] | None],
        problems: dict[str, str],
        memory: Path | None,
    ) -> None:
        self.dataset, self.profile, self.entries, self.problems = dataset, profile, entries, problems
        self.n_frames: Ints = np.array([entry["n_frames"] if entry else 0 for entry in entries], dtype=np.int64)
        self._memory = memory
        self._map: Pixels | None = None

    def clip(self, example: int, indices: Ints) -> Pixels:
        """The frames at `indices` (not decreasing) of one example: uint8 (T, 3, H, W)."""
        entry = self.entries[example]
        if entry is None:
            raise DatasetError(f"{self.dataset.examples[example].path} could not be read and has no frames")
        if self._memory is None:
            return self._decode(example, indices)
        if self._map is None:
            self._map = np.memmap(self._memory, np.uint8, "r").reshape(-1, 3, *stored_size(self.profile))
        frames: Pixels = self._map[entry["offset"] + indices]
        return frames

    def _decode(self, example: int, indices: Ints) -> Pixels:
        wanted, found = set(indices.tolist()), {}
        last = int(indices.max())
        excerpt = _excerpt(self.dataset, self.dataset.examples[example])
        for index, pixels in enumerate(excerpt_frames(excerpt, self.profile)):
            if index in wanted:
                found[index] = pixels
            if index == last:
                break
        return np.stack([found[index] for index in indices.tolist()])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


def load_frames(
    dataset: Dataset,
    profile: Profile,
    *,
    cache: str | Path | None = None,
    workers: int = 0,
    description: str = "frames",
) -> Frames:
    """The frames of every example; those that cannot be read are in `problems`.

    cache: folder for decoded frames; None stores none. workers: processes that decode; 0 decodes in this process. A
        video that crashes its process, or makes no progress, costs that video and no other.
    Raises DatasetError if no video can be read, StoreError if the cache cannot be written.
    """
    from c3dvideo.features.claims import FolderLocks

    if cache is None:
        measured = _measure(dataset, profile, workers=workers, description=description)
        frames = Frames(dataset, profile, measured[0], measured[1], None)
    else:
        folder = Path(cache)
        try:
            with FolderLocks(folder) as locks, locks.updating():
                frames = _fill(dataset, profile, folder, workers=workers, description=description)
        except OSError as error:
            raise StoreError(
                f"the decoded frames cannot be kept in {folder}: {os_reason(error)}. A frame takes "
                f"{3 * profile.resize_height * profile.resize_width:,} bytes; free space, choose another folder as "
                "`cache=`, or store none with `cache=none`"
            ) from error
    if not frames.n_frames.any():
        path, problem = next(iter(frames.problems.items()))
        raise DatasetError(f"none of the {len(dataset.examples)} videos can be read; {path}: {problem}")
    return frames


def _fill(dataset: Dataset, profile: Profile, folder: Path, *, workers: int, description: str) -> Frames:
    """Decode what the cache lacks. Frames are written before their index line, so that every line is valid."""
    resizing = {k: v for k, v in asdict(profile).items() if k in ("channel_order", "interpolation") or "resize" in k}
    name = hashlib.sha256(json.dumps(resizing, sort_keys=True).encode()).hexdigest()[:16]
    memory, index = folder / f"{name}.u8", folder / f"{name}.jsonl"
    frame_bytes = 3 * stored_size(profile)[0] * stored_size(profile)[1]
    n_stored = memory.stat().st_size // frame_bytes if memory.exists() else 0
    known = _read_index(index, n_stored)
    used = max((entry["offset"] + entry["n_frames"] for entry in known.values()), default=0)
    keys, problems = _keys(dataset)
    failures: dict[str, str] = {}
    todo = {key: example for key, example in zip(keys, dataset.examples, strict=True) if key and key not in known}
    with (
        _scratch(folder) as scratch,
        memory.open("r+b" if memory.exists() else "w+b") as pixels,
        index.open("a", encoding="utf-8") as lines,
    ):
        pixels.truncate(used * frame_bytes)
        pixels.seek(used * frame_bytes)
        excerpts = [_excerpt(dataset, example, key=key) for key, example in todo.items()]
        settings = FrameSettings(profile=profile)
        for excerpt, content in decode_excerpts(
            excerpts, settings, n_decoders=workers, description=f"decoding {description}"
        ):
            # Blocks of several videos arrive in turn, and the frames of one video must lie together.
            decoded = scratch / hashlib.sha256(excerpt.name.encode()).hexdigest()
            if isinstance(content, np.ndarray):
                with decoded.open("ab") as file:
                    file.write(content.data)
                continue
            if isinstance(content, Failed):
                failures[excerpt.name] = content.message
            else:
                _append(decoded, pixels, content.n_frames * frame_bytes)
                known[excerpt.name] = {"key": excerpt.name, "offset": used, "n_frames": content.n_frames}
                lines.write(json.dumps(known[excerpt.name]) + "\n")
                lines.flush()
                used += content.n_frames
            decoded.unlink(missing_ok=True)
    problems |= {e.path: failures[key] for e, key in zip(dataset.examples, keys, strict=True) if key in failures}
    return Frames(dataset, profile, [known.get(key) if key else None for key in keys], problems, memory)


def _append(decoded: Path, pixels: BinaryIO, n_bytes: int) -> None:
    """Move the first `n_bytes` of a decoded video to the end of the cache; the rest of its last block is unused."""
    with decoded.open("r+b") as file:
        file.truncate(n_bytes)
        shutil.copyfileobj(file, pixels, 1 << 22)
    pixels.flush()


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for videos that are being decoded. Files that a killed run left in it are deleted."""
    scratch = folder / ".decoding"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _keys(dataset: Dataset) -> tuple[list[str], dict[str, str]]:
    """The cache key of every example ("" if its file cannot be read), and the reasons by path."""
    hashes: dict[Path, str] = {}
    problems: dict[str, str] = {}
    for example in dataset.examples:
        source = dataset.source(example)
        if source not in hashes:
            try:
                hashes[source] = content_sha256(str(source)) or ""
            except DecodeError as error:
                hashes[source] = ""
                problems[example.path] = str(error)
    keys = []
    for example in dataset.examples:
        excerpt = _excerpt(dataset, example)
        content = hashes[dataset.source(example)]
        keys.append(content and f"{content}:{excerpt.start_seconds}-{excerpt.end_seconds}")
    return keys, problems


def _read_index(index: Path, n_stored: int) -> dict[str, dict[str, Any]]:
    """The entries of an index of `n_stored` frames. Damaged ones are left out and deleted, so they are decoded again.

    A killed run leaves an incomplete last line. Other damage is a line that is not JSON, frames beyond the end of the
    cache, or frames that belong to two videos.
    """
    if not index.exists():
        return {}
    file = ForeignFile(index, error=StoreError, expected="the index of a frame cache", advice="delete the cache")
    entries, damaged = read_json_lines(file, max_bytes=INDEX_BYTES)
    whole = [entry for entry in entries if _is_entry(entry, n_stored)]
    by_place = sorted(whole, key=lambda entry: (entry["offset"], entry["n_frames"]))
    clashing = {
        id(entry)
        for one, other in pairwise(by_place)
        if one["key"] != other["key"] and one["offset"] + one["n_frames"] > other["offset"]
        for entry in (one, other)
    }
    known = {entry["key"]: entry for entry in whole if id(entry) not in clashing}
    if damaged or len(known) < len(entries):
        with atomic_file(index) as stream:
            stream.write("".join(json.dumps(entry) + "\n" for entry in known.values()).encode())
    return known


def _is_entry(entry: dict[str, Any], n_stored: int) -> bool:
    """Whether an entry has a key and a range of frames inside the cache."""
    offset, n_frames = entry.get("offset"), entry.get("n_frames")
    if type(offset) is not int or type(n_frames) is not int or not isinstance(entry.get("key"), str):
        return False
    return offset >= 0 and n_frames > 0 and offset + n_frames <= n_stored


def _measure(
    dataset: Dataset, profile: Profile, *, workers: int, description: str
) -> tuple[list[dict[str, Any] | None], dict[str, str]]:
    excerpts = [_excerpt(dataset, example) for example in dataset.examples]
    ended: dict[Excerpt, End | Failed] = {}
    for excerpt, content in decode_excerpts(
        list(dict.fromkeys(excerpts)),
        FrameSettings(profile=profile, count_only=True),
        n_decoders=workers,
        description=f"counting {description}",
    ):
        assert not isinstance(content, np.ndarray)
        ended[excerpt] = content
    entries: list[dict[str, Any] | None] = []
    problems = {}
    for example, excerpt in zip(dataset.examples, excerpts, strict=True):
        end = ended[excerpt]
        entries.append({"n_frames": end.n_frames} if isinstance(end, End) else None)
        if isinstance(end, Failed):
            problems[example.path] = end.message
    return entries, problems


def _excerpt(dataset: Dataset, example: Example, *, key: str = "") -> Excerpt:
    path = str(dataset.source(example))
    return Excerpt(
        path=path,
        name=key or path,
        start_seconds=-np.inf if example.start_seconds is None else example.start_seconds,
        end_seconds=np.inf if example.end_seconds is None else example.end_seconds,
    )
