"""When each frame is shown, from the time stamps that a container gives to its packets.

    clock = Clock(fps=Fraction(25), time_base=stream.time_base, in_decoding_order=False, joins=False)
    for packet in container.demux(stream):
        clock.add(packet)
        for frame in packet.decode():
            clock.seconds(frame, reorder_depth=stream.codec_context.reorder_depth)

Most files state the presentation time of every frame, and those times are taken as they are. Five kinds of files do
not, and FFmpeg passes their times on:

- AVI stores frames in decoding order and no times, so a frame's time is its place in that order.
- An AVI stream that was copied into MP4, MOV or MXF carries those places as if they were presentation times.
- Joined recordings (`cat a.mpg b.mpg`) start over, or jump, where the second one begins.
- A file of bare frames (Dirac) has no times, and FFmpeg makes up some that contradict the rate; its frames are counted.
- Some frames have no time (negative times in Matroska) or the time of the frame before.
"""

from collections import deque
from fractions import Fraction
from typing import Any

from av.video.frame import PictureType

DEFAULT_FPS = Fraction(25)  # what FFmpeg assumes for a stream that states no rate
LONGEST_GAP_SECONDS = 10  # FFmpeg's own limit (dts_delta_threshold), beyond which a gap is taken for a join
MOST_TIMES_OFF = 100  # beyond which FFmpeg has counted frames in ticks of another length
LONGEST_STEP_BACK_FRAMES = 16  # beyond which the recording starts over; H.264 holds back 16 frames at most


class Clock:
    """Presentation times of the frames of one stream, in seconds after its first frame; they rise strictly.

    fps: frames per second, which is the distance of frames that have no usable time; None means 25.
    time_base: seconds per tick of the stream.
    in_decoding_order: the container has no presentation times (AVI), so the decoding times count.
    joins: the container may be joined from recordings of different start times (AVFMT_TS_DISCONT), so a gap of more
        than LONGEST_GAP_SECONDS is the place of a join and is closed.
    states_times: False for a format without times (AVFMT_NOTIMESTAMPS). Once two frames of it are more than a hundred
        times closer or further than the rate says, frames are counted.
    """

    def __init__(
        self,
        *,
        fps: Fraction | None,
        time_base: Fraction,
        in_decoding_order: bool,
        joins: bool,
        states_times: bool = True,
    ) -> None:
        self._numerator, self._denominator = time_base.numerator, time_base.denominator
        frame_ticks = 1 / ((fps or DEFAULT_FPS) * time_base)
        # Integers where that is possible: a sum of fractions takes ten times as long.
        self._frame_ticks = int(frame_ticks) if frame_ticks.denominator == 1 else frame_ticks
        self._longest_gap = LONGEST_GAP_SECONDS / time_base if joins else None
        self._in_decoding_order = in_decoding_order
        self._states_times = states_times
        self._counts = False
        # Presentation times of packets without a frame yet, as long as they rise from packet to packet.
        self._waiting: deque[int] | None = None if in_decoding_order else deque()
        self._newest: int | None = None
        self._previous: Any = None
        self._origin: int | Fraction | None = None
        self._last: int | Fraction | None = None
        self._detour: int | Fraction | None = None
        self._is_behind = False

    def add(self, packet: Any) -> None:
        """Take note of the times of a packet, before it is decoded."""
        if self._waiting is None or not packet.size:  # the empty packet only flushes the decoder
            return
        if packet.pts is None:
            self._in_decoding_order = self._newest is None and packet.dts is not None
            self._waiting = None
        elif self._newest is not None and packet.pts <= self._newest:
            self._waiting = None  # the packets are in another order than their times: these are presentation times
        else:
            self._newest = packet.pts
            self._waiting.append(packet.pts)

    def seconds(self, frame: Any, *, reorder_depth: int) -> float:
        """When the next frame is shown. reorder_depth: frames that the decoder holds back to put them in order."""
        if self._waiting is not None:
            self._watch(frame, self._waiting, reorder_depth)
        ticks = self._from_dts(frame.dts, reorder_depth) if self._in_decoding_order else frame.pts
        self._counts = self._counts or (not self._states_times and self._is_absurd(ticks))
        self._last = self._following() if self._counts else self._place(ticks)
        self._previous = frame.dts
        return float(self._last * self._numerator / self._denominator)

    def _watch(self, frame: Any, waiting: deque[int], reorder_depth: int) -> None:
        """Find out whether the times, which rise from packet to packet, are decoding times."""
        while frame.pts is not None and waiting and waiting[0] <= frame.pts:
            if waiting.popleft() < frame.pts and frame.pict_type == PictureType.B:
                # A B-frame is shown before a picture that was stored earlier. Before any other kind of frame, it would
                # be a packet without a picture.
                previous = self._from_dts(self._previous, reorder_depth)
                self._origin = None if previous is None or self._last is None else previous - self._last
                self._in_decoding_order, self._waiting = True, None
                return

    def _is_absurd(self, ticks: int | Fraction | None) -> bool:
        """Whether a time stamp contradicts the rate of frames by far."""
        if ticks is None or self._origin is None or self._last is None:
            return False
        step = abs(Fraction(ticks - self._origin - self._last))
        return 0 < step * MOST_TIMES_OFF < self._frame_ticks or step > self._frame_ticks * MOST_TIMES_OFF

    def _from_dts(self, dts: int | None, reorder_depth: int) -> int | Fraction | None:
        """The presentation time of the frame that comes out when the packet of decoding time `dts` goes in."""
        return None if dts is None else dts - reorder_depth * self._frame_ticks

    def _place(self, ticks: int | Fraction | None) -> int | Fraction:
        """Ticks after the first frame, for the time stamp of the next one."""
        if ticks is None:
            self._origin = self._detour = None
            return self._following()
        if self._origin is None:
            self._origin = ticks - self._following()
        # MPEG program streams misstate the times of some frames in a row. Those get a temporary origin (`_detour`),
        # until a frame's own time is ahead again.
        for origin in (self._origin, self._detour):
            if origin is not None and self._rises(ticks - origin):
                self._detour = None if origin == self._origin else origin
                self._is_behind = False
                return ticks - origin
        assert self._last is not None
        ahead = ticks - (self._origin if self._detour is None else self._detour) - self._last
        if -LONGEST_STEP_BACK_FRAMES * self._frame_ticks < ahead <= 0:
            if not self._is_behind:
                # Less than a frame after the last one, so that the next frame's time can still be right.
                self._is_behind = True
                return self._last + Fraction(self._frame_ticks) / 2
            self._is_behind = False
            place = self._last + Fraction(self._frame_ticks) * 3 / 2
            self._detour = ticks - place
            return place
        self._origin, self._detour, self._is_behind = ticks - self._following(), None, False
        return self._following()

    def _rises(self, place: int | Fraction) -> bool:
        if self._last is None:
            return True
        return place > self._last and (self._longest_gap is None or place - self._last <= self._longest_gap)

    def _following(self) -> int | Fraction:
        return 0 if self._last is None else self._last + self._frame_ticks
