"""Names of files as text: by their bytes, whatever the locale; and which of two names are one.

A name is text that can be stored, sent, and given back: bytes that are not UTF-8 are escaped in it. What may
steer a terminal is another matter: see ``sanitize.py``.
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
    r"""Return a path as text: its bytes as UTF-8, and each byte that is not as ``\xff``.

    No two paths have one text: a backslash that only looks as if it began such an escape becomes ``\x5c``.
    Text that is no path in this locale, such as the name of another party's image, stays as it is.
    """
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        return os.fsdecode(path)
    return _ESCAPE.sub(rb"\\x5cx\1", data).decode(errors="backslashreplace")


def as_called(words: str | bytes) -> str:
    """Return the name that somebody gave: the text that `mipp` shows, or the path's own bytes."""
    data = os.fsencode(words)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return name_of(data)


def on_disk(name: str) -> str:
    """Return a name that holds no escapes as a path whose bytes are UTF-8 in any locale."""
    return os.fsdecode(name.encode())


def path_of(name: str) -> str:
    """Return the path that :func:`name_of` gave this name, as Python holds it."""
    data = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode())
    return os.fsdecode(data)


def composed(name: str) -> str:
    """Return a name in the form NFC: macOS writes letters and their accents apart, Linux does not."""
    return unicodedata.normalize("NFC", name)


def as_seen(name: str) -> str:
    """Return what a name looks like on a terminal, in the form NFC."""
    return composed(printable(name))


def recognised(
    wanted: Collection[str], known: Iterable[str], form: Callable[[str], str] = composed
) -> dict[str, str]:
    """Return which of the names ``known`` each of ``wanted`` means: itself, or the only one of the same form.

    A name is left out where that is not clear: several of ``known`` have its form, or several of ``wanted``.
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
