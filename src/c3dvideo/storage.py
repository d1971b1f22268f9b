"""Files in object storage by address, s3://bucket/key or gs://bucket/key, beside paths of the file system.

    folder = location("s3://bucket/features")       # an ObjectPath; location("features/") is a Path
    with (folder / "sub/a.mp4.npz").open() as file: ...
    (folder / "manifest.json").put(b"{}", only_if_new=True)

`ObjectPath` has those parts of `Path` that this package needs, and raises OSError as `Path` does. fsspec does the work;
it is imported when the first object is used. Keys come from the environment or from the files of the provider's own
tools, and never stand in an address; no message contains more of a server's answer than its reason.
"""

import errno
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, Self

from c3dvideo.errors import UsageError
from c3dvideo.extras import require_extra

SCHEMES = ("s3", "gs")

# pathlib makes one slash of two, so that an address that went through it still is one.
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/+(.*)", re.DOTALL)
_WHOLE_BYTES = 8 << 20  # smaller objects are fetched by one request
_BLOCK_BYTES = 4 << 20
_SECONDS = 20
_TRIES = 3
_CHANGED = "it has changed while it was read"


class Stat(NamedTuple):
    """What `stat` returns of an object. etag: changes with the content."""

    st_size: int
    etag: str


@dataclass(frozen=True, order=True)
class ObjectPath:
    """One object or a folder of objects, `key` being everything behind the bucket."""

    scheme: str
    bucket: str
    key: str

    @classmethod
    def of(cls, address: str) -> Self:
        """The object that an address names; raises UsageError for what is not the address of one."""
        found = location(address)
        if not isinstance(found, cls):
            raise UsageError(f"{address!r} is no address of an object; expected s3://BUCKET/KEY or gs://BUCKET/KEY")
        return found

    def __str__(self) -> str:
        return f"{self.scheme}://{self._address}".rstrip("/")

    @property
    def _address(self) -> str:
        return f"{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "ObjectPath":
        """The folder above."""
        return ObjectPath(self.scheme, self.bucket, self.key.rpartition("/")[0])

    @property
    def parents(self) -> "list[ObjectPath]":
        """All folders above, the nearest first and the bucket last."""
        above = [self.parent] if self.key else []
        return above + (above[0].parents if above else [])

    def __truediv__(self, below: str) -> "ObjectPath":
        return ObjectPath(self.scheme, self.bucket, "/".join(part for part in (self.key, below) if part))

    def relative_to(self, folder: "ObjectPath") -> PurePosixPath:
        """The path below `folder`."""
        return PurePosixPath(self.key).relative_to(folder.key)

    def stat(self) -> Stat:
        """Size and ETag of an object, as they are now."""
        with _reaching():
            found = self._files.info(self._address, refresh=True)
            if found["type"] != "file":
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            return Stat(int(found["size"]), _etag(found))

    def is_file(self) -> bool:
        """Whether there is an object of this name; raises OSError when the store gives no answer."""
        try:
            self.stat()
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True

    exists = is_file

    def is_fifo(self) -> bool:
        """Never: an object always ends."""
        return False

    def is_dir(self) -> bool:
        """Whether there are objects below this name."""
        with _reaching():
            return bool(self._files.isdir(self._address))

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The object for reading, by range requests; one that changes meanwhile raises OSError."""
        size = self.stat().st_size
        with _reaching():
            if size <= _WHOLE_BYTES:
                return io.BytesIO(self._files.cat_file(self._address))
            file = self._files.open(self._address, mode, block_size=_BLOCK_BYTES, cache_type="readahead")
            return io.BufferedReader(_Ranges(file), _BLOCK_BYTES)

    def pinned(self) -> "PinnedObject":
        """The object as it is now: its size and content are requested once."""
        return PinnedObject(self.scheme, self.bucket, self.key, self.stat())

    def put(self, content: bytes | Path, *, only_if_new: bool = False) -> None:
        """Store bytes, or the content of a file, under this name: whole or not at all.

        only_if_new: raises FileExistsError when there is an object already. Of two writers at the same time one gets
        that error, in stores that have conditional writes.
        """
        with _reaching():
            if isinstance(content, Path):
                self._files.put_file(str(content), self._address)
            elif only_if_new:
                self._put_new(content)
            else:
                self._files.pipe_file(self._address, content)

    def _put_new(self, content: bytes) -> None:
        try:
            self._files.pipe_file(self._address, content, mode="create")
        except (NotImplementedError, TypeError, OSError) as error:
            # Stores without conditional writes, and stores that refuse one in words of their own.
            if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.EINVAL):
                raise
            if self.exists():
                raise FileExistsError(errno.EEXIST, "it exists") from error
            self._files.pipe_file(self._address, content)

    def unlink(self, *, missing_ok: bool = True) -> None:
        """Delete the object. Most stores do not state whether there was one."""
        with _reaching():
            if not missing_ok or self.exists():
                self._files.rm_file(self._address)

    def rglob(self, pattern: str) -> Iterator["ObjectPath"]:
        """All objects below, of which the name fits, in the order of their keys."""
        with _reaching():
            keys = sorted(self._files.find(self._address, refresh=True))
        for key in keys:
            if PurePosixPath(key).match(pattern) and not key.endswith("/"):
                yield ObjectPath(self.scheme, self.bucket, key.removeprefix(f"{self.bucket}/"))

    @property
    def _files(self) -> Any:
        return _file_system(self.scheme)


@dataclass(frozen=True, order=True)
class PinnedObject(ObjectPath):
    """An object with its state at one time, for several reads of one version of it."""

    found: Stat
    _content: list[bytes] = field(default_factory=list, compare=False, repr=False)

    def __str__(self) -> str:
        return super().__str__()

    def stat(self) -> Stat:
        """Size and ETag of the object when it was pinned."""
        return self.found

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The object for reading; raises OSError when it is another one by now."""
        if self.found.st_size > _WHOLE_BYTES:
            file = super().open(mode)
            if self._etag_of(file) not in ("", self.found.etag):
                file.close()
                raise OSError(errno.ESTALE, _CHANGED)
            return file
        if not self._content:
            with _reaching():
                self._content.append(self._files.cat_file(self._address))
        if len(self._content[0]) != self.found.st_size:
            raise OSError(errno.ESTALE, _CHANGED)
        return io.BytesIO(self._content[0])

    def _etag_of(self, file: Any) -> str:
        raw = getattr(file, "raw", None)
        return "" if raw is None else raw.etag


Location = Path | ObjectPath


def location(path: str | Path | ObjectPath) -> Location:
    """The path, or the object that an address names; raises UsageError for an address that cannot be used.

    >>> str(location("s3://bucket/features/")), str(location(Path("s3://bucket/features")))
    ('s3://bucket/features', 's3://bucket/features')
    """
    if isinstance(path, ObjectPath):
        return path
    match = _ADDRESS.fullmatch(str(path))
    if match is None:
        return Path(path)
    refuse_key(str(path))
    bucket, _, key = match[2].partition("/")
    if not bucket:
        raise UsageError(f"{match[1]}:// names no bucket; expected {match[1]}://BUCKET/FOLDER")
    require_extra("cloud")
    return ObjectPath(match[1], bucket, "/".join(part for part in key.split("/") if part))


def refuse_key(path: str) -> None:
    """Raises UsageError for the address of an object that contains a key or password."""
    match = _ADDRESS.fullmatch(path)
    bucket = "" if match is None else match[2].partition("/")[0]
    if match is not None and ("@" in bucket or ":" in bucket):
        raise UsageError(
            f"the {match[1]}:// address contains a key or password; leave it out, and give it in the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or in the files of the provider's own tools"
        )


def is_object(path: str | Path | ObjectPath) -> bool:
    """Whether a path is the address of an object, without a check of the rest of it."""
    return isinstance(path, ObjectPath) or _ADDRESS.fullmatch(str(path)) is not None


class _Ranges(io.RawIOBase):
    """A file of fsspec, whose errors are OSErrors with a reason."""

    def __init__(self, file: Any) -> None:
        self._file = file

    @property
    def etag(self) -> str:
        """Of the version that is read; "" where the store does not state it."""
        return _etag(self._file.details)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        with _reaching():
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _etag(found: Any) -> str:
    """What a store calls the version of an object, under the names of S3 and of Google."""
    return str(found.get("ETag") or found.get("etag") or found.get("md5Hash") or "")


@contextmanager
def _reaching() -> Iterator[None]:
    """Turn what fsspec and the libraries below it raise into OSErrors. Texts that a server sends are left out."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "it does not exist") from error
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, "it exists already") from error
    except PermissionError as error:
        raise PermissionError(errno.EACCES, "permission is denied") from error
    except (UsageError, IsADirectoryError):
        raise
    except OSError as error:
        if type(error).__name__ == "FileExpired" or "pre-condition" in str(error):
            raise OSError(errno.ESTALE, _CHANGED) from error
        raise OSError(errno.EREMOTEIO, "the store answers with an error; try again later") from error
    except Exception as error:
        if "Credentials" in type(error).__name__:
            raise PermissionError(errno.EACCES, "no key for the store was found") from error
        raise OSError(errno.EHOSTUNREACH, "the store cannot be reached") from error


@cache
def _file_system(scheme: str) -> Any:
    import fsspec

    if scheme == "s3":
        config = {"connect_timeout": _SECONDS, "read_timeout": _SECONDS, "retries": {"max_attempts": _TRIES}}
        return fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=config)
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        raise UsageError(f"{scheme}:// needs the package gcsfs; run: pip install gcsfs") from error
