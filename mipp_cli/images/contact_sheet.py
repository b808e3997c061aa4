"""The contact sheet of a search: each query picture with its decrypted matches, as one picture.

A band per query: the query on a dark card at the left, its matches on light cards to the right in rank order.
An owner has a colour, and its name is always written beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.sheet_colours import (
    CARD,
    EDGE,
    GROUND,
    INK,
    MUTED,
    QUERY_CARD,
    QUERY_LABEL,
    QUERY_MAT,
    QUERY_MUTED,
    Colour,
    owner_styles,
)
from mipp_cli.images.sheet_layout import (
    LEAD,
    LEGEND,
    LEGEND_CELL,
    LEGEND_LINES,
    MARGIN,
    MAX_TILES,
    PER_LINE,
    TITLE,
    Plan,
    header_height,
    legend_place,
    plan_sheet,
)
from mipp_cli.images.sheet_text import font, shorten
from mipp_cli.images.thumbnails import NEUTRAL_GROUND, Size, fitted, thumbnail

_DOT: Final = 10
_DOT_GAP: Final = 6
_RADIUS: Final = 8
_ENLARGE: Final = 2.0  # small pictures grow to twice their size at most: more would only blur them
_SMOOTHING: Final = 4  # a corner is drawn this much larger, then reduced, so that its edge is smooth


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
    """Return the contact sheet of ``rows`` as an RGB picture, the same one for equal input.

    Pictures are fitted into equal cells, neither cropped nor distorted; a missing or damaged one leaves a
    placeholder. A sheet is at most ``sheet_layout.MAX_HEIGHT`` pixels high: if it would be higher, its cells
    become smaller, and if that is not enough, the last queries are left out and a line at the end counts
    them. A hundred queries of ten matches each fit. Characters that the font lacks appear as their base
    letter or as a question mark.
    """
    owners = Counter(tile.owner for row in rows for tile in row.tiles)
    plan = plan_sheet([len(row.tiles) for row in rows], len(owners))
    sheet = _Sheet(plan, owners, _decimals(tile.distance for row in rows for tile in row.tiles))
    top = sheet.header(title, subtitle)
    for number, row in enumerate(rows[: plan.shown], start=1):
        sheet.band(top, row, "query" if len(rows) == 1 else f"query {number} of {len(rows)}")
        top += plan.scale.band_height(len(row.tiles)) + plan.scale.band_gap
    if hidden := len(rows) - plan.shown:
        more = f"… and {hidden} more query {'image' if hidden == 1 else 'images'}"
        sheet.write((MARGIN, top), more, LEAD, MUTED, width=plan.size[0])
    return sheet.canvas


class _Sheet:
    """A canvas with the measures, colours and number format of one sheet."""

    def __init__(self, plan: Plan, owners: Counter[str], decimals: int) -> None:
        self.canvas = Image.new("RGB", plan.size, GROUND)
        self._draw = ImageDraw.Draw(self.canvas)
        self._scale = plan.scale
        self._owners = owners
        self._styles = owner_styles(owners)
        self._decimals = decimals

    def header(self, title: str, subtitle: str) -> int:
        """Draw title, subtitle and the owners with their numbers of matches; return where the header ends."""
        width = self.canvas.width - 2 * MARGIN
        self.write((MARGIN, MARGIN - 6), title, TITLE, INK, width=width)
        self.write((MARGIN, MARGIN + 34), subtitle, LEAD, MUTED, width=width)
        ranked = sorted(self._owners.items(), key=lambda item: (-item[1], item[0]))
        places = width // LEGEND_CELL * LEGEND_LINES
        # Where owners are left out, the last place says so instead of naming one.
        named = ranked if len(ranked) <= places else ranked[: places - 1]
        for index, (owner, count) in enumerate(named):
            self._owner(legend_place(index, width), owner, LEGEND, width=LEGEND_CELL - 24, count=str(count))
        if len(named) < len(ranked):
            more = f"and {len(ranked) - len(named)} more owners"
            self.write(legend_place(len(named), width), more, LEGEND, MUTED, width=LEGEND_CELL)
        return header_height(len(ranked), self.canvas.width)

    def band(self, top: int, row: SheetRow, label: str) -> None:
        """Draw a query and its matches, whose cards begin at ``top``."""
        self._query(top, row, label)
        width, height = self._scale.card
        gap = self._scale.gap
        left, right = MARGIN + self._scale.query_card[0] + 2 * gap, self.canvas.width - MARGIN
        if not row.tiles:
            self._card((left, top, right, top + height), NEUTRAL_GROUND)
            middle = (left + right) // 2, top + height // 2
            self.write(middle, "no matches", LEAD, MUTED, width=right - left, anchor="mm")
        for index, tile in enumerate(sorted(row.tiles, key=lambda tile: tile.rank)[:MAX_TILES]):
            line, column = divmod(index, PER_LINE)
            self._tile((left + column * (width + gap), top + line * (height + gap)), tile)

    def write(
        self, place: Size, text: str, size: int, colour: Colour, *, width: float, anchor: str = "la"
    ) -> float:
        """Draw one line of text, shortened to ``width``; return how wide it became."""
        short = shorten(text, width, size)
        self._draw.text(place, short, font=font(size), fill=colour, anchor=anchor)
        return font(size).getlength(short)

    def _query(self, top: int, row: SheetRow, label: str) -> None:
        """Draw the dark card of a query: label, picture, name and number of matches."""
        scale, size, found = self._scale, self._scale.text_size, len(row.tiles)
        width, height = scale.query_card
        self._card((MARGIN, top, MARGIN + width, top + height), QUERY_CARD)
        left, bottom, room = MARGIN + scale.padding, top + height - scale.padding, scale.query_cell[0]
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
        room = width - _DOT - _DOT_GAP - (font(size).getlength(count) + _DOT_GAP if count else 0)
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


def _decimals(distances: Iterable[float]) -> int:
    """Return how many decimals give the sheet's largest distance four digits, and all of them one form."""
    finite = [abs(distance) for distance in distances if math.isfinite(distance)]
    largest = max(finite, default=0.0)
    if largest == 0 or all(distance == int(distance) for distance in finite):
        return 0
    return min(6, max(0, 3 - math.floor(math.log10(largest))))


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
def _rounded(size: Size, radius: int) -> Image.Image:
    """Return the mask of a box with smooth round corners."""
    large = Image.new("L", (size[0] * _SMOOTHING, size[1] * _SMOOTHING), 0)
    box = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * _SMOOTHING, fill=255)
    return large.resize(size, Image.Resampling.BOX)
