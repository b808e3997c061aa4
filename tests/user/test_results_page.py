"""The page of matches: whole, and safe whatever names say. What a browser makes of it is tested beside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.user.results_page import PageMatch, PagePicture, PageQuery, results_page

PICTURE = PagePicture(b"\xff\xd8 of a kind", (32, 24), dark=False)
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)",
    "javascript:alert(1)",
    "</bdi></li></ol></section></main><h1>owned",
    "</style></script>--><!--",
    "<![CDATA[<svg/onload=alert(1)>]]>",
    "$script ${style} $$",
    "exe.\u202egpj",
    "nul\x00\x1b[31m\udcff",
    "&lt;b&gt; &amp;",
    "x" * 1_000_000,
    "",
]
ELEMENTS = (
    "html head meta title link style body header h1 dl div dt dd details summary ul li span i bdi nav a p "
    "button main section h2 img svg rect ol footer dialog aside figure figcaption kbd script"
)


class Parsed(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text.append(data)

    def of_class(self, name: str) -> list[dict[str, str]]:
        """The attributes of the elements of a class."""
        return [attributes for _, attributes in self.elements if name in attributes.get("class", "").split()]


def match(rank: int, owner: str = "north", name: str = "a.png", **options: object) -> PageMatch:
    fields = {
        "distance": rank / 8,
        "file": f"query-1/{rank:03d}_a.png",
        "large": f"query-1/{rank:03d}_a.png",
        "full_size": (3000, 2000),
        "picture": PICTURE,
    }
    return PageMatch(rank=rank, owner=owner, name=name, **{**fields, **options})  # type: ignore[arg-type]


def page_of(*matches: PageMatch, name: str = "q.png", warnings: Sequence[str] = ()) -> str:
    return results_page([PageQuery(name, PICTURE, matches)], facts={"Scheme": "mask"}, warnings=warnings)


def policy_of(page: str) -> dict[str, list[str]]:
    (policy,) = (
        attributes["content"]
        for tag, attributes in Parsed(page).elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    return {name: sources for name, *sources in (part.split() for part in policy.split(";"))}


def test_every_match_is_in_the_page() -> None:
    queries = [
        PageQuery(
            f"q{number}.png",
            PICTURE,
            [match(rank, f"o{rank % 3}", f"n{number}-{rank}") for rank in range(1, 51)],
        )
        for number in (1, 2, 3)
    ]
    page = Parsed(results_page(queries, facts={}))
    assert len(page.of_class("match")) == 150
    assert len(page.of_class("query")) == 3
    assert {f"n{number}-{rank}" for number in (1, 2, 3) for rank in range(1, 51)} <= set(page.text)
    assert {"q1.png", "q2.png", "q3.png", "query 2 of 3"} <= set(page.text)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("صورة/مريض 12.png", ["صورة", "/", "مريض 12", ".", "png"]),
        ("תמונה", ["תמונה"]),
        ("א/.x", ["א", "/", ".x"]),
        ("é/北.png", ["é/北.png"]),
        ("a/b.png", ["a/b.png"]),
    ],
)
def test_each_part_of_a_path_has_its_own_direction(name: str, parts: list[str]) -> None:
    text = Parsed(page_of(match(1, name=name))).text
    place = text.index(parts[0])
    assert text[place : place + len(parts)] == parts


def test_equal_input_gives_an_equal_page() -> None:
    assert page_of(match(1), match(2)) == page_of(match(1), match(2))


def test_a_query_without_matches_says_so() -> None:
    page = Parsed(page_of())
    assert page.of_class("match") == []
    assert page.text.count("no matches") == 2


def test_facts_and_warnings_are_in_the_page() -> None:
    page = page_of(match(1), warnings=["north lacks <2> images", "south was not searched"])
    assert {"Scheme", "mask", "2 warnings", "north lacks <2> images"} <= set(Parsed(page).text)
    assert "warnings</summary>" not in page_of(match(1))


# Names.


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_adds_nothing_but_text(name: str) -> None:
    plain = Parsed(page_of(match(1), name="plain", warnings=["plain"]))
    hostile = Parsed(page_of(match(1, name=name), name=name, warnings=[name]))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert [list(each) for _, each in hostile.elements] == [list(each) for _, each in plain.elements]


@given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
def test_any_name_is_escaped(name: str, owner: str) -> None:
    page = page_of(match(1, owner=owner, name=name), name=name, warnings=[name])
    page.encode()
    elements = Parsed(page).elements
    assert {tag for tag, _ in elements} <= set(ELEMENTS.split())
    for tag, attributes in elements:
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
        if tag in ("a", "link"):
            assert re.match(r"query-1/|#query-|matches\.csv$|data:,$", attributes.get("href", "#query-"))


@given(st.text(st.characters(), min_size=1, max_size=40))
def test_any_name_of_a_file_stays_below_the_folder(name: str) -> None:
    file = "query-1/" + name.encode("utf-8", "replace").decode()
    page = Parsed(page_of(match(1, file=file, large=file)))
    (link,) = (attributes["href"] for attributes in page.of_class("picture") if "href" in attributes)
    assert re.fullmatch(r"query-1/[A-Za-z0-9._~/%-]+", link)


def test_words_that_are_spelt_with_joiners_stay_whole() -> None:
    assert "نام\u200cها" in Parsed(page_of(match(1, name="نام\u200cها"))).text


def test_marks_that_turn_text_around_are_made_visible() -> None:
    page = page_of(match(1, name="exe.\u202egpj"))
    assert "\u202e" not in page and "exe.\\u202egpj" in page


def test_a_name_without_end_is_shortened_in_its_middle() -> None:
    page = page_of(match(1, name="a" * 500_000 + "z" * 500_000))
    assert len(page) < len(page_of(match(1))) + 5000
    assert "a" * 300 + "…" + "z" * 300 in page


# What the page lets happen.


def test_the_policy_names_the_style_and_the_script_alone() -> None:
    page = page_of(match(1))
    policy = policy_of(page)
    for element in ("style", "script"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{element}-src"] == [f"'sha256-{digest}'"]
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert set(policy["img-src"]) == {"data:", "file:", "'self'"}


def test_the_policy_comes_before_all_that_it_governs() -> None:
    tags = [tag for tag, _ in Parsed(page_of(match(1))).elements]
    first = min(tags.index(tag) for tag in ("style", "script", "link", "img"))
    assert tags[:first].count("meta") >= 2


def test_the_page_names_no_address_of_a_network() -> None:
    page = page_of(match(1)).replace("http-equiv", "")
    assert "http" not in page
    assert not re.search(r"(src|href|url\()=?[\"']?//", page)
    assert "@import" not in page and "url(" not in page


def test_the_script_makes_no_html_of_strings() -> None:
    (script,) = re.findall("<script>(.*?)</script>", page_of(match(1)), re.DOTALL)
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
    ):
        assert way not in script


# Pictures and bars.


def test_a_picture_is_in_the_page_and_links_to_what_is_large() -> None:
    page = Parsed(page_of(match(1, file="query-1/a b.tif", large="copies/query-1-001.jpg")))
    (frame,) = (each for each in page.of_class("picture") if "href" in each)
    assert frame["href"] == "copies/query-1-001.jpg"
    (listed,) = page.of_class("match")
    assert (listed["data-link"], listed["data-file"]) == ("query-1/a%20b.tif", "query-1/a b.tif")
    assert listed["data-size"] == "3000 × 2000" and "a copy" in listed["data-note"]
    images = [each["src"] for tag, each in page.elements if tag == "img" and "src" in each]
    assert images == ["data:image/jpeg;base64," + base64.b64encode(PICTURE.jpeg).decode()] * 2


def test_what_is_no_picture_has_no_link() -> None:
    page = Parsed(page_of(match(1, picture=None)))
    assert [each for each in page.of_class("picture") if "href" in each] == []
    assert page.of_class("match")[0]["data-link"] == ""
    assert "no picture" in page.text


def bars(page: str) -> list[float]:
    return [float(each["width"]) for tag, each in Parsed(page).elements if tag == "rect"]


def test_a_bar_is_as_long_as_its_distance() -> None:
    distances = [0.0, 2.0, 4.0, 8.0]
    matches = [match(rank, distance=distance) for rank, distance in enumerate(distances, start=1)]
    assert bars(page_of(*matches)) == [0.0, 25.0, 50.0, 100.0]


@given(st.lists(st.floats(), max_size=5))
def test_any_distance_has_a_bar_that_fits(distances: list[float]) -> None:
    matches = [match(rank, distance=distance) for rank, distance in enumerate(distances, start=1)]
    assert all(0 <= width <= 100 for width in bars(page_of(*matches)))


def test_owners_keep_their_colours_from_match_to_legend() -> None:
    page = Parsed(page_of(match(1, "north"), match(2, "south"), match(3, "north")))
    north, south, again = (each["class"].split()[1] for each in page.of_class("match"))
    assert north == again != south
    legend = [each["class"] for tag, each in page.elements if tag == "li" and "data-owner" in each]
    assert legend[:2] == [north, south]
