"""The page of matches in a browser: keys, owners, large pictures, widths, and what it must not do."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import Deployment, done, picture, png_bomb, shared_deployment
from tests.support.forgery import Picture, publish

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.keys import Keys

from tests.support.browser import CHROMEDRIVER, CHROMIUM, Browser, open_browser

pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and CHROMEDRIVER.exists()), reason="chromium or chromium-driver is not installed"
)

NAMES = (
    "<script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 1">',
    "' onfocus='window.owned = 1' autofocus='",
    "javascript:window.owned=1",
    "</p></li></ol></section></main><h1>owned</h1>",
    "exe.\u202egnp.png",
    "صورة الصدر/مريض.png",
    "long-" * 2000 + ".png",
    "W" * 2000,
)
FILES = {
    "bomb": Picture("bomb", content=png_bomb()),
    "html": Picture("html", media_type="text/html", content=b"<script>window.owned = 1</script>"),
    "html as png": Picture("html as png", media_type="image/png", content=b"<script>alert(1)</script>"),
    "svg": Picture(
        "svg",
        media_type="image/svg+xml",
        content=b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    ),
}
FOCUSED = "document.activeElement.closest('.match')"
PLACE = f"[...document.querySelectorAll('.match:not([hidden])')].indexOf({FOCUSED})"
QUERY = f"[...document.querySelectorAll('.query')].indexOf({FOCUSED}.closest('.query'))"
VIEW_OPEN = "document.querySelector('.view').open"
TITLE = "document.querySelector('#view-title').textContent"
LARGE = "document.querySelector('.stage img')"
SHOWN = "[...document.querySelectorAll('.match:not([hidden])')].map((match) => match.dataset.owner)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The one browser of these tests."""
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(deployment: Deployment) -> Path:
    """Two queries of five matches each, of two owners, and of all formats."""
    return deployment / "alice.matches" / "matches.html"


@pytest.fixture(scope="module")
def hostile(session_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with dangerous names and files that are no pictures."""
    made = shared_deployment(session_folder, "mask").copy(tmp_path_factory.mktemp("hostile") / "deployment")
    buffer = io.BytesIO()
    picture(3).save(buffer, "PNG")
    named = [Picture(name, content=buffer.getvalue()) for name in NAMES]
    publish(made, "south", [*named, *FILES.values()])
    answer = made.answer(made.search(made.ask("alice", candidates=100)))
    done("user", "decrypt", made / "alice", answer, "-o", made / "all", "--top", 100)
    return made / "all" / "matches.html"


def quiet(browser: Browser) -> None:
    """Demand that the console said nothing, and that nothing was asked for but files and what they hold."""
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []


def test_all_pictures_of_the_page_are_shown(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.until("document.readyState === 'complete'")
    widths = browser.ask("[...document.querySelectorAll('main img')].map((image) => image.naturalWidth)")
    assert len(widths) == 12 and 0 not in widths
    quiet(browser)


# Keys.


def test_arrows_move_between_matches(browser: Browser, page: Path) -> None:
    browser.open(page, size=(1280, 900))
    browser.press(Keys.ARROW_RIGHT)
    assert browser.ask(PLACE) == 0
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.ask(PLACE) == 2
    browser.press(Keys.ARROW_LEFT)
    assert browser.ask(PLACE) == 1
    browser.press(Keys.END)
    assert browser.ask(PLACE) == 4
    browser.press(Keys.ARROW_RIGHT)
    assert (browser.ask(PLACE), browser.ask(QUERY)) == (5, 1)


def test_arrows_move_between_lines(browser: Browser, page: Path) -> None:
    browser.open(page, size=(360, 740))
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert browser.ask(PLACE) == 2
    browser.press(Keys.ARROW_UP)
    assert browser.ask(PLACE) == 0
    browser.press(Keys.ARROW_UP)
    assert browser.ask(PLACE) == 0


@pytest.mark.parametrize(("keys", "query"), [("2", 1), ("1", 0), ("n", 0), ("nn", 1), ("nnp", 0), ("2n9", 1)])
def test_numbers_and_letters_move_between_queries(
    browser: Browser, page: Path, keys: str, query: int
) -> None:
    browser.open(page)
    browser.press(*keys)
    assert browser.ask(QUERY) == query


def test_tab_moves_from_query_to_query(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.TAB)
    assert browser.ask(QUERY) == 1
    browser.press(Keys.TAB, holding=Keys.SHIFT)
    assert browser.ask(PLACE) == 1


def test_the_focus_can_be_seen(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press(Keys.ARROW_RIGHT)
    style = "getComputedStyle(document.activeElement)"
    assert browser.ask(f"{style}.outlineStyle") == "solid"
    assert browser.ask(f"parseFloat({style}.outlineWidth)") >= 2


@pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE])
def test_a_key_opens_a_match_and_escape_closes_it(browser: Browser, page: Path, key: str) -> None:
    browser.open(page)
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, key)
    browser.until(VIEW_OPEN)
    assert browser.ask(TITLE) == "Match 2"
    browser.press(Keys.ARROW_RIGHT)
    assert browser.ask(TITLE) == "Match 3"
    browser.press(Keys.ESCAPE)
    browser.until(f"!{VIEW_OPEN}")
    browser.until(f"{PLACE} === 2")  # the page hears of the closing a moment later
    quiet(browser)


def test_the_question_mark_shows_the_keys(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("?")
    browser.until("document.querySelector('.help').open")
    assert len(browser.ask("document.querySelector('.help').innerText")) > 200
    browser.press(Keys.ESCAPE)
    browser.until("!document.querySelector('.help').open")
    browser.click(".help-button")
    browser.until("document.querySelector('.help').open")
    browser.click(".plain")
    browser.until("!document.querySelector('.help').open")
    quiet(browser)


# Large pictures.


def test_every_match_is_seen_large_on_a_click(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click(".match .picture")
    browser.until(VIEW_OPEN)
    count = browser.ask("document.querySelectorAll('.match').length")
    for number in range(count):
        browser.until(f"{LARGE}.src.startsWith('file:') && {LARGE}.complete && {LARGE}.naturalWidth === 88")
        assert browser.ask(f"{LARGE}.naturalHeight") == 72
        assert browser.ask("document.querySelector('.view .size').textContent") == "88 × 72"
        assert browser.ask("document.querySelector('.next').disabled") is (number == count - 1)
        browser.press(Keys.ARROW_RIGHT)
    quiet(browser)


def test_the_query_stands_beside_a_large_match(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("2", Keys.ENTER)
    browser.until(VIEW_OPEN)
    caption = browser.ask("document.querySelector('.view figcaption').innerText")
    assert "query 2 of 2" in caption and "q2.png" in caption
    asked = "document.querySelectorAll('.asked img')[1].src"
    assert browser.ask(f"document.querySelector('.view figure img').src === {asked}")


def test_a_picture_is_seen_pixel_by_pixel(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press(Keys.ARROW_RIGHT, Keys.ENTER)
    browser.until(f"{LARGE}.src.startsWith('file:') && {LARGE}.complete")
    assert browser.ask(f"{LARGE}.clientWidth") > 88
    browser.press("z")
    assert browser.ask(f"{LARGE}.clientWidth") == 88
    browser.click(".zoom")
    assert browser.ask(f"{LARGE}.clientWidth") > 88
    browser.click(".close")
    browser.until(f"!{VIEW_OPEN}")


# Owners.


def test_one_owner_alone_is_shown_or_all(browser: Browser, page: Path) -> None:
    browser.open(page)
    all_owners = browser.ask(SHOWN)
    assert set(all_owners) == {"0", "1"}
    browser.click(".owners li:nth-child(2) button")
    assert browser.ask(SHOWN) == [owner for owner in all_owners if owner == "1"]
    assert f"{all_owners.count('1')} of 10 matches" in browser.ask("document.body.innerText")
    assert browser.ask("document.querySelectorAll('.owners [aria-pressed=true]').length") == 1
    browser.click(".owners li:nth-child(1) button")
    assert browser.ask(SHOWN) == all_owners
    browser.click(".owners li:nth-child(1) button")
    browser.click(".owners li:nth-child(2) button")
    assert browser.ask(SHOWN) == all_owners
    quiet(browser)


def test_keys_pass_over_matches_of_other_owners(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click(".owners li:nth-child(2) button")
    kept = browser.ask(f"{SHOWN}.length")
    browser.press(*[Keys.ARROW_RIGHT] * 12)
    assert browser.ask(PLACE) == kept - 1
    assert browser.ask(f"{FOCUSED}.dataset.owner") == "1"


# Widths, schemes, and no script.


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 360, 760, 1600, 2560])
def test_no_width_needs_scrolling_sideways(
    browser: Browser, hostile: Path, width: int, *, dark: bool
) -> None:
    browser.open(hostile, size=(width, 800), dark=dark)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    browser.press(Keys.ARROW_RIGHT, Keys.ENTER)
    browser.until(VIEW_OPEN)
    for _ in range(8):
        browser.press(Keys.ARROW_RIGHT)
        assert browser.ask("document.querySelector('.view').scrollWidth") <= width
        assert browser.ask("document.querySelector('.view aside').scrollWidth") <= width


def test_text_can_be_read_on_either_ground(browser: Browser, page: Path) -> None:
    grounds = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        colour = browser.ask("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(int(each) for each in colour.strip("rgb()").split(",")))
    assert grounds[0] > 3 * 200 and grounds[1] < 3 * 60


def test_without_a_script_matches_are_links_to_files(browser: Browser, page: Path) -> None:
    browser.open(page, script=False)
    assert browser.ask("document.querySelector('.help-button').checkVisibility()") is False
    links = browser.ask("[...document.querySelectorAll('a.picture')].map((link) => link.href)")
    assert len(links) == 10
    browser.click("a.picture")
    browser.until("document.images.length === 1 && document.images[0].naturalWidth === 88")


# What must not happen.


def test_hostile_names_and_files_do_nothing(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    count = browser.ask("document.querySelectorAll('.match').length")
    assert count == 2 * (10 + len(NAMES) + len(FILES))
    browser.press(Keys.ARROW_RIGHT, Keys.ENTER)
    browser.until(VIEW_OPEN)
    for _ in range(count):
        browser.press(Keys.ARROW_RIGHT)
    assert browser.ask("document.querySelector('.next').disabled")
    with pytest.raises(NoAlertPresentException):
        _ = browser.driver.switch_to.alert
    assert browser.ask("window.owned") is None
    assert browser.ask("[...document.querySelectorAll('h1')].map((each) => each.innerText)") == ["Matches"]
    assert browser.ask("document.scripts.length") == 1
    quiet(browser)


def test_a_path_of_right_to_left_names_keeps_its_order(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    parts = (
        "[...[...document.querySelectorAll('.match .name')].find((name) => name.textContent.includes('مريض'))"
        ".querySelectorAll('bdi')].map((part) => [part.textContent, part.getBoundingClientRect().left])"
    )
    found = browser.ask(parts)
    assert [text for text, _ in found] == ["صورة الصدر", "مريض", "png"]
    assert sorted(found, key=lambda part: part[1]) == found


def test_a_file_that_is_no_picture_says_so_and_has_no_link(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    browser.click(".match span.picture")
    browser.until(VIEW_OPEN)
    assert "cannot be shown" in browser.ask("document.querySelector('.view .note').textContent")
    assert browser.ask("document.querySelector('.view .file').hasAttribute('href')") is False
    assert browser.ask("document.querySelectorAll('.match span.picture').length") == 2 * len(FILES)


def test_what_came_in_all_the_same_could_do_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.driver.execute_script(
        """
        window.refused = [];
        addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
        const script = document.createElement("script");
        const image = new Image();
        image.src = "http://127.0.0.1:9/stolen.png";
        const styled = document.createElement("p");
        styled.setAttribute("style", "color: red");
        document.body.append(image, styled, script);
        for (const attempt of [
          () => fetch("http://127.0.0.1:9/stolen"),
          () => (script.text = "window.owned = 1"),
          () => (document.body.innerHTML = "<img src=x onerror='window.owned = 1'>"),
        ]) try { Promise.resolve(attempt()).catch(() => {}); } catch { /* refused */ }
        """
    )
    expected = {"img-src", "style-src-attr", "connect-src", "require-trusted-types-for"}
    browser.until(f"new Set(refused).size === {len(expected)}")
    assert set(browser.ask("refused")) == expected
    assert browser.ask("window.owned") is None


def test_a_picture_that_is_gone_is_said_to_be(browser: Browser, hostile: Path, tmp_path: Path) -> None:
    alone = tmp_path / "matches.html"
    alone.write_bytes(hostile.read_bytes())
    browser.open(alone)
    browser.press(Keys.ARROW_RIGHT, Keys.ENTER)
    browser.until("document.querySelector('.view .note').textContent.includes('beside this page')")
