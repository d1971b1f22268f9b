"""The web application: the page, its script and styles, the interface under /api, and errors as JSON.

    with Site(SiteSettings(db="features.db", videos="my_videos")) as site:
        app = make_app(site)                  # an ASGI application

Nothing is loaded from elsewhere: no fonts, scripts or styles of other servers.
"""

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from c3dvideo import __version__
from c3dvideo.errors import C3DVideoError, DatasetError, MissingExtraError, StoreError, UsageError, VideoError
from c3dvideo.web.answers import Problem
from c3dvideo.web.app_basics import add_errors, add_page
from c3dvideo.web.label_routes import label_routes
from c3dvideo.web.library_routes import library_routes
from c3dvideo.web.media_routes import media_routes
from c3dvideo.web.request_guard import RequestGuard
from c3dvideo.web.search_routes import search_routes
from c3dvideo.web.site_parts import Site
from c3dvideo.web.upload_routes import upload_routes
from c3dvideo.web.web_collection import MissingVideoError
from c3dvideo.web.workers import JobError

_STATUS: tuple[tuple[type[C3DVideoError], int], ...] = (
    (MissingVideoError, 404),
    (JobError, 504),
    (MissingExtraError, 501),
    (UsageError, 422),
    (DatasetError, 422),
    (VideoError, 415),
    (StoreError, 503),
)


def make_app(site: Site) -> FastAPI:
    """The application of one site."""
    app = FastAPI(
        title="c3dvideo",
        version=__version__,
        description="Clips of videos: a library, a map, similar clips, labels and a classifier on C3D features.",
        docs_url=None,  # FastAPI's own pages load scripts from other servers
        redoc_url=None,
        responses={status: {"model": Problem} for status in (404, 415, 422, 503, 504)},
    )
    for routes in (library_routes, media_routes, search_routes, label_routes, upload_routes):
        app.include_router(routes(site))
    add_page(app, "page.html", ("app.js", "app.css", "icon.svg"))
    add_errors(app, _STATUS)
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=3)
    app.add_middleware(RequestGuard, token=site.token)
    return app
