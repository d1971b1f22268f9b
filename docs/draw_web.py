"""Draw the screenshots of docs/web.md and docs/live.md, and measure how long the map takes to draw 50,000 clips.

    python docs/draw_web.py            # docs/figures/web_*.png, over generated videos
    python docs/draw_web.py live       # web_live.png only
    python docs/draw_web.py map-time   # prints milliseconds per frame

Needs Chromium and its driver (Debian's packages chromium and chromium-driver) and selenium.
"""

import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from c3dvideo.features.extract import extract
from c3dvideo.features.store import VideoFeatures, feature_path, write_features
from c3dvideo.probing.watch import WatchSummary, watch
from c3dvideo.search.build_index import build_index
from c3dvideo.synthetic import write_dataset
from c3dvideo.video.decode import open_video
from c3dvideo.video.encode import write_video
from c3dvideo.web.listening import bound
from c3dvideo.web.live_server import live_page
from c3dvideo.web.site_parts import Site, SiteSettings
from c3dvideo.web.web_app import make_app

FIGURES = Path(__file__).parent / "figures"
LIVE_SECONDS = 30  # of the source, when the page of `watch` is drawn
N_VIDEOS, N_CLIPS, WIDTH = 500, 100, 64  # of the generated index whose map is timed

# Moves and zooms for two seconds with all points in view; returns milliseconds of drawing and between frames.
MEASURE = """
const done = arguments[0], gaps = [];
performance.clearMeasures("map-frame");
map.whole();
let last = performance.now(), k = 0;
const step = (now) => {
  gaps.push(now - last); last = now; k++;
  const drawing = performance.getEntriesByName("map-frame").map((each) => each.duration);
  if (k > 120) { done([drawing, gaps.slice(2)]); return; }
  map.pan(k % 40 < 20 ? 3 : -3, 0);
  map.zoomBy(k % 60 < 30 ? 1.01 : 1 / 1.01);
  requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""


@contextmanager
def served(settings: SiteSettings) -> Iterator[tuple[Site, str]]:
    """A site and its address."""
    with Site(settings) as site, bound("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(make_app(site), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield site, f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def chromium(width: int, height: int, *, dark: bool = False, ratio: float = 1.0) -> Iterator[Any]:
    """A headless browser."""
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    metrics = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        yield browser
    finally:
        browser.quit()


def wait(browser: Any, script: str, seconds: float = 300) -> Any:
    return WebDriverWait(browser, seconds, 0.1).until(lambda found: found.execute_script(script))


def save(browser: Any, name: str) -> None:
    """One screenshot, after pictures and converted pieces have come."""
    time.sleep(1.5)
    waiting = "document.querySelectorAll('.strip.waiting')"
    wait(browser, f"return [...{waiting}].every(e => e.getBoundingClientRect().top > 900 || !e.offsetParent)")
    browser.save_screenshot(str(FIGURES / f"web_{name}.png"))


def draw_views(browser: Any, address: str, site: Site, upload: Path) -> None:
    """The screenshots of a wide window, one view after another."""

    def click(css: str) -> None:
        browser.find_element(By.CSS_SELECTOR, css).click()

    browser.get(address)
    wait(browser, "return document.documentElement.dataset.ready")
    save(browser, "library")
    click(".tabs a[data-view=map]")
    Select(browser.find_element(By.ID, "map-method")).select_by_visible_text("t-SNE")
    wait(browser, "return map.key.endsWith('tsne') && S.clips.cluster.length")
    x, y = browser.execute_script(
        "const {left, top, scale, canvas} = map;"
        "return [left + scale * map.x[9] - canvas.width / 2, top + scale * map.y[9] - canvas.height / 2]"
    )
    canvas = browser.find_element(By.ID, "map")
    ActionChains(browser).move_to_element_with_offset(canvas, round(x), round(y)).perform()
    wait(browser, "return document.querySelector('#map-hover .strip')?.style.backgroundImage")
    save(browser, "map")
    click(".tabs a[data-view=label]")
    click("#fit")
    wait(browser, "return S.state.probe.state === 'ready' && S.predictions")
    save(browser, "label")
    click("#label-grid .card button")
    wait(browser, "return document.querySelectorAll('#neighbours .card').length > 5")
    wait(browser, "return document.getElementById('video').currentTime > 0.5")
    save(browser, "player")
    click("#player-close")
    click(".tabs a[data-view=compare]")
    videos = site.collection.now().videos
    for side, video in (("a", videos[0]), ("b", videos[1])):
        browser.find_element(By.ID, f"compare-{side}").send_keys(video.name)
    click("#compare-form button")
    wait(browser, "return C.found && document.getElementById('video-b').readyState > 1")
    save(browser, "compare")
    click(".tabs a[data-view=upload]")
    browser.find_element(By.ID, "file").send_keys(str(upload))
    wait(browser, "return !document.getElementById('player').hidden")
    wait(browser, "return document.querySelectorAll('#neighbours .card').length > 5")
    save(browser, "upload")


def draw() -> None:
    """All screenshots, over generated videos of everyday motions."""
    FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root / "videos", clips_per_class=6, n_frames=80)
        (root / "videos/labels.csv").unlink()
        write_dataset(root / "more", clips_per_class=1, seed=7, n_frames=80)
        extract([root / "videos"], root / "features")
        names = sorted(path.relative_to(root / "videos").as_posix() for path in (root / "videos").rglob("*.mp4"))
        labels = "".join(f"{name},{name.split('/')[0]}\n" for name in names if not name.endswith(("4.mp4", "5.mp4")))
        (root / "labels.csv").write_text(f"path,label\n{labels}", encoding="utf-8")
        build_index(root / "features", root / "db")
        settings = SiteSettings(db=str(root / "db"), videos=root / "videos", labels=root / "labels.csv")
        with served(settings) as (site, address):
            with chromium(1280, 800) as browser:
                draw_views(browser, address, site, next((root / "more").rglob("*.mp4")))
            with chromium(390, 780, dark=True, ratio=2) as browser:
                browser.get(f"{address}#/map")
                wait(browser, "return map.n > 0 && S.clips.cluster.length")
                save(browser, "phone")


def time_map() -> None:
    """Milliseconds per frame of the map with 50,000 clips."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(12, WIDTH))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for video in range(N_VIDEOS):
            middle = centres[video % 12] + 0.5 * generator.normal(size=WIDTH)
            rows = np.maximum(0, middle + 0.5 * generator.normal(size=(N_CLIPS, WIDTH))).astype(np.float32)
            name = f"class_{video % 12:02d}/video_{video:03d}.mp4"
            features = VideoFeatures(
                name=name,
                layers={"fc6": rows},
                start_frame=16 * np.arange(N_CLIPS),
                start_seconds=0.64 * np.arange(N_CLIPS),
                metadata={"settings": {"weights": "generated"}, "fps": "25"},
            )
            write_features(feature_path(root / "features", name), features)
        build_index(root / "features", root / "db")
        with (
            served(SiteSettings(db=str(root / "db"), labels=root / "labels.csv")) as (_, address),
            chromium(1360, 900) as browser,
        ):
            started = time.perf_counter()
            browser.get(f"{address}#/map")
            wait(browser, f"return map.n === {N_VIDEOS * N_CLIPS}")
            print(f"{N_VIDEOS * N_CLIPS} clips on the map after {time.perf_counter() - started:.1f} s")
            browser.set_script_timeout(120)
            drawing, gaps = browser.execute_async_script(MEASURE)
            for name, values in (("drawing", drawing), ("between frames", gaps)):
                high = sorted(values)[int(0.95 * len(values))]
                print(f"{name}: median {statistics.median(values):.1f} ms, 95% below {high:.1f} ms, n {len(values)}")


def draw_live() -> None:
    """The page of `watch`, half a minute into a generated file of several everyday motions."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root / "videos", clips_per_class=1, n_frames=100, height=240, width=320)
        videos = sorted((root / "videos").rglob("*.mp4"))
        write_video(root / "generated.mp4", _one_after_the_other(videos), fps=25)
        summary, notes = WatchSummary(latencies=[]), []
        source = str(root / "generated.mp4")
        with (
            live_page("generated.mp4", summary, unit="probability", port=0, note=notes.append) as view,
            chromium(1280, 920) as browser,
        ):
            browser.get(notes[-1].removeprefix("open "))
            with closing(watch(source, top=8, summary=summary, show=view.picture.offer)) as clips:
                for seen in clips:
                    view.add(seen)
                    if seen.end_seconds > LIVE_SECONDS:
                        browser.save_screenshot(str(FIGURES / "web_live.png"))
                        break


def _one_after_the_other(videos: list[Path]) -> Iterator[np.ndarray]:
    for path in videos:
        with open_video(path, channel_order="rgb") as video:
            for frame in video.frames():
                yield frame.pixels


if __name__ == "__main__":
    if sys.argv[1:] == ["map-time"]:
        time_map()
    elif sys.argv[1:] == ["live"]:
        draw_live()
    else:
        draw()
        draw_live()
