"""Serve the page until Ctrl-C.

serve(SiteSettings(db="features.db", videos="my_videos"), note=print)
"""

import socket
from collections.abc import Callable

import uvicorn

from c3dvideo.errors import UsageError
from c3dvideo.files import os_reason
from c3dvideo.web.site_parts import Site, SiteSettings
from c3dvideo.web.web_app import make_app

_KEEP_ALIVE_SECONDS = 30
_SHUTDOWN_SECONDS = 3


def serve(settings: SiteSettings, *, note: Callable[[str], None] = lambda text: None) -> None:
    """Serve the page until Ctrl-C or SIGTERM. note: called with the address, and with what a user should know.

    Raises what `Site` raises, and UsageError when the address is in use.
    """
    with Site(settings) as site, bound(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        now = site.collection.now()
        note(f"{settings.db}: {len(now.videos)} videos, {len(now.start_seconds)} clips")
        note(f"labels: {settings.labels}")
        if site.token is not None:
            note("anybody with this address can see the videos and change the labels; the connection is not encrypted")
        note(f"open http://{shown}:{port}/" + (f"?token={site.token}" if site.token is not None else ""))
        config = uvicorn.Config(
            make_app(site),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; bound before anything is announced, so that the address that is printed answers."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UsageError(f"{host}:{port} cannot be used: {os_reason(error)}; choose another `port=`") from error
    return listener
