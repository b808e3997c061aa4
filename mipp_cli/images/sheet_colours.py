"""The colours of a contact sheet: those of its cards and texts, and one for each owner."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

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


def owner_styles(owners: Iterable[str]) -> dict[str, tuple[str, bool]]:
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
