"""Convert file names to text by their bytes, in any locale, and match names in different Unicode forms.

A name is text that can be stored, sent, and converted back: bytes that are not UTF-8 are escaped in it.
Characters that could control a terminal are handled in ``sanitize.py``.
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
    r"""Return a path as text: its bytes as UTF-8, and each byte that is not UTF-8 as ``\xff``.

    Different paths have different texts: a backslash that looks like the start of an escape becomes ``\x5c``.
    Text that is not a path in this locale, such as the name of another party's image, is not changed.
    """
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        return os.fsdecode(path)
    return _ESCAPE.sub(rb"\\x5cx\1", data).decode(errors="backslashreplace")


def as_called(words: str | bytes) -> str:
    """Return the name given by a user, either as `mipp` prints it or as the bytes of the path."""
    data = os.fsencode(words)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return name_of(data)


def on_disk(name: str) -> str:
    """Return a name without escapes as a path whose bytes are UTF-8 in any locale."""
    return os.fsdecode(name.encode())


def path_of(name: str) -> str:
    """Return the path of a name: the inverse of :func:`name_of`."""
    data = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return os.fsdecode(data)


def composed(name: str) -> str:
    """Return a name in the form NFC: unlike Linux, macOS stores letters and accents separately."""
    return unicodedata.normalize("NFC", name)


def as_seen(name: str) -> str:
    """Return a name as printed on a terminal, in the form NFC."""
    return composed(printable(name))


def recognised(
    wanted: Collection[str], known: Iterable[str], form: Callable[[str], str] = composed
) -> dict[str, str]:
    """Return for each name ``wanted`` the one ``known`` that it means: itself, or the only one of its form.

    Ambiguous names are left out: those whose form several names in ``known`` or in ``wanted`` have.
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
