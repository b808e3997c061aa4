"""What stays of an owner who was removed: enough to tell a return from a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mipp_cli.containers.base.header import IDENTIFIER, LARGEST_NUMBER, Header
from mipp_cli.errors import (
    AlreadyAppliedError,
    ConflictError,
    InvalidRequestError,
    OutputError,
    ReplayedError,
)
from mipp_cli.report import Report
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.replay import check_pinned_key, numbers_behind

REMOVED_FOLDER = "removed"

Confirm = Callable[[str], None]
"""Asks a question before anything is changed; raises DeclinedError if the answer is no."""


def unasked(question: str) -> None:
    """Go on without asking."""


@dataclass(frozen=True)
class Removal:
    """The record of a removal, ``removed/OID.json``.

    ``key``, ``number`` and ``digest`` are those of the membership that was in force, ``forgotten`` the ids
    of the SKs that the KMC is not to take again. ``released`` says that others may take the name;
    ``retired`` are the keys that never may again.
    """

    owner: str
    key: bytes
    number: int
    digest: str
    forgotten: frozenset[int] = frozenset()
    released: bool = False
    retired: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        keys = [self.key, *self.retired]
        if any(len(key) != 32 for key in keys) or not 0 <= self.number <= LARGEST_NUMBER:
            raise ValueError("no removal is like this")

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON fields."""
        return {
            "key": self.key.hex(),
            "number": self.number,
            "digest": self.digest,
            "released": self.released,
            "retired": sorted(key.hex() for key in self.retired),
            "forgotten_keys": [f"{key:016x}" for key in sorted(self.forgotten)],
        }

    @classmethod
    def from_json(cls, owner: str, fields: dict[str, Any]) -> Removal:
        """Read what :meth:`to_json` gave."""
        return cls(
            owner,
            bytes.fromhex(fields["key"]),
            int(fields["number"]),
            str(fields["digest"]),
            frozenset(int(key, 16) for key in fields["forgotten_keys"]),
            bool(fields["released"]),
            frozenset(bytes.fromhex(key) for key in fields["retired"]),
        )


def removal_file(directory: RoleDirectory, owner: str) -> Path:
    """Return where the record of an owner's removal is kept."""
    return directory.file(_file(owner))


def _file(owner: str) -> str:
    return f"{REMOVED_FOLDER}/{owner}.json"


def removal_of(directory: RoleDirectory, owner: str) -> Removal | None:
    """Return the record of an owner's last removal, or None; raises MalformedError if it is damaged."""
    if not removal_file(directory, owner).exists():
        return None
    return directory.load(_file(owner), lambda fields: Removal.from_json(owner, fields))


def removals(directory: RoleDirectory) -> list[Removal]:
    """Return the records of all removals, of owners who came back too."""
    names = sorted(file.stem for file in directory.file(REMOVED_FOLDER).glob("*.json"))
    found = [removal_of(directory, name) for name in names if IDENTIFIER.fullmatch(name)]
    return [removal for removal in found if removal is not None]


def record_removal(directory: RoleDirectory, owner: str, in_force: Removal | None, *, release: bool) -> bool:
    """Record that an owner is removed, before the membership goes; return whether that changed the record.

    ``in_force`` says what is, and is None for an owner whose membership ended before. A name that is
    released is free at once, and the key that held it is retired for good. Raises InvalidRequestError for a
    name that was never enrolled.
    """
    previous = removal_of(directory, owner)
    removal = in_force or previous
    if removal is None:
        raise InvalidRequestError(
            f"no owner {owner!r} is enrolled", path=directory.path, hint="`mipp inspect` lists who is"
        )
    if in_force is not None and previous is not None:
        removal = replace(in_force, released=in_force.key in previous.retired, retired=previous.retired)
    if release:
        removal = replace(removal, released=True, retired=removal.retired | {removal.key})
    if removal != previous:
        directory.folder(REMOVED_FOLDER)
        directory.write_json(_file(owner), removal.to_json())
    return removal != previous


def delete_rest(owner: str, *steps: Callable[[], object]) -> None:
    """Delete what a removed owner leaves: every step is tried, whichever fails; raises OutputError."""
    failures = list[OutputError]()
    for step in steps:
        try:
            step()
        except OutputError as error:
            failures.append(error)
    if failures:
        raise OutputError(
            f"{failures[0].message}; {owner!r} is removed, but some of the owner's files may be left",
            path=failures[0].path,
            hint="run the command again to delete the rest",
        ) from failures[0]


def check_spelling(directory: RoleDirectory, owner: str, others: Iterable[str]) -> None:
    """Refuse an owner whose files would be those of another on file systems that take two names for one.

    Some know no case, and some no dots at the end of a folder's name. Raises ConflictError.
    """
    known = {*others, *(file.stem for file in directory.file(REMOVED_FOLDER).glob("*.json"))}
    for other in sorted(known - {owner}):
        if _spelt(other) == _spelt(owner):
            raise ConflictError(
                f"is of {owner!r}, and {other!r} is known here: some file systems take the two names for one",
                hint="ask the owner to choose another identifier: mipp owner init --id OID",
            )


def _spelt(owner: str) -> str:
    return owner.lower().rstrip(".")


def check_return(directory: RoleDirectory, header: Header, *, enrolled: bool) -> None:
    """Refuse an enrolment that a removal forbids.

    Raises ConflictError for a key that was retired, and for another key than that of an owner who was
    removed and whose name was not released; ReplayedError for what is not newer than what was in force.
    """
    removal = removal_of(directory, header.sender)
    if removal is None:
        return
    if header.sender_key in removal.retired:
        raise ConflictError(
            f"is signed with a key that was retired when the name {header.sender!r} was released",
            hint="whoever bears the name now begins anew: mipp owner init",
        )
    if enrolled or removal.released:
        return
    check_pinned_key(header, removal.key)
    if header.sequence_number <= removal.number:
        raise ReplayedError(
            f"is not newer than what was in force when {header.sender!r} was removed",
            hint="to come back the owner makes a new one: mipp owner authorize; "
            + numbers_behind(removal.number),
        )


def removal_question(what: str, place: str) -> str:
    """Return what is asked before an owner, and ``what`` else goes with it, is removed from ``place``."""
    return f"Remove {what} from {place}? This cannot be undone."


def already_removed(directory: RoleDirectory, owner: str) -> AlreadyAppliedError:
    """Return the error of a removal that was done before."""
    return AlreadyAppliedError(
        f"the owner {owner!r} was removed before", path=directory.path, hint="there is nothing to do"
    )


def removal_report(directory: RoleDirectory, counts: dict[str, int], released: bool) -> Report:
    """Return the report of a removal; ``released`` says that the name is free."""
    notes = ("the name is free; the key that bore it is retired for good",) if released else ()
    return Report((), {"owners": 1, **counts}, directory.warnings, {}, notes)
