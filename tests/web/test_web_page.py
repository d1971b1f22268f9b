"""The page in headless Chromium, with real clicks: every view, names that are hostile, and what appears while open."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from c3dvideo.search.index import Index
from c3dvideo.web.listening import bound
from c3dvideo.web.site_parts import Site
from c3dvideo.web.video_names import video_id
from c3dvideo.web.web_app import make_app

NAMES, CARDS = (f"document.querySelectorAll('#library-grid .{kind}')" for kind in ("name", "card"))
# Selenium leaves sockets to its driver open for a moment.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


class Page:
    """A browser at one server."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        self.address = address

    def open(self, view: str) -> None:
        self.browser.get("about:blank")
        self.browser.get(f"{self.address}#/{view}")
        self.until("return document.documentElement.dataset.ready === '1'")

    def until(self, script: str, *arguments: Any, seconds: float = 60) -> Any:
        return WebDriverWait(self.browser, seconds, 0.05).until(
            lambda browser: browser.execute_script(script, *arguments)
        )

    def find(self, css: str) -> Any:
        return WebDriverWait(self.browser, 60, 0.05).until(lambda browser: browser.find_element(By.CSS_SELECTOR, css))

    def click(self, css: str) -> None:
        found = self.find(css)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()

    def texts(self, css: str) -> list[str]:
        return [each.text for each in self.browser.find_elements(By.CSS_SELECTOR, css)]

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def slide(self, css: str, value: int) -> None:
        """Move a slider with the keyboard."""
        slider = self.find(css)
        slider.send_keys(Keys.HOME if value == 0 else Keys.END)

    def errors(self) -> list[str]:
        return [each["message"] for each in self.browser.get_log("browser") if each["level"] == "SEVERE"]


@contextmanager
def serving(site: Site) -> Iterator[str]:
    """The address at which a site is served."""
    with bound("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(make_app(site), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def served(make_site: Callable[..., Site]) -> Iterator[tuple[Site, str]]:
    site = make_site()
    with serving(site) as address:
        yield site, address


@pytest.fixture(scope="module")
def page(served: tuple[Site, str], browser: Any) -> Page:
    return Page(browser, served[1])


def test_the_library_shows_every_video_with_moving_frames(page: Page, library: Any) -> None:
    page.open("library")
    names = page.texts("#library-grid .name")
    assert len(names) == len(library.names)
    assert library.strange in names  # as text: no tag of it became an element
    assert "strange/caf\\xe9.mp4" in names
    assert page.run("return document.querySelectorAll('main script').length") == 0
    page.until("return document.querySelector('#library-grid .strip:not(.waiting)')?.style.backgroundImage")
    assert page.run("return getComputedStyle(document.querySelector('.strip')).animationName") == "strip"
    missing = [text for text in page.texts("#library-grid .card") if "the video is missing" in text]
    assert len(missing) == 1
    assert library.missing in missing[0]


def test_search_sliders_and_sorting_change_what_is_shown(page: Page, library: Any) -> None:
    page.open("library")
    page.find("body").send_keys("/")
    page.browser.switch_to.active_element.send_keys("RIGHT .mp4")
    page.until("return document.querySelectorAll('#library-grid .card').length === 2")
    assert page.find("#library-count").text == f"2 of {len(library.names)} videos"
    page.find("#search").send_keys(" nothing")
    page.until("return !document.getElementById('library-empty').hidden")
    page.click("#reset-filters")
    page.until("return document.querySelectorAll('#library-grid .card').length > 3")
    page.slide("#duration-min", 100)  # only the longest are left
    page.until("return document.querySelectorAll('#library-grid .card').length < 10")
    assert all("0:05" in text for text in page.texts("#library-grid .facts"))
    page.click("#reset-filters")
    Select(page.find("#sort")).select_by_visible_text("shortest")
    page.until("return document.querySelector('#library-grid .facts').textContent.includes('0:01')")


@pytest.mark.parametrize("name", ["right/a.mp4", "right/b.avi", "still/a.mpg", "still/frames"])
def test_every_kind_of_video_plays_from_the_wanted_second(page: Page, name: str) -> None:
    page.open("library")
    page.run("location.hash = arguments[0]", f"#/video/{video_id(name)}@1.28")
    page.until("return document.getElementById('video').currentTime > 1.4")
    assert page.run("return document.getElementById('video').error") is None
    converted = name != "right/a.mp4"
    assert ("converted" in page.find("#player-note").text) == converted
    assert page.run("return document.getElementById('video').src.startsWith('blob:')") == converted
    page.until("return document.querySelectorAll('#neighbours .card').length > 2")


def test_seeking_behind_what_is_converted_plays_there(page: Page) -> None:
    page.open("library")
    page.run("location.hash = arguments[0]", f"#/video/{video_id('left/b.avi')}@0")
    page.until("return document.getElementById('video').readyState >= 2")
    page.run("document.getElementById('video').currentTime = 5")
    page.until("return document.getElementById('video').currentTime > 5.2")


def test_a_missing_video_has_its_neighbours_but_no_error_page(page: Page, library: Any) -> None:
    page.open("library")
    page.run("location.hash = arguments[0]", f"#/video/{video_id(library.missing)}@0")
    page.until("return !document.getElementById('player-problem').hidden")
    assert "not in the folder of videos" in page.find("#player-problem").text
    page.until("return document.querySelectorAll('#neighbours .card').length > 2")


def test_similar_clips_have_scores_and_a_slider(page: Page) -> None:
    page.open("library")
    page.click("#library-grid .card button")
    page.until("return document.querySelectorAll('#neighbours .card').length > 2")
    page.click("#similar-clips")
    page.until("return document.getElementById('library-count').textContent.includes('similar clip')")
    before = len(page.texts("#library-grid .card"))
    assert all("score" in text for text in page.texts("#library-grid .facts"))
    page.slide("#score-min", 100)
    page.until("return document.querySelectorAll('#library-grid .card').length < arguments[0]", before)
    page.click("#library-chips button")
    page.until("return document.getElementById('library-count').textContent.endsWith('videos')")


def map_point(page: Page, row: int) -> tuple[int, int]:
    """Where a clip is on the canvas, in pixels from its centre."""
    x, y = page.run(
        "const i = arguments[0]; return [(map.left + map.scale * map.x[i] - map.canvas.width / 2) / map.ratio,"
        "(map.top + map.scale * map.y[i] - map.canvas.height / 2) / map.ratio]",
        row,
    )
    return round(x), round(y)


def test_the_map_hovers_plays_and_selects(page: Page, library: Any) -> None:
    page.open("map")
    page.until("return map.n === S.clips.video.length && map.n > 0")
    canvas = page.find("#map")
    ActionChains(page.browser).move_to_element_with_offset(canvas, *map_point(page, 0)).perform()
    page.until("return !document.getElementById('map-hover').hidden")
    page.until("return document.querySelector('#map-hover .strip').style.backgroundImage")
    ActionChains(page.browser).click().perform()
    page.until("return !document.getElementById('player').hidden")
    page.until("return document.querySelectorAll('#neighbours .card').length > 2")
    page.click("#player-close")
    page.click("#tool-lasso")
    page.run("scrollTo(0, 0)")
    box = canvas.size
    right, down = box["width"] - 20, box["height"] - 20
    drag = ActionChains(page.browser, duration=20).move_to_element_with_offset(canvas, -right // 2, -down // 2)
    drag.click_and_hold().move_by_offset(right, 0).move_by_offset(0, down).move_by_offset(-right, 0).release().perform()
    n_clips = page.run("return map.n")
    page.until("return S.selection.size === arguments[0]", n_clips)
    assert page.find("#label-bar-count").text == f"{n_clips} clips selected"
    assert len(page.texts("#map-grid .card")) == min(n_clips, 48)
    page.click("#clear-selection")
    legend = page.texts("#legend button")
    assert legend
    Select(page.find("#map-colour")).select_by_visible_text("cluster")
    page.until("return document.querySelector('#legend').textContent.includes('cluster 1')")


def test_the_map_answers_the_keyboard(page: Page) -> None:
    page.open("map")
    page.until("return map.n > 0")
    canvas = page.find("#map")
    zoom = page.run("return map.zoom")
    canvas.send_keys("+")
    assert page.run("return map.zoom") > zoom
    left = page.run("return map.left")
    canvas.send_keys(Keys.ARROW_LEFT)
    assert page.run("return map.left") > left
    canvas.send_keys("0")
    canvas.send_keys("n")
    assert page.run("return map.hovered") == 0
    canvas.send_keys("s")
    assert page.run("return S.selection.size") > 0
    page.find("body").send_keys(Keys.ESCAPE)
    canvas.send_keys("n")
    canvas.send_keys(Keys.ENTER)
    page.until("return !document.getElementById('player').hidden")


def test_two_videos_are_compared_clip_by_clip(page: Page) -> None:
    page.open("compare")
    page.find("#compare-a").send_keys("right/a.mp4")
    page.find("#compare-b").send_keys("still/a.mpg")
    page.click("#compare-form button")
    page.until("return !document.getElementById('compare-body').hidden")
    assert "score" in page.find("#compare-status").text
    matrix = page.find("#matrix")
    size = page.run("return C.size")
    page.run("arguments[0].scrollIntoView({block: 'center'})", matrix)
    corner = (round(-matrix.size["width"] / 2) + 2, round(-matrix.size["height"] / 2) + round(1.5 * size))
    ActionChains(page.browser).move_to_element_with_offset(matrix, *corner).click().perform()
    page.until("return C.cell[0] === 1 && C.cell[1] === 0")
    assert page.find("#compare-cell").text.startswith("0:02.0 and 0:00.0: score")
    page.until("return document.getElementById('video-a').currentTime >= 2")
    matrix.send_keys(Keys.ARROW_RIGHT)
    assert page.run("return C.cell") == [1, 1]


def test_label_fit_and_look_again(page: Page, served: tuple[Site, str]) -> None:
    page.open("library")
    for word, name in (("right", "right"), ("still/", "still")):
        search = page.find("#search")
        search.clear()
        search.send_keys(word)
        page.until(f"return [...{NAMES}].every(e => e.textContent.startsWith(arguments[0]))", word)
        for tick in page.browser.find_elements(By.CSS_SELECTOR, "#library-grid .tick input"):
            page.run("arguments[0].scrollIntoView({block: 'center'})", tick)
            ActionChains(page.browser).move_to_element(tick).click().perform()
        page.find("body").send_keys("l")
        page.find("#label-text").clear()
        page.find("#label-text").send_keys(name + Keys.ENTER)
        page.until("return document.getElementById('label-bar').hidden")
        page.until("return S.classes.includes(arguments[0])", name)
    written = served[0].settings.labels.read_text().splitlines()
    assert sorted(line.split(",")[1] for line in written[1:]) == ["right"] * 3 + ["still"] * 2
    page.open("label")
    page.click("#fit")
    page.until("return S.state.probe.state === 'ready' && S.predictions")
    assert "accuracy" in page.find("#fit-status").text
    page.until("return document.querySelector('#label-grid .facts').textContent.includes('?')")
    assert any(each.endswith("%") for each in page.texts("#label-grid .facts"))
    page.click("#label-grid .card button")
    page.until("return document.querySelectorAll('#timeline-legend li').length === 2")


def test_an_upload_is_classified_and_opens(page: Page, library: Any) -> None:
    page.open("upload")
    page.find("#file").send_keys(str(library.videos / "right/b.avi"))
    page.until("return !document.getElementById('player').hidden", seconds=120)
    page.until("return document.getElementById('video').readyState >= 2")
    page.until("return document.querySelectorAll('#neighbours .card').length > 2")
    assert page.find("#player-title").text == "b.avi"
    page.until("return document.querySelectorAll('#timeline-legend li').length === 2")
    page.click("#player-close")
    page.find("#file").send_keys(str(Path(__file__)))
    page.until("return document.querySelector('#uploads .bad')?.textContent.includes('cannot read it')")
    page.click("#uploads li button:last-child")


def test_the_page_notices_what_other_browsers_label(page: Page, served: tuple[Site, str]) -> None:
    from c3dvideo.web.labels_file import Part

    page.open("library")
    site = served[0]
    site.labels.change([Part("left/a.mp4")], "from another browser", site.collection.now())
    page.until("return document.querySelector('#library-grid').textContent.includes('from another browser')")


def test_the_page_notices_that_the_index_has_changed_and_that_it_is_empty(
    page: Page, library: Any, make_site: Callable[..., Site], tmp_path: Path
) -> None:
    shutil.copytree(library.db, tmp_path / "db")
    with serving(make_site(db=str(tmp_path / "db"))) as address:
        other = Page(page.browser, address)
        other.open("library")
        assert len(other.texts("#library-grid .card")) == len(library.names)
        Index.open(tmp_path / "db").video_rows.delete("true")
        other.until("return document.getElementById('news').textContent.includes('0 videos now')")
        other.click("#news button")
        other.until("return document.getElementById('library-empty').textContent.includes('The index is empty')")
        assert other.texts("#library-grid .card") == []
        other.click(".tabs a[data-view=map]")
        other.until("return !document.getElementById('map-empty').hidden")
        other.click(".tabs a[data-view=label]")
        other.until("return !document.getElementById('label-empty').hidden")
    other.until("return document.getElementById('news').textContent.includes('does not answer')")


def test_it_fits_a_phone_and_the_dark(page: Page) -> None:
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    try:
        for view in ("library", "map", "compare", "label", "upload"):
            page.open(view)
            assert page.run("return document.documentElement.scrollWidth") <= 375, view
        luminance = page.run(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + +b, 0)"
        )
        assert luminance < 150
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_everything_that_can_be_used_has_a_name(page: Page) -> None:
    page.open("library")
    nameless = page.run(
        "return [...document.querySelectorAll('button, input, select, a, canvas')].filter(e => !(e.textContent.trim()"
        " || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.id || e.outerHTML)"
    )
    assert nameless == []


def test_keys_go_to_views_and_back(page: Page) -> None:
    page.open("library")
    page.find("body").send_keys("2")
    page.until("return !document.getElementById('view-map').hidden")
    page.find("body").send_keys("1")
    page.until("return !document.getElementById('view-library').hidden")
    page.run("document.querySelector('#library-grid button').focus()")
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.run(f"return [...{CARDS}].indexOf(document.activeElement.closest('.card'))") == 1
    page.browser.switch_to.active_element.send_keys("x")
    assert page.run("return S.selection.size") > 0
    page.find("body").send_keys(Keys.ESCAPE)
    assert page.run("return S.selection.size") == 0
    page.find("body").send_keys("?")
    page.until("return document.getElementById('help').open")
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)


def test_nothing_is_loaded_from_elsewhere_and_no_script_failed(page: Page, served: tuple[Site, str]) -> None:
    page.open("library")
    addresses = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert addresses
    assert all(address.startswith((served[1], "blob:")) for address in addresses)
    # The previews of the missing video, and the server that a test has stopped.
    allowed = ("status of 404", "status of 415", "net::ERR_CONNECTION_REFUSED")
    assert [error for error in page.errors() if not any(reason in error for reason in allowed)] == []
