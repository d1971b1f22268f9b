"""What a server states about a file, to find out later whether it is still the same.

state = url_state("https://example.org/a.mp4", seconds=60)
state                              # {"etag": '"5f3a"', "last_modified": "...", "length": 181234}; or None
"""

import base64
import http.client
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from c3dvideo import __version__
from c3dvideo.errors import DecodeError
from c3dvideo.files import os_reason
from c3dvideo.storage import ObjectPath, is_object
from c3dvideo.video.access import encoded, shown

_PROTOCOLS = ("http://", "https://")


def url_state(url: str, *, seconds: float) -> dict[str, Any] | None:
    """ETag, modification date and length of a file on a web server, as far as the server states them.

    Of an object in a store, ETag and length: the date changes also when equal bytes are stored again.

    None for other protocols, for a server that states neither ETag nor date, and for one that does not answer such
    requests: a change of the file cannot be found out then. Raises DecodeError when the server cannot be reached
    or does not have the file.
    """
    if is_object(url):
        return _object_state(url)
    if not url.lower().startswith(_PROTOCOLS):
        return None
    try:
        with urllib.request.urlopen(_question(url), timeout=seconds) as answer:  # noqa: S310 - only _PROTOCOLS come here
            headers = answer.headers
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise DecodeError(
                f"{shown(url)}: the server does not have it (HTTP {error.code}); check the address"
            ) from error
        if 300 <= error.code < 400:
            raise DecodeError(f"{shown(url)}: the server's redirects lead nowhere (HTTP {error.code})") from error
        return None  # some servers refuse HEAD and serve the file all the same
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, ValueError | http.client.InvalidURL):  # whose text repeats parts of the address
            reason = "it is no address"
        elif isinstance(reason, OSError):
            reason = os_reason(reason)
        raise DecodeError(f"{shown(url)}: the server cannot be reached ({reason}); try again when it can be") from error
    state = {
        "etag": headers.get("ETag"),
        "last_modified": headers.get("Last-Modified"),
        "length": headers.get("Content-Length"),
    }
    # A length alone is no identity: a corrected file may be as long as the old one.
    return state if state["etag"] or state["last_modified"] else None


def _object_state(url: str) -> dict[str, Any]:
    try:
        found = ObjectPath.of(url).stat()
    except OSError as error:
        raise DecodeError(f"{url!r}: cannot be read: {os_reason(error)}") from error
    return {"etag": found.etag, "length": found.st_size}


def _question(url: str) -> urllib.request.Request:
    """A HEAD request; a user and a password in the address become the header that servers expect."""
    parts = urlsplit(encoded(url))
    user, _, host = parts.netloc.rpartition("@")
    headers = {"User-Agent": f"c3dvideo/{__version__}"}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(unquote(user).encode()).decode()
    address = urlunsplit(parts._replace(netloc=host, fragment=""))
    return urllib.request.Request(address, method="HEAD", headers=headers)  # noqa: S310 - only _PROTOCOLS come here
