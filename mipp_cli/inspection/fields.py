"""The fields of an inspection: a typed value under a key for JSON, and lines of text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from mipp_cli.workdir.completeness import Completeness, listed
from mipp_cli.workdir.replay import iso_time, moment

Value = Any
"""A JSON value: numbers, booleans, texts without prose, None, and lists and objects of these."""


@dataclass(frozen=True)
class Field:
    """A value under a stable ``key``, and the ``lines`` of text that show it, each with a label.

    A list has one line per item. A value shown by the line of another field has none.
    """

    key: str
    value: Value
    lines: tuple[tuple[str, str], ...] = ()


Fields = list[Field]


def plain(key: str, value: Value, label: str = "", text: str | None = None) -> Field:
    """Return a field of one line; label and text default to its key and its value."""
    return Field(key, value, ((label or key.replace("_", " "), str(value) if text is None else text),))


def several(key: str, values: Iterable[Value], lines: Iterable[tuple[str, str]]) -> Field:
    """Return a list field with its own lines."""
    return Field(key, list(values), tuple(lines))


def names(key: str, found: Iterable[str], label: str = "", empty: str = "none") -> Field:
    """Return a list of names, shown in one line."""
    values = list(found)
    return plain(key, values, label, ", ".join(values) or empty)


def numbered(number: int) -> Fields:
    """Return the number of a message, and the time it encodes."""
    return [plain("number", number, text=f"{number} ({moment(number)})"), Field("time", iso_time(number))]


def earlier_messages(numbers: Collection[int]) -> Field:
    """Return the earlier messages that a message lists; the text shows the first few."""
    return plain("earlier_messages", messages(numbers), text=listed(numbers) or "none")


def messages(numbers: Collection[int]) -> list[Value]:
    """Return messages sorted by number, each with its time."""
    return [{"number": number, "time": iso_time(number)} for number in sorted(numbers)]


def completeness_of_owner(found: Completeness | None) -> dict[str, Value]:
    """Return which messages of an owner have arrived: the number up to which all have, and those missing."""
    up_to = (found.up_to if found else 0) or None
    return {
        "complete": up_to,
        "complete_time": None if up_to is None else iso_time(up_to),
        "missing": messages(found.gaps) if found else [],
    }
