"""Downloads from a server on this machine: interrupted, resumed, of the wrong hash, missing, unreachable."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from c3dvideo import C3D
from c3dvideo.errors import DownloadError, UsageError, WeightsError
from c3dvideo.files import cache_folder
from c3dvideo.weights import published
from c3dvideo.weights.download import download
from c3dvideo.weights.formats.caffe import write_blob, write_model
from c3dvideo.weights.load import load_weights
from c3dvideo.weights.published import PUBLISHED, Hash, Published, fetch, fetch_file


class Server(ThreadingHTTPServer):
    """Serves `files`; closes the connection after `breaks` bytes as often as that list has entries."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.etag: str | None = '"1"'
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if wanted and self.server.ranges and self.headers.get("If-Range") == self.server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()
        stop = self.server.breaks.pop(0) if self.server.breaks else len(content)
        self.wfile.write(content[start : start + stop])
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()


def test_whole_file(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = CONTENT
    download(f"{server.url}/a", tmp_path / "sub" / "a")
    assert (tmp_path / "sub" / "a").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a"]
    assert server.requests == [("/a", None)]


def test_interrupted_download_goes_on_by_itself(server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.breaks = CONTENT, [30_000, 20_000]
    download(f"{server.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=30000-", "bytes=50000-"]


def test_interrupted_download_is_continued_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.breaks = CONTENT, [30_000]
    with pytest.raises(DownloadError, match=r"/a broke off after 30,000 bytes .* they are kept, run it again"):
        download(f"{server.url}/a", tmp_path / "a", attempts=1)
    assert not (tmp_path / "a").exists()
    download(f"{server.url}/a", tmp_path / "a", attempts=1)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.requests[-1] == ("/a", "bytes=30000-")


@pytest.mark.parametrize("change", ["another version", "no ranges", "no version"])
def test_starts_over_when_it_cannot_be_continued(change: str, server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.breaks = CONTENT, [30_000]
    if change == "no version":
        server.etag = None
    with pytest.raises(DownloadError):
        download(f"{server.url}/a", tmp_path / "a", attempts=1)
    server.files["/a"] = CONTENT[::-1]
    if change == "another version":
        server.etag = '"2"'
    elif change == "no ranges":
        server.ranges = False
    download(f"{server.url}/a", tmp_path / "a", attempts=1)
    assert (tmp_path / "a").read_bytes() == CONTENT[::-1]


def test_missing_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"/none could not be fetched: HTTP 404 Not Found"):
        download(f"{server.url}/none", tmp_path / "a")
    assert not any(tmp_path.iterdir())


def test_no_internet(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"http://127.0.0.1:9/a could not be fetched: .*refused"):
        download("http://127.0.0.1:9/a", tmp_path / "a")


# ---- published weights


def entry(server: Server, **fields: object) -> Published:
    return replace(
        Published(name="narrow", what="a narrow network", urls=(f"{server.url}/narrow.model",), fetchable=True),
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", ["sha256", "sha1", "git-blob"])
def test_hashes(kind: published.HashKind, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    known = {
        "sha256": hashlib.sha256(b"hello\n").hexdigest(),
        "sha1": hashlib.sha1(b"hello\n").hexdigest(),
        "git-blob": "ce013625030ba8dba906f756967f9e9ca394464a",
    }
    assert Hash(kind=kind, digits=known[kind]).matches(tmp_path / "a")
    assert Hash(kind=kind, digits=known[kind][:8]).matches(tmp_path / "a")
    assert not Hash(kind=kind, digits="0" * 8).matches(tmp_path / "a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hash": Hash(kind="sha256", digits="0" * 8)}, r"has sha256 [0-9a-f]{64}, expected 00000000; .* removed"),
        ({"size": 5}, r"has 100000 bytes, expected 5; the file was removed"),
    ],
)
def test_a_file_that_is_not_what_was_published(
    fields: dict[str, object], message: str, server: Server, cache: Path
) -> None:
    server.files["/narrow.model"] = CONTENT
    with pytest.raises(DownloadError, match=message):
        fetch_file(entry(server, **fields))
    assert not list((cache / "downloads").iterdir())


def test_the_second_address_is_tried(server: Server, cache: Path) -> None:
    server.files["/mirror"] = CONTENT
    found = fetch_file(entry(server, urls=(f"{server.url}/gone/narrow.model", f"{server.url}/mirror")))
    assert found.read_bytes() == CONTENT
    assert found.name == "narrow.model"


@pytest.fixture
def narrow(server: Server, cache: Path, narrow_network: C3D, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> C3D:
    """A network that is "published" on the server as a Caffe model with its mean volume."""
    layers = {
        f"{name}-1" if name.startswith("fc") else name: [part.detach().numpy() for part in (layer.weight, layer.bias)]
        for name, layer in narrow_network.named_layers()
    }
    write_model(tmp_path / "model", layers)
    assert narrow_network.mean_volume is not None
    write_blob(tmp_path / "mean", narrow_network.mean_volume)
    server.files = {"/narrow.model": (tmp_path / "model").read_bytes(), "/mean": (tmp_path / "mean").read_bytes()}
    count = sum(parameter.numel() for parameter in narrow_network.parameters())
    monkeypatch.setitem(PUBLISHED, "narrow", entry(server, mean="narrow_mean", n_parameters=count))
    mean = entry(server, name="narrow_mean", urls=(f"{server.url}/mean",), size=len(server.files["/mean"]))
    monkeypatch.setitem(PUBLISHED, "narrow_mean", mean)
    return narrow_network


def test_published_weights_by_name(narrow: C3D, server: Server, cache: Path) -> None:
    found = load_weights("narrow")
    assert np.array_equal(found.fc6.weight.detach(), narrow.fc6.weight.detach())
    assert found.mean_volume is not None
    assert found.profile.name == "caffe"
    assert found.provenance["published"] == "narrow"
    assert "non-commercial" in found.provenance["licence"]
    n_requests = len(server.requests)
    load_weights("narrow")
    assert len(server.requests) == n_requests, "the second time it comes from the cache"
    assert [path.name for path in (cache / "downloads").iterdir()] == []


def test_two_at_once_fetch_once(narrow: C3D, server: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(fetch, ["narrow", "narrow"]))
    assert folders[0] == folders[1]
    assert [path for path, _ in server.requests] == ["/narrow.model", "/mean"]


def test_published_weights_of_another_network(narrow: C3D, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setitem(PUBLISHED, "narrow", replace(PUBLISHED["narrow"], n_parameters=79_991_015))
    with pytest.raises(WeightsError, match=r"network of [\d,]+ parameters, the published one has 79,991,015"):
        fetch("narrow")
    assert not (cache / "weights" / "narrow").exists()
    assert not (cache / "downloads" / "narrow.model").exists()


def test_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    sports1m = replace(PUBLISHED["sports1m"], urls=("http://127.0.0.1:9/conv3d_deepnetA",))
    monkeypatch.setitem(PUBLISHED, "sports1m", sports1m)
    with pytest.raises(DownloadError) as caught:
        load_weights("sports1m")
    message = str(caught.value)
    assert "http://127.0.0.1:9/conv3d_deepnetA could not be fetched" in message
    assert (
        "; get the file elsewhere, then run `c3dvideo weights import FILE --mean FILE --out DIR` and give DIR instead "
        "of the name" in message
    )
    assert "\n" not in message


def test_names_that_cannot_be_fetched(cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"keras_tf cannot be fetched by a program: get it from https://drive"):
        load_weights("keras_tf")
    with pytest.raises(UsageError, match="sports1m_mean is a mean volume, not weights"):
        load_weights("sports1m_mean")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("C3DVIDEO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "c3dvideo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "c3dvideo"


def test_the_table_is_consistent() -> None:
    for name, found in PUBLISHED.items():
        assert found.name == name
        assert found.licence
        assert all(url.startswith("http") for url in found.urls)
        if found.mean is not None:
            assert PUBLISHED[found.mean].fetchable
            assert not PUBLISHED[found.mean].is_network
