"""Which of an owner's messages have not come to the cloud, for people who can bring them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mipp_cli.containers.index import Index
from mipp_cli.errors import MippError
from mipp_cli.roles.directory import RoleDirectory
from mipp_cli.roles.floors import floor_of
from mipp_cli.roles.sequence import moment
from mipp_cli.roles.store import Store

_SHOWN = 5


@dataclass(frozen=True)
class Completeness:
    """How much of what an owner sent has come: everything ``up_to`` a number, and the ``gaps``.

    ``up_to`` is the newest message of whose earlier ones none is missing, and which knows of all older ones
    of which images are left: what the cloud has of the messages up to it is what the owner's record says.
    It is 0 if there is none. ``gaps`` are what the newest message of all misses.
    """

    up_to: int
    gaps: tuple[int, ...]

    def __str__(self) -> str:
        found = (
            f"complete up to {self.up_to} ({moment(self.up_to)})" if self.up_to else "complete up to nothing"
        )
        return found + (f"; missing: {listed(self.gaps)}" if self.gaps else "")


def completeness(store: Store, index: Index, owner: str) -> Completeness:
    """Say how much of what an owner sent has come; what a removal took is not missing."""
    removed = floor_of(RoleDirectory(store.folder, "cloud"), owner).removed
    came = {segment.number for segment in index.of_owner(owner)}
    complete, newest = 0, index.newest(owner)
    for segment in sorted(index.of_owner(owner), key=lambda each: each.number, reverse=True):
        earlier = segment.earlier
        if segment != newest:
            try:
                with store.segment(segment) as upload:
                    earlier = upload.earlier()
            except MippError:  # it is damaged, so what it knows of is not known: mipp cloud check says so
                continue
        if all(each in came or each <= removed for each in earlier) and not index.unlisted(segment, earlier):
            complete = segment.number
            break
    return Completeness(complete, index.gaps(owner))


def notes_of(found: Mapping[str, Completeness]) -> tuple[str, ...]:
    """Say of each owner up to which number the cloud has everything that still counts."""
    return tuple(f"{owner} is {each}" for owner, each in sorted(found.items()))


def details_of(found: Mapping[str, Completeness]) -> dict[str, object]:
    """Return the same for scripts."""
    return {"owners": {o: {"complete": each.up_to, "missing": list(each.gaps)} for o, each in found.items()}}


def gap_warnings(index: Index) -> list[str]:
    """Say of each owner which messages are missing, and which the owner's own record lacks."""
    warnings = []
    for owner in index.owners():
        if gaps := index.gaps(owner):
            warnings.append(
                f"{owner} sent what has not come here: {listed(gaps)}; bring these files, or the owner makes "
                "them again with --again NUMBER (mipp owner encrypt, or for a deletion mipp owner delete)"
            )
        elif (newest := index.newest(owner)) and (unlisted := index.unlisted(newest, newest.earlier)):
            warnings.append(
                f"the record of {owner} lacks what was sent as {listed(unlisted)}, of which images are here: "
                "the owner must forget no key before they are sent again (mipp owner encrypt) or deleted"
            )
    return warnings


def listed(numbers: Collection[int]) -> str:
    """Return the first of some numbers and when each was made, and how many more there are."""
    shown = [f"{number} ({moment(number)})" for number in sorted(numbers)[:_SHOWN]]
    more = len(numbers) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
