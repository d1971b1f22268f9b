"""Servers of this machine that send a video as a camera would: over RTSP and over HTTP; both can be killed."""

import re
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, Self

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=control:*\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, handler: type[StreamRequestHandler], video: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.video = video
        self.connections: list[socket.socket] = []
        self.senders: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def kill(self) -> None:
        """End as a killed process does: every connection breaks."""
        self.shutdown()
        self.server_close()
        for sender in self.senders:
            sender.kill()
            sender.wait()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Rtsp(StreamRequestHandler):
    """DESCRIBE, SETUP, PLAY and TEARDOWN of one H.264 track over UDP, which FFmpeg sends in real time."""

    server: _Server

    def handle(self) -> None:
        port = 0
        with suppress(OSError):
            while request := self._request():
                method, headers = request
                answer, body = [f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('cseq', '0')}\r\nSession: 1\r\n"], ""
                if method == "OPTIONS":
                    answer.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n")
                elif method == "DESCRIBE":
                    body = SDP
                    answer.append("Content-Type: application/sdp\r\n")
                elif method == "SETUP":
                    found = re.search(r"client_port=(\d+)-(\d+)", headers.get("transport", ""))
                    if found is None:  # TCP
                        answer = [f"RTSP/1.0 461 Unsupported Transport\r\nCSeq: {headers.get('cseq', '0')}\r\n"]
                    else:
                        port = int(found[1])
                        answer.append(f"Transport: RTP/AVP;unicast;{found[0]};server_port=40000-40001\r\n")
                self.wfile.write(f"{''.join(answer)}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                if method == "PLAY":
                    self._send_to(port)

    def _request(self) -> tuple[str, dict[str, str]] | None:
        first = self.rfile.readline().decode().split()
        headers = {}
        while line := self.rfile.readline().decode().strip():
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        return (first[0], headers) if first else None

    def _send_to(self, port: int) -> None:
        command = ["ffmpeg", "-v", "quiet", "-nostdin", "-re", "-stream_loop", "-1", "-i", str(self.server.video)]
        command += ["-an", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10"]
        command += ["-f", "rtp", f"rtp://127.0.0.1:{port}?pkt_size=1200"]
        self.server.senders.append(subprocess.Popen(command))


class _Http(StreamRequestHandler):
    """An MPEG transport stream without a length, at about four times real time, again and again."""

    server: _Server

    def handle(self) -> None:
        with suppress(OSError):
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
            content = self.server.video.read_bytes()
            step = 188 * max(1, len(content) // 188 // 20)
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(0.02)


def serve_rtsp(video: Path, port: int = 0) -> _Server:
    """An RTSP server; its address is rtsp://127.0.0.1:<port>/live."""
    return _Server(_Rtsp, video, port)


def serve_http(video: Path, port: int = 0) -> _Server:
    """An HTTP server of a transport stream; its address is http://127.0.0.1:<port>/live.ts."""
    return _Server(_Http, video, port)
