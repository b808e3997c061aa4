"""Which of an owner's messages have not come to the cloud, for people who can bring them."""

from __future__ import annotations

from collections.abc import Collection

from mipp_cli.containers.index import Index
from mipp_cli.roles.sequence import moment

_SHOWN = 5


def gap_warnings(index: Index) -> list[str]:
    """Say of each owner which messages are missing, and how they are made again."""
    return [
        f"{owner} sent what has not come here: {listed(gaps)}; bring these files, or the owner makes them "
        "again with --again NUMBER (mipp owner encrypt, or for a deletion mipp owner delete)"
        for owner in index.owners()
        if (gaps := index.completeness(owner).gaps)
    ]


def completeness_notes(index: Index, owners: Collection[str]) -> tuple[str, ...]:
    """Say of each of ``owners`` up to which number the cloud has everything that still counts."""
    return tuple(f"{owner} is {_up_to(index, owner)}" for owner in sorted(owners))


def completeness_details(index: Index) -> dict[str, object]:
    """Return for scripts what :func:`gap_warnings` and :func:`completeness_notes` say, of all owners."""
    found = {owner: index.completeness(owner) for owner in index.owners()}
    return {"owners": {o: {"complete": each.up_to, "missing": list(each.gaps)} for o, each in found.items()}}


def reach(index: Index, owner: str) -> str:
    """Say up to which number the cloud has everything of an owner, and what is missing."""
    gaps = index.completeness(owner).gaps
    return _up_to(index, owner) + (f"; missing: {listed(gaps)}" if gaps else "")


def _up_to(index: Index, owner: str) -> str:
    number = index.completeness(owner).up_to
    return f"complete up to {number} ({moment(number)})" if number else "complete up to nothing"


def listed(numbers: Collection[int]) -> str:
    """Return the first of some numbers and when each was made, and how many more there are."""
    shown = [f"{number} ({moment(number)})" for number in sorted(numbers)[:_SHOWN]]
    more = len(numbers) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
