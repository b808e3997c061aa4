"""Convert file names to text by their bytes, whatever the locale, and match names that look alike.

A name is text that can be stored, sent and converted back; bytes that are not UTF-8 are escaped in it. For
characters that could control a terminal, see ``sanitize.py``.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from mipp_cli.sanitize import printable

_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")


def name_of(path: str | bytes | os.PathLike[str]) -> str:
    r"""Return a path as text: its bytes decoded as UTF-8, with invalid bytes as escapes such as ``\xff``.

    Different paths have different texts: a backslash that would look like the start of an escape becomes
    ``\x5c``. Text that is not a path in this locale, such as another party's image name, is unchanged.
    """
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        return os.fsdecode(path)
    return _ESCAPE.sub(rb"\\x5cx\1", data).decode(errors="backslashreplace")


def as_called(words: str | bytes) -> str:
    """Return the name that a user gave, either as the text that `mipp` shows or as the path's bytes."""
    data = os.fsencode(words)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return name_of(data)


def on_disk(name: str) -> str:
    """Return a name without escapes as a path whose bytes are UTF-8 in any locale."""
    return os.fsdecode(name.encode())


def path_of(name: str) -> str:
    """Return the path, as Python represents it, for which :func:`name_of` returns this name."""
    data = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return os.fsdecode(data)


def composed(name: str) -> str:
    """Return a name in Unicode form NFC: macOS decomposes accented letters, Linux does not."""
    return unicodedata.normalize("NFC", name)


def as_seen(name: str) -> str:
    """Return a name as a terminal shows it, in form NFC."""
    return composed(printable(name))


def recognised(
    wanted: Collection[str], known: Iterable[str], form: Callable[[str], str] = composed
) -> dict[str, str]:
    """Map each of ``wanted`` to the name in ``known`` that it means: itself, or the only one of its form.

    Ambiguous names are left out: those whose form several of ``known`` or of ``wanted`` have.
    """
    forms = Counter(map(form, wanted))
    same: dict[str, tuple[str, ...]] = dict.fromkeys(forms, ())
    for name in known:
        found = same.get(form(name))
        if found is not None and name not in found:
            same[form(name)] = (*found, name)
    meant = {}
    for name in wanted:
        candidates = same[form(name)]
        if name in candidates:
            meant[name] = name
        elif len(candidates) == 1 and forms[form(name)] == 1:
            meant[name] = candidates[0]
    return meant
