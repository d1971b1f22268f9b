"""Videos that somebody drops on the page: stored for the time of the session, analysed, and shown like any other.

    upload = uploads.begin("holiday.mp4")
    with upload.path.open("wb") as file: ...         # at most uploads.limits.max_bytes
    uploads.analyse(upload)                          # in the background; then upload.state is "done" or "failed"

A file lies under a random name in a temporary folder; the name that it came with is only shown. It is opened with
FFmpeg's allow-list of single-file formats, in processes that are killed when they take too long.
"""

import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from c3dvideo.errors import C3DVideoError, UsageError
from c3dvideo.web.analysis import Analysis
from c3dvideo.web.media import Media
from c3dvideo.web.teaching import Teaching
from c3dvideo.web.web_collection import Collection, MissingVideoError
from c3dvideo.web.workers import Workers

PREFIX = "upload-"


@dataclass(frozen=True)
class UploadLimits:
    """How large and long a video may be, how long its analysis may take, and how many uploads are kept."""

    max_bytes: int = 512 << 20
    max_seconds: float = 600.0
    time_limit_seconds: float = 300.0
    n_kept: int = 8


@dataclass(eq=False)
class Upload:
    """One upload: its id, the name to show, and how far it is."""

    id: str
    name: str
    path: Path
    state: Literal["receiving", "analysing", "done", "failed"] = "receiving"
    message: str = ""
    analysis: Analysis | None = None


class Uploads:
    """The uploads of one server, the oldest of which are forgotten."""

    def __init__(
        self,
        collection: Collection,
        teaching: Teaching,
        media: Media,
        workers: Workers,
        *,
        weights: str | None,
        limits: UploadLimits,
    ) -> None:
        self.limits = limits
        self._collection = collection
        self._teaching = teaching
        self._media = media
        self._workers = workers
        self._weights = weights
        self._folder = Path(tempfile.mkdtemp(prefix="c3dvideo-uploads-"))
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str) -> Upload:
        """A new upload, to whose path the bytes are to be written."""
        secret = secrets.token_hex(16)
        upload = Upload(f"{PREFIX}{secret}", name.strip()[:200] or "video", self._folder / secret)
        with self._lock:
            self._uploads[upload.id] = upload
            while len(self._uploads) > self.limits.n_kept:
                _, old = self._uploads.popitem(last=False)
                _delete(old)
        return upload

    def get(self, wanted: str) -> Upload:
        """The upload with this id; raises MissingVideoError."""
        with self._lock:
            if wanted not in self._uploads:
                raise MissingVideoError("there is no such upload any more; drop the video again")
            return self._uploads[wanted]

    def all(self) -> list[Upload]:
        """Every upload, the newest first."""
        with self._lock:
            return list(reversed(self._uploads.values()))

    def remove(self, wanted: str) -> None:
        """Forget an upload and delete its file."""
        upload = self.get(wanted)
        with self._lock:
            self._uploads.pop(wanted, None)
        _delete(upload)

    def fail(self, upload: Upload, message: str) -> None:
        """Record why there is no result, and delete the file."""
        upload.state, upload.message = "failed", message
        _delete(upload)

    def analyse(self, upload: Upload) -> None:
        """Check the video and start to compute its features; returns at once. Raises nothing: the state says it."""
        upload.state = "analysing"
        threading.Thread(target=self._analyse, args=(upload,), name="upload", daemon=True).start()

    def _analyse(self, upload: Upload) -> None:
        try:
            info = self._media.info(upload.path)
            if info.seconds is not None and info.seconds > self.limits.max_seconds:
                raise UsageError(
                    f"the video is {info.seconds:,.0f} seconds long; the limit is {self.limits.max_seconds:g} seconds"
                )
            self._teaching.begin()
            self._teaching.wait(self.limits.time_limit_seconds)
            with self._collection.lock:
                index = self._collection.index
                arguments: dict[str, Any] = {
                    "path": str(upload.path),
                    "name": "upload",
                    "weights": self._weights,
                    "settings": dict(index.settings),
                    "layer": index.layer,
                    "space": index.space,
                    "probe": self._probe(),
                    "max_seconds": self.limits.max_seconds,
                }
            upload.analysis = self._workers.run(
                "c3dvideo.web.analysis:analyse", arguments, seconds=self.limits.time_limit_seconds
            )
            upload.state = "done"
        except (C3DVideoError, OSError) as error:
            text = str(error).replace(repr(str(upload.path)), "the video").replace(str(upload.path), "the video")
            self.fail(upload, text)

    def _probe(self) -> tuple[str, float] | None:
        found = self._teaching.probe()
        return None if found is None else (str(found[0]), found[1])

    def close(self) -> None:
        """Delete all files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _delete(upload: Upload) -> None:
    with suppress(OSError):
        upload.path.unlink(missing_ok=True)
