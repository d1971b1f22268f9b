"""What a distillation run learns from, as the user names it: pictures, videos and a teacher. Nothing is decoded here.

    found = find_inputs(images=["pictures/"], videos=["my_videos/"], source_note="my own recordings")
    teacher = TeacherChoice("encoder.onnx", size=224, mean=(123.7,), std=(58.4,))
    teacher.check()                          # raises before any work: a missing file, a missing extra

This module imports no torch, so that a wrong path is reported at once.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from c3dvideo.errors import UsageError
from c3dvideo.extras import require_extra
from c3dvideo.video.frame_folder import PICTURE_SUFFIXES, natural_key
from c3dvideo.video.sources import Source, find_sources

EFFICIENTNET = "efficientnet-lite2"
_LICENCE_FILES = re.compile(r"(licen[cs]e|copying|readme)(\..*)?", re.IGNORECASE)
_LICENCE_LINE = re.compile(r"licen[cs]e|public domain|copyright|creative commons|cc0|cc[ -]by", re.IGNORECASE)
_MOST_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class DistilInputs:
    """Pictures and videos to learn from, and where they come from.

    origins: one row per folder that was named: "folder", "kind", "files" and "licence", for the provenance.
    left_out: one line about files that are no videos, or None.
    """

    pictures: tuple[Source, ...]
    videos: tuple[Source, ...]
    origins: tuple[dict[str, object], ...]
    left_out: str | None = None


@dataclass(frozen=True)
class TeacherChoice:
    """A teacher as the user names it: "efficientnet-lite2", an ONNX image encoder or a .npz file of vectors.

    size: pixels of its square input; mean, std: one number or one per channel (RGB); its input is (pixel - mean) / std
        of pixels of 0 to 255. They are needed for an ONNX file and have no effect on the others.
    """

    name: str
    size: int = 224
    mean: Sequence[float] = field(default=(127.0,))
    std: Sequence[float] = field(default=(128.0,))

    @property
    def kind(self) -> Literal["efficientnet", "onnx", "vectors"]:
        """Which of the three it is; raises UsageError for none of them."""
        if self.name == EFFICIENTNET:
            return "efficientnet"
        suffix = Path(self.name).suffix.lower()
        if suffix == ".onnx":
            return "onnx"
        if suffix == ".npz":
            return "vectors"
        raise UsageError(
            f"`teacher=` is {self.name!r}; expected {EFFICIENTNET!r}, the path of an .onnx image encoder, or an .npz "
            "file with one vector per picture or video"
        )

    def check(self) -> None:
        """Raise UsageError for a file that does not exist or wrong numbers, MissingExtraError for a missing package."""
        if self.kind != "efficientnet" and not Path(self.name).is_file():
            raise UsageError(f"there is no file {self.name!r}; expected the path of a teacher as `teacher=`")
        if self.size < 8:
            raise UsageError(f"`teacher_size=` is {self.size}; expected the pixels of the teacher's input, 8 or more")
        for name, values in (("teacher_mean", self.mean), ("teacher_std", self.std)):
            if len(values) not in (1, 3):
                raise UsageError(f"`{name}=` has {len(values)} numbers; expected one, or three for red, green and blue")
        if min(self.std) <= 0:
            raise UsageError(f"`teacher_std=` is {min(self.std)}; expected more than 0")
        if self.kind == "efficientnet":
            require_extra("teacher")
        elif self.kind == "onnx":
            require_extra("onnx")


def find_inputs(
    *, images: Sequence[str | Path] = (), videos: Sequence[str | Path] = (), source_note: str | None = None
) -> DistilInputs:
    """The pictures below the folders `images` and the videos that `videos` name, with one row per folder.

    A row's licence is source_note, or else the line about it in a licence or README file at the top of the folder.
    Raises UsageError when nothing is named, when a folder does not exist, and when one holds no picture or no video.
    """
    if not images and not videos:
        raise UsageError("there is nothing to learn from; name folders with `images=`, `videos=`, or both")
    origins: list[dict[str, object]] = []
    pictures: list[Source] = []
    for given in images:
        found = _pictures_below(Path(given))
        pictures += found
        origins.append(_origin(Path(given), "pictures", len(found), source_note))
    sources = find_sources(videos)
    for given in videos:
        origins.append(_origin(Path(given), "videos", len(find_sources([given])), source_note))
    return DistilInputs(
        pictures=tuple(pictures), videos=tuple(sources), origins=tuple(origins), left_out=sources.note()
    )


def _pictures_below(folder: Path) -> list[Source]:
    """Every picture below a folder, in natural order, named by its path below it; or the one picture it is."""
    if folder.is_file():
        return [Source(str(folder), folder.name)]
    if not folder.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r}; expected a folder of pictures as `images=`")
    found = []
    for current, subfolders, files in os.walk(folder, followlinks=False):
        subfolders[:] = sorted((name for name in subfolders if not name.startswith(".")), key=natural_key)
        for name in sorted(files, key=natural_key):
            path = Path(current, name)
            if path.suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                found.append(Source(str(path), path.relative_to(folder).as_posix()))
    if not found:
        suffixes = ", ".join(sorted(PICTURE_SUFFIXES))
        raise UsageError(f"there is no picture below {str(folder)!r}; expected files that end in {suffixes}")
    return found


def _origin(given: Path, kind: str, n_files: int, note: str | None) -> dict[str, object]:
    name = given.name or given.resolve().name
    return {"folder": name, "kind": kind, "files": n_files, "licence": note or _licence_of(given) or "not stated"}


def _licence_of(folder: Path) -> str | None:
    """The first line about a licence in the licence file, or else in the README, at the top of a folder."""
    if not folder.is_dir():
        return None
    named = sorted(path for path in folder.iterdir() if path.is_file() and _LICENCE_FILES.fullmatch(path.name))
    # LICENCE before README: the file that is only about it counts more.
    for path in sorted(named, key=lambda path: path.name.lower().startswith("readme")):
        with path.open("rb") as file:
            text = file.read(1 << 16).decode("utf-8", errors="replace")
        lines = [line.strip(" #*\t") for line in text.splitlines() if line.strip(" #*\t")]
        about = [line for line in lines if _LICENCE_LINE.search(line)]
        if not path.name.lower().startswith("readme"):
            about = about or lines
        if about:
            return about[0][:_MOST_CHARACTERS]
    return None
