"""One clip from the middle of a video without decoding what comes before it, bit for bit as reading from the start.

    clip = sought_clip("a.mp4", 754.0, plan=ClipPlan(), profile=CAFFE)
    if clip is None: ...                       # this file has to be read from its start

The packets before the clip are read but not decoded. Their time stamps show which frame is which, and which key frame
decoding may begin at. Wherever that leaves a doubt, there is no clip.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.logging import Capture
from av.video.frame import PictureType

from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.container import OpenStream, open_file
from c3dvideo.video.decode import frame_maker
from c3dvideo.video.preprocess import Profile, prepare_frame
from c3dvideo.video.reader import Clip

TOLERANCE_SECONDS = 0.01
_MOST_REORDERED = 32  # frames that any codec holds back to put them in order, and some more


@dataclass(frozen=True)
class _Place:
    """Where a clip lies: its first frame, the time stamps of all its frames, and that of the key frame to begin at."""

    start_frame: int
    start_seconds: float
    ticks: list[int]
    key_ticks: int


def sought_clip(path: str | Path, seconds: float, *, plan: ClipPlan, profile: Profile) -> Clip | None:
    """The whole clip that begins at `seconds`, of the centre view, as `read_clips` gives it.

    None where there is none, and where only reading from the start is sure to give the same: frame folders, AVI and
    transport streams, damage, key frames that later frames reach back beyond, and time stamps that leave a doubt.
    Raises DecodeError for what is no video.
    """
    if Path(path).is_dir():
        return None
    opened = open_file(Path(path), "keep")
    with opened.container:
        # Joined recordings start over; AVI has no time stamps.
        if opened.problem is not None or opened.joins or opened.container.format.name == "avi":
            return None
        try:
            with Capture() as log:
                place = _find(opened, seconds, plan)
                frames = [] if place is None else list(_decode(opened, place, str(path), plan, profile))
        except FFmpegError:
            return None
    if place is None or len(frames) < plan.clip_length or log:
        return None
    return Clip(place.start_frame, place.start_seconds, np.stack(frames, axis=2))


def _find(opened: OpenStream, seconds: float, plan: ClipPlan) -> _Place | None:
    """The place of the clip, from the packets up to its end."""
    ticks: list[int] = []
    keys: list[int] = []
    n_late = 0
    base = opened.stream.time_base
    for packet in opened.container.demux(opened.stream):
        if not packet.size:
            break
        if packet.pts is None or packet.is_discard or packet.is_corrupt:
            return None
        ticks.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
        n_late += (packet.pts - ticks[0]) * base >= seconds
        if n_late > plan.stride_frames + plan.span_frames + _MOST_REORDERED:
            break
    shown = sorted(set(ticks))
    if len(shown) < len(ticks) or not ticks or ticks[0] != shown[0] or ticks[0] not in keys:
        return None
    if ticks == shown and opened.stream.codec_context.has_b_frames:
        return None  # these may be times of decoding
    for start in range(0, len(shown) - plan.span_frames + 1, plan.stride_frames):
        at = float((shown[start] - shown[0]) * base.numerator / base.denominator)
        if at > seconds + TOLERANCE_SECONDS:
            return None  # some packets show no frame, or no clip begins then
        if at >= seconds - TOLERANCE_SECONDS:
            key = max(each for each in keys if each <= shown[start])
            return _Place(start, at, shown[start : start + plan.span_frames], key)
    return None


def _decode(opened: OpenStream, place: _Place, source: str, plan: ClipPlan, profile: Profile) -> Iterator[Any]:
    """The prepared frames of the clip, (1, 3, crop, crop) each; fewer where something is not as it has to be."""
    frame_of = frame_maker(source, profile.channel_order)
    views = profile.views("centre")
    opened.container.seek(place.key_ticks, stream=opened.stream, backward=True)
    position = 0
    begun = False
    for packet in opened.container.demux(opened.stream):
        begun = begun or packet.pts == place.key_ticks
        if not begun:
            if packet.pts is None or (packet.is_keyframe and packet.pts > place.key_ticks):
                return
            continue  # FFmpeg seeks by decoding times, and so may begin at the key frame before
        for decoded in packet.decode():
            if decoded.pts is None or decoded.is_corrupt:
                return
            # A key frame of another type begins a refresh that is complete only some frames later.
            if decoded.pts == place.key_ticks and decoded.pict_type != PictureType.I:
                return
            if decoded.pts < place.ticks[position]:
                continue
            if decoded.pts != place.ticks[position]:
                return
            if position % plan.sampling_rate == 0:
                frame = frame_of(place.start_frame + position, 0.0, decoded)
                yield prepare_frame(frame.picture, profile, views)
            position += 1
            if position == plan.span_frames:
                return
