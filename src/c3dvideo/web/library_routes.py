"""The interface: the state, the list of videos, the tables of clips, one video, the map and the predictions."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from c3dvideo.choices import WebMap
from c3dvideo.errors import C3DVideoError
from c3dvideo.web.answers import (
    ClipColumns,
    ClipSpan,
    MapPlaces,
    Playback,
    PredictedColumns,
    ProbeAnswer,
    State,
    Timeline,
    VideoDetail,
    VideoList,
    VideoRow,
)
from c3dvideo.web.clip_maps import methods
from c3dvideo.web.media import PIECE_SECONDS
from c3dvideo.web.site_parts import Site
from c3dvideo.web.teaching import TeachingState
from c3dvideo.web.uploads import PREFIX, Upload
from c3dvideo.web.video_names import shown
from c3dvideo.web.web_collection import MissingVideoError


def library_routes(site: Site) -> APIRouter:
    """The routes about what the index holds."""
    router = APIRouter(prefix="/api", tags=["library"])

    @router.get("/state")
    def state() -> State:
        """Versions and counts; a page asks every few seconds."""
        now = site.collection.now()
        index = site.collection.index
        limits = site.uploads.limits
        return State(
            version=now.version,
            n_videos=len(now.videos),
            n_clips=len(now.start_seconds),
            layer=index.layer,
            fingerprint=index.fingerprint,
            labels_version=site.labels.version,
            labels_file=shown(str(site.labels.path)),
            has_videos=site.collection.root is not None,
            maps=list(methods()),
            probe=probe_answer(site.teaching.state()),
            max_upload_bytes=limits.max_bytes,
            max_upload_seconds=limits.max_seconds,
        )

    @router.get("/videos")
    def videos() -> VideoList:
        """Every video of the index; `missing` ones have no file any more."""
        now = site.collection.now()
        labels = site.labels.of_clips(now)
        return VideoList(
            now.version,
            [
                VideoRow(
                    video.id,
                    shown(video.name),
                    _common(labels[video.first : video.first + video.n_clips]),
                    video.first,
                    video.n_clips,
                    round(video.seconds, 3),
                    site.collection.is_missing(video.name),
                )
                for video in now.videos
            ],
        )

    @router.get("/clips", response_model=ClipColumns)
    def clips() -> Response:
        """Every clip, as columns."""
        now = site.collection.now()
        labels = site.labels.of_clips(now)
        names = sorted(set(labels) - {""})
        row = {name: number for number, name in enumerate(names)} | {"": -1}
        clusters = site.maps.clusters()
        return _json(
            version=now.version,
            video=now.video_of_clip.tolist(),
            start_seconds=np.round(now.start_seconds, 3).tolist(),
            end_seconds=np.round(now.end_seconds, 3).tolist(),
            labels=names,
            label=[row[label] for label in labels],
            cluster=[] if clusters is None else clusters.tolist(),
        )

    @router.get("/map", response_model=MapPlaces)
    def map(method: WebMap = "pca") -> Response:
        """The place of every clip; the first request starts to compute it."""
        found = site.maps.get(method)
        places = np.zeros((0, 2)) if found.places is None else np.round(found.places.astype(np.float64), 4)
        return _json(
            version=found.version,
            method=found.method,
            state=found.state,
            message=found.message,
            x=places[:, 0].tolist(),
            y=places[:, 1].tolist(),
        )

    @router.get("/predictions", response_model=PredictedColumns)
    def predictions() -> Response:
        """The best class of every clip by the latest classifier; empty without one."""
        site.teaching.begin()
        number = site.teaching.state().number
        version = site.collection.now().version
        found = site.teaching.predictions()
        if found is None:
            return _json(version=version, number=number, classes=[], best=[], confidence=[])
        classes, shares = found
        return _json(
            version=version,
            number=number,
            classes=classes,
            best=shares.argmax(axis=1).tolist(),
            confidence=np.round(shares.max(axis=1).astype(np.float64), 3).tolist(),
        )

    @router.get("/videos/{id}")
    def video(id: str) -> VideoDetail:
        """One video of the index, or an upload: its clips, how to play it, and its classes over time."""
        if id.startswith(PREFIX):
            return _upload_detail(site, site.uploads.get(id))
        now = site.collection.now()
        found, rows = now.video(id), now.clips_of(id)
        labels = site.labels.of_clips(now)[rows]
        spans = _spans(now.start_seconds[rows], now.end_seconds[rows], labels)
        predicted = site.teaching.predictions()
        timeline = None if predicted is None else _timeline(predicted[0], predicted[1][rows])
        playback, problem, missing = _playback(site, id, found.seconds)
        return VideoDetail(id, shown(found.name), _common(labels), missing, problem, spans, playback, timeline)

    return router


def probe_answer(state: TeachingState) -> ProbeAnswer:
    """The state of the classifier for the page."""
    about = state.about
    return ProbeAnswer(
        state=state.state,
        number=state.number,
        message=state.message,
        is_outdated=state.is_outdated,
        classes=about.get("classes", []),
        n_labelled=about.get("n_labelled", 0),
        accuracy=about.get("accuracy"),
        interval=about.get("interval"),
        chance=about.get("chance"),
    )


def _upload_detail(site: Site, upload: Upload) -> VideoDetail:
    found = upload.analysis
    if found is None:
        problem = upload.message or "the upload is being analysed"
        return VideoDetail(upload.id, shown(upload.name), "", False, problem, [], None, None)
    spans = _spans(found.start_seconds, found.end_seconds, [""] * len(found.vectors))
    timeline = _timeline(list(found.classes), found.shares) if found.classes else None
    playback, problem, missing = _playback(site, upload.id, float(found.end_seconds.max(initial=0.0)))
    return VideoDetail(upload.id, shown(upload.name), "", missing, problem, spans, playback, timeline)


def _playback(site: Site, id: str, seconds: float) -> tuple[Playback | None, str, bool]:
    """How to play a video, or why it cannot be played, and whether its file is missing."""
    try:
        info = site.media.info(site.path_of(id))
    except MissingVideoError as error:
        return None, str(error), True
    except C3DVideoError as error:
        return None, str(error), False
    length = max(seconds, info.seconds or 0.0)
    return Playback(info.mime, info.width, info.height, length, PIECE_SECONDS, info.codec), "", False


def _spans(starts: Any, ends: Any, labels: Sequence[str]) -> list[ClipSpan]:
    return [
        ClipSpan(round(start, 3), round(end, 3), label)
        for start, end, label in zip(starts.tolist(), ends.tolist(), labels, strict=True)
    ]


def _timeline(classes: list[str], shares: Any) -> Timeline:
    return Timeline(list(classes), np.round(np.asarray(shares, np.float64), 4).tolist())


def _common(labels: Sequence[str]) -> str:
    """The label that most of the labelled clips have; "" without any."""
    given = [label for label in labels if label]
    return max(sorted(set(given)), key=given.count) if given else ""


def _json(**columns: Any) -> Response:
    """Large columns straight to JSON: the models of FastAPI would take a second for 50,000 clips."""
    return Response(json.dumps(columns, separators=(",", ":")), media_type="application/json")
