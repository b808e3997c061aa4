"""Up to which number a cloud or KMC refuses an owner's messages, whatever it has: ``floors/OID.json``.

A message may come late, so whoever removed or lost what decided an image must not take an older message that
would bring the image back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.base.header import LARGEST_NUMBER, Header
from mipp_cli.errors import MalformedError, ReplayedError
from mipp_cli.files.atomic import remove
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.removals import removal_of
from mipp_cli.workdir.replay import numbers_behind

FLOORS_FOLDER = "floors"


@dataclass(frozen=True)
class Floor:
    """Messages up to ``refused`` are refused; what is missing up to ``removed`` is not reported as missing.

    ``removed`` comes from a removal of the owner, ``refused`` from that or from damage that was dropped.
    """

    refused: int = 0
    removed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.removed <= self.refused <= LARGEST_NUMBER:
            raise ValueError("no floor is like this")


def floor_file(directory: RoleDirectory, owner: str) -> Path:
    """Return where the floor of an owner is kept."""
    return directory.file(_name(owner))


def floor_in_force(directory: RoleDirectory, owner: str, key: bytes) -> Floor:
    """Return the floor of an enrolled owner; MalformedError if one who was removed and came back has none."""
    removal = removal_of(directory, owner)
    if removal is not None and removal.key == key and not floor_file(directory, owner).exists():
        raise MalformedError(
            "is missing",
            path=floor_file(directory, owner),
            hint="restore it from a backup; if the removal was cut short: "
            f"mipp {directory.role} remove {directory.role.upper()} {owner}",
        )
    return floor_of(directory, owner)


def floor_of(directory: RoleDirectory, owner: str) -> Floor:
    """Return the floor of an owner, or that there is none; raises MalformedError if its file is damaged."""
    if not floor_file(directory, owner).exists():
        return Floor()
    return directory.load(_name(owner), lambda fields: Floor(int(fields["refused"]), int(fields["removed"])))


def raise_floor(directory: RoleDirectory, owner: str, refused: int, *, removed: bool) -> None:
    """Refuse the messages of an owner up to ``refused`` from now on, because of a removal if ``removed``."""
    floor = floor_of(directory, owner)
    raised = Floor(max(floor.refused, refused), max(floor.removed, refused) if removed else floor.removed)
    if raised != floor or not floor_file(directory, owner).exists():
        directory.folder(FLOORS_FOLDER)
        directory.write_json(_name(owner), {"refused": raised.refused, "removed": raised.removed})


def set_floor_of_return(directory: RoleDirectory, header: Header) -> None:
    """Refuse what an owner who comes back sent before; another who bears the name begins without a floor."""
    removal = removal_of(directory, header.sender)
    if removal is not None and removal.key == header.sender_key:
        raise_floor(directory, header.sender, header.sequence_number, removed=True)
    else:
        remove(floor_file(directory, header.sender))


def check_floor(floor: Floor, header: Header) -> None:
    """Refuse a message that is not above the floor of its sender; raises ReplayedError."""
    number = header.sequence_number
    if number > floor.refused:
        return
    why = "was removed" if number <= floor.removed else "lost messages here"
    raise ReplayedError(
        f"is not newer than what {header.sender!r} had sent when the owner {why}",
        hint="the owner sends these images again: mipp owner encrypt OWNER IMAGES --again; "
        + numbers_behind(floor.refused),
    )


def _name(owner: str) -> str:
    return f"{FLOORS_FOLDER}/{owner}.json"
