"""Weights from a model hub: the real client against a server of ours that answers as a hub does."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from c3dvideo import C3D, load_weights
from c3dvideo.errors import DownloadError, UsageError
from c3dvideo.network import folder as weights_folder
from c3dvideo.network.folder import save_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub that holds one model, and what it was called for."""

    def __init__(self, files: Path) -> None:
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, *, with_body: bool) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                parts = self.path.strip("/").split("/")
                path = files / parts[-1]
                if self.path == "/":
                    self.send_response(200)
                    self.end_headers()
                    return
                if parts[:2] != ["someone", "c3d-narrow"] or not path.is_file():
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.end_headers()
                    return
                content = path.read_bytes()
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if with_body:
                    self.wfile.write(content)

            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def point_the_client_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(narrow_network: C3D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    save_folder(narrow_network, tmp_path / "published")
    hub = Hub(tmp_path / "published")
    point_the_client_at(hub.address, monkeypatch)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_weights_of_a_hub_are_fetched_once_and_then_read_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    first = C3D.from_pretrained("someone/c3d-narrow", cache_dir=tmp_path / "cache")
    assert first.classes == ("a", "b", "c", "d", "e")
    n_requests = len(hub.requests)
    assert any(request.startswith("GET") and "model.safetensors" in request for request in hub.requests)
    again = C3D.from_pretrained("someone/c3d-narrow", cache_dir=tmp_path / "cache")
    assert again.classes == first.classes
    assert len(hub.requests) == n_requests


def test_a_model_that_the_hub_lacks_is_named_with_the_file_that_was_looked_for(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"'someone/none' is not a folder here, .* as someone/none/config\.json"):
        C3D.from_pretrained("someone/none", cache_dir=tmp_path / "cache")


def test_a_hub_that_cannot_be_reached_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    point_the_client_at(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(DownloadError, match=rf"127\.0\.0\.1:{port} cannot be reached .* give the path of"):
        C3D.from_pretrained("someone/c3d-narrow", cache_dir=tmp_path)


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_the_client_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        monkeypatch.setattr(weights_folder, "HUB_SECONDS", 0.2)
        started = time.monotonic()
        with pytest.raises(DownloadError, match="cannot be reached"):
            load_weights("someone/c3d-narrow")
        assert time.monotonic() - started < 60


def test_a_mistyped_path_into_a_folder_never_reaches_the_hub(
    hub: Hub, narrow_network: C3D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_folder(narrow_network, tmp_path / "runs" / "best")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"there is no folder runs/besst; runs exists, .* folders are best"):
        load_weights("runs/besst")
    with pytest.raises(DownloadError, match="'no/such/folder' is not a folder here"):
        C3D.from_pretrained("no/such/folder")
    assert not any("besst" in request for request in hub.requests)


def test_embedded_is_a_name_for_from_pretrained_too() -> None:
    assert C3D.from_pretrained("embedded").classes == load_weights().classes
