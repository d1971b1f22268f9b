"""Serve the page of a live source while it is classified.

    summary = WatchSummary(latencies=[])
    with live_page("0", summary, unit="probability", note=print) as view:
        for seen in watch("0", summary=summary, show=view.picture.offer):
            view.add(seen)

The server runs in a thread beside the classification.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from c3dvideo.errors import C3DVideoError
from c3dvideo.probing.watch import WatchSummary
from c3dvideo.web.listening import address_of, bound, page_server
from c3dvideo.web.live_app import make_live_app
from c3dvideo.web.live_view import LiveView, Unit
from c3dvideo.web.request_guard import token_for

_SHUTDOWN_SECONDS = 1


@contextmanager
def live_page(
    source: str,
    summary: WatchSummary,
    *,
    unit: Unit,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[LiveView]:
    """A view whose page is served until the context ends; browsers that are connected then show why.

    source: its name for people; user and password in it are not shown. summary: what `watch` fills. unit: "score" with
        a probe. token: needed to use the page; None makes one unless `host` is a loopback address. note: called with
        the address.
    Raises UsageError for a short token, and when the address is in use.
    """
    secret = token_for(host, token)
    view = LiveView(source, summary, unit=unit)
    with bound(host, port) as listener:
        server = page_server(make_live_app(view, token=secret), shutdown_seconds=_SHUTDOWN_SECONDS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="live page", daemon=True)
        thread.start()
        if secret is not None:
            note("anybody with this address can see the pictures; the connection is not encrypted")
        note(f"open {address_of(listener, token=secret)}")
        try:
            yield view
        except C3DVideoError as error:
            view.end(str(error))
            raise
        finally:
            view.end("the command was stopped")
            server.should_exit = True
            thread.join(2 * _SHUTDOWN_SECONDS)
