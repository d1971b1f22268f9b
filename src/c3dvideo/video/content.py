"""The identity of a video: a hash of its bytes.

content_sha256("my_videos/a.mp4")
"""

import os
from hashlib import sha256
from pathlib import Path

from c3dvideo.video.access import is_url
from c3dvideo.video.frame_folder import pictures_in


def content_sha256(path: str) -> str | None:
    """sha256 of a video file, or of the names and pictures of a frame folder; None for a URL."""
    if is_url(path):
        return None
    digest = sha256()
    if Path(path).is_dir():
        for picture in pictures_in(Path(path)):
            digest.update(os.fsencode(picture.name) + b"\0" + _file_sha256(picture))
        return digest.hexdigest()
    return _file_sha256(Path(path)).hex()


def _file_sha256(path: Path) -> bytes:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()
