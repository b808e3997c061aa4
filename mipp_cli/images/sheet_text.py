"""Prepare the text of a contact sheet: one font, and names reduced to its characters.

All names come from other parties, so each is reduced to characters that the font has, and shortened to the
room available. The font comes with Pillow and has little more than ASCII. No other font is used, since
machines have different ones; the page beside the sheet shows every script.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache
from typing import Final

from PIL import ImageFont

from mipp_cli.errors import OutputError

_MAX_TEXT: Final = 400  # characters; more never fit, and measuring them would waste time
_GLYPHS: Final = frozenset([*map(chr, range(0x20, 0x7F)), *"…·“”\u2018\u2019«»©°±™"])
_LOOKALIKES: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


def shorten(text: str, width: float, size: int) -> str:
    """Return ``text`` made drawable, and shortened in its middle to ``width`` pixels at font size ``size``.

    Any white space becomes one space, and accents of Latin letters are dropped. Characters that the font
    lacks (other scripts, control characters, bidirectional marks) become their code points: ‹5317 4EAC›.
    """
    half = _MAX_TEXT // 2
    clipped = text if len(text) <= _MAX_TEXT else f"{text[:half]}…{text[-half:]}"
    plain = _drawable(" ".join(clipped.split()).translate(_LOOKALIKES))
    measure = font(size).getlength
    if measure(plain) <= width:
        return plain
    kept = bisect_right(range(len(plain)), width, key=lambda kept: measure(_cut(plain, kept)))
    return _cut(plain, max(0, kept - 1))


def _drawable(text: str) -> str:
    """Return ``text`` in characters that the font has; others become code points in angle quotes."""
    pieces: list[str] = []
    for letter in unicodedata.normalize("NFC", text):
        parts = unicodedata.normalize("NFKD", letter)
        bases = "".join(part for part in parts if not unicodedata.combining(part))
        if letter in _GLYPHS:
            pieces.append(letter)
        elif _GLYPHS.issuperset(bases) and (bases or pieces[-1:] != ["›"]):
            pieces.append(bases)  # empty for an accent, unless its letter is shown as a code point
        elif pieces[-1:] == ["›"]:
            pieces[-1:] = [f" {ord(letter):04X}", "›"]
        else:
            pieces += [f"‹{ord(letter):04X}", "›"]
    return "".join(pieces)


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own scalable font, which is the same on every machine."""
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise OutputError("text cannot be drawn: Pillow was built without FreeType")
    return loaded


def _cut(text: str, kept: int) -> str:
    """Return the first and last characters of ``text``, ``kept`` in total, around an ellipsis."""
    tail = kept // 2  # names differ more in their ends (numbers, extensions) than in their middles
    return f"{text[: kept - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
