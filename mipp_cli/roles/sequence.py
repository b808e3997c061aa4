"""Messages in order: what was applied already, what is older, and whose key an identifier is pinned to."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from mipp_cli.containers.header import Header
from mipp_cli.errors import AlreadyAppliedError, ConflictError, ReplayedError, at_path

Result = TypeVar("Result")


def check_pinned_key(header: Header, key: bytes) -> None:
    """Refuse a sender whose key is not the one its identifier was first enrolled with; ConflictError."""
    if not hmac.compare_digest(header.sender_key, key):
        raise ConflictError(
            f"is signed with another key than the one that {header.sender!r} was enrolled with",
            hint="the first enrolment pins an identifier to its key: ask the sender which file is theirs",
        )


def check_sequence(header: Header, applied: Mapping[int, str]) -> None:
    """Refuse what is not newer than all that was ``applied`` (digest by sequence number).

    Raises AlreadyAppliedError for the same content again, ReplayedError for an older number or for
    other content under a known one.
    """
    number = header.sequence_number
    if applied.get(number) == header.digest:
        raise AlreadyAppliedError("was applied before; nothing changed", hint="there is nothing to do")
    if number in applied:
        raise ReplayedError(
            f"comes under the number {number}, which another file of {header.sender!r} had",
            hint="ask the sender for a new file",
        )
    if applied and number < max(applied):
        raise ReplayedError(
            f"is older than what was applied of {header.sender!r} (number {number} after {max(applied)})",
            hint="apply files in the order in which they were made; ask the sender for a new one",
        )


def moment(number: int) -> str:
    """Return when a sequence number was given, for people: numbers are microseconds since 1970."""
    try:
        return f"{datetime.fromtimestamp(number / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "no time"


def query_record(header: Header) -> str:
    """Return under what name an answered query is recorded.

    Ids are each user's own: whoever makes a query under another's id takes nothing from them.
    """
    return f"{header.key}-{header.number}"


def each_new(
    files: Iterable[Path], apply: Callable[[Path], Result], check: Callable[[], object] = lambda: None
) -> tuple[list[Result], int]:
    """Apply ``files`` in order; skip those applied before, and return the results and how many were skipped.

    Raises AlreadyAppliedError if that leaves nothing, but calls ``check`` first; errors name the file.
    """
    results, skipped = [], []
    for file in files:
        try:
            with at_path(file):
                results.append(apply(file))
        except AlreadyAppliedError as error:
            skipped.append(error)
    check()
    if skipped and not results:
        raise skipped[0]
    return results, len(skipped)
