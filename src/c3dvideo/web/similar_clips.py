"""What is like what: neighbours of clips, videos and uploads, searches by examples, and the comparison of two videos.

finder = Finder(site)
finder.search(like=[Moment("3f0a...", 4.0)], unlike=[], top=24, kind="clips")
finder.compare("3f0a...", "77b1...")
"""

import math
from collections.abc import Sequence

import numpy as np

from c3dvideo.choices import SearchKind
from c3dvideo.errors import UsageError
from c3dvideo.probing.descriptors import unit_rows
from c3dvideo.search.index import Neighbour
from c3dvideo.search.query import combine
from c3dvideo.web.answers import ClipSpan, Comparison, Found, Moment
from c3dvideo.web.site_parts import Site
from c3dvideo.web.uploads import PREFIX
from c3dvideo.web.video_names import shown, video_id
from c3dvideo.web.web_collection import Array, shown_times

_MOST_COMPARED = 240


class Finder:
    """Searches of one site; every method holds the index's lock while it reads."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def search(
        self, *, like: Sequence[Moment], unlike: Sequence[Moment], top: int, kind: SearchKind, others: bool = True
    ) -> list[Found]:
        """The clips or videos nearest to all of `like` and far from all of `unlike`, best first.

        others: leave out the videos of `like` themselves. Raises UsageError without an example.
        """
        if not like:
            raise UsageError("a search needs at least one clip or video to be like")
        collection = self._site.collection
        with collection.lock:
            towards, away = (np.array([self._direction(moment) for moment in part]) for part in (like, unlike))
            direction = combine(towards, away)
            now = collection.now()
            own = {now.video(moment.id).name for moment in like if not moment.id.startswith(PREFIX)}
            found = collection.index.search_direction(
                direction, top=top, kind=kind, exclude_videos=own if others else ()
            )
            space = collection.index.space
            percentiles = [space.percentile(each.score, kind) for each in found]
            starts = self._starts(found, direction)
        labels = self._site.labels.of_clips(now)
        results = []
        for each, start, percentile in zip(found, starts, percentiles, strict=True):
            if each.video not in now.by_name:
                continue  # it was removed a moment ago
            video = now.videos[now.by_name[each.video]]
            clip = now.clip_at(video.id, start)
            end = float(now.end_seconds[clip]) if kind == "clips" else video.seconds
            results.append(
                Found(
                    video.id,
                    shown(video.name),
                    labels[clip],
                    round(start, 3),
                    round(end, 3),
                    round(each.score, 4),
                    None if math.isnan(percentile) else round(percentile, 1),
                )
            )
        return results

    def _starts(self, found: Sequence[Neighbour], direction: Array) -> list[float]:
        """When each match begins. The clips of frame folders have no times in the index, so they are ranked here."""
        ranked: dict[str, list[float]] = {}
        starts = []
        for each in found:
            if not math.isnan(each.start_seconds):
                starts.append(each.start_seconds)
                continue
            if each.video not in ranked:
                directions, times, _ = self._directions(video_id(each.video))
                ranked[each.video] = times[np.argsort(directions @ direction, kind="stable")].tolist()
            starts.append(ranked[each.video].pop() if ranked[each.video] else 0.0)
        return starts

    def compare(self, a: str, b: str) -> Comparison:
        """The score of every clip of `a` with every clip of `b`; at most 240 rows and columns, of averaged clips."""
        with self._site.collection.lock:
            (rows, row_spans), (columns, column_spans) = (self._clips(each) for each in (a, b))
            space = self._site.collection.index.space
            scores = rows @ columns.T
            whole = float((unit_rows(rows.mean(axis=0)[None]) @ unit_rows(columns.mean(axis=0)[None]).T)[0, 0])
            percentile = space.percentile(whole, "videos")
        return Comparison(
            a,
            b,
            row_spans,
            column_spans,
            np.round(scores.astype(np.float64), 3).tolist(),
            round(whole, 4),
            None if math.isnan(percentile) else round(percentile, 1),
        )

    def _direction(self, moment: Moment) -> Array:
        """The direction of a clip, or of a whole video."""
        directions, starts, _ = self._directions(moment.id)
        if moment.seconds is None:
            whole: Array = unit_rows(directions.mean(axis=0)[None])[0]
            return whole
        clip = max(0, int(np.searchsorted(starts, moment.seconds + 0.001, side="right")) - 1)
        chosen: Array = directions[clip]
        return chosen

    def _directions(self, wanted: str) -> tuple[Array, Array, Array]:
        """Directions float32 (n, K), start and end seconds of the clips of a video or an upload."""
        index = self._site.collection.index
        if wanted.startswith(PREFIX):
            upload = self._site.uploads.get(wanted)
            if upload.analysis is None:
                raise UsageError(upload.message or "the upload is still being analysed")
            found = upload.analysis
            return index.space.directions(found.vectors), found.start_seconds, found.end_seconds
        now = self._site.collection.now()
        table = index.clips(now.video(wanted).name, vectors="directions")
        return table.vectors, *shown_times(table.start_seconds, table.end_seconds, index.settings)

    def _clips(self, wanted: str) -> tuple[Array, list[ClipSpan]]:
        """Directions of at most _MOST_COMPARED spans of a video."""
        directions, starts, ends = self._directions(wanted)
        groups = np.array_split(np.arange(len(starts)), min(len(starts), _MOST_COMPARED))
        means = np.stack([directions[group].mean(axis=0) for group in groups])
        spans = [ClipSpan(round(float(starts[g[0]]), 3), round(float(ends[g[-1]]), 3), "") for g in groups]
        return unit_rows(means).astype(np.float32), spans
