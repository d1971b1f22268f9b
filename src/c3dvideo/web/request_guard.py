"""Which requests the server answers: host, origin, token; and the headers of every answer.

Bound to the loopback address, it answers only under a name of that address, because a page elsewhere can point a name
of its own at 127.0.0.1 (DNS rebinding). Bound to another address, it requires a token. Requests that change something
must come from the page itself and cannot be made by a form of another page. SECURITY.md describes the whole.
"""

import hmac
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from c3dvideo.errors import UsageError

COOKIE = "c3dvideo_token"
SHORTEST_TOKEN = 16
_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
# Types that a form of another page cannot send without the server's consent (CORS).
_BODY_TYPES = frozenset(("application/json", "application/octet-stream"))
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_token(token: str | None) -> None:
    """Raises UsageError for a token that is too short to be safe."""
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UsageError(
            f"the token has {len(token)} characters; expected {SHORTEST_TOKEN} or more, or none for a new one"
        )


def token_for(host: str, token: str | None) -> str | None:
    """The token that a page at this address needs: the given one, else a new one, else None on a loopback address."""
    check_token(token)
    return token or (None if is_loopback(host) else secrets.token_urlsafe(24))


@dataclass(frozen=True)
class _Refusal:
    status: int
    message: str


class RequestGuard:
    """ASGI middleware. token: None where no token is needed, which is only safe on the loopback address."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or refuse it with a JSON document that says why."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer: ASGIApp = self._app
        if login := self._login(scope, headers):
            answer = login
        elif refusal := self._refusal(scope["method"], headers):
            answer = JSONResponse({"detail": refusal.message}, status_code=refusal.status)
        await answer(scope, receive, _with_headers(send))

    def _login(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to the address with `?token=`: the token moves to a cookie and out of the address bar."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        if self._token is None or scope["path"] != "/" or not self._is_token(given):
            return None
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(_cookie_name(headers), given, httponly=True, samesite="strict", path="/")
        return answer

    def _refusal(self, method: str, headers: Headers) -> _Refusal | None:
        host = headers.get("host", "")
        if self._token is None and not is_loopback(_host_name(host)):
            return _Refusal(
                421, "this server answers at 127.0.0.1 and localhost only; start it with `--host` for others"
            )
        if self._token is not None and not self._has_token(headers):
            return _Refusal(401, "open the address with the token that the command printed")
        if method not in _CHANGING:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return _Refusal(403, "this request comes from a page of another site")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _Refusal(403, "this request comes from a page of another site")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method != "DELETE" and kind not in _BODY_TYPES:
            return _Refusal(415, f"the body is {kind or 'of no type'}; expected {' or '.join(sorted(_BODY_TYPES))}")
        return None

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(_cookie_name(headers))
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())


def _cookie_name(headers: Headers) -> str:
    """The name of the cookie: browsers send one host's cookies to all its ports, and each may be a page of its own."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isdecimal() else COOKIE


def _host_name(host: str) -> str:
    """The host of a Host header, without its port: "[::1]:8000" gives "[::1]"."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?", host)
    return found[1].lower() if found else ""


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_headers
