"""What an inspection tells, field by field: typed under a key for scripts, and in words for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from mipp_cli.workdir.completeness import Completeness, listed
from mipp_cli.workdir.replay import iso_time, moment

Value = Any
"""What JSON has: numbers, booleans, texts without prose, None, and lists and objects of these."""


@dataclass(frozen=True)
class Field:
    """A value under a ``key`` that stays, and the ``lines``, label and text, in which people read it.

    Where there are several of a kind, ``value`` is the list of them, and each has a line. A value that is
    told by the line of another has none.
    """

    key: str
    value: Value
    lines: tuple[tuple[str, str], ...] = ()


Fields = list[Field]


def plain(key: str, value: Value, label: str = "", text: str | None = None) -> Field:
    """Return a field of one line; unless told otherwise it is labelled as its key, and reads as its value."""
    return Field(key, value, ((label or key.replace("_", " "), str(value) if text is None else text),))


def several(key: str, values: Iterable[Value], lines: Iterable[tuple[str, str]]) -> Field:
    """Return a field that is a list, and has lines of its own."""
    return Field(key, list(values), tuple(lines))


def names(key: str, found: Iterable[str], label: str = "", empty: str = "none") -> Field:
    """Return a field that is a list of names, which people read in one line."""
    values = list(found)
    return plain(key, values, label, ", ".join(values) or empty)


def numbered(number: int) -> Fields:
    """Return the number of a message, and the time that it stands for."""
    return [plain("number", number, text=f"{number} ({moment(number)})"), Field("time", iso_time(number))]


def earlier_messages(numbers: Collection[int]) -> Field:
    """Return the earlier messages that a message lists; people read the first few."""
    return plain("earlier_messages", messages(numbers), text=listed(numbers) or "none")


def messages(numbers: Collection[int]) -> list[Value]:
    """Return messages by number, each with its time."""
    return [{"number": number, "time": iso_time(number)} for number in sorted(numbers)]


def completeness_of_owner(found: Completeness | None) -> dict[str, Value]:
    """Return how much of what an owner sent has come: up to which number all, and what is missing."""
    up_to = (found.up_to if found else 0) or None
    return {
        "complete": up_to,
        "complete_time": None if up_to is None else iso_time(up_to),
        "missing": messages(found.gaps) if found else [],
    }
