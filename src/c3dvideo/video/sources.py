"""From what a user names (files, folders, lists, addresses) to the videos that it means.

    sources = find_sources(["my_videos/", "more.csv", "rtsp://camera/1"])
    sources.note()                                   # "left out 3 files that are no videos: 2 .txt, 1 .csv"

A folder is searched recursively for video files and frame folders (numbered pictures and no video beside them);
names that start with a dot are passed over. Every video gets a name, under which its features are stored: the path
below the folder that was given, or as a list writes it.
"""

import csv
import io
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from c3dvideo.errors import UsageError
from c3dvideo.files import os_reason
from c3dvideo.storage import Location, ObjectPath, is_object
from c3dvideo.video.access import is_url, shown, without_user
from c3dvideo.video.frame_folder import PICTURE_SUFFIXES, natural_key

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".264", ".265", ".3g2", ".3gp", ".3gpp", ".amv", ".apng", ".asf", ".av1", ".avc", ".avi", ".bik", ".cine", ".dav",
    ".divx", ".dv", ".dvr-ms", ".evo", ".f4v", ".flc", ".fli", ".flv", ".gif", ".gxf", ".h261", ".h263", ".h264",
    ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg",
    ".mjpg", ".mk3d", ".mkv", ".mov", ".mp2v", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf",
    ".nsv", ".nut", ".nuv", ".obu", ".ogg", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".roq", ".smk", ".tp", ".trp",
    ".ts", ".viv", ".vob", ".vro", ".webm", ".wmv", ".wtv", ".y4m",
))
# fmt: on
# Other files have these suffixes, too, so their first bytes are read.
AMBIGUOUS_SUFFIXES = frozenset(("", ".dat", ".mod", ".ps", ".rec", ".tod"))


@dataclass(frozen=True)
class Source:
    """One video to read: the path (file, frame folder) or address, and the name of its features ("sub/a.mp4")."""

    path: str
    name: str


class Sources(list[Source]):
    """Videos in order. `left_out` counts the files in the searched folders that are no videos, by kind."""

    def __init__(self, sources: Iterable[Source], left_out: Counter[str]) -> None:
        super().__init__(sources)
        self.left_out = left_out

    def note(self) -> str | None:
        """One line about the files that were left out, or None when there are none.

        >>> Sources([], Counter({".txt": 12, "pictures beside videos": 1})).note()
        'left out 13 files that are no videos: 12 .txt, 1 pictures beside videos'
        """
        return f"left out {_counted(self.left_out)}" if self.left_out else None


def find_sources(inputs: str | Path | Iterable[str | Path]) -> Sources:
    """The videos that `inputs`, one or several, name: in the order of the inputs and in natural order inside a folder.

    An input is a video file, a folder, a frame folder, an address, an object or folder of object storage
    (s3://bucket/videos/), a CSV with a column `path` (relative paths start at
    its folder), or "-" for a list on stdin: one path per line, or separated by NUL as `find -print0` writes it.

    Raises UsageError for an input that does not exist, a folder without any video, a CSV without the column, and two
    different videos of one name. A path in a list that does not exist stays in: reading it fails, and so reports it.
    """
    found: dict[str, Source] = {}
    left_out: Counter[str] = Counter()
    for given in [inputs] if isinstance(inputs, str | Path) else inputs:
        if not isinstance(given, str | Path):
            raise UsageError(
                f"an input is a {type(given).__name__}; expected paths of videos (for frames in memory, see "
                "`Extractor.from_frames`)"
            )
        for source in _expand(str(given), left_out):
            other = found.setdefault(source.name, source)
            if not _same(other.path, source.path):
                raise UsageError(
                    f"{shown(other.path)!r} and {shown(source.path)!r} would both be stored as {source.name!r}; "
                    "give the folder above both, or a list of paths"
                )
    return Sources(found.values(), left_out)


def _expand(given: str, left_out: Counter[str]) -> Iterator[Source]:
    given = given.removeprefix("file://")
    if not given:
        raise UsageError("an input is empty; write . for the current folder")
    if given == "-":
        for line in _lines(sys.stdin.buffer.read()):
            yield from _listed(line, Path(), left_out)
        return
    path = Path(given)
    if is_object(given):
        yield from _objects(given, left_out)
    elif is_url(given):
        yield Source(given, _url_name(given))
    elif (found := _look_up(path)) == "missing":
        raise UsageError(f"no such file or folder: {given!r}")
    elif path.suffix.lower() == ".csv" and found == "file":
        for listed in _paths_in_csv(path):
            yield from _listed(listed, path.parent, left_out)
    elif found == "folder":
        here: Counter[str] = Counter()
        sources = list(_walk(path, path.resolve().name, "", here))
        if not sources:
            raise UsageError(
                f"no video in {given!r}: found no file with a suffix of a video and no numbered pictures"
                + (f", only {_counted(here)}" if here else "")
            )
        left_out += here
        yield from sources
    else:
        yield Source(given, path.name)


def _objects(given: str, left_out: Counter[str]) -> Iterator[Source]:
    """The object at an address, or the videos among all objects below it."""
    place = ObjectPath.of(given)
    try:
        if not given.endswith("/") and place.is_file():
            yield Source(str(place), place.name)
            return
        paths = sorted(place.rglob("*"), key=lambda path: natural_key(path.key))
    except OSError as error:
        raise UsageError(f"{place} cannot be searched: {os_reason(error)}") from error
    here: Counter[str] = Counter()
    n_videos = 0
    for path in paths:
        below = path.relative_to(place)
        if not all(map(_visible, below.parts)):
            continue
        if _is_video(path):
            n_videos += 1
            yield Source(str(path), below.as_posix())
        else:
            here[_kind(path.name)] += 1
    if not n_videos:
        raise UsageError(
            f"no video in {str(place)!r}: " + (f"found only {_counted(here)}" if here else "there is nothing below it")
        )
    left_out += here


def _listed(listed: str, root: Path, left_out: Counter[str]) -> Iterator[Source]:
    """The videos of one line of a list; its name is the path as listed, made relative."""
    listed = listed.removeprefix("file://")
    if is_url(listed):
        yield Source(listed, _url_name(listed))
        return
    path = root / listed
    parts = Path(os.path.normpath(listed)).parts
    name = "/".join(part for part in parts if part not in ("..", ".", Path(listed).anchor))
    name = name or path.resolve().name or "video"
    sources = list(_walk(path, name, name, left_out)) if _look_up(path) == "folder" else []
    yield from sources or [Source(str(path), name)]


def _walk(folder: Path, own_name: str, prefix: str, left_out: Counter[str]) -> Iterator[Source]:
    """The frame folder that `folder` is, if it is one, then every video below it."""

    def fail(error: OSError) -> None:
        raise UsageError(f"cannot search {error.filename!r}: {os_reason(error)}; make it readable or leave it out")

    seen: set[str] = set()
    for current, subfolders, files in os.walk(folder, onerror=fail, followlinks=True):
        subfolders[:] = sorted((name for name in subfolders if _visible(name)), key=natural_key)
        if os.path.realpath(current) in seen:
            subfolders.clear()
            continue
        seen.add(os.path.realpath(current))
        below = Path(prefix, Path(current).relative_to(folder))
        visible = sorted(filter(_visible, files), key=natural_key)
        videos = [name for name in visible if _is_video(Path(current, name))]
        for name in videos:
            yield Source(str(Path(current, name)), (below / name).as_posix())
        is_frame_folder = not videos and any(map(_numbered_picture, visible))
        if is_frame_folder:
            yield Source(current, own_name if current == str(folder) else below.as_posix())
        for name in set(visible).difference(videos):
            if not is_frame_folder or not _is_picture(name):
                left_out[_kind(name)] += 1


def _is_video(path: Location) -> bool:
    suffix = path.suffix.lower()
    if suffix not in AMBIGUOUS_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    from c3dvideo.video.container import is_video  # which loads FFmpeg

    return path.is_file() and is_video(path)


def _kind(name: str) -> str:
    if _is_picture(name):
        return "pictures beside videos"
    return Path(name).suffix.lower() or "without suffix"


def _counted(left_out: Counter[str]) -> str:
    n_kinds, n_files = 6, left_out.total()
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in ordered[:n_kinds])
    others = f", and {len(left_out) - n_kinds} other kinds" if len(left_out) > n_kinds else ""
    return f"{n_files:,} {'file that is no video' if n_files == 1 else 'files that are no videos'}: {kinds}{others}"


def _lines(content: bytes) -> list[str]:
    """The paths of a list: lines, or what stands between NULs."""
    text = _text(content)
    if "\0" in text:
        return list(filter(None, text.split("\0")))
    return list(filter(None, map(_without_carriage_return, text.split("\n"))))


def _without_carriage_return(line: str) -> str:
    """Lists from Windows end their lines in CR LF. Elsewhere a name may end in CR."""
    is_name = line.endswith("\r") and _look_up(line) != "missing"
    return line if is_name else line.removesuffix("\r")


def _text(content: bytes) -> str:
    """The text of a list, with bytes that are no UTF-8 kept as Python keeps them in file names."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell writes lists
        return content.decode("utf-16", errors="replace")
    return content.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")


def _paths_in_csv(path: Path) -> Iterator[str]:
    try:
        text = _text(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {os_reason(error)}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = reader.fieldnames or []
        if "path" not in columns:
            hint = "; its separator must be a comma" if len(columns) == 1 and re.search("[;\t]", columns[0]) else ""
            found = ", ".join(" ".join(column.split())[:60] for column in columns[:20])
            raise UsageError(f"{str(path)!r} needs a column 'path'; its columns are {found or 'none'}{hint}")
        for row in reader:
            problem = "is empty" if not row["path"] else "holds a NUL" if "\0" in row["path"] else None
            if problem is not None:
                raise UsageError(f"{str(path)!r}, line {reader.line_num}: the column 'path' {problem}")
            yield row["path"]
    except csv.Error as error:
        raise UsageError(f"{str(path)!r}, line {reader.line_num}: {error}") from error


def _look_up(path: str | Path) -> Literal["folder", "file", "missing"]:
    """What is at `path`; "file" where permission is missing, so that reading it reports why."""
    try:
        return "folder" if stat.S_ISDIR(Path(path).stat().st_mode) else "file"
    except PermissionError:
        return "file"
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return "missing"


def _numbered_picture(name: str) -> bool:
    return _is_picture(name) and Path(name).stem[-1].isdigit()


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


def _visible(name: str) -> bool:
    return not name.startswith(".")


def _url_name(url: str) -> str:
    """A file name for an address: its host and path, without the query, user and password."""
    rest = re.sub(r"[?#].*|[\x00-\x1f]", "", without_user(url.split("://", 1)[1]))
    return "/".join(part for part in rest.split("/") if part not in ("", ".", "..")) or "stream"


def _same(one: str, other: str) -> bool:
    return one == other or (not is_url(one) and os.path.realpath(one) == os.path.realpath(other))
