"""The parts of a running page, made once: collection, media, labels, classifier, maps, uploads; and its settings.

with Site(SiteSettings(db="features.db", videos="my_videos")) as site:
    app = make_app(site)
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from c3dvideo.errors import UsageError
from c3dvideo.extras import require_extra
from c3dvideo.files import cache_folder
from c3dvideo.machine import n_cores
from c3dvideo.web.clip_maps import Maps
from c3dvideo.web.labels_file import LabelsFile
from c3dvideo.web.media import Media
from c3dvideo.web.media_cache import MediaCache
from c3dvideo.web.request_guard import check_token, token_for
from c3dvideo.web.teaching import Teaching
from c3dvideo.web.uploads import PREFIX, UploadLimits, Uploads
from c3dvideo.web.web_collection import Collection, MissingVideoError
from c3dvideo.web.workers import Workers

_EXPLAIN_SECONDS = 120.0
_MEDIA_MEMORY, _ANALYSIS_MEMORY = 4 << 30, 16 << 30


@dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """What `serve` shows and where.

    videos: the folder that was extracted; None shows no pictures. labels: the table that labels are saved in. probe: a
    fitted probe; None fits one on the labels. weights: of the index, for uploads; None is the default. token: needed to
    use the page; None makes one unless `host` is a loopback address. cache_bytes: the most that converted video takes.
    """

    db: str
    videos: Path | None = None
    labels: Path = Path("labels.csv")
    probe: Path | None = None
    weights: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    cache_bytes: int = 2 << 30
    uploads: UploadLimits = field(default_factory=UploadLimits)

    def __post_init__(self) -> None:
        check_token(self.token)
        if self.cache_bytes < 16_000_000:
            raise UsageError(f"a cache of {self.cache_bytes:,} bytes holds no video; expected 16,000,000 or more")


class Site:
    """All parts of one page; closing it ends the worker processes and deletes uploads.

    Raises StoreError for what is no index, UsageError for a folder, a labels file or a probe that cannot be used.
    """

    def __init__(self, settings: SiteSettings) -> None:
        if settings.probe is not None and not settings.probe.is_file():
            raise UsageError(f"there is no probe {settings.probe}; make one with `c3dvideo probe fit FEATURES`")
        self.settings = settings
        self.token = token_for(settings.host, settings.token)
        self.collection = Collection(settings.db, videos=settings.videos)
        self.labels = LabelsFile(settings.labels)
        cache = cache_folder() / "web"
        place = settings.db if "://" in settings.db else str(Path(settings.db).resolve())
        own = sha256(place.encode(errors="surrogatepass")).hexdigest()[:16]
        self._scratch = Path(tempfile.mkdtemp(prefix="c3dvideo-web-"))
        self._pools = {
            "media": Workers(min(4, max(2, n_cores() // 2)), memory_bytes=_MEDIA_MEMORY),
            "maps": Workers(1),
            "teaching": Workers(1),
            "uploads": Workers(1, memory_bytes=_ANALYSIS_MEMORY),
        }
        self.media = Media(self._pools["media"], MediaCache(cache / "media", max_bytes=settings.cache_bytes))
        self.maps = Maps(self.collection, self._pools["maps"], cache / "maps" / own)
        self.teaching = Teaching(
            self.collection, self.labels, self._pools["teaching"], self._scratch, probe=settings.probe
        )
        self.uploads = Uploads(
            self.collection,
            self.teaching,
            self.media,
            self._pools["uploads"],
            weights=settings.weights,
            limits=settings.uploads,
        )

    def path_of(self, wanted: str) -> Path:
        """The file of an indexed or uploaded video by its id; raises MissingVideoError."""
        if wanted.startswith(PREFIX):
            upload = self.uploads.get(wanted)
            if upload.state in ("receiving", "failed"):
                raise MissingVideoError(upload.message or "the upload is not complete yet")
            return upload.path
        return self.collection.path(self.collection.now().video(wanted).name)

    def explanation(self, wanted: str, seconds: float, label: str) -> Path:
        """A picture of the evidence for a class ("" is the best one) in one clip, as `explain_clip` draws it."""
        require_extra("explain")
        path, probe = self.path_of(wanted), self.teaching.probe()
        index = self.collection.index
        arguments = {
            "path": str(path),
            "weights": self.settings.weights,
            "settings": dict(index.settings),
            "layer": index.layer,
            "probe": None if probe is None else str(probe[0]),
            "label": label or None,
            "start_seconds": seconds,
        }

        def make() -> bytes:
            picture: bytes = self._pools["uploads"].run(
                "c3dvideo.web.explaining:explain_clip", arguments, seconds=_EXPLAIN_SECONDS, urgent=True
            )
            return picture

        return self.media.derived(path, repr(sorted(arguments.items())), make)

    def close(self) -> None:
        """End all processes and delete what belongs to this session only."""
        for pool in self._pools.values():
            pool.close()
        self.uploads.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
