"""Keep the number up to which a cloud or KMC refuses all messages of an owner: ``floors/OID.json``.

Messages may come late. A receiver that removed or lost the message that decided about an image must refuse
older ones, which could bring the image back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.base.header import LARGEST_NUMBER, Header
from mipp_cli.errors import MalformedError, ReplayedError
from mipp_cli.files.atomic import remove
from mipp_cli.files.folders import is_there
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.removals import removal_of
from mipp_cli.workdir.replay import numbers_behind

FLOORS_FOLDER = "floors"


@dataclass(frozen=True)
class Floor:
    """Messages up to ``refused`` are refused; those up to ``removed`` are not reported as missing.

    ``removed`` is set by a removal of the owner, ``refused`` by that or by dropping damaged files.
    """

    refused: int = 0
    removed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.removed <= self.refused <= LARGEST_NUMBER:
            raise ValueError("not a valid floor")


def floor_file(directory: RoleDirectory, owner: str) -> Path:
    """Return the path of an owner's floor."""
    return directory.file(_name(owner))


def floor_in_force(directory: RoleDirectory, owner: str, key: bytes) -> Floor:
    """Return an enrolled owner's floor; raises MalformedError if a returned owner has none."""
    removal = removal_of(directory, owner)
    if removal is not None and removal.key == key and not is_there(floor_file(directory, owner)):
        raise MalformedError(
            "is missing",
            path=floor_file(directory, owner),
            hint="restore it from a backup; if the removal was interrupted: "
            f"mipp {directory.role} remove {directory.role.upper()} {owner}",
        )
    return floor_of(directory, owner)


def floor_of(directory: RoleDirectory, owner: str) -> Floor:
    """Return an owner's floor, by default 0; raises MalformedError if its file is damaged."""
    if not is_there(floor_file(directory, owner)):
        return Floor()
    return directory.load(_name(owner), lambda fields: Floor(int(fields["refused"]), int(fields["removed"])))


def raise_floor(directory: RoleDirectory, owner: str, refused: int, *, removed: bool) -> None:
    """Raise the number up to which an owner's messages are refused; ``removed`` says if by a removal."""
    floor = floor_of(directory, owner)
    raised = Floor(max(floor.refused, refused), max(floor.removed, refused) if removed else floor.removed)
    if raised != floor or not is_there(floor_file(directory, owner)):
        directory.folder(FLOORS_FOLDER)
        directory.write_json(_name(owner), {"refused": raised.refused, "removed": raised.removed})


def set_floor_of_return(directory: RoleDirectory, header: Header) -> None:
    """Refuse the earlier messages of a returning owner; delete the floor if the name has a new owner."""
    removal = removal_of(directory, header.sender)
    if removal is not None and removal.key == header.sender_key:
        raise_floor(directory, header.sender, header.sequence_number, removed=True)
    else:
        remove(floor_file(directory, header.sender))


def check_floor(floor: Floor, header: Header) -> None:
    """Raise ReplayedError if a message is not above its sender's floor."""
    number = header.sequence_number
    if number > floor.refused:
        return
    why = "the owner was removed" if number <= floor.removed else "damaged files were dropped"
    raise ReplayedError(
        f"is refused, like all messages of {header.sender!r} up to {floor.refused}, because {why}",
        hint="the owner must send these images again: mipp owner encrypt OWNER IMAGES --again; "
        + numbers_behind(floor.refused),
    )


def _name(owner: str) -> str:
    return f"{FLOORS_FOLDER}/{owner}.json"
