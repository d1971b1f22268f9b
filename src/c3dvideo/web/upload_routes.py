"""The interface: upload a video, watch its analysis, and remove it."""

from fastapi import APIRouter, HTTPException, Query, Request

from c3dvideo.web.answers import UploadAnswer
from c3dvideo.web.site_parts import Site
from c3dvideo.web.uploads import Upload
from c3dvideo.web.video_names import shown

_MOST_TOP = 5


def upload_routes(site: Site) -> APIRouter:
    """The routes about uploads."""
    router = APIRouter(prefix="/api/uploads", tags=["uploads"])

    @router.post("", status_code=202, openapi_extra=_BODY)
    async def upload(request: Request, name: str = Query("video", max_length=400)) -> UploadAnswer:
        """The bytes of one video file as application/octet-stream. `name` is only shown."""
        limit = site.uploads.limits.max_bytes
        too_large = HTTPException(413, f"the file is larger than the limit of {limit / 1e6:,.0f} MB")
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > limit:
            raise too_large
        upload = site.uploads.begin(name)
        n_bytes = 0
        try:
            with upload.path.open("wb") as file:
                async for piece in request.stream():
                    n_bytes += len(piece)
                    if n_bytes > limit:
                        raise too_large
                    file.write(piece)
        except BaseException:  # also when the browser goes away: the half file is of no use
            site.uploads.remove(upload.id)
            raise
        if n_bytes == 0:
            site.uploads.remove(upload.id)
            raise HTTPException(422, "the file is empty")
        site.uploads.analyse(upload)
        return _answer(upload)

    @router.get("")
    def uploads() -> list[UploadAnswer]:
        """The uploads of this session, the newest first."""
        return [_answer(upload) for upload in site.uploads.all()]

    @router.get("/{id}")
    def state(id: str) -> UploadAnswer:
        """How far the analysis is, and the best classes."""
        return _answer(site.uploads.get(id))

    @router.delete("/{id}")
    def remove(id: str) -> UploadAnswer:
        """Forget the upload and delete its file."""
        found = site.uploads.get(id)
        site.uploads.remove(id)
        return _answer(found)

    return router


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def _answer(upload: Upload) -> UploadAnswer:
    found = upload.analysis
    top: list[tuple[str, float]] = []
    if found is not None and found.classes and len(found.shares):
        means = found.shares.mean(axis=0)
        top = [(found.classes[row], round(float(means[row]), 4)) for row in (-means).argsort()[:_MOST_TOP]]
    n_clips = 0 if found is None else len(found.vectors)
    message = upload.message or (found.damage if found is not None and found.damage else "")
    return UploadAnswer(upload.id, shown(upload.name), upload.state, message, n_clips, top)
