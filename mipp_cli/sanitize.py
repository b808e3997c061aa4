"""Make names from other parties safe for files, tables and terminals."""

from __future__ import annotations

import re
import unicodedata

_NAME_BYTES = 80
_SEPARATOR = re.compile(r"/|\\(?!x[0-9a-f]{2})")  # but not the start of an escape (names.py)
_UNDECODED = re.compile("[\udc80-\udcff]+")  # surrogates for bytes that Python could not decode


def safe_file_name(name: str) -> str:
    """Return a short file name made of the last part of ``name``; it is never empty, hidden or a path.

    Letters, marks and digits of any script and ``._-`` are kept; other characters become ``_``. The suffix
    is dropped, as the caller knows the true one.
    """
    last = _SEPARATOR.split(name.rstrip("/\\"))[-1]
    stem = last.rpartition(".")[0] or last
    kept = "".join(c if _is_of_a_word(c) else "_" for c in unicodedata.normalize("NFC", stem))
    kept = kept.strip("._")
    while len(kept.encode()) > _NAME_BYTES:
        kept = kept[:-1]
    return kept.rstrip("._") or "image"


def _is_of_a_word(character: str) -> bool:
    return character.isalnum() or character in "._-" or unicodedata.category(character) in ("Mn", "Mc")


def decoded(text: str) -> str:
    """Return ``text`` with bytes that Python could not decode as UTF-8 text, or as escapes (``\\xff``)."""
    return _UNDECODED.sub(
        lambda found: found[0].encode("ascii", "surrogateescape").decode(errors="backslashreplace"), text
    )


def printable(text: str) -> str:
    """Return ``text`` with characters that could control a terminal or reverse a line as escapes."""
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in decoded(text))


def _escape(code: int) -> str:
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"


def table_cell(text: str) -> str:
    """Return ``text`` for a CSV cell: printable, and never a formula in a spreadsheet.

    A name is a path, so the prefix "./" does not change its meaning.
    """
    shown = printable(text)
    return f"./{shown}" if shown[:1] in ("=", "+", "-", "@") else shown
