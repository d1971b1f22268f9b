"""The page of the demo: one HTML file with text, a map and moving pictures, which opens from disk anywhere.

    page = DemoPage(title="What C3D computes", introduction=["64 videos, 8 classes."])
    write_page(page, "report.html")

The template is `templates/report.html`. Pictures are data inside the page; nothing is fetched and no script runs. The
map and the confusion matrix are drawn as SVG and HTML, so that their text keeps its size on a phone and in dark mode.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from c3dvideo.files import atomic_text
from c3dvideo.plots import class_style
from c3dvideo.probing.probe_score import frequent_confusions

MAP_WIDTH, MAP_HEIGHT = 100.0, 72.0
_MARGIN = 3.0
_MOST_COLUMNS = 12
# Outlines of the markers of `plots.class_style`, in a box of -1 to 1.
_OUTLINES = {
    "o": "M1,0A1,1 0 1 1 -1,0A1,1 0 1 1 1,0Z",
    "s": "M-.9,-.9H.9V.9H-.9Z",
    "^": "M0,-1.1L1.05,.85H-1.05Z",
    "D": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "v": "M0,1.1L1.05,-.85H-1.05Z",
    "P": "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "X": "M-1.05,-.5L-.5,-1.05L0,-.55L.5,-1.05L1.05,-.5L.55,0L1.05,.5L.5,1.05L0,.55L-.5,1.05L-1.05,.5L-.55,0Z",
    "*": "M0,-1.25L.33,-.4L1.2,-.38L.5,.16L.75,1.05L0,.53L-.75,1.05L-.5,.16L-1.2,-.38L-.33,-.4Z",
}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A small moving picture (WebP) with its caption; `kind` "good" or "bad" colours its frame."""

    picture: bytes
    caption: str
    kind: str = ""

    @property
    def source(self) -> str:
        """The picture as the address of an image."""
        return f"data:image/webp;base64,{b64encode(self.picture).decode()}"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A score as a bar from the zero line, left for negative ones; `start`, `width` and `zero` are percentages."""

    name: str
    score: float
    start: float
    width: float
    zero: float


@dataclass(frozen=True, kw_only=True)
class DemoPage:
    """What the page shows, from top to bottom; empty parts are left out.

    remarks: limits of what the page shows, in a box. figures: pairs of a large figure and what it is. points: (n, 2) of
    the map, beside the names and class names of the videos. confusion: counts, rows the true class, beside `classes`.
    scores: of the video in `example`, by class. neighbours: rows of a video and those most like it.
    """

    title: str
    introduction: Sequence[str]
    remarks: Sequence[str] = ()
    figures: Sequence[tuple[str, str]] = ()
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    names: Sequence[str] = ()
    labels: Sequence[str] = ()
    classes: Sequence[str] = ()
    confusion: Sequence[Sequence[int]] = ()
    example: Tile | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    neighbours: Sequence[Sequence[Tile]] = ()
    commands: Sequence[str] = ()


def render_page(page: DemoPage) -> str:
    """The HTML of the page; every text is escaped."""
    environment = Environment(
        loader=PackageLoader("c3dvideo.demo", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = sorted(set(page.labels))
    return environment.get_template("report.html").render(
        page=page,
        width=MAP_WIDTH,
        height=MAP_HEIGHT,
        marks=_marks(page, shown),
        legend=[{"name": name, **_style(index)} for index, name in enumerate(shown) if name],
        matrix=_matrix(page) if 0 < len(page.classes) <= _MOST_COLUMNS else [],
        confusions=frequent_confusions(page.confusion, page.classes) if len(page.classes) > _MOST_COLUMNS else [],
        bars=bars(page.scores),
    )


def write_page(page: DemoPage, path: str | Path) -> None:
    """Write the page as one file, complete or not at all; raises StoreError when it cannot be written."""
    with atomic_text(path) as file:
        file.write(render_page(page))


def bars(scores: Mapping[str, float]) -> list[Bar]:
    """One bar per score on a common scale that holds zero; negative scores extend to the left of the zero line."""
    low, high = min(0.0, *scores.values(), 0.0), max(0.0, *scores.values(), 0.0)
    scale = 100 / ((high - low) or 1.0)
    return [
        Bar(
            name=name,
            score=score,
            start=scale * (min(score, 0.0) - low),
            width=scale * abs(score),
            zero=scale * -low,
        )
        for name, score in scores.items()
    ]


def _marks(page: DemoPage, shown: Sequence[str]) -> list[dict[str, Any]]:
    """Place, outline, colour and title of every point of the map."""
    if not len(page.points):
        return []
    low, high = page.points.min(axis=0), page.points.max(axis=0)
    share = (page.points - low) / np.where(high > low, high - low, 1.0)
    size = np.array([MAP_WIDTH, MAP_HEIGHT]) - 2 * _MARGIN
    places = _MARGIN + share * size
    return [
        {"x": x, "y": y, "title": f"{label}: {name}" if label else name, **_style(shown.index(label))}
        for (x, y), name, label in zip(places.tolist(), page.names, page.labels, strict=True)
    ]


def _style(index: int) -> dict[str, str]:
    colour, marker = class_style(index)
    return {"colour": colour, "outline": _OUTLINES[marker]}


def _matrix(page: DemoPage) -> list[dict[str, Any]]:
    """The rows of the confusion matrix: number, class, and cells of a count and its share of the row in percent."""
    return [
        {
            "number": number,
            "name": name,
            "cells": [{"count": count, "share": round(100 * count / max(sum(row), 1))} for count in row],
        }
        for number, (name, row) in enumerate(zip(page.classes, page.confusion, strict=True), start=1)
    ]
