"""The interface: neighbours, searches by examples, and the comparison of two videos."""

from typing import Annotated

from fastapi import APIRouter, Query

from c3dvideo.choices import SearchKind
from c3dvideo.web.answers import Comparison, FoundList, Moment, SearchRequest, Seconds
from c3dvideo.web.similar_clips import Finder
from c3dvideo.web.site_parts import Site

_MOST_FOUND = 500
Top = Annotated[int, Query(ge=1, le=_MOST_FOUND)]


def search_routes(site: Site) -> APIRouter:
    """The routes that compare clips."""
    router = APIRouter(prefix="/api", tags=["search"])
    finder = Finder(site)

    @router.get("/videos/{id}/neighbours")
    def neighbours(id: str, at: Seconds | None = None, top: Top = 12, kind: SearchKind = "clips") -> FoundList:
        """What is most like the clip at second `at`, or like the whole video, in other videos."""
        return FoundList(finder.search(like=[Moment(id, at)], unlike=[], top=top, kind=kind))

    @router.post("/search")
    def search(request: SearchRequest) -> FoundList:
        """What is like all of `like` and unlike all of `unlike`."""
        top = min(max(request.top, 1), _MOST_FOUND)
        return FoundList(finder.search(like=request.like, unlike=request.unlike, top=top, kind=request.kind))

    @router.get("/compare")
    def compare(a: str, b: str) -> Comparison:
        """Every clip of `a` against every clip of `b`."""
        return finder.compare(a, b)

    return router
