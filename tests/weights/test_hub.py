"""Weights from a model hub: the real client against a server of ours that answers as a hub does."""

import base64
import hashlib
import json
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
from c3dvideo.errors import DownloadError, UsageError, WeightsError
from c3dvideo.network import folder as weights_folder
from c3dvideo.network.folder import fingerprint, save_folder
from c3dvideo.network.model_card import model_card
from c3dvideo.weights.publish import measured, publish

TOKEN = "hf_of_the_test"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub that holds one model, and what it was called for."""

    def __init__(self, files: Path) -> None:
        self.requests: list[str] = []
        self.files = files
        self.large: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}
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

            def do_POST(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                body = self.body()
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self.reply({"error": "Invalid credentials in Authorization header"}, status=401)
                else:
                    self.reply(hub.post(self.path, body))

            def body(self) -> bytes:
                """What the client sends, in one piece or in chunks."""
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers["Content-Length"] or 0))
                content = b""
                while n_bytes := int(self.rfile.readline(), 16):
                    content += self.rfile.read(n_bytes)
                    self.rfile.readline()
                self.rfile.readline()
                return content

            def do_PUT(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                hub.large[self.path.rsplit("/", 1)[1]] = self.body()
                self.reply({})

            def reply(self, document: dict[str, Any], *, status: int = 200) -> None:
                content = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
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

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """Answer the calls of an upload: make the repository, say how files are sent, take them, and commit."""
        if path == "/api/repos/create":
            self.created = json.loads(body)
            return {"url": f"{self.address}/{self.created['organization']}/{self.created['name']}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
            return {"files": [{"path": name, "uploadMode": modes[name], "shouldIgnore": False} for name in names]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            return {
                "transfer": "basic",
                "objects": [
                    {**each, "actions": {"upload": {"href": f"{self.address}/store/{each['oid']}"}}} for each in objects
                ],
            }
        assert "/commit/" in path, path
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                (self.files / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                (self.files / value["path"]).write_bytes(self.large[value["oid"]])
        address = f"{self.address}/someone/c3d-narrow/commit/{COMMIT}"
        return {"commitUrl": address, "commitOid": COMMIT, "success": True}


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


BY_THE_CLIENT = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
"""The hub's client sends large files in a way that its own HTTP library has deprecated."""


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without any file, which takes uploads with `TOKEN`."""
    (tmp_path / "hub").mkdir()
    hub = Hub(tmp_path / "hub")
    point_the_client_at(hub.address, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # a storage service of its own
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@BY_THE_CLIENT
def test_what_push_to_hub_uploads_from_pretrained_loads(empty_hub: Hub, narrow_network: C3D, tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "name": "someone/c3d-narrow",
        "licence": "mit",
        "data": "Five made-up classes.",
        "metrics": {"video@1": 0.5},
    }
    address = narrow_network.push_to_hub("someone/c3d-narrow", token=TOKEN, model_card_kwargs=facts)
    assert address.endswith(f"/commit/{COMMIT}")
    assert sorted(path.name for path in empty_hub.files.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = C3D.from_pretrained("someone/c3d-narrow", cache_dir=tmp_path / "cache")
    assert fingerprint(loaded) == fingerprint(narrow_network)
    card = (empty_hub.files / "README.md").read_text()
    for told in (
        "license: mit",
        "library_name: c3dvideo",
        "Five made-up classes.",
        "| video@1 | 0.5 |",
        "BGR",
        "a, b, c, d, e",
    ):
        assert told in card


@BY_THE_CLIENT
def test_publish_writes_a_folder_and_uploads_only_on_request(
    empty_hub: Hub, narrow_network: C3D, tmp_path: Path
) -> None:
    folder = tmp_path / "to_publish"
    assert publish(narrow_network, folder, licence="mit") is None
    assert empty_hub.requests == []
    names = ["README.md", "config.json", "labels.txt", "model.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "labels.txt").read_text() == "a\nb\nc\nd\ne\n"
    (folder / "notes.txt").write_text("not for the hub")
    publish(narrow_network, folder, licence="mit", repo="someone/c3d-narrow", private=True, token=TOKEN)
    assert sorted(path.name for path in empty_hub.files.iterdir()) == names
    assert empty_hub.created["visibility"] == "private"
    assert 'weights="someone/c3d-narrow"' in (empty_hub.files / "README.md").read_text()
    assert load_weights(folder).classes == narrow_network.classes


def test_an_upload_that_the_hub_refuses_is_one_sentence(empty_hub: Hub, narrow_network: C3D, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"could not be uploaded to someone/c3d-narrow: .*401.* log in with"):
        publish(narrow_network, tmp_path / "out", repo="someone/c3d-narrow", token="wrong")
    with pytest.raises(UsageError, match="expected a hub id such as owner/name"):
        publish(narrow_network, tmp_path / "out", repo="c3d")


def test_a_card_names_what_nobody_stated_and_what_is_known(narrow_network: C3D, tmp_path: Path) -> None:
    publish(narrow_network, tmp_path / "narrow")
    assert (tmp_path / "narrow/README.md").read_text().count("ot stated") == 3  # data, figures and licence
    publish(load_weights(), tmp_path / "embedded")
    card = huggingface_hub.ModelCard.load(tmp_path / "embedded/README.md")
    assert card.data.license == "apache-2.0"
    assert "generated clips" in card.text
    narrow_network.provenance = {"val_video_accuracy": 0.25, "trained_by": "c3dvideo"}
    assert "| 0.25 |" in model_card(narrow_network, metrics=measured(narrow_network))


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
