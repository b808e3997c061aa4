"""Draw the contact sheet of a search: each query picture with its decrypted matches, as one picture.

Each query is a band: the query on a dark card on the left, and its matches on light cards to its right, in
rank order. Each owner has a colour, always with the owner's name beside it.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

from PIL import Image, ImageDraw

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.sheet_text import font, shorten
from mipp_cli.images.thumbnails import NEUTRAL_GROUND, Size, thumbnail

PER_LINE: Final = 10
"""Matches per line; further ones wrap onto the next line of the same band."""
MAX_TILES: Final = 50
"""Matches drawn for one query; the query's card says when there are more."""
MAX_HEIGHT: Final = 16_000
"""Maximum height of a sheet in pixels, which common picture formats and viewers can handle."""
# Okabe and Ito's colours, which people with any colour vision can tell apart. Indigo replaces the yellow,
# which is hard to see on a light ground, and the black of the text.
PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#332288")

Colour = str | tuple[int, int, int]
_GROUND, _INK, _MUTED = "#f7f6f3", "#22272e", "#656a71"
_MARGIN: Final = 40
_TITLE, _LEAD, _LEGEND = 30, 15, 13  # font sizes
_LEGEND_CELL: Final = 200
_LEGEND_TOP: Final = _MARGIN + 72
_HEADER: Final = _LEGEND_TOP + 42  # where the first band begins
_MIN_COLUMNS: Final = 5  # with fewer, the header would be too narrow
_DOT, _DOT_GAP = 10, 6
_ENLARGE: Final = 2.0  # small pictures are at most doubled in size: more would only blur them
_SMOOTHING: Final = 4  # corners are drawn this many times larger, then reduced, to smooth their edges


class _Theme(NamedTuple):
    """The colours of a card: its ground, its edge, the mat around its picture, and three lines of text."""

    ground: Colour
    edge: Colour
    mat: Colour
    lines: tuple[Colour, Colour, Colour]


_QUERY: Final = _Theme("#263442", "#263442", "#314252", ("#ffc66b", "#ffffff", "#b6c2cd"))
_MATCH: Final = _Theme("#ffffff", "#e2dfd8", NEUTRAL_GROUND, (_INK, _INK, _MUTED))


class _Scale(NamedTuple):
    """The measures of a band in pixels."""

    cell: Size  # room for the picture of a match
    query_width: int  # room for the picture of a query, of the same height
    padding: int
    line: int
    text_size: int
    gap: int
    band_gap: int

    @property
    def card(self) -> Size:
        """Size of the card of a match: its picture and three lines of text. A query's is as high."""
        return self.cell[0] + 2 * self.padding, self.cell[1] + 3 * (self.line + self.padding)

    @property
    def left(self) -> int:
        """Left edge of the matches."""
        return _MARGIN + self.query_width + 2 * self.padding + 2 * self.gap

    def band_height(self, matches: int) -> int:
        """Return the height of the band of a query with so many matches."""
        return max(1, math.ceil(min(matches, MAX_TILES) / PER_LINE)) * (self.card[1] + self.gap) - self.gap


_ROOMY: Final = _Scale((136, 128), 184, padding=8, line=18, text_size=13, gap=10, band_gap=28)
_COMPACT: Final = _Scale((108, 72), 108, padding=6, line=15, text_size=12, gap=8, band_gap=18)
THUMBNAIL_SIZE: Final = (_ROOMY.query_width, _ROOMY.cell[1])
"""The largest cell: a sheet needs no picture larger than this."""


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


def draw_contact_sheet(rows: Sequence[SheetRow], *, title: str, subtitle: str) -> Image.Image:
    """Return the contact sheet of ``rows`` as an RGB picture; equal input gives equal pixels.

    Pictures are fitted into equal cells, neither cropped nor distorted; a missing or damaged one becomes a
    placeholder. A sheet is at most :data:`MAX_HEIGHT` pixels high. If it would be higher, its cells become
    smaller; if that is not enough, the last queries are left out, and a line at the end counts them. A
    hundred queries of ten matches each fit. Characters that the font lacks appear as their base letter or
    code point.
    """
    tiles = [tile for row in rows for tile in row.tiles]
    owners = Counter(tile.owner for tile in tiles)
    columns = max([_MIN_COLUMNS, *(min(len(row.tiles), PER_LINE) for row in rows)])
    for scale in (_ROOMY, _COMPACT):
        width = scale.left + columns * (scale.card[0] + scale.gap) - scale.gap + _MARGIN
        heights = (scale.band_height(len(row.tiles)) + scale.band_gap for row in rows)
        tops = [*accumulate(heights, initial=_HEADER)]
        shown = sum(below <= MAX_HEIGHT - _LEAD - _MARGIN for below in tops[1:])
        if shown == len(rows):
            break
    hidden = len(rows) - shown
    height = tops[shown] + _MARGIN + (_LEAD if hidden else -scale.band_gap)
    whole = all(tile.distance == round(tile.distance) for tile in tiles if math.isfinite(tile.distance))
    sheet = _Sheet((width, height), scale, owners, decimals=0 if whole else 2)
    sheet.header(title, subtitle)
    for number, row in enumerate(rows[:shown], start=1):
        sheet.band(tops[number - 1], row, "query" if len(rows) == 1 else f"query {number} of {len(rows)}")
    if hidden:
        more = f"… and {hidden} more query {'image' if hidden == 1 else 'images'}"
        sheet.write((_MARGIN, tops[shown]), more, _LEAD, _MUTED, width=width)
    return sheet.canvas


class _Sheet:
    """A canvas with the measures, colours and number format of one sheet."""

    def __init__(self, size: Size, scale: _Scale, owners: Counter[str], *, decimals: int) -> None:
        self.canvas = Image.new("RGB", size, _GROUND)
        self._draw = ImageDraw.Draw(self.canvas)
        self._scale, self._owners, self._colours = scale, owners, owner_colours(owners)
        self._decimals = decimals

    def header(self, title: str, subtitle: str) -> None:
        """Draw the title, the subtitle, and the owners with their numbers of matches."""
        width = self.canvas.width - 2 * _MARGIN
        self.write((_MARGIN, _MARGIN - 6), title, _TITLE, _INK, width=width)
        self.write((_MARGIN, _MARGIN + 34), subtitle, _LEAD, _MUTED, width=width)
        ranked = sorted(self._owners.items(), key=lambda item: (-item[1], item[0]))
        places = [(_MARGIN + n * _LEGEND_CELL, _LEGEND_TOP) for n in range(width // _LEGEND_CELL)]
        # If owners are left out, the last place says so instead of naming one.
        named = ranked if len(ranked) <= len(places) else ranked[: len(places) - 1]
        for place, (owner, count) in zip(places, named, strict=False):
            self._owner(place, owner, _LEGEND, width=_LEGEND_CELL - 24, count=str(count))
        if len(named) < len(ranked):
            more = f"and {len(ranked) - len(named)} more owners"
            self.write(places[-1], more, _LEGEND, _MUTED, width=_LEGEND_CELL)

    def band(self, top: int, row: SheetRow, label: str) -> None:
        """Draw a query and its matches on cards that begin at ``top``."""
        scale, found = self._scale, len(row.tiles)
        count = "no matches" if not found else "1 match" if found == 1 else f"{found} matches"
        if found > MAX_TILES:
            count = f"first {MAX_TILES} of {found} matches"
        left, line = self._card((_MARGIN, top), scale.query_width, row.query_picture, _QUERY)
        for text, colour in zip((label, row.query_name, count), _QUERY.lines, strict=True):
            self.write((left, line), text, scale.text_size, colour, width=scale.query_width)
            line += scale.line
        if not found:
            width, height = self.canvas.width - _MARGIN - scale.left, scale.card[1]
            self._box((scale.left, top), (width, height), NEUTRAL_GROUND)
            middle = scale.left + width // 2, top + height // 2
            self.write(middle, "no matches", _LEAD, _MUTED, width=width, anchor="mm")
        for index, tile in enumerate(sorted(row.tiles, key=lambda tile: tile.rank)[:MAX_TILES]):
            across, down = index % PER_LINE, index // PER_LINE
            step = scale.card[0] + scale.gap, scale.card[1] + scale.gap
            self._tile((scale.left + across * step[0], top + down * step[1]), tile)

    def write(
        self, place: Size, text: str, size: int, colour: Colour, *, width: float, anchor: str = "la"
    ) -> float:
        """Draw one line of text, shortened to ``width``; return its actual width."""
        short = shorten(text, width, size)
        self._draw.text(place, short, font=font(size), fill=colour, anchor=anchor)
        return font(size).getlength(short)

    def _tile(self, corner: Size, tile: Tile) -> None:
        """Draw the card of a match: picture, rank and distance, owner, name."""
        scale, size, room = self._scale, self._scale.text_size, self._scale.cell[0]
        left, line = self._card(corner, room, tile.picture, _MATCH)
        ink, _, muted = _MATCH.lines
        used = self.write((left, line + size), str(tile.rank), size + 2, ink, width=room // 2, anchor="ls")
        distance, right = f"{tile.distance:.{self._decimals}f}", (left + room, line + size)
        self.write(right, distance, size, muted, width=room - used - 6, anchor="rs")
        self._owner((left, line + scale.line), tile.owner, size, width=room)
        self.write((left, line + 2 * scale.line), tile.name, size, muted, width=room)

    def _owner(self, place: Size, owner: str, size: int, *, width: int, count: str = "") -> None:
        """Draw an owner's dot, name and ``count``, if any; the name is shortened to fit ``width``."""
        left, top = place
        self._box((left, top + size // 2 + 3 - _DOT // 2), (_DOT, _DOT), self._colours[owner], _DOT // 2)
        left += _DOT + _DOT_GAP
        room = width - _DOT - _DOT_GAP - (font(size).getlength(count) + _DOT_GAP if count else 0)
        used = self.write((left, top), owner, size, _INK, width=room)
        self.write((left + round(used) + _DOT_GAP, top), count, size, _MUTED, width=width)

    def _card(self, corner: Size, width: int, picture: Image.Image | None, theme: _Theme) -> Size:
        """Draw a card and its picture or a placeholder; return where its three lines of text begin.

        Unlike the card's corners, the picture's stay square, so that none of its pixels is hidden.
        """
        padding, height = self._scale.padding, self._scale.cell[1]
        size = width + 2 * padding, self._scale.card[1]
        self._box(corner, size, theme.edge)
        self._box((corner[0] + 1, corner[1] + 1), (size[0] - 2, size[1] - 2), theme.ground)
        left, top = corner[0] + padding, corner[1] + padding
        self.canvas.paste(theme.mat, (left, top, left + width, top + height))
        try:
            small = None if picture is None else thumbnail(picture, (width, height), enlarge=_ENLARGE)
        except UnreadableImageError:
            small = None
        if small is None:
            middle, text_size = (left + width // 2, top + height // 2), self._scale.text_size
            self.write(middle, "no picture", text_size, theme.lines[2], width=width, anchor="mm")
        else:
            self.canvas.paste(small, (left + (width - small.width) // 2, top + (height - small.height) // 2))
        return left, top + height + padding

    def _box(self, corner: Size, size: Size, fill: Colour, radius: int = 8) -> None:
        """Fill a box with rounded corners."""
        box = (*corner, corner[0] + size[0], corner[1] + size[1])
        self.canvas.paste(fill, box, _rounded(size, radius))


def owner_colours(owners: Iterable[str]) -> dict[str, str]:
    """Return each owner's colour.

    It is the colour that the owner's name hashes to, or the next free one. So an owner mostly keeps its
    colour from one search to the next, and owners on a sheet differ as long as there are colours.
    """
    colours: dict[str, str] = {}
    free: list[str] = []
    for owner in sorted(owners):
        free = free or list(PALETTE)
        first = zlib.crc32(owner.encode("utf-8", "surrogatepass")) % len(PALETTE)
        colours[owner] = next(colour for colour in PALETTE[first:] + PALETTE[:first] if colour in free)
        free.remove(colours[owner])
    return colours


@lru_cache
def _rounded(size: Size, radius: int) -> Image.Image:
    """Return the mask of a box with smooth round corners."""
    large = Image.new("L", (size[0] * _SMOOTHING, size[1] * _SMOOTHING), 0)
    box = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * _SMOOTHING, fill=255)
    return large.resize(size, Image.Resampling.BOX)
