"""The page in a real browser: it sorts, filters, opens, hovers, plays, and asks no host for anything.

Wants chromium and chromedriver on the PATH; for the check of accessibility, axe-core in the virtual
environment.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters_samples import sample_clusters
from page_samples import (
    CLASSES,
    many_clusters,
    sample_comparison,
    sample_report,
    with_logits,
    write_sample_page,
)

from fvar.report.boundaries import KnownSegment

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402  # after the check
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

pytestmark = pytest.mark.slow

NASTY = "<img src=x onerror=document.title='broken'>'\"&</script>\u202e"
AXE = Path(sys.prefix) / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a browser without a network: every host name leads nowhere."""
    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        pytest.skip("wants chromium and chromedriver (Debian: apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


class Page:
    """A page in the browser, and what it wrote to the console and asked for since it was opened."""

    def __init__(self, browser: Any, path: Path, fragment: str = "") -> None:
        self.browser = browser
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(f"{path.as_uri()}{fragment}")

    def find(self, css: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[Any]:
        return list(self.browser.find_elements(By.CSS_SELECTOR, css))

    def ids(self) -> list[str]:
        return list(
            self.run(
                "return [...document.querySelectorAll('.videos tbody tr')].map(r => r.dataset.id)"
            )
        )

    def run(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self.browser, 20).until(lambda _: condition())

    def open(self, number: int) -> None:
        self.run("document.querySelector(`tr[data-number='${arguments[0]}'] a`).click()", number)
        self.wait(lambda: self.all("dialog[open] .film button"))

    def press(self, key: str) -> None:
        ActionChains(self.browser).send_keys(key).perform()

    def check_quiet(self) -> None:
        """No error in the console, no request to any host, every picture with a size."""
        assert [
            entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"
        ] == []
        asked = [entry["message"] for entry in self.browser.get_log("performance")]
        assert not [text for text in asked if '"url":"http' in text or '"url":"ws' in text]
        sizes = self.run("return [...document.images].map(i => i.naturalWidth)")
        assert all(size > 0 for size in sizes)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of 12 videos in one file, copied away from everything it was written with."""
    folder = tmp_path_factory.mktemp("page")
    page = write_sample_page(folder / "written", many_clusters(12))
    return Path(shutil.copy(page, folder / "alone.html"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page whose videos lie beside it, in a folder that was copied."""
    folder = tmp_path_factory.mktemp("large")
    write_sample_page(folder / "written", many_clusters(5), embed=False)
    shutil.copytree(folder / "written", folder / "a copied folder #1 %20")
    shutil.rmtree(folder / "written")
    return folder / "a copied folder #1 %20" / "index.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of an evaluation of three classes."""
    folder = tmp_path_factory.mktemp("report")
    return sample_report(folder, ["a", "b", "c"], [0, 0, 0, 1, 2], [0, 1, 1, 1, 0])


@pytest.fixture(scope="module")
def all_pages(
    small: Path, report: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, int | None]]:
    """Return a page of each kind, with the number of the video to open in it."""
    comparison = sample_comparison(tmp_path_factory.mktemp("comparison"))
    return [(small, None), (small, 3), (report, None), (comparison, None)]


def test_columns_sort_both_ways(browser: Any, small: Path) -> None:
    """A click on a head sorts, another the other way; the head says so, and the address keeps it."""
    page = Page(browser, small)
    page.find("th[data-key=frames] button").click()
    assert page.ids() == [f"clip-{n}" for n in reversed(range(12))]
    assert page.find("th[data-key=frames]").get_attribute("aria-sort") == "descending"
    page.find("th[data-key=frames] button").click()
    assert page.ids() == [f"clip-{n}" for n in range(12)]
    page.find("th[data-key=predicted] button").click()
    shown = page.run(
        "return [...document.querySelectorAll('.videos tbody tr')].map(r => r.dataset.predicted)"
    )
    assert shown == sorted(shown)
    for key in ("confidence", "margin", "evenness", "change"):
        page.find(f"th[data-key={key}] button").click()
        values = page.run(
            f"return [...document.querySelectorAll('.videos tbody tr')].map(r => +r.dataset.{key})"
        )
        assert values == sorted(values, reverse=True)
    assert "sort=-change" in browser.current_url
    page.check_quiet()


def test_filters_and_the_address(browser: Any, small: Path) -> None:
    """Search, class, verdict and confidence together; the address brings the same view back."""
    page = Page(browser, small)
    Select(page.find("#show")).select_by_value("wrong")
    page.wait(lambda: page.ids() == [f"clip-{n}" for n in range(0, 12, 3)])
    Select(page.find("#label")).select_by_visible_text("down")
    page.wait(lambda: page.ids() == ["clip-3"])
    Select(page.find("#label")).select_by_visible_text("all")
    page.wait(lambda: len(page.ids()) == 4)
    page.find("#q").send_keys("CLIP-9")
    assert page.ids() == ["clip-9"]
    assert page.find("#shown").text == "1 of 12 videos"
    fragment = "#" + browser.current_url.partition("#")[2]
    again = Page(browser, small, fragment)
    assert again.ids() == ["clip-9"]
    again.find("#q").send_keys(Keys.ESCAPE)
    assert again.ids() == [f"clip-{n}" for n in range(0, 12, 3)]
    again.find("#least").send_keys("101")
    assert again.ids() == []
    again.check_quiet()


def test_the_keyboard_alone(browser: Any, small: Path) -> None:
    """Slash searches, arrows go through the rows, Enter opens, arrows move on, Escape closes."""
    page = Page(browser, small)
    page.press("/")
    assert page.run("return document.activeElement.id") == "q"
    page.press("clip-1")
    assert page.ids() == ["clip-1", "clip-10", "clip-11"]
    page.press(Keys.ARROW_DOWN)
    page.press(Keys.ARROW_DOWN)
    page.press(Keys.ENTER)
    page.wait(lambda: page.all("dialog[open] .film button"))
    assert page.find("#video-name").text == "clip-10"
    page.press(Keys.ARROW_RIGHT)
    page.wait(lambda: page.find("#video-name").text == "clip-11")
    page.press(Keys.ARROW_RIGHT)  # the last one shown
    assert page.find("#video-name").text == "clip-11"
    page.press(Keys.ARROW_LEFT)
    page.wait(lambda: page.find("#video-name").text == "clip-10")
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page.all("dialog[open]"))
    assert "video=" not in browser.current_url
    page.check_quiet()


def test_an_opened_video(browser: Any, small: Path) -> None:
    """Clusters are as wide as they last; hovering shows the frame of that time; the table holds scores."""
    page = Page(browser, small)
    clusters = many_clusters(12)[9]
    page.open(9)
    page.wait(lambda: page.find(".player figcaption").text == "frame 0")
    widths = [button.rect["width"] for button in page.all(".film button")]
    lasts = clusters.stop_seconds - clusters.start_seconds
    assert widths == pytest.approx((lasts / lasts.sum() * sum(widths)).tolist(), abs=3)
    drawing = page.find(".curve svg")
    ActionChains(browser).move_to_element_with_offset(drawing, -8, 0).perform()
    assert "frame 15," in page.find(".tip").text
    assert f"cluster {clusters.assignment[15]}," in page.find(".tip").text
    shown = page.run("return document.querySelector('.tip .tile').style.backgroundPosition")
    page.run(
        "const s = document.querySelector('.time'); s.value = 31; s.dispatchEvent(new Event('input'))"
    )
    assert "frame 31," in page.run("return document.querySelector('.tip').textContent")
    assert page.run("return document.querySelector('.tip .tile').style.backgroundPosition") != shown
    assert clusters.scores is not None
    whole = [cell.text for cell in page.all(".scores tbody tr td:last-child")]
    order = [CLASSES.index(name.text.split()[0]) for name in page.all(".scores tbody th")]
    assert whole == [
        f"{100 * clusters.scores[c]:.0f}" if clusters.scores[c] >= 0.005 else "" for c in order
    ]
    assert f"pushed most towards {clusters.predicted}" in page.find(".scores").text
    page.check_quiet()


def test_a_cluster_plays(browser: Any, small: Path) -> None:
    """Without the original video, its stored frames move until they are stopped."""
    page = Page(browser, small)
    page.open(11)
    page.all(".film button")[3].click()
    assert page.find(".player").get_attribute("data-playing") == "frames"
    seen: set[str] = set()
    page.wait(lambda: seen.add(page.find(".player figcaption").text) or len(seen) >= 3)
    page.find(".player > button").click()
    assert page.find(".player").get_attribute("data-playing") == ""
    page.check_quiet()


def test_runs_side_by_side(browser: Any, tmp_path: Path) -> None:
    """Every run is a band, as wide as the film, and known segments lie above; times are aligned."""
    videos = many_clusters(2)
    others = [with_logits(sample_clusters(v.num_frames, 2, id=v.id)) for v in videos]
    known = {"clip-1": [KnownSegment(0.08, 0.2, NASTY), KnownSegment(0.2, 99, "later")]}
    page = Page(browser, write_sample_page(tmp_path, videos, others=[others], known=known))
    page.open(1)
    names = [text.get_property("textContent") for text in page.all(".bands .name")]
    assert names == ["known segments", "runs/0/train", "runs/1/train"]
    boxes = [box.rect for box in page.all(".bands rect")]
    tops = [round(box["y"]) for box in boxes]
    bands = [[box for box in boxes if round(box["y"]) == top] for top in sorted(set(tops))]
    assert [len(band) for band in bands] == [2, 8, 2]
    film = page.find(".film").rect
    ends = [(band[0]["x"], band[-1]["x"] + band[-1]["width"]) for band in bands[1:]]
    for start, stop in ends:
        assert start == pytest.approx(film["x"], abs=2)
        assert stop == pytest.approx(film["x"] + film["width"], abs=2)
    edge = bands[0][0]["x"] - film["x"]
    assert edge == pytest.approx(film["width"] * 0.08 / videos[1].duration_seconds, abs=2)
    assert len(page.all(".bands .edge")) == 2
    assert NASTY in page.find(".bands").get_property("textContent")
    page.check_quiet()
    Page(browser, tmp_path / "index.html", "#video=0")
    page.wait(lambda: len(page.all(".bands rect")) == 7)


def test_videos_beside_the_page(browser: Any, large: Path) -> None:
    """Their scripts and sprites load when they are opened, from a copied folder; a missing one is said."""
    page = Page(browser, large)
    page.open(4)
    shown = (
        "const i = new Image(); i.onload = i.onerror = () => arguments[0](i.naturalWidth);"
        "i.src = document.querySelector('.film .tile').style.backgroundImage.slice(5, -2)"
    )
    assert browser.execute_async_script(shown) > 100
    page.check_quiet()
    (large.parent / "videos" / "00002-clip-2.js").unlink()
    gone = Page(browser, large, "#video=2")
    gone.wait(lambda: "cannot be read. Keep the folder" in gone.find("dialog").text)


def test_an_original_that_cannot_be_played(browser: Any, tmp_path: Path) -> None:
    """The stored frames play instead."""
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = many_clusters(2)
    page = Page(browser, write_sample_page(tmp_path, videos, originals={"clip-1": "broken.mp4"}))
    page.open(1)
    page.all(".film button")[0].click()
    page.wait(lambda: page.find(".player").get_attribute("data-playing") == "frames")


def test_hostile_text_runs_no_script(browser: Any, tmp_path: Path) -> None:
    """Ids, labels and classes that look like markup are shown as they are."""
    names = (NASTY, NASTY + "2", "x", "y")
    video = with_logits(sample_clusters(id=NASTY, label=NASTY, predicted=NASTY + "2"))
    page = Page(browser, write_sample_page(tmp_path, [video], text=NASTY, classes=names))
    page.open(0)
    page.all(".film button")[0].click()
    assert page.find("#video-name").get_property("textContent") == NASTY
    assert NASTY in page.find(".scores").get_property("textContent")
    assert browser.title != "broken"
    page.check_quiet()


def test_a_click_on_the_matrix_lists_its_videos(browser: Any, report: Path) -> None:
    """The most confident first, and none of another cell."""
    page = Page(browser, report)
    page.find(".matrix button.bad").click()
    assert [item.text for item in page.all("#listed li")] == ["clip-2 a (52 %)", "clip-1 a (51 %)"]
    page.find(".matrix button.good").click()
    assert [item.text for item in page.all("#listed li")] == ["clip-0 a (50 %)"]
    page.check_quiet()


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_of_accessibility(
    browser: Any, all_pages: list[tuple[Path, int | None]], width: int, scheme: str
) -> None:
    """axe-core finds none in any kind of page, and none is wider than the window."""
    if not AXE.is_file():
        pytest.skip(f"wants axe-core (npm install --prefix {sys.prefix} axe-core)")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    try:
        for path, number in all_pages:
            page = Page(browser, path)
            page.run(AXE.read_text(encoding="utf-8"))
            if number is not None:
                page.open(number)
            found = browser.execute_async_script(
                "axe.run({resultTypes: ['violations']}).then(arguments[0])"
            )
            serious = [v for v in found["violations"] if v["impact"] in {"serious", "critical"}]
            assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == []
            assert page.run("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
