"""Download one file over HTTP, with a progress bar; an interrupted download resumes.

download("https://example.org/weights", Path("cache/weights"))
"""

import http.client
import urllib.error
import urllib.request
from pathlib import Path

from c3dvideo import __version__
from c3dvideo.errors import DownloadError
from c3dvideo.progress import progress

TIMEOUT_SECONDS = 30.0
BLOCK = 1 << 18


def download(url: str, path: Path, *, attempts: int = 3) -> None:
    """Fetch `url` to `path`, which appears only when it is complete.

    An incomplete download is kept beside it as `.part`. The next attempt or call continues it if the server still has
    the same version of the file. Raises DownloadError for an HTTP error, or when the last attempt is interrupted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for left in reversed(range(attempts)):
        try:
            _continue(url, part)
            break
        except urllib.error.HTTPError as error:
            raise DownloadError(f"{url} could not be fetched: HTTP {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise DownloadError(f"{url} could not be fetched: {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if not left:
                kept = part.stat().st_size if part.exists() else 0
                raise DownloadError(
                    f"{url} broke off after {kept:,} bytes ({error}); they are kept, run it again to continue"
                ) from error
    part.replace(path)
    _version(part).unlink(missing_ok=True)


def _continue(url: str, part: Path) -> None:
    """Append the missing bytes to `part`. Starts over when the server cannot resume or has another version."""
    start = part.stat().st_size if part.exists() else 0
    version = _version(part)
    request = urllib.request.Request(  # noqa: S310 - the addresses are those of published.py
        url, headers={"User-Agent": f"c3dvideo/{__version__}"}
    )
    if start and version.exists():
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", version.read_text())
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - as above
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            version.write_text(validator)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with part.open("ab" if start else "wb") as file, progress(part.stem, total=total, unit="bytes") as bar:
            bar.skip(start)
            while block := response.read(BLOCK):
                file.write(block)
                bar.advance(len(block))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection closed before byte {total:,}")


def _version(part: Path) -> Path:
    """Path of the file that holds the server's version mark (ETag or date) of the download."""
    return part.with_name(part.name + ".version")
