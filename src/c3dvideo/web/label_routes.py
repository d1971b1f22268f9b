"""The interface: labels, and the classifier that is fitted on them."""

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse

from c3dvideo.web.answers import LabelAnswer, LabelRequest, ProbeAnswer
from c3dvideo.web.labels_file import Part
from c3dvideo.web.library_routes import probe_answer
from c3dvideo.web.site_parts import Site

_MOST_PARTS = 100_000


def label_routes(site: Site) -> APIRouter:
    """The routes that read and change labels, and fit."""
    router = APIRouter(prefix="/api", tags=["labels"])

    @router.post("/labels")
    def change(request: LabelRequest) -> LabelAnswer:
        """Label clips or videos, or take their labels away; saved at once."""
        if len(request.parts) > _MOST_PARTS:
            raise HTTPException(422, f"{len(request.parts)} parts in one request; the limit is {_MOST_PARTS:,}")
        now = site.collection.now()
        parts = []
        for moment in request.parts:
            video = now.video(moment.id)
            if moment.seconds is None:
                parts.append(Part(video.name))
            else:
                clip = now.clip_at(moment.id, moment.seconds)
                parts.append(Part(video.name, float(now.start_seconds[clip]), float(now.end_seconds[clip])))
        site.labels.change(parts, request.label, now)
        return LabelAnswer(len(parts), site.labels.version)

    @router.get("/labels.csv", response_class=FileResponse)
    def download() -> Response:
        """The labels as `c3dvideo probe fit --labels` reads them."""
        if not site.labels.path.is_file():
            return Response("path,label,start_seconds,end_seconds\n", media_type="text/csv")
        return FileResponse(site.labels.path, media_type="text/csv", filename="labels.csv")

    @router.get("/probe")
    def probe() -> ProbeAnswer:
        """How far the classifier is."""
        return probe_answer(site.teaching.state())

    @router.post("/probe")
    def fit() -> ProbeAnswer:
        """Start to fit a classifier on the labels as they are now."""
        return probe_answer(site.teaching.fit())

    @router.get("/probe.npz", response_class=FileResponse)
    def probe_file() -> FileResponse:
        """The latest classifier as `c3dvideo predict --probe` reads it."""
        found = site.teaching.probe()
        if found is None:
            raise HTTPException(404, "there is no classifier yet; label clips of two classes and fit one")
        return FileResponse(found[0], media_type="application/octet-stream", filename="probe.npz")

    return router
