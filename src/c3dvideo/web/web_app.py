"""The web application: the page, its script and styles, the interface under /api, and errors as JSON.

    with Site(SiteSettings(db="features.db", videos="my_videos")) as site:
        app = make_app(site)                  # an ASGI application

Nothing is loaded from elsewhere: no fonts, scripts or styles of other servers.
"""

from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from c3dvideo import __version__
from c3dvideo.errors import C3DVideoError, DatasetError, MissingExtraError, StoreError, UsageError, VideoError
from c3dvideo.web.answers import Problem
from c3dvideo.web.label_routes import label_routes
from c3dvideo.web.library_routes import library_routes
from c3dvideo.web.media_routes import media_routes
from c3dvideo.web.request_guard import RequestGuard
from c3dvideo.web.search_routes import search_routes
from c3dvideo.web.site_parts import Site
from c3dvideo.web.upload_routes import upload_routes
from c3dvideo.web.web_collection import MissingVideoError
from c3dvideo.web.workers import JobError

_STATIC = {"app.js": "text/javascript", "app.css": "text/css", "icon.svg": "image/svg+xml"}
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
    _add_page(app)
    app.add_exception_handler(C3DVideoError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=3)
    app.add_middleware(RequestGuard, token=site.token)
    return app


def _add_page(app: FastAPI) -> None:
    environment = Environment(
        loader=PackageLoader("c3dvideo.web", "templates"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html").render(version=__version__)
    contents = {name: files("c3dvideo.web").joinpath("static", name).read_bytes() for name in _STATIC}

    @app.get("/", include_in_schema=False)
    def index() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in contents:
            return JSONResponse({"detail": "there is no such file"}, status_code=404)
        return Response(contents[name], media_type=_STATIC[name])


async def _problem(request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    return JSONResponse({"detail": str(error)}, status_code=status)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with a request, in one line per field."""
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(map(str, each['loc'][1:])) or 'the body'}: {each['msg']}" for each in error.errors()]
    text = "; ".join(lines).encode(errors="backslashreplace").decode()
    return JSONResponse({"detail": text}, status_code=422)
