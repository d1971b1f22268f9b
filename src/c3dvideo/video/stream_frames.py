"""The frames of an open stream, packet by packet, with what FFmpeg logs of each.

    for frame in decoded_frames(opened, clock):
        ...                                         # PyAV frames in the order in which they are shown

FFmpeg's log belongs to the packet that caused it, so that `damage` can find the first frame that is not to be trusted.
"""

import time
from collections.abc import Iterator
from typing import Any

import av
from av.error import FFmpegError
from av.logging import Capture

from c3dvideo.video.container import OpenStream, no_data, reading_reason
from c3dvideo.video.damage import Inspector, LogLine, cut_transfer, ended_without_length
from c3dvideo.video.timestamps import Clock


def decoded_frames(opened: OpenStream, clock: Clock) -> Iterator[Any]:
    """The frames as FFmpeg gives them. Raises DecodeError at damage; a live stream leaves out what is damaged."""
    inspector = Inspector(
        opened.container.format.name,
        opened.path,
        may_begin_anywhere=opened.joins,
        n_bytes=_n_bytes(opened),
        connection=opened.connection,
    )
    packets = _Packets(opened)
    while True:
        frames: list[Any] = []
        problem: FFmpegError | None = None
        with Capture() as log:
            try:
                packet = packets.next(log)
            except (FFmpegError, OSError) as error:
                if opened.file is not None:
                    opened.file.check()
                raise inspector.error(
                    reading_reason(error, opened.stall_seconds, opened.path, cut_transfer(log))
                ) from error
            # Of a file that is cut short, the decoder may hold a later frame than the next one, so it stays there.
            if packet is None or (opened.problem is not None and not packet.size):
                break
            clock.add(packet)
            try:
                frames = packet.decode()
            except FFmpegError as error:
                problem = error
        yield from frames if opened.is_live else inspector.good_frames(packet, frames, problem, log)
    if opened.file is not None:
        opened.file.check()
    if not opened.is_live:
        inspector.check_end(log)


def _n_bytes(opened: OpenStream) -> int | None:
    """The size of what is read; None where a server does not state it."""
    if opened.is_live:
        return None
    n_bytes = opened.container.size if opened.path is None else opened.path.stat().st_size
    return n_bytes if n_bytes > 0 else None


class _Packets:
    """The packets of one stream, the last of which is empty and makes the decoder deliver what it holds back."""

    def __init__(self, opened: OpenStream) -> None:
        self._stream = opened.stream
        self._packets = opened.container.demux(opened.stream)
        self._stall_seconds = opened.stall_seconds
        self._states_length = opened.states_length

    def next(self, log: list[LogLine]) -> Any:
        """The next packet, None at the end. Raises FFmpegError, and TimeoutError when a server has stopped sending."""
        started = time.monotonic()
        try:
            packet = next(self._packets, None)
        except FFmpegError as error:
            if self._stall_seconds is not None and time.monotonic() - started > self._stall_seconds:
                raise TimeoutError(no_data(self._stall_seconds)) from error
            if self._states_length and not ended_without_length(log):
                raise
            packet = av.Packet()
            packet.stream, packet.time_base = self._stream, self._stream.time_base
        if self._stall_seconds is not None and time.monotonic() - started > self._stall_seconds:
            # Some demuxers take the part that has come for a whole packet.
            raise TimeoutError(no_data(self._stall_seconds))
        return packet
