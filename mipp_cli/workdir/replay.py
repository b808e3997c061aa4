"""Check messages against replay: numbers applied before or too old, wrong clocks, and pinned keys."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from mipp_cli.containers.base.header import Header
from mipp_cli.errors import AlreadyAppliedError, ClockError, ConflictError, ReplayedError, errors_at

Result = TypeVar("Result")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
A_DAY = 86_400 * 10**6  # in the microseconds that numbers count


def check_pinned_key(header: Header, key: bytes) -> None:
    """Raise ConflictError if the sender's key is not the one that its identifier was first enrolled with."""
    if not hmac.compare_digest(header.sender_key, key):
        raise ConflictError(
            f"is not signed with the key that {header.sender!r} was enrolled with",
            hint="the first enrolment pins an identifier to its key: ask the sender which file is theirs",
        )


def check_sequence(header: Header, number: int, digest: str) -> None:
    """Refuse a list of users that is not newer than the one in force, ``number`` with ``digest``.

    Raises AlreadyAppliedError for the same content again, ReplayedError for an older number or for
    other content under the same one.
    """
    check_message(header, {number: digest})
    if header.sequence_number < number:
        raise ReplayedError(
            f"is older than the list of {header.sender!r} in force (number {header.sequence_number}, in "
            f"force {number})",
            hint=f"ask the sender for a new one; {numbers_behind(number)}",
        )


def numbers_behind(number: int) -> str:
    """Return the hint for an owner whose numbers have fallen below one used before."""
    return (
        "if a backup was restored or a clock was set back, the owner's numbers are too low; to raise them: "
        f"mipp owner renumber OWNER --above {number}"
    )


def check_message(header: Header, applied: Mapping[int, str]) -> None:
    """Refuse a message whose number is in ``applied`` (digest by number); others may come in any order.

    Raises AlreadyAppliedError for the same content again, ReplayedError for other content.
    """
    number = header.sequence_number
    if applied.get(number) == header.digest:
        raise AlreadyAppliedError("was already applied; nothing changed", hint="there is nothing to do")
    if number in applied:
        raise ReplayedError(
            f"has the number {number}, which another file of {header.sender!r} used",
            hint="ask the sender for a new file",
        )


def check_clock(header: Header, last: int) -> None:
    """Raise ClockError if a number is more than a day ahead of this machine's clock and of ``last``.

    ``last`` is the last number applied. Numbers follow the sender's clock: once one from a fast clock is
    accepted, the sender's later messages could be refused until the right clock catches up.
    """
    now, number = clock_number(), header.sequence_number
    if number <= max(now, last) + A_DAY:
        return
    raise ClockError(
        f"has the number {number} of {moment(number)}, more than a day ahead of this machine's clock "
        f"({moment(now)}) and of the last that was applied of {header.sender!r} "
        f"({moment(last) if last else 'none'})",
        hint="set the clock that is wrong; if it is the owner's, then: mipp owner renumber OWNER",
    )


def clock_number() -> int:
    """Return the number for the present time: microseconds since 1970."""
    return time.time_ns() // 1000


def moment(number: int) -> str:
    """Return the time of a sequence number, for people: numbers are microseconds since 1970."""
    try:
        return f"{datetime.fromtimestamp(number / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "not a valid time"


def iso_time(number: int) -> str | None:
    """Return the time of a sequence number, for scripts: ISO 8601 in UTC; None if it is not a valid time."""
    try:
        return f"{_EPOCH + timedelta(microseconds=number):%Y-%m-%dT%H:%M:%S.%f}Z"
    except OverflowError:
        return None


def query_record(header: Header) -> str:
    """Return the name under which an answered query is recorded.

    It contains the user's key, so a query that reuses another user's id does not block that user's.
    """
    return f"{header.key}-{header.number}"


def each_new(
    files: Iterable[Path], apply: Callable[[Path], Result], check: Callable[[], object] = lambda: None
) -> tuple[list[Result], int]:
    """Apply ``files`` in order, skipping those applied before; return the results and the number skipped.

    Then calls ``check``. Raises AlreadyAppliedError if all were skipped; errors name the file.
    """
    results, skipped = [], []
    for file in files:
        try:
            with errors_at(file):
                results.append(apply(file))
        except AlreadyAppliedError as error:
            skipped.append(error)
    check()
    if skipped and not results:
        raise skipped[0]
    return results, len(skipped)
