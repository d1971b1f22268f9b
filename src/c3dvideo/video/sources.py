"""From what a user names (files, folders, lists, cameras) to the videos that it means.

    find_sources(["my_videos/", "more.csv", "rtsp://camera/1"])

A folder is searched to the bottom for video files and frame folders (numbered pictures and no video beside them);
names that start with a dot are left alone. Every video gets a name, under which its features are stored: the path
below the folder that was given, or as a list writes it.
"""

import csv
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from c3dvideo.errors import UsageError
from c3dvideo.video.access import is_url
from c3dvideo.video.frame_folder import PICTURE_SUFFIXES, natural_key

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".divx", ".dv", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".rm", ".rmvb", ".ts", ".vob",
    ".webm", ".wmv", ".y4m",
))
# fmt: on


@dataclass(frozen=True)
class Source:
    """One video to read: the path (file, frame folder) or URL, and the name of its features ("sub/a.mp4")."""

    path: str
    name: str


def find_sources(inputs: Iterable[str | Path]) -> list[Source]:
    """The videos that `inputs` name, in the order of the inputs and in natural order inside each folder.

    An input is a video file, a folder, a frame folder, a URL or device, a CSV with a column `path` (relative paths
    start at its folder), or "-" for a list on stdin, one path a line, or separated by NUL as `find -print0` writes it.

    Raises UsageError for an input that does not exist, a folder without any video, a CSV without the column, and two
    different videos of one name. A path in a list that does not exist stays in: reading it fails, and so reports it.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        for source in _expand(str(given)):
            other = found.setdefault(source.name, source)
            if not _same(other.path, source.path):
                raise UsageError(
                    f"{other.path!r} and {source.path!r} would both be stored as {source.name!r}; "
                    "give the folder above both, or a list of paths"
                )
    return list(found.values())


def _expand(given: str) -> Iterator[Source]:
    if given == "-":
        text = os.fsdecode(sys.stdin.buffer.read())
        separator = "\0" if "\0" in text else "\n"
        for line in filter(None, text.split(separator)):
            yield from _listed(line, Path())
        return
    path = Path(given)
    if path.suffix.lower() == ".csv" and path.is_file():
        for listed in _paths_in_csv(path):
            yield from _listed(listed, path.parent)
    elif is_url(given):
        yield Source(given, _url_name(given))
    elif not path.exists():
        raise UsageError(f"no such file or folder: {given!r}")
    elif path.is_dir():
        sources = list(_walk(path, path.resolve().name, ""))
        if not sources:
            raise UsageError(f"no video in {given!r}: found no file with a suffix of a video and no numbered pictures")
        yield from sources
    else:
        yield Source(given, path.name)


def _listed(listed: str, root: Path) -> Iterator[Source]:
    """The videos of one line of a list; its name is the path as listed, made relative."""
    if is_url(listed):
        yield Source(listed, _url_name(listed))
        return
    path = root / listed
    parts = Path(os.path.normpath(listed)).parts
    name = "/".join(part for part in parts if part not in ("..", ".", os.sep))
    sources = list(_walk(path, name, name)) if path.is_dir() else []
    yield from sources or [Source(str(path), name)]


def _walk(folder: Path, own_name: str, prefix: str) -> Iterator[Source]:
    """The frame folder that `folder` is, if it is one, then every video below it."""

    def fail(error: OSError) -> None:
        raise UsageError(f"cannot search {error.filename!r}: {error.strerror}; make it readable or leave it out")

    seen: set[str] = set()
    for current, subfolders, files in os.walk(folder, onerror=fail, followlinks=True):
        subfolders[:] = sorted((name for name in subfolders if _visible(name)), key=natural_key)
        if os.path.realpath(current) in seen:
            subfolders.clear()
            continue
        seen.add(os.path.realpath(current))
        below = Path(prefix, Path(current).relative_to(folder))
        visible = sorted(filter(_visible, files), key=natural_key)
        videos = [name for name in visible if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        for name in videos:
            yield Source(str(Path(current, name)), (below / name).as_posix())
        if not videos and any(map(_numbered_picture, visible)):
            yield Source(current, own_name if current == str(folder) else below.as_posix())


def _paths_in_csv(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if "path" not in columns:
            raise UsageError(f"{str(path)!r} needs a column 'path'; its columns are {', '.join(columns) or 'none'}")
        listed = []
        for row in reader:
            if not row["path"]:
                raise UsageError(f"{str(path)!r}, line {reader.line_num}: the column 'path' is empty")
            listed.append(row["path"])
    return listed


def _numbered_picture(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in PICTURE_SUFFIXES and path.stem[-1].isdigit()


def _visible(name: str) -> bool:
    return not name.startswith(".")


def _url_name(url: str) -> str:
    """A file name for a URL: its host and path, without the query, user and password."""
    return re.sub(r"^[^/]*@|[?#].*", "", url.split("://", 1)[1]).strip("/") or "stream"


def _same(one: str, other: str) -> bool:
    return one == other or (not is_url(one) and os.path.realpath(one) == os.path.realpath(other))
