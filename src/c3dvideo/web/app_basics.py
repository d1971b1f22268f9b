"""What every web application here has: one page with its static files, and errors as JSON.

add_page(app, "page.html", ("app.js", "app.css", "icon.svg"))
add_errors(app, [(UsageError, 422)])
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import PurePath

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from c3dvideo import __version__
from c3dvideo.errors import C3DVideoError

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def add_page(app: FastAPI, template: str, static_files: Sequence[str]) -> None:
    """Answer `/` with a template, and `/static/NAME` with each of the static files."""
    environment = Environment(
        loader=PackageLoader("c3dvideo.web", "templates"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template(template).render(version=__version__)
    contents = {name: files("c3dvideo.web").joinpath("static", name).read_bytes() for name in static_files}

    @app.get("/", include_in_schema=False)
    def index() -> HTMLResponse:
        return HTMLResponse(page)

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in contents:
            return JSONResponse({"detail": "there is no such file"}, status_code=404)
        return Response(contents[name], media_type=_TYPES[PurePath(name).suffix])


def add_errors(app: FastAPI, statuses: Sequence[tuple[type[C3DVideoError], int]] = ()) -> None:
    """Answer errors with `{"detail": ...}`. statuses: the first kind that an error is of gives its HTTP status."""

    async def problem(request: Request, error: Exception) -> JSONResponse:
        status = next((code for kind, code in statuses if isinstance(error, kind)), 500)
        return JSONResponse({"detail": str(error)}, status_code=status)

    app.add_exception_handler(C3DVideoError, problem)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with a request, in one line per field."""
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(map(str, each['loc'][1:])) or 'the body'}: {each['msg']}" for each in error.errors()]
    text = "; ".join(lines).encode(errors="backslashreplace").decode()
    return JSONResponse({"detail": text}, status_code=422)
