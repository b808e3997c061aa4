"""The contact sheet of a search: each query picture with its decrypted matches, as one picture.

A band per query: the query on a dark card at the left, its matches on light cards to the right in rank order.
An owner has a colour, and its name is always written beside it. All names come from other parties, so each
is reduced to characters that the font has before it is drawn.
"""

from __future__ import annotations

import math
import unicodedata
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from mipp_cli.errors import OutputError, UnreadableImageError
from mipp_cli.roles.thumbnails import NEUTRAL_GROUND, Size, fitted, thumbnail

__all__ = [
    "MAX_HEIGHT",
    "MAX_TILES",
    "PER_LINE",
    "THUMBNAIL_SIZE",
    "SheetRow",
    "Tile",
    "draw_contact_sheet",
    "thumbnail",
]

PER_LINE: Final = 10
"""Matches on one line; further ones wrap onto the next line of the same band."""
MAX_TILES: Final = 50
"""Matches drawn for one query; the query's card says when there are more."""
MAX_HEIGHT: Final = 16_000
"""Height of a sheet in pixels at most: common picture formats and viewers can hold it."""

Colour = str | tuple[int, int, int]

GROUND: Final = "#f7f6f3"
CARD: Final = "#ffffff"
EDGE: Final = "#e2dfd8"
INK: Final = "#22272e"
MUTED: Final = "#656a71"
QUERY_CARD: Final = "#263442"
QUERY_MAT: Final = "#314252"
QUERY_MUTED: Final = "#b6c2cd"
QUERY_LABEL: Final = "#ffc66b"
# Okabe and Ito's colours, which all kinds of colour vision tell apart, with indigo for the two that a light
# ground swallows or that text has.
PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#332288")

_MARGIN: Final = 40
_MIN_COLUMNS: Final = 5  # with fewer, the header would be too narrow
_TITLE: Final = 30  # font sizes
_LEAD: Final = 15
_LEGEND: Final = 13
_LEGEND_CELL: Final = 200
_LEGEND_LINE: Final = 22
_LEGEND_LINES: Final = 2
_DOT: Final = 10
_DOT_GAP: Final = 6
_RADIUS: Final = 8
_ENLARGE: Final = 2.0  # small pictures grow to twice their size at most: more would only blur them
_SMOOTHING: Final = 4  # a corner is drawn this much larger, then reduced, so that its edge is smooth
_MAX_TEXT: Final = 400  # characters; more never fit, and measuring them would only cost time
_EXTRA_GLYPHS: Final = "…·“”\u2018\u2019"
_LOOKALIKES: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


@dataclass(frozen=True)
class Tile:
    """One match. ``picture`` is None if it could not be shown."""

    rank: int
    owner: str
    name: str
    distance: float
    picture: Image.Image | None


@dataclass(frozen=True)
class SheetRow:
    """One query image and its matches, in any order: they are drawn by rank."""

    query_name: str
    query_picture: Image.Image | None
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class _Scale:
    """The measures of a band in pixels."""

    cell: Size  # room for the picture of a match
    query_cell: Size  # room for the picture of a query, as high
    padding: int
    line: int
    rank_size: int
    text_size: int
    gap: int
    band_gap: int

    @property
    def card(self) -> Size:
        width, height = self.cell
        return width + 2 * self.padding, height + 3 * self.line + 3 * self.padding

    @property
    def query_card(self) -> Size:
        return self.query_cell[0] + 2 * self.padding, self.card[1]

    def sheet_width(self, columns: int) -> int:
        return 2 * _MARGIN + self.query_card[0] + self.gap + columns * (self.card[0] + self.gap)

    def band_height(self, row: SheetRow) -> int:
        lines = max(1, math.ceil(min(len(row.tiles), MAX_TILES) / PER_LINE))
        return lines * (self.card[1] + self.gap) - self.gap


_ROOMY: Final = _Scale(
    cell=(136, 128),
    query_cell=(184, 128),
    padding=8,
    line=18,
    rank_size=16,
    text_size=13,
    gap=10,
    band_gap=28,
)
_COMPACT: Final = _Scale(
    cell=(108, 72),
    query_cell=(108, 72),
    padding=6,
    line=15,
    rank_size=13,
    text_size=12,
    gap=8,
    band_gap=18,
)
THUMBNAIL_SIZE: Final = _ROOMY.query_cell
"""The largest cell: a :func:`thumbnail` of this size is all that a sheet needs of a picture."""


def draw_contact_sheet(rows: Sequence[SheetRow], *, title: str, subtitle: str) -> Image.Image:
    """Return the contact sheet of ``rows`` as an RGB picture, the same one for equal input.

    Pictures are fitted into equal cells, neither cropped nor distorted; a missing or damaged one leaves a
    placeholder. A sheet is at most :data:`MAX_HEIGHT` pixels high: if it would be higher, its cells become
    smaller, and if that is not enough, the last queries are left out and a line at the end counts them. A
    hundred queries of ten matches each fit. Characters that the font lacks appear as their base letter or
    as a question mark.
    """
    columns = max([_MIN_COLUMNS, *(min(len(row.tiles), PER_LINE) for row in rows)])
    owners = Counter(tile.owner for row in rows for tile in row.tiles)
    for scale in (_ROOMY, _COMPACT):
        size, shown = _plan(rows, len(owners), scale, columns)
        if shown == len(rows):
            break
    sheet = _Sheet(scale, size, owners, _decimals(tile.distance for row in rows for tile in row.tiles))
    top = sheet.header(title, subtitle)
    for number, row in enumerate(rows[:shown], start=1):
        sheet.band(top, row, "query" if len(rows) == 1 else f"query {number} of {len(rows)}")
        top += scale.band_height(row) + scale.band_gap
    if hidden := len(rows) - shown:
        more = f"… and {hidden} more query {'image' if hidden == 1 else 'images'}"
        sheet.write((_MARGIN, top), more, _LEAD, MUTED, width=size[0])
    return sheet.canvas


def shorten(text: str, width: float, size: int) -> str:
    """Return ``text`` made drawable, and shortened in its middle to ``width`` pixels at font size ``size``.

    White space of all kinds becomes one space, accents are dropped, and what the font lacks (other scripts,
    control characters, marks that reverse the direction of text) becomes a question mark.
    """
    half = _MAX_TEXT // 2
    clipped = text if len(text) <= _MAX_TEXT else f"{text[:half]}…{text[-half:]}"
    letters = unicodedata.normalize("NFD", " ".join(clipped.split()).translate(_LOOKALIKES))
    bases = (letter for letter in letters if not unicodedata.combining(letter))
    plain = "".join(base if " " <= base <= "~" or base in _EXTRA_GLYPHS else "?" for base in bases)
    font = _font(size)
    if font.getlength(plain) <= width:
        return plain
    kept = bisect_right(range(len(plain)), width, key=lambda kept: font.getlength(_cut(plain, kept)))
    return _cut(plain, max(0, kept - 1))


class _Sheet:
    """A canvas with the measures, colours and number format of one sheet."""

    def __init__(self, scale: _Scale, size: Size, owners: Counter[str], decimals: int) -> None:
        self.canvas = Image.new("RGB", size, GROUND)
        self._draw = ImageDraw.Draw(self.canvas)
        self._scale = scale
        self._owners = owners
        self._styles = _owner_styles(owners)
        self._decimals = decimals

    def header(self, title: str, subtitle: str) -> int:
        """Draw title, subtitle and the owners with their numbers of matches; return where the header ends."""
        width = self.canvas.width - 2 * _MARGIN
        self.write((_MARGIN, _MARGIN - 6), title, _TITLE, INK, width=width)
        self.write((_MARGIN, _MARGIN + 34), subtitle, _LEAD, MUTED, width=width)
        ranked = sorted(self._owners.items(), key=lambda item: (-item[1], item[0]))
        places = width // _LEGEND_CELL * _LEGEND_LINES
        # Where owners are left out, the last place says so instead of naming one.
        named = ranked if len(ranked) <= places else ranked[: places - 1]
        for index, (owner, count) in enumerate(named):
            self._owner(
                _legend_place(index, width), owner, _LEGEND, width=_LEGEND_CELL - 24, count=str(count)
            )
        if len(named) < len(ranked):
            more = f"and {len(ranked) - len(named)} more owners"
            self.write(_legend_place(len(named), width), more, _LEGEND, MUTED, width=_LEGEND_CELL)
        return _header_height(len(ranked), self.canvas.width)

    def band(self, top: int, row: SheetRow, label: str) -> None:
        """Draw a query and its matches, whose cards begin at ``top``."""
        self._query(top, row, label)
        width, height = self._scale.card
        gap = self._scale.gap
        left, right = _MARGIN + self._scale.query_card[0] + 2 * gap, self.canvas.width - _MARGIN
        if not row.tiles:
            self._card((left, top, right, top + height), NEUTRAL_GROUND)
            middle = (left + right) // 2, top + height // 2
            self.write(middle, "no matches", _LEAD, MUTED, width=right - left, anchor="mm")
        for index, tile in enumerate(sorted(row.tiles, key=lambda tile: tile.rank)[:MAX_TILES]):
            line, column = divmod(index, PER_LINE)
            self._tile((left + column * (width + gap), top + line * (height + gap)), tile)

    def write(
        self, place: Size, text: str, size: int, colour: Colour, *, width: float, anchor: str = "la"
    ) -> float:
        """Draw one line of text, shortened to ``width``; return how wide it became."""
        short = shorten(text, width, size)
        self._draw.text(place, short, font=_font(size), fill=colour, anchor=anchor)
        return _font(size).getlength(short)

    def _query(self, top: int, row: SheetRow, label: str) -> None:
        """Draw the dark card of a query: label, picture, name and number of matches."""
        scale, size, found = self._scale, self._scale.text_size, len(row.tiles)
        width, height = scale.query_card
        self._card((_MARGIN, top, _MARGIN + width, top + height), QUERY_CARD)
        left, bottom, room = _MARGIN + scale.padding, top + height - scale.padding, scale.query_cell[0]
        self.write((left, top + scale.padding - 1), label, size, QUERY_LABEL, width=room)
        corner = (left, top + scale.padding + scale.line + 3)
        self._picture(corner, scale.query_cell, row.query_picture, QUERY_MAT)
        self.write((left, bottom - 2 * scale.line + 3), row.query_name, size, CARD, width=room)
        count = "no matches" if not found else "1 match" if found == 1 else f"{found} matches"
        if found > MAX_TILES:
            count = f"first {MAX_TILES} of {found} matches"
        self.write((left, bottom - scale.line + 3), count, size, QUERY_MUTED, width=room)

    def _tile(self, corner: Size, tile: Tile) -> None:
        """Draw the light card of a match: picture, rank and distance, owner, name."""
        scale, size = self._scale, self._scale.text_size
        left, top = corner
        right, bottom = left + scale.card[0], top + scale.card[1]
        self._card((left, top, right, bottom), CARD, EDGE)
        left, top = left + scale.padding, top + scale.padding
        right, bottom, room = right - scale.padding, bottom - scale.padding, scale.cell[0]
        self._picture((left, top), scale.cell, tile.picture, NEUTRAL_GROUND)
        baseline = bottom - 2 * scale.line - 5
        used = self.write(
            (left, baseline), str(tile.rank), scale.rank_size, INK, width=room // 2, anchor="ls"
        )
        distance = f"{tile.distance:.{self._decimals}f}"
        self.write((right, baseline), distance, size, MUTED, width=room - used - 6, anchor="rs")
        self._owner((left, bottom - 2 * scale.line + 2), tile.owner, size, width=room)
        self.write((left, bottom - scale.line + 2), tile.name, size, MUTED, width=room)

    def _owner(self, place: Size, owner: str, size: int, *, width: int, count: str = "") -> None:
        """Draw an owner's dot, name and, if given, number of matches; the name gives way to ``width``."""
        left, top = place
        colour, hollow = self._styles[owner]
        dot_top = top + size // 2 + 3 - _DOT // 2
        self._card((left, dot_top, left + _DOT, dot_top + _DOT), colour, radius=_DOT // 2)
        if hollow:
            self._card((left + 3, dot_top + 3, left + _DOT - 3, dot_top + _DOT - 3), CARD, radius=2)
        left += _DOT + _DOT_GAP
        room = width - _DOT - _DOT_GAP - (_font(size).getlength(count) + _DOT_GAP if count else 0)
        used = self.write((left, top), owner, size, INK, width=room)
        self.write((left + round(used) + _DOT_GAP, top), count, size, MUTED, width=width)

    def _picture(self, corner: Size, cell: Size, picture: Image.Image | None, mat: Colour) -> None:
        """Draw a picture in the middle of its cell, or a placeholder.

        Its corners stay square, unlike those of cards: no pixel of a picture is hidden.
        """
        left, top = corner
        self.canvas.paste(mat, (left, top, left + cell[0], top + cell[1]))
        small = _fit(picture, cell)
        if small is None:
            colour = QUERY_MUTED if mat == QUERY_MAT else MUTED
            middle = left + cell[0] // 2, top + cell[1] // 2
            self.write(middle, "no picture", self._scale.text_size, colour, width=cell[0], anchor="mm")
        else:
            self.canvas.paste(
                small, (left + (cell[0] - small.width) // 2, top + (cell[1] - small.height) // 2)
            )

    def _card(
        self, box: tuple[int, int, int, int], fill: Colour, edge: Colour | None = None, radius: int = _RADIUS
    ) -> None:
        """Fill a box with rounded corners, within a hairline if ``edge`` is given."""
        left, top, right, bottom = box
        if edge is not None:
            self.canvas.paste(edge, box, _rounded((right - left, bottom - top), radius))
            left, top, right, bottom = left + 1, top + 1, right - 1, bottom - 1
        self.canvas.paste(fill, (left, top, right, bottom), _rounded((right - left, bottom - top), radius))


def _plan(rows: Sequence[SheetRow], owners: int, scale: _Scale, columns: int) -> tuple[Size, int]:
    """Return the size of the sheet at ``scale``, and how many of the rows it holds."""
    width = scale.sheet_width(columns)
    footer = _LEAD + _MARGIN  # kept free for the line that counts the rows left out
    height, shown = _header_height(owners, width), 0
    for row in rows:
        below = height + scale.band_height(row) + scale.band_gap
        if below + footer > MAX_HEIGHT:
            return (width, height + footer), shown
        height, shown = below, shown + 1
    return (width, height - scale.band_gap + _MARGIN), shown


def _header_height(owners: int, width: int) -> int:
    across = (width - 2 * _MARGIN) // _LEGEND_CELL
    return _MARGIN + 78 + min(_LEGEND_LINES, math.ceil(owners / across)) * _LEGEND_LINE + 14


def _legend_place(index: int, width: int) -> Size:
    line, column = divmod(index, width // _LEGEND_CELL)
    return _MARGIN + column * _LEGEND_CELL, _MARGIN + 72 + line * _LEGEND_LINE


def _owner_styles(owners: Iterable[str]) -> dict[str, tuple[str, bool]]:
    """Return each owner's colour, and whether its dot is hollow, as it is when all colours were used once.

    An owner starts from the colour that its name hashes to, so that it mostly keeps it from one search to
    the next, whoever else is found; owners of one sheet differ as long as there are colours.
    """
    styles: dict[str, tuple[str, bool]] = {}
    free: list[str] = []
    for number, owner in enumerate(sorted(owners)):
        free = free or list(PALETTE)
        first = zlib.crc32(owner.encode("utf-8", "surrogatepass")) % len(PALETTE)
        colour = next(c for c in PALETTE[first:] + PALETTE[:first] if c in free)
        free.remove(colour)
        styles[owner] = colour, number // len(PALETTE) % 2 == 1
    return styles


def _decimals(distances: Iterable[float]) -> int:
    """Return how many decimals give the sheet's largest distance four digits, and all of them one form."""
    finite = [abs(distance) for distance in distances if math.isfinite(distance)]
    largest = max(finite, default=0.0)
    if largest == 0 or all(distance == int(distance) for distance in finite):
        return 0
    return min(6, max(0, 3 - math.floor(math.log10(largest))))


def _cut(text: str, kept: int) -> str:
    """Return the first and last characters of ``text``, ``kept`` in all, around an ellipsis."""
    tail = kept // 2  # the end tells more names apart than their middle: numbers and extensions
    return f"{text[: kept - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def _fit(picture: Image.Image | None, cell: Size) -> Image.Image | None:
    """Return a picture as it fits into a cell, or None if there is none to show."""
    if picture is None:
        return None
    try:
        small = thumbnail(picture, cell)
    except UnreadableImageError:
        return None
    return small.resize(fitted(small.size, cell, enlarge=_ENLARGE), Image.Resampling.LANCZOS)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own scalable font, which is the same on every machine."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OutputError("cannot draw text: this Pillow was built without FreeType")
    return font


@lru_cache
def _rounded(size: Size, radius: int) -> Image.Image:
    """Return the mask of a box with smooth round corners."""
    large = Image.new("L", (size[0] * _SMOOTHING, size[1] * _SMOOTHING), 0)
    box = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * _SMOOTHING, fill=255)
    return large.resize(size, Image.Resampling.BOX)
