"""A small collection for the page: real videos of several kinds, features of a tiny network, an index of them."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from starlette.testclient import TestClient

from c3dvideo import C3D
from c3dvideo.features.extract import extract
from c3dvideo.search.build_index import build_index
from c3dvideo.video.encode import write_video
from c3dvideo.web.site_parts import Site, SiteSettings
from c3dvideo.web.uploads import UploadLimits
from c3dvideo.web.web_app import make_app

STRANGE = 'strange/<script>alert(1)<script> "q" #1 100% it\'s.mp4'
NOT_UTF8 = os.fsdecode(b"strange/caf\xe9.mp4")
MISSING = "left/gone.mp4"
NAMES = (
    *("right/a.mp4", "right/b.avi", "right/c.mp4"),
    *("left/a.mp4", "left/b.avi", MISSING),
    *("still/a.mpg", "still/frames", STRANGE, NOT_UTF8),
)


@dataclass(frozen=True)
class Library:
    """Where the parts of a small collection lie."""

    videos: Path
    features: Path
    db: Path
    weights: Path
    names: tuple[str, ...] = NAMES
    strange: str = STRANGE
    not_utf8: str = NOT_UTF8
    missing: str = MISSING


def square(seed: int, *, speed: int, n_frames: int = 48) -> Iterator[np.ndarray]:
    """A bright square that moves over a texture."""
    background = np.random.default_rng(seed).integers(0, 120, (48, 64, 3), dtype=np.uint8)
    for index in range(n_frames):
        picture = background.copy()
        left = (30 + speed * index + 5 * seed) % 48
        picture[16:32, left : left + 16] = (250, 180, 40)
        yield picture


def write_square(path: Path, seed: int, *, speed: int, n_frames: int = 48) -> None:
    """The square as a video of the format that the suffix names, or as a folder of pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = square(seed, speed=speed, n_frames=n_frames)
    codec = {".avi": "mpeg4", ".mpg": "mpeg2video"}.get(path.suffix, "libx264")
    if path.suffix:
        write_video(path, frames, fps=25 if path.suffix == ".mpg" else 8, codec=codec)
    else:
        path.mkdir()
        for index, pixels in enumerate(frames):
            Image.fromarray(pixels).save(path / f"{index:04d}.png")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, make_tiny_network: Callable[..., C3D]) -> Library:
    root = tmp_path_factory.mktemp("library")
    made = Library(root / "videos", root / "features", root / "my.db", root / "weights")
    make_tiny_network(("a", "b"), seed=1).save_pretrained(made.weights)
    for seed, name in enumerate(NAMES):
        speed = {"right": 2, "left": -2}.get(name.split("/")[0], 0)
        write_square(made.videos / name, seed, speed=speed)
    extract([made.videos], made.features, weights=made.weights, device="cpu", workers=0)
    build_index(made.features, made.db)
    (made.videos / MISSING).unlink()
    (root / "secret.mp4").write_bytes((made.videos / "right/a.mp4").read_bytes())
    return made


@pytest.fixture(scope="module")
def make_site(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Makes sites over the library, each with labels of its own; all of them share one cache."""
    cache = tmp_path_factory.mktemp("cache")
    sites: list[Site] = []

    def make(**changes: object) -> Site:
        folder = tmp_path_factory.mktemp("site")
        given: dict[str, object] = {
            "db": str(library.db),
            "videos": library.videos,
            "labels": folder / "labels.csv",
            "weights": str(library.weights),
            "uploads": UploadLimits(max_bytes=1_000_000, max_seconds=20, time_limit_seconds=120, n_kept=3),
        }
        sites.append(Site(SiteSettings(**(given | changes))))  # type: ignore[arg-type]
        return sites[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3DVIDEO_CACHE", str(cache))
        yield make
        for site in sites:
            site.close()


@pytest.fixture(scope="module")
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@pytest.fixture(scope="module")
def client(site: Site) -> TestClient:
    return TestClient(make_app(site), base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed")
    options = Options()
    options.binary_location = chromium
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,900"]
    for argument in [*arguments, "--no-sandbox"] if os.geteuid() == 0 else arguments:
        options.add_argument(argument)
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Returns what `look` returns as soon as `until` holds for it."""

    def wait(look: Callable[[], Any], until: Callable[[Any], bool], seconds: float = 180) -> Any:
        end = time.monotonic() + seconds
        while not until(found := look()):
            assert time.monotonic() < end, f"after {seconds} seconds it is still {found}"
            time.sleep(0.05)
        return found

    return wait


@pytest.fixture(scope="session")
def moving() -> Callable[..., None]:
    """Writes a video of a moving square."""
    return write_square
