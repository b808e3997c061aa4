"""Find the messages of an owner that the cloud or the KMC has not received."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mipp_cli.containers.messages.earlier import LIMIT
from mipp_cli.workdir.replay import moment

AGAIN_AT_KMC = (
    "apply these files with mipp kmc index, or ask the owner to write them again: mipp owner features OWNER "
    "-o DIR, or mipp owner delete OWNER --again NUMBER -o delete.h5 for a deletion"
)
_SHOWN = 5


@dataclass(frozen=True)
class Completeness:
    """Which of an owner's messages were received: all ``up_to`` a number, and all later ones but ``gaps``.

    Each message lists the earlier ones that still count. ``up_to`` is the newest message of whose list none
    is missing, and which lists every older message that images are left of; up to it, the receiver has what
    the owner's record says. It is 0 if there is no such message. Of the newest message, ``gaps`` are those
    of its list that are missing, and ``unlisted`` those with images left that it does not list.
    """

    up_to: int
    gaps: tuple[int, ...] = ()
    unlisted: tuple[int, ...] = ()

    def __str__(self) -> str:
        found = (
            f"complete up to {self.up_to} ({moment(self.up_to)})"
            if self.up_to
            else "not complete up to any message"
        )
        return found + (f"; missing: {listed(self.gaps)}" if self.gaps else "")

    def warnings(self, owner: str, again: str) -> list[str]:
        """Return warnings of missing messages, with ``again`` as the remedy, or of unlisted ones."""
        if self.gaps:
            return [f"messages of {owner} are missing: {listed(self.gaps)}; {again}"]
        if self.unlisted:
            return [
                f"the record of {owner} does not list {listed(self.unlisted)}, but images of these are here: "
                "the owner must send them again (mipp owner encrypt) or delete them before forgetting a key"
            ]
        return []


def completeness_of(
    rows: Mapping[int, int], lists: Iterable[tuple[int, Collection[int]]], removed: int
) -> Completeness:
    """Return which of an owner's messages were received.

    ``rows`` maps each message received to the number of images left of it. ``lists`` are messages with the
    earlier ones that each lists, newest first, as far as they can be read. Messages up to ``removed`` went
    with a removal of the owner and do not count as missing.
    """
    complete, newest = 0, None
    for number, earlier in lists:
        gaps = tuple(sorted(each for each in earlier if each > removed and each not in rows))
        unlisted = _unlisted(rows, number, earlier)
        newest = newest or (gaps, unlisted)
        if not gaps and not unlisted:
            complete = number
            break
    return Completeness(complete, *(newest or ()))


def _unlisted(rows: Mapping[int, int], number: int, earlier: Collection[int]) -> tuple[int, ...]:
    least = min(earlier) if len(earlier) == LIMIT else 0
    known = set(earlier)
    return tuple(sorted(each for each in rows if rows[each] and least < each < number and each not in known))


def notes_of(found: Mapping[str, Completeness]) -> tuple[str, ...]:
    """Return a note for each owner: up to which number it is complete, and what is missing."""
    return tuple(f"{owner} is {each}" for owner, each in sorted(found.items()))


def details_of(found: Mapping[str, Completeness]) -> dict[str, object]:
    """Return the same as JSON fields."""
    return {"owners": {o: {"complete": each.up_to, "missing": list(each.gaps)} for o, each in found.items()}}


def listed(numbers: Collection[int]) -> str:
    """Return the first few of the numbers with their times, and how many more there are."""
    shown = [f"{number} ({moment(number)})" for number in sorted(numbers)[:_SHOWN]]
    more = len(numbers) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
