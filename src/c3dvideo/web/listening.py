"""The address at which a page is served: its socket, how it is announced, and the server behind it.

with bound("127.0.0.1", 0) as listener:
    address_of(listener, token=None)           # "http://127.0.0.1:40123/"
    page_server(app, shutdown_seconds=3).run(sockets=[listener])
"""

import asyncio
import logging
import socket

import uvicorn
from starlette.types import ASGIApp

from c3dvideo.errors import UsageError
from c3dvideo.files import os_reason

_KEEP_ALIVE_SECONDS = 30


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


def address_of(listener: socket.socket, *, token: str | None) -> str:
    """What to open in a browser, with the token that lets it in."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token is not None else "")


def page_server(app: ASGIApp, *, shutdown_seconds: int) -> uvicorn.Server:
    """The server of a page. shutdown_seconds: once it ends, requests that are answered for longer are broken off."""
    return _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=shutdown_seconds,
        )
    )


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, without the tracebacks of requests that are broken off because a browser no longer reads."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()  # closing would wait until the browser has read the rest
        await asyncio.sleep(0)
