"""Make the results page, matches.html: query images beside their matches, in any browser, without a network.

Names and pictures are untrusted. Names are escaped, and a link is the percent-encoded name of a file that we
wrote. The page's policy allows only its own style and script, embedded pictures and those beside it; there
are no inline handlers or style attributes. Without scripts the page is a plain list of pictures that link to
their files.
"""

from __future__ import annotations

import base64
import hashlib
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Final
from urllib.parse import quote

from mipp_cli import __version__
from mipp_cli.images.contact_sheet import PALETTE, owner_colours
from mipp_cli.images.thumbnails import Size
from mipp_cli.sanitize import printable

_MOST_LETTERS: Final = 600  # longer names are shortened
_JOINERS: Final = "\u200c\u200d"  # part of the spelling in some scripts
_TINY: Final = 96  # pictures up to this many pixels wide and high may be enlarged
_FEW: Final = 6  # up to so many matches of each query image, there is room for larger pictures


@dataclass(frozen=True)
class PagePicture:
    """A small picture: its JPEG file and size, and whether its background is black."""

    jpeg: bytes
    size: Size
    dark: bool


@dataclass(frozen=True)
class PageMatch:
    """A match. ``file`` and ``large`` are paths below the page's folder.

    ``large`` is the picture shown enlarged: the file itself or a copy. ``picture`` is None if the file cannot
    be shown; then ``large`` and ``full_size`` are not used.
    """

    rank: int
    owner: str
    name: str
    distance: float
    file: str
    large: str
    full_size: Size
    picture: PagePicture | None
    study: str = ""
    series: str = ""


@dataclass(frozen=True)
class PageQuery:
    """A query image and its matches in rank order."""

    name: str
    picture: PagePicture
    matches: Sequence[PageMatch]


def results_page(
    queries: Sequence[PageQuery], *, facts: Mapping[str, str], warnings: Sequence[str] = ()
) -> str:
    """Return the page as HTML, always the same for equal input; ``facts`` say how the answer came about."""
    found = [match for query in queries for match in query.matches]
    counted = Counter(match.owner for match in found)
    owners = sorted(counted, key=lambda owner: (-counted[owner], owner))
    colours = owner_colours(owners)
    classes = {owner: f"c{PALETTE.index(colours[owner])}" for owner in owners}
    numbers = {owner: number for number, owner in enumerate(owners)}
    finite = [match.distance for match in found if math.isfinite(match.distance)]
    whole = all(distance == round(distance) for distance in finite)
    writer = _Writer(classes, numbers, max(finite, default=0.0), 0 if whole else 2)
    palette = "".join(f".c{number} {{ --owner: {colour}; }}\n" for number, colour in enumerate(PALETTE))
    style, script = _part("matches.css") + palette, _part("matches.js")
    return Template(_part("matches.html")).substitute(
        policy=_policy(style, script),
        version=escape(__version__),
        title=escape(_title(queries)),
        kind="few" if all(len(query.matches) <= _FEW for query in queries) else "many",
        style=style,
        script=script,
        facts="".join(
            f"<div><dt>{escape(key)}</dt><dd>{escape(printable(text))}</dd></div>"
            for key, text in facts.items()
        ),
        warnings=_warnings(warnings),
        queries="".join(_jump(number, query) for number, query in enumerate(queries, start=1))
        if len(queries) > 1
        else "",
        owners="".join(writer.legend(owner, counted[owner]) for owner in owners),
        sections="\n".join(
            writer.section(number, query, len(queries)) for number, query in enumerate(queries, start=1)
        ),
    )


@dataclass(frozen=True)
class _Writer:
    """Renders matches with the colours, numbers and scale of one page."""

    classes: Mapping[str, str]
    numbers: Mapping[str, int]
    largest: float
    decimals: int

    def legend(self, owner: str, count: int) -> str:
        """Return the HTML of an owner, with its colour and number of matches."""
        return (
            f'<li class="{self.classes[owner]}" data-owner="{self.numbers[owner]}"><span class="chip">'
            f'<i class="dot"></i><bdi class="who">{_text(owner)}</bdi>'
            f'<span class="count">{count}</span></span></li>'
        )

    def section(self, number: int, query: PageQuery, queries: int) -> str:
        """Return the HTML of a query image and its matches."""
        label = "query" if queries == 1 else f"query {number} of {queries}"
        found = len(query.matches)
        count = "no matches" if not found else "1 match" if found == 1 else f"{found} matches"
        listed = "\n".join(map(self.match, query.matches))
        empty = (
            '<p class="empty none-left" hidden>no matches of these owners</p>'
            if found
            else '<p class="empty">no matches</p>'
        )
        return (
            f'<section class="query" id="query-{number}" aria-labelledby="asked-{number}">'
            f'<div class="asked">{_frame("div", query.picture, alt="The query image")}'
            f'<h2 class="label" id="asked-{number}">{label}</h2>'
            f'<bdi class="name" dir="ltr">{_name(query.name)}</bdi><p class="count">{count}</p></div>'
            f'<div><ol class="matches">\n{listed}\n</ol>{empty}</div></section>'
        )

    def match(self, match: PageMatch) -> str:
        """Return the HTML of a match."""
        distance = f"{match.distance:.{self.decimals}f}"
        label = f"Match {match.rank}: {_plain(match.name)}, of {_plain(match.owner)}, distance {distance}"
        size, note, link = "", "", ""
        if match.picture is None:
            frame = _frame("span", None, role="button", tabindex="0", aria_label=label)
        else:
            size, link = "{} × {}".format(*match.full_size), quote(match.file)
            if match.large != match.file:
                note = "This is a copy with 8 bits per channel, because browsers cannot show the file itself."
            frame = _frame("a", match.picture, href=quote(match.large), aria_label=label)
        return (
            f'<li class="match {self.classes[match.owner]}" data-owner="{self.numbers[match.owner]}"'
            f' data-file="{_text(match.file)}" data-link="{escape(link)}" data-size="{size}"'
            f' data-study="{escape(match.study)}" data-series="{escape(match.series)}"'
            f' data-note="{note}">{frame}<div class="figures"><span class="rank">{match.rank}</span>'
            f'<span class="distance">{distance}</span></div>{self._bar(match.distance)}'
            f'<p class="owner"><i class="dot"></i><bdi>{_text(match.owner)}</bdi></p>'
            f'<p class="name" dir="ltr">{_name(match.name)}</p></li>'
        )

    def _bar(self, distance: float) -> str:
        """Return a bar as long as the distance, as SVG because style attributes are forbidden."""
        share = distance / self.largest if self.largest else 0.0
        width = 100.0 * min(1.0, max(0.0, share)) if math.isfinite(share) else 100.0
        return (
            '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect width="{width:.1f}" height="4"></rect></svg>'
        )


def _frame(element: str, picture: PagePicture | None, *, alt: str = "", **attributes: str) -> str:
    """Return a picture on its background, or a placeholder if there is none."""
    kinds, inside = ["picture"], '<span class="none">no picture</span>'
    if picture is not None:
        width, height = picture.size
        kinds += ["deep"] * picture.dark + ["tiny"] * (max(picture.size) <= _TINY)
        data = base64.b64encode(picture.jpeg).decode("ascii")
        inside = f'<img alt="{escape(alt)}" width="{width}" height="{height}" decoding="async" '
        inside += f'src="data:image/jpeg;base64,{data}">'
    given = "".join(f' {key.replace("_", "-")}="{escape(each)}"' for key, each in attributes.items())
    return f'<{element} class="{" ".join(kinds)}"{given}>{inside}</{element}>'


def _jump(number: int, query: PageQuery) -> str:
    return f'<a href="#query-{number}" title="{_text(query.name)}">{number}</a>'


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    title = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    lines = "".join(f"<li>{escape(printable(warning))}</li>" for warning in warnings)
    return f'<details class="warnings" open><summary>{title}</summary><ul>{lines}</ul></details>'


def _title(queries: Sequence[PageQuery]) -> str:
    first = _plain(queries[0].name) if queries else ""
    return f"Matches of {first}" + (f" and {len(queries) - 1} more" if len(queries) > 1 else "")


def _text(name: str) -> str:
    """Return an untrusted name as HTML text."""
    return escape(_plain(name))


def _name(name: str) -> str:
    """Return the name of an image as HTML, left to right, with each part of the path in its own direction.

    As one run of text, a name in Arabic letters would be shown with its number and suffix swapped.
    """
    plain = _plain(name)
    if not any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in plain):
        return escape(plain)
    *folders, last = plain.split("/")
    stem, dot, suffix = last.rpartition(".")
    path = "/".join(f"<bdi>{escape(part)}</bdi>" for part in [*folders, stem or dot + suffix])
    return f"{path}{dot}<bdi>{escape(suffix)}</bdi>" if stem else path


def _plain(name: str) -> str:
    """Return an untrusted name shortened and printable, but not escaped."""
    half = _MOST_LETTERS // 2
    short = name if len(name) <= _MOST_LETTERS else f"{name[:half]}…{name[-half:]}"
    return "".join(letter if letter in _JOINERS else printable(letter) for letter in short)


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: only this script runs, and nothing is sent."""
    hashes = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (style, script))
    return (
        "default-src 'none'; img-src data: file: 'self'; style-src 'sha256-{}'; script-src 'sha256-{}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    ).format(*hashes)


def _part(name: str) -> str:
    return files("mipp_cli.user").joinpath("page", name).read_text(encoding="utf-8")
