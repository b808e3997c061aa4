"""Names that come from other parties, made safe for files, tables and terminals."""

from __future__ import annotations

import re
import unicodedata

_NAME_BYTES = 80
_SEPARATOR = re.compile(r"/|\\(?!x[0-9a-f]{2})")  # not what begins an escape in a name: names.py
_UNDECODED = re.compile("[\udc80-\udcff]+")  # bytes that Python could not decode, as it holds them


def safe_file_name(name: str) -> str:
    """Return a short file name made of the last part of ``name``; never empty, hidden, or a path.

    Letters, their marks and digits of any script stay, and ``._-``; all else becomes ``_``. The suffix is
    dropped: the caller knows the true one.
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
    """Return ``text`` with bytes that Python could not decode as UTF-8, or else as escapes: ``\\xff``."""
    return _UNDECODED.sub(
        lambda found: found[0].encode("ascii", "surrogateescape").decode(errors="backslashreplace"), text
    )


def printable(text: str) -> str:
    """Return ``text`` with what could steer a terminal or reverse a line made visible instead."""
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in decoded(text))


def _escape(code: int) -> str:
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"


def table_cell(text: str) -> str:
    """Return ``text`` for a CSV cell: printable, and never a formula to a spreadsheet.

    A name is a path, so "./" before it changes nothing of what it means.
    """
    shown = printable(text)
    return f"./{shown}" if shown[:1] in ("=", "+", "-", "@") else shown
