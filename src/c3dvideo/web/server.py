"""Serve the page until Ctrl-C.

serve(SiteSettings(db="features.db", videos="my_videos"), note=print)
"""

from collections.abc import Callable

from c3dvideo.web.listening import address_of, bound, page_server
from c3dvideo.web.site_parts import Site, SiteSettings
from c3dvideo.web.web_app import make_app

_SHUTDOWN_SECONDS = 3


def serve(settings: SiteSettings, *, note: Callable[[str], None] = lambda text: None) -> None:
    """Serve the page until Ctrl-C or SIGTERM. note: called with the address, and with what a user should know.

    Raises what `Site` raises, and UsageError when the address is in use.
    """
    with Site(settings) as site, bound(settings.host, settings.port) as listener:
        now = site.collection.now()
        note(f"{settings.db}: {len(now.videos)} videos, {len(now.start_seconds)} clips")
        note(f"labels: {settings.labels}")
        if site.token is not None:
            note("anybody with this address can see the videos and change the labels; the connection is not encrypted")
        note(f"open {address_of(listener, token=site.token)}")
        page_server(make_app(site), shutdown_seconds=_SHUTDOWN_SECONDS).run(sockets=[listener])
