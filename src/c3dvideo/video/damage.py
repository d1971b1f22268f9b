"""Signs that a video is cut short or damaged: in the file's own statements, in FFmpeg's log and in its packets.

    check_size(Path("a.avi"))                          # DecodeError: the file was cut short: it has 900 of 1200 bytes
    Inspector("matroska,webm", path, may_begin_anywhere=False).good_frames(packet, frames, None, log)

FFmpeg's decoders conceal much damage and report it in the log only. docs/fidelity.md lists what is recognised, and
what is not, by container and codec.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from c3dvideo.errors import DecodeError
from c3dvideo.storage import Location

_LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
_LARGEST_DIRAC_UNIT = 16 << 20
_DIRAC_UNIT = b"BBCD"
ERROR = 16  # FFmpeg's AV_LOG_ERROR; worse is less

# Errors that FFmpeg logs for files that are whole and that it decodes completely.
_HARMLESS = re.compile(
    r"unable to decode APP fields|Referenced QT chapter track not found|mmco: unref short failure"
    rf"|Stream ends prematurely at \d+, should be {2**64 - 1}"
)
# What a demuxer may log while it opens a file counts only if it is about the content, because headers are often odd.
_ABOUT_CONTENT = re.compile(
    r"prematurely|mismatch|truncat|partial file|corrupt|damaged|invalid|exceed|unknown stream|failed to get packet",
    re.IGNORECASE,
)
_CUT_SHORT = re.compile(r"prematurely|truncat|partial file|failed to get packet", re.IGNORECASE)

_INCOMPLETE = "the last frame is incomplete"
_KEEP = "; keep the clips before the damage with `damaged='keep'`, or "

LogLine = tuple[int, str, str]


def error_detection(codec: str, *, may_begin_anywhere: bool) -> str:
    """FFmpeg's `err_detect` flags for a decoder: the strictest under which whole files pass.

    The Windows Media family fills its frames exactly, so that left-over bits mean damage: of 108 damaged copies the
    flags `bitstream` and `buffer` notice 94, `explode` alone 26. In MPEG-2 and MPEG-4 encoders pad frames freely.
    Under `explode` H.264 loses frames after the start of a broadcast recording, because they free pictures from before
    it. Without that flag the log shows the same ones of 160 damaged transport streams.
    """
    if codec.startswith(("wmv1", "wmv2", "msmpeg4")):
        return "explode+crccheck+bitstream+buffer"
    return "crccheck" if codec == "h264" and may_begin_anywhere else "explode+crccheck"


class Inspector:
    """Lets the good frames of one stream pass and raises DecodeError at the first sign of damage.

    path: the file, or None for what a server sends.
    n_bytes: the size of both; None where it is not known.
    connection: what was wrong with the connection to a server on opening, for the error.
    may_begin_anywhere: the format is that of broadcasts, whose recordings begin and are joined at any packet.
    """

    def __init__(
        self,
        demuxer: str,
        path: Location | None,
        *,
        may_begin_anywhere: bool,
        n_bytes: int | None = None,
        connection: str | None = None,
    ) -> None:
        # These hold nothing but frames, and FFmpeg passes over the rest of one, or fills it up.
        self._n_bytes = n_bytes if demuxer in ("yuv4mpegpipe", "dv") else None
        self._path = path
        self._connection = connection
        self._began = not may_begin_anywhere
        self._start: int | None = None
        self._n_frames = 0
        self._doubtful = 0  # packets since the one that was flagged
        self._held: list[Any] = []
        self._end = 0

    def good_frames(
        self, packet: Any, frames: Sequence[Any], problem: Exception | None, log: Sequence[LogLine]
    ) -> Iterator[Any]:
        """The frames that came out when `packet` went in, unless `problem`, the log or they themselves show damage."""
        if problem is not None and _is_repeated_header(packet, problem):
            return
        reason = _complaint(log)
        if reason is None and problem is not None:
            reason = str(getattr(problem, "strerror", problem))
        is_before_the_start = self._is_before_the_start(packet)
        if reason is not None:
            if is_before_the_start:
                return
            raise self.error(reason)
        if packet.is_corrupt or self._doubtful:
            frames = self._decide(packet, frames)
        if packet.pos is not None and packet.size:
            self._end = packet.pos + packet.size
            if self._n_bytes is not None and self._end > self._n_bytes:
                raise self.error(_INCOMPLETE)
        for frame in frames:
            if frame.is_corrupt:
                raise self.error("parts of a frame are missing")
            self._n_frames += 1
            yield frame

    def _is_before_the_start(self, packet: Any) -> bool:
        """Whether a packet comes before the first key frame of a recording, in the file or in time.

        Such packets need pictures from before the recording began, so they cannot be decoded in any copy of the file.
        """
        if not self._began and packet.is_keyframe:
            self._began, self._start = True, packet.pts
        is_earlier = self._start is not None and packet.pts is not None and packet.pts < self._start
        return not self._began or is_earlier

    def _decide(self, packet: Any, frames: Sequence[Any]) -> Sequence[Any]:
        """The frames that can pass by now, after a packet that FFmpeg flagged as corrupt.

        A recording that another one is joined to ends in such a packet, because the counters of the other one start
        over. That one begins with a key frame, which is the first or second packet from there. Anywhere else, packets
        are missing.
        """
        released: list[Any] = []
        if packet.is_keyframe and self._doubtful:
            released, self._held, self._doubtful = self._held, [], 0
        if not packet.is_corrupt and not self._doubtful:
            return [*released, *frames]
        self._held += frames
        self._doubtful += 1
        if self._doubtful > 2 or not packet.size:
            raise self.error("packets are missing")
        return released

    def check_end(self, log: Sequence[LogLine]) -> None:
        """Raises DecodeError where the file ends inside a frame. log: what FFmpeg reported at its end."""
        reason = _complaint(log)
        if reason is not None:
            raise self.error(reason)
        if self._n_bytes is not None and self._n_bytes != self._end:
            raise self.error(_INCOMPLETE)

    def error(self, reason: str) -> DecodeError:
        """The error for damage after the frames that have passed."""
        reason = reason if self._connection is None else f"{self._connection}; {reason}"
        return _damaged(f"FFmpeg stumbles after {self._n_frames} good frames", reason, is_file=self._path is not None)


def problem_on_opening(log: Sequence[LogLine], demuxer: str, *, is_file: bool) -> DecodeError | None:
    """The damage to the content of a file that its demuxer reported while FFmpeg opened it.

    Opening reads ahead, and a demuxer reports only once what it meets there. What decoders report comes again.
    """
    # Some demuxers log under a longer name ("AV1 Annex B/low overhead OBU demuxer").
    said = [text for text in log if text[1] == demuxer or text[1].endswith(" demuxer")]
    reason = _complaint([line for line in said if _ABOUT_CONTENT.search(line[2])])
    was_cut = any("prematurely" in text for _, _, text in log)
    if reason is not None and not is_file and demuxer.startswith("mov") and "partial file" in reason and not was_cut:
        # FFmpeg met the index at the end of the file and could not go back: the connection only moves forwards.
        return DecodeError(
            "its index comes after its frames, and its server cannot send parts of a file (HTTP ranges); download the "
            "file and name that, or put the index first: ffmpeg -i FILE -c copy -movflags +faststart NEW.mp4"
        )
    return None if reason is None else _damaged("FFmpeg found it so on opening", reason, is_file=is_file)


def is_about_the_end(problem: DecodeError) -> bool:
    """Whether the problem is that the file ends too early, so that everything in it is good."""
    return _CUT_SHORT.search(str(problem)) is not None


def _complaint(log: Sequence[LogLine]) -> str | None:
    """The first message that means damage."""
    return next((text.strip() for level, _, text in log if level <= ERROR and not _HARMLESS.search(text)), None)


def _is_repeated_header(packet: Any, problem: Exception) -> bool:
    """Whether Theora refuses a packet because it is the comment with which the next of several joined files begins."""
    return isinstance(problem, PermissionError) and bytes(packet)[:1] == b"\x81"


def _damaged(where: str, reason: str, *, is_file: bool) -> DecodeError:
    if is_file:
        return DecodeError(
            f"the file is damaged or was cut short: {where} ({reason}){_KEEP}"
            "repair it with: ffmpeg -i FILE REPAIRED.mp4"
        )
    return DecodeError(f"the video is damaged, or its transfer was cut short: {where} ({reason}){_KEEP}fetch it again")


def without_advice(problem: DecodeError) -> str:
    """The message of a problem without what to do next, for videos whose good part has been kept."""
    return str(problem).partition(_KEEP)[0]


def ended_without_length(log: Sequence[LogLine]) -> bool:
    """Whether a server that had not stated a length closed the connection, which is how it ends a file."""
    return any(f"should be {2**64 - 1}" in text for _, _, text in log)


def cut_transfer(log: Sequence[LogLine]) -> str | None:
    """What FFmpeg says of a server that closed the connection before the length that it had stated, if one did."""
    reason = _complaint([line for line in log if "prematurely" in line[2]])
    return None if reason is None else f"the server closed the connection early: {reason}"


def check_size(path: Location) -> None:
    """Raises DecodeError for a file that is empty, shorter than it says, or that ends inside a packet or page."""
    size = path.stat().st_size
    if size == 0:
        raise DecodeError("the file is empty (0 bytes)")
    with path.open("rb") as file:
        head = file.read(4096)
        expected = _stated_size(head)
        if head.startswith(b"OggS"):
            file.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
            expected = size + _bytes_missing_from_page(file.read())
        if head.startswith(_DIRAC_UNIT):
            file.seek(max(0, size - _LARGEST_DIRAC_UNIT))
            expected = size + _bytes_missing_from_unit(file.read())
        packet = _transport_packet_size(head)
        rest = 0 if packet is None else size % packet
        file.seek(size - rest)
        # Bytes behind the last packet that are no packet do no harm. Of 192 bytes, a time stamp comes first.
        is_packet = rest > 0 and file.read(rest)[4 if packet == 192 else 0 :][:1] in (b"\x47", b"")
    if expected is not None and size < expected:
        raise DecodeError(f"the file was cut short: it has {size} of {expected} bytes; fetch or record it again")
    if is_packet:
        raise DecodeError(
            f"the file was cut short: its last transport packet has {rest} of {packet} bytes; fetch or record it again"
        )


def _stated_size(head: bytes) -> int | None:
    """The least file size that an AVI, Matroska, WebM, ASF or FLV file states for itself, if it is one and does."""
    if head.startswith(b"RIFF"):
        size = int.from_bytes(head[4:8], "little")
        return None if size == 0xFFFF_FFFF else 8 + size
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        with suppress(IndexError):
            return _matroska_size(head)
    if head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return _asf_size(head)
    if head.startswith(b"FLV"):
        return _flv_size(head)
    return None


def _matroska_size(head: bytes) -> int | None:
    header_size, segment = _ebml_number(head, 4)
    if header_size is None:
        return None
    segment += header_size
    segment_size, content = _ebml_number(head, segment + 4)
    is_segment = head[segment : segment + 4] == b"\x18\x53\x80\x67"
    return content + segment_size if is_segment and segment_size is not None else None


def _ebml_number(data: bytes, at: int) -> tuple[int | None, int]:
    """An EBML size (None: unknown) and the position behind it."""
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), at + length


def _asf_size(head: bytes) -> int | None:
    """The size in the file properties object of ASF (WMV), which a broadcast leaves open."""
    at = head.find(b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65")
    if at < 0 or len(head) < at + 92:
        return None
    is_broadcast = head[at + 88] & 1
    return None if is_broadcast else int.from_bytes(head[at + 40 : at + 48], "little")


def _flv_size(head: bytes) -> int | None:
    """The size in the metadata of an FLV file; a recording of a stream states 0 or nothing."""
    name = b"\x00\x08filesize\x00"  # an AMF key and the type of its value, a double
    at = head.find(name) + len(name)
    if at < len(name) or len(head) < at + 8:
        return None
    stated: float = struct.unpack(">d", head[at : at + 8])[0]
    return int(stated) if 0 < stated < 2**53 else None


def _bytes_missing_from_page(tail: bytes) -> int:
    """What the last page of an Ogg file lacks. tail: the end of the file."""
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    header = tail[at : at + 27]
    n_segments = header[26] if len(header) == 27 else 1
    segments = tail[at + 27 : at + 27 + n_segments]
    end = at + 27 + n_segments + sum(segments)
    return max(0, end - len(tail))


def _bytes_missing_from_unit(tail: bytes) -> int:
    """What the last unit of a Dirac or VC-2 file lacks. tail: the end of the file.

    A unit begins with 13 bytes: four of a name, its kind, and how far away the next and the previous one are.
    """
    at = tail.rfind(_DIRAC_UNIT)
    if at < 0:
        return 0
    header = tail[at : at + 13]
    if len(header) < 13:
        return 13 - len(header)
    following, previous = int.from_bytes(header[5:9]), int.from_bytes(header[9:])
    is_unit = 0 < previous <= at and tail[at - previous :].startswith(_DIRAC_UNIT)
    return max(0, at + following - len(tail)) if is_unit else 0


def _transport_packet_size(head: bytes) -> int | None:
    """188 for a transport stream, 192 with the time stamps of Blu-ray and cameras, 204 with a broadcast's checksums."""
    for size, offset in ((188, 0), (192, 4), (204, 0)):
        starts = head[offset::size]
        if len(starts) > 4 and set(starts) == {0x47}:
            return size
    return None


def check_index(stream: Any, path: Location) -> None:
    """Raises DecodeError for a file whose index names bytes behind its end."""
    index = stream.index_entries
    if not index:
        return
    end, size = index[-1].pos + index[-1].size, path.stat().st_size
    if end > size:
        raise DecodeError(f"the file was cut short: it has {size} of at least {end} bytes; fetch or record it again")


def hint(path: Location) -> str:
    """What the first bytes say about a file that FFmpeg does not read."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(512)
        if head[4:8] == b"ftyp":
            return "; it is an MP4 file without its index (moov), as an interrupted recording or copy leaves it"
        if head.startswith((b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD")):
            return "; it is a playlist or script, which names other files: give those instead"
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or not set(head) - set(range(32, 127)) - set(b"\t\r\n"):
            return "; it holds text"
    return ""
