"""The text of a contact sheet: one font, and names of strangers made fit to be drawn in it.

All names come from other parties, so each is reduced to characters that the font has, and shortened to the
room that it is given.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache
from typing import Final

from PIL import ImageFont

from mipp_cli.errors import OutputError

_MAX_TEXT: Final = 400  # characters; more never fit, and measuring them would only cost time
_EXTRA_GLYPHS: Final = "…·“”\u2018\u2019"
_LOOKALIKES: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)


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
    measure = font(size).getlength
    if measure(plain) <= width:
        return plain
    kept = bisect_right(range(len(plain)), width, key=lambda kept: measure(_cut(plain, kept)))
    return _cut(plain, max(0, kept - 1))


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own scalable font, which is the same on every machine."""
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise OutputError("cannot draw text: this Pillow was built without FreeType")
    return loaded


def _cut(text: str, kept: int) -> str:
    """Return the first and last characters of ``text``, ``kept`` in all, around an ellipsis."""
    tail = kept // 2  # the end tells more names apart than their middle: numbers and extensions
    return f"{text[: kept - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
