"""The web application of a live source: its page, the latest picture, and its state as JSON and as a stream of events.

    app = make_live_app(LiveView("0", summary, unit="probability"), token=None)        # an ASGI application

Events are made when a browser takes them, from what the view holds then: one that is slow gets fewer, never old ones.
"""

import asyncio
import time
from collections.abc import AsyncIterable

from fastapi import APIRouter, FastAPI, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from c3dvideo import __version__
from c3dvideo.web.app_basics import add_errors, add_page
from c3dvideo.web.live_view import LiveStatus, LiveView
from c3dvideo.web.request_guard import RequestGuard

_EVENT_SECONDS, _LOOK_SECONDS = 0.1, 0.02
_PICTURE_WAIT_SECONDS = 2.0


def make_live_app(view: LiveView, *, token: str | None) -> FastAPI:
    """The application of one view. token: None where no token is needed, which is only safe on the loopback address."""
    app = FastAPI(
        title="c3dvideo watch",
        version=__version__,
        description="The classes of a live source: its latest picture, its state, and the clips of the last minute.",
        docs_url=None,  # FastAPI's own pages load scripts from other servers
        redoc_url=None,
    )
    app.include_router(_routes(view))
    add_page(app, "live.html", ("live.js", "live.css", "app.css", "icon.svg"))
    add_errors(app)
    app.add_middleware(RequestGuard, token=token)
    return app


def _routes(view: LiveView) -> APIRouter:
    router = APIRouter(prefix="/api/live", tags=["live"])

    @router.get("")
    async def live() -> LiveStatus:
        """The present state, with the clips of the last minute."""
        return view.status()

    @router.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterable[LiveStatus]:
        """Server-sent events: the state with the clips of the last minute, then each change with the new clips.

        At most ten per second. The stream ends when the source has ended.
        """
        after, before = -1, None
        while True:
            after, status = view.news(after=after)
            if status != before:
                yield status
                before = status
            if status.state == "ended" and view.ended:
                return
            await asyncio.sleep(_EVENT_SECONDS)

    @router.get(
        "/picture.jpg",
        response_class=Response,
        responses={
            200: {"content": {"image/jpeg": {}}, "description": "The picture; its number is in the header X-Picture."},
            204: {"description": "There is no other picture yet."},
        },
    )
    async def picture(after: int = -1) -> Response:
        """The latest picture as JPEG, at most ten per second. after: the number of the one that is shown already.

        Waits up to two seconds for another picture.
        """
        end = time.monotonic() + _PICTURE_WAIT_SECONDS
        while view.picture.number in (-1, after):
            view.picture.want()
            if time.monotonic() >= end or view.ended:
                return Response(status_code=204)
            await asyncio.sleep(_LOOK_SECONDS)
        view.picture.want()
        number, jpeg = await run_in_threadpool(view.picture.jpeg)
        return Response(jpeg, media_type="image/jpeg", headers={"x-picture": str(number)})

    return router
