"""Whether the features of a video are stored already, of exactly the content it has now.

check = StoredCheck(Path("features/"), fingerprint)
check(Source("videos/a.mp4", "a.mp4"), step).is_stored

This runs in decoder processes, because hashing a file takes about as long as reading it: no torch here.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from c3dvideo.features.decoding import Checked
from c3dvideo.features.store import feature_path, read_metadata
from c3dvideo.features.url_state import url_state
from c3dvideo.storage import Location
from c3dvideo.video.access import is_url
from c3dvideo.video.content import content_sha256
from c3dvideo.video.sources import Source

_BLOCK = 1 << 20


def identify(source: Source, step: Callable[[], None], *, stall_seconds: float) -> Checked:
    """The content of a video, by its hash or by what its server states; calls `step` for progress.

    Raises DecodeError for what cannot be read or reached.
    """
    if is_url(source.path):
        return Checked(url_state=url_state(source.path, seconds=stall_seconds))
    return Checked(content_sha256=content_sha256(source.path, step))


@dataclass(frozen=True)
class Identify:
    """Finds out what a video contains, and not whether anything is stored."""

    stall_seconds: float

    def __call__(self, source: Source, step: Callable[[], None]) -> Checked:
        """What is known of the video before it is decoded."""
        return identify(source, step, stall_seconds=self.stall_seconds)


def is_same_content(found: Checked, stored: Checked) -> bool:
    """Whether a video is what its stored features were made of; False where that cannot be found out."""
    if found.content_sha256 is None and found.url_state is None:
        return False
    return (found.content_sha256, found.url_state) == (stored.content_sha256, stored.url_state)


def what_is_stored(out: Location, name: str, fingerprint: str, step: Callable[[], None]) -> Checked | None:
    """The content of which the features under `name` were made; None when they are missing or of other settings.

    Damaged features count as missing, so that they are made again. Calls `step` for progress.
    """
    path = feature_path(out, name)
    try:
        metadata = read_metadata(path)
        if isinstance(path, Path):  # a store of objects checks what it holds itself
            _read_all(path, step)
    except Exception:  # whatever is wrong with it
        return None
    if metadata.get("fingerprint") != fingerprint:
        return None
    return Checked(
        content_sha256=metadata.get("content_sha256"),
        url_state=metadata.get("url_state"),
        is_stored=True,
        damage=metadata.get("damage"),
    )


@dataclass(frozen=True)
class StoredCheck:
    """Compares videos with the features under `out` that have `fingerprint`."""

    out: Location
    fingerprint: str
    stall_seconds: float

    def __call__(self, source: Source, step: Callable[[], None]) -> Checked:
        """What is known of the video before it is decoded."""
        found = identify(source, step, stall_seconds=self.stall_seconds)
        if found.content_sha256 is None and found.url_state is None:
            return found  # a change of such a video cannot be found out, so it is done again
        stored = what_is_stored(self.out, source.name, self.fingerprint, step)
        if stored is None or not is_same_content(found, stored):
            return found
        return replace(found, is_stored=True, damage=stored.damage)


def _read_all(path: Path, step: Callable[[], None]) -> None:
    """Read every byte of a feature file, in blocks; the zip module compares the checksums."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                while member.read(_BLOCK):
                    step()
