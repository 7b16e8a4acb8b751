"""The site as a reader has it: opened from its folder in headless Chromium, clicked at, on a phone, on paper."""

import itertools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sites

from eval.site.__main__ import Config, main

HINT = "apt-get install chromium, and pip install -e '.[browser]' -c constraints.txt"
NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 300_000  # [ms] for whatever a busy machine takes
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

# What a page is asked: pictures that did not come, whether a video has come, words that leave the screen.
BROKEN = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
LOADED = "v => v.readyState > 0 || new Promise((yes, no) => { v.onloadedmetadata = yes; v.onerror = no })"
PARTS = "[...document.querySelectorAll('h1, h2, p, dl, select, button, #map')]"
CUT = PARTS + ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    library = pytest.importorskip("playwright.sync_api", reason=f"no playwright: {HINT}")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium: {HINT}")
    with library.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Moved away from the runs that it is of."""
    root = tmp_path_factory.mktemp("site")
    main(Config(sites.make(root), root / "site", refresh="none"))
    shutil.rmtree(root / "runs")
    return Path((root / "site").rename(root / "elsewhere"))


@pytest.fixture
def open_page(browser: Any, site: Path) -> Iterator[Any]:
    """Opens a page at a size; whatever its console, its scripts or its requests complain of fails the test."""
    said: list[str] = []
    contexts = []

    def opened(name: str, size: dict = DESKTOP, **options: object) -> Any:
        context = browser.new_context(viewport=size, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("requestfailed", lambda request: said.append(f"not there: {request.url}"))
        file, _, anchor = name.partition("#")
        page.goto((site / file).as_uri() + (f"#{anchor}" if anchor else ""))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in said if "ERR_ABORTED" not in line] == []


def click_point(page: Any, number: int) -> None:
    """With the mouse, where the point is drawn."""
    box = page.locator(f'.point[data-n="{number}"] use').bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def heading(page: Any) -> str:
    return page.locator("#episode h2").inner_text().strip()


def test_a_click_on_a_point_shows_its_rollout(open_page: Any) -> None:
    page = open_page("episodes.html#suite=ood&split=left_right&executor=teleport&policy=para")
    assert page.locator(".point").count() == 10
    assert page.locator("use[href='#mark-trained']").count() == 2
    places = page.evaluate("[...document.querySelectorAll('.point')].map(p => [+p.dataset.x, +p.dataset.y])")
    assert all(math.dist(a, b) > 9 for a, b in itertools.combinations(places, 2))  # none hides another
    for number, words in ((3, "Episode 3: placed"), (2, "Episode 2: missed"), (1, "Episode 1: grasped, not placed")):
        click_point(page, number)
        assert heading(page) == words
        assert page.locator(".point.chosen").get_attribute("data-n") == str(number)
        page.wait_for_function("document.querySelector('#episode video').readyState >= 2")
        seen = page.evaluate("(v => [v.src, v.videoWidth, v.error])(document.querySelector('#episode video'))")
        assert f"para-left-right-00{number}-" in seen[0]
        assert seen[1:] == [64, None]
    assert "episode=1" in page.url
    assert "60.0 % of n = 10 placed (Wilson 95 % 31.3 \u2013 83.2, by groups" in page.locator("#rates").inner_text()
    page.mouse.click(*(page.locator("#map").bounding_box()[key] + 4 for key in ("x", "y")))
    assert heading(page) == "Episode 1: grasped, not placed"  # a click at nothing is none
    page.reload()
    assert heading(page) == "Episode 1: grasped, not placed"


def test_points_are_reached_by_keys(open_page: Any) -> None:
    page = open_page("episodes.html#suite=ood&split=left_right&policy=para&episode=0")
    page.locator(".point.chosen").focus()
    for key, number in (("ArrowRight", 1), ("ArrowDown", 2), ("ArrowLeft", 1), ("ArrowUp", 0), ("ArrowUp", 9)):
        page.keyboard.press(key)
        assert heading(page).startswith(f"Episode {number}:")
        assert page.evaluate("document.activeElement.dataset.n") == str(number)
    page.get_by_role("button", name="next").click()
    assert heading(page).startswith("Episode 0:")


def test_filters_leave_what_they_name(open_page: Any) -> None:
    page = open_page("episodes.html#suite=ood&split=left_right&executor=teleport&policy=para&episode=2")
    page.get_by_role("checkbox", name="missed").uncheck()
    assert page.locator(".point").count() == 8
    assert page.locator(".point.miss").count() == 0
    assert "No episode is chosen" in page.locator("#episode").inner_text()
    page.get_by_role("checkbox", name="placed").uncheck()
    assert page.locator(".point").count() == page.locator(".point.grasp").count() == 2
    page.get_by_role("checkbox", name="grasped").uncheck()
    assert "No episode is left" in page.locator("#episode").inner_text()
    for name in ("placed", "grasped", "missed"):
        page.get_by_role("checkbox", name=name).check()

    page.locator("#policy").select_option("regression")
    click_point(page, 4)
    assert "This rolls it out again and keeps them" in page.locator("#episode .missing").inner_text()
    assert page.locator("#episode pre").inner_text().endswith("--n_episodes 5")
    page.locator("#episode .others button", has_text="para").click()  # the same episode by another policy
    assert (page.locator("#policy").input_value(), heading(page)) == ("para", "Episode 4: placed")

    page.locator("#split").select_option("hemisphere")
    assert page.locator("#executor option").all_inner_texts() == ["teleport"]
    page.locator("#arrange").select_option("camera")
    assert page.locator(".point").count() == 10
    page.locator("#suite").select_option("demo_robot")
    click_point(page, 3)
    page.wait_for_function("document.querySelector('#episode img').naturalWidth == 216")
    click_point(page, 5)
    assert "--n 6 --n_shown 6" in page.locator("#episode pre").inner_text()
    page.locator("#suite").select_option("fewshot")  # without positions and without videos
    click_point(page, 2)
    assert heading(page) == "Episode 2: missed"
    assert "No pictures of this episode were kept" in page.locator("#episode").inner_text()


def test_outcomes_differ_without_colour(open_page: Any) -> None:
    """Each has a shape of its own, and on paper every shape is black."""
    page = open_page("episodes.html#suite=ood&split=left_right&policy=para")
    page.emulate_media(media="print")
    shapes = {}
    for outcome in ("place", "grasp", "miss"):
        symbol = page.locator(f".point.{outcome} use").first
        shapes[outcome] = symbol.get_attribute("href")
        assert symbol.evaluate("e => getComputedStyle(e).stroke") == "rgb(0, 0, 0)"
    assert len(set(shapes.values())) == 3
    assert not page.locator("nav").is_visible()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_page_opens_without_a_complaint_and_fits(open_page: Any, site: Path, size: dict) -> None:
    """No page is wider than the screen, no picture or video is broken; a table alone may be moved sideways."""
    for path in sorted(site.glob("*.html")):
        page = open_page(path.name, size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path.name
        assert page.evaluate(BROKEN) == []
        for video in page.locator("video").all():
            video.evaluate(LOADED)
        assert page.evaluate(CUT) == [], path.name


def test_a_finger_is_enough(open_page: Any) -> None:
    page = open_page("episodes.html#suite=ood&split=left_right&policy=para", PHONE, has_touch=True, is_mobile=True)
    box = page.locator('.point[data-n="3"] use').bounding_box()
    page.touchscreen.tap(box["x"] + 1, box["y"] + 1)
    assert heading(page) == "Episode 3: placed"


def test_without_scripts_the_rest_can_be_read(open_page: Any) -> None:
    page = open_page("index.html", java_script_enabled=False)
    assert page.get_by_role("cell", name="left right").first.is_visible()
