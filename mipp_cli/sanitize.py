"""Names that come from other parties, made safe for files, tables and terminals."""

from __future__ import annotations

import re
import unicodedata

_NAME_BYTES = 80


def safe_file_name(name: str) -> str:
    """Return a short file name made of the last part of ``name``; never empty, hidden, or a path.

    Letters and digits of any script stay, and ``._-``; all else becomes ``_``. The suffix is dropped:
    the caller knows the true one.
    """
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    stem = last.rpartition(".")[0] or last
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in unicodedata.normalize("NFC", stem))
    kept = kept.strip("._")
    while len(kept.encode()) > _NAME_BYTES:
        kept = kept[:-1]
    return kept.rstrip("._") or "image"


def printable(text: str) -> str:
    """Return ``text`` with what could steer a terminal or reverse a line made visible instead."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def table_cell(text: str) -> str:
    """Return ``text`` for a CSV cell: printable, and never a formula to a spreadsheet.

    A name is a path, so "./" before it changes nothing of what it means.
    """
    shown = printable(text)
    return f"./{shown}" if shown[:1] in ("=", "+", "-", "@") else shown
