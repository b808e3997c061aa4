"""The layout of a contact sheet: sizes of cards and texts, places in the header, and how much fits.

Numbers of matches and owners in, pixels out; nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mipp_cli.images.thumbnails import Size

PER_LINE: Final = 10
"""Matches on one line; further ones wrap onto the next line of the same band."""
MAX_TILES: Final = 50
"""Matches drawn for one query; the query's card says when there are more."""
MAX_HEIGHT: Final = 16_000
"""Height of a sheet in pixels at most: common picture formats and viewers can hold it."""

MARGIN: Final = 40
TITLE: Final = 30  # font sizes
LEAD: Final = 15
LEGEND: Final = 13
LEGEND_CELL: Final = 200
_LEGEND_LINE: Final = 22
LEGEND_LINES: Final = 2
_MIN_COLUMNS: Final = 5  # with fewer, the header would be too narrow


@dataclass(frozen=True)
class Scale:
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
        """The card of a match: its picture, and three lines of text."""
        width, height = self.cell
        return width + 2 * self.padding, height + 3 * self.line + 3 * self.padding

    @property
    def query_card(self) -> Size:
        """The card of a query, as high as that of a match."""
        return self.query_cell[0] + 2 * self.padding, self.card[1]

    def sheet_width(self, columns: int) -> int:
        """Return the width of a sheet with so many matches on a line."""
        return 2 * MARGIN + self.query_card[0] + self.gap + columns * (self.card[0] + self.gap)

    def band_height(self, matches: int) -> int:
        """Return the height of a query's band, which has so many matches."""
        lines = max(1, math.ceil(min(matches, MAX_TILES) / PER_LINE))
        return lines * (self.card[1] + self.gap) - self.gap


_ROOMY: Final = Scale(
    cell=(136, 128),
    query_cell=(184, 128),
    padding=8,
    line=18,
    rank_size=16,
    text_size=13,
    gap=10,
    band_gap=28,
)
_COMPACT: Final = Scale(
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
"""The largest cell: a thumbnail of this size is all that a sheet needs of a picture."""


@dataclass(frozen=True)
class Plan:
    """A sheet's measures and size, and how many of its queries it holds."""

    scale: Scale
    size: Size
    shown: int


def plan_sheet(matches: Sequence[int], owners: int) -> Plan:
    """Plan a sheet of queries with so many matches each: roomy if all of them fit so, else compact."""
    columns = max([_MIN_COLUMNS, *(min(count, PER_LINE) for count in matches)])
    roomy = _plan_at(_ROOMY, columns, matches, owners)
    return roomy if roomy.shown == len(matches) else _plan_at(_COMPACT, columns, matches, owners)


def header_height(owners: int, width: int) -> int:
    """Return where the header of a sheet of ``width`` pixels ends, with its list of owners."""
    across = (width - 2 * MARGIN) // LEGEND_CELL
    return MARGIN + 78 + min(LEGEND_LINES, math.ceil(owners / across)) * _LEGEND_LINE + 14


def legend_place(index: int, width: int) -> Size:
    """Return the corner of an owner's place in the header, of ``width`` pixels between the margins."""
    line, column = divmod(index, width // LEGEND_CELL)
    return MARGIN + column * LEGEND_CELL, MARGIN + 72 + line * _LEGEND_LINE


def _plan_at(scale: Scale, columns: int, matches: Sequence[int], owners: int) -> Plan:
    width = scale.sheet_width(columns)
    footer = LEAD + MARGIN  # kept free for the line that counts the queries left out
    height = header_height(owners, width)
    for shown, count in enumerate(matches):
        below = height + scale.band_height(count) + scale.band_gap
        if below + footer > MAX_HEIGHT:
            return Plan(scale, (width, height + footer), shown)
        height = below
    return Plan(scale, (width, height - scale.band_gap + MARGIN), len(matches))
