"""The interface: files in ranges, converted pieces, and strips of moving frames."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import FileResponse

from c3dvideo.choices import PieceFormat
from c3dvideo.web.answers import Seconds
from c3dvideo.web.site_parts import Site

_MOST_MOMENTS = 4
_PIECE_TYPES = {"mp4": "video/mp4", "webm": "video/webm"}
# What is derived from a file changes its address or not at all while a page is open.
_KEEP = {"cache-control": "private, max-age=600"}


def media_routes(site: Site) -> APIRouter:
    """The routes that answer with pictures and video."""
    router = APIRouter(prefix="/api/videos/{id}", tags=["media"])

    @router.get("/file", response_class=FileResponse)
    def file(id: str) -> FileResponse:
        """The file as it is, for videos that browsers play; answers Range requests."""
        path = site.path_of(id)
        info = site.media.info(path)
        if info.mime is None:
            raise HTTPException(415, f"no browser plays {info.codec} as it is; play the pieces instead")
        return FileResponse(path, media_type=info.mime, headers=_KEEP)

    @router.get("/pieces/{number}.{format}", response_class=FileResponse)
    def piece(id: str, number: int, format: PieceFormat) -> Response:
        """Seconds [4 number, 4 number + 4) converted, as a file that plays by itself; 204 where there is no frame."""
        if not 0 <= number < 1_000_000:
            raise HTTPException(404, "there is no such piece")
        path = site.media.piece(site.path_of(id), number, format)
        if path.stat().st_size == 0:
            return Response(status_code=204)
        return FileResponse(path, media_type=_PIECE_TYPES[format], headers=_KEEP)

    @router.get("/strip.jpg", response_class=FileResponse)
    def strip(id: str, at: Annotated[list[Seconds], Query(max_length=_MOST_MOMENTS)]) -> FileResponse:
        """A JPEG with one column of eight moving frames (160 x 120 each) per second `at`."""
        moments = [round(moment, 2) for moment in at] or [0.0]
        return FileResponse(site.media.sprite(site.path_of(id), moments), media_type="image/jpeg", headers=_KEEP)

    @router.get("/explanation.jpg", response_class=FileResponse)
    def explanation(id: str, at: Seconds, label: Annotated[str, Query(max_length=200)] = "") -> FileResponse:
        """A JPEG of the clip at `at`: eight rows of its frame and, beside it, the evidence for a class (Grad-CAM)."""
        return FileResponse(
            site.explanation(id, at, label), media_type="image/jpeg", headers={"cache-control": "no-store"}
        )

    return router
