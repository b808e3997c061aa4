"""Which of an owner's messages have not come to the cloud, or the KMC, for people who can bring them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mipp_cli.containers.messages.earlier import LIMIT
from mipp_cli.workdir.replay import moment

AGAIN_AT_KMC = (
    "bring these files: mipp owner features OWNER -o DIR hands out the features files that still count; the "
    "owner makes a deletion again with mipp owner delete OWNER --again NUMBER -o delete.h5"
)
_SHOWN = 5


@dataclass(frozen=True)
class Completeness:
    """How much of what an owner sent has come: everything ``up_to`` a number, and the ``gaps``.

    ``up_to`` is the newest message of whose earlier ones none is missing, and which knows of all older ones
    of which images are left: what has come of the messages up to it is what the owner's record says. It is
    0 if there is none. ``gaps`` are what the newest message of all misses, ``unlisted`` what it knows
    nothing of though images are left of it.
    """

    up_to: int
    gaps: tuple[int, ...] = ()
    unlisted: tuple[int, ...] = ()

    def __str__(self) -> str:
        found = (
            f"complete up to {self.up_to} ({moment(self.up_to)})" if self.up_to else "complete up to nothing"
        )
        return found + (f"; missing: {listed(self.gaps)}" if self.gaps else "")

    def warnings(self, owner: str, again: str) -> list[str]:
        """Say what is missing, and ``again`` how it is brought; or what the owner's record lacks."""
        if self.gaps:
            return [f"{owner} sent what has not come here: {listed(self.gaps)}; {again}"]
        if self.unlisted:
            return [
                f"the record of {owner} lacks what was sent as {listed(self.unlisted)}, of which images "
                "are here: the owner must forget no key before they are sent again (mipp owner encrypt) or "
                "deleted"
            ]
        return []


def completeness_of(
    rows: Mapping[int, int], lists: Iterable[tuple[int, Collection[int]]], removed: int
) -> Completeness:
    """Say how much of what an owner sent has come.

    ``rows`` says how many images are left of each message that came. ``lists`` are the numbers of messages
    and of the earlier ones that each lists, the newest first and as far as they can be read. What is not
    above ``removed`` went with a removal and is not missing.
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
    """Say of each owner up to which number everything is here that still counts."""
    return tuple(f"{owner} is {each}" for owner, each in sorted(found.items()))


def details_of(found: Mapping[str, Completeness]) -> dict[str, object]:
    """Return the same for scripts."""
    return {"owners": {o: {"complete": each.up_to, "missing": list(each.gaps)} for o, each in found.items()}}


def listed(numbers: Collection[int]) -> str:
    """Return the first of some numbers and when each was made, and how many more there are."""
    shown = [f"{number} ({moment(number)})" for number in sorted(numbers)[:_SHOWN]]
    more = len(numbers) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
