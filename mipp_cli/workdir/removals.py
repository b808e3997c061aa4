"""Keep records of removed owners, which distinguish a return from a replay."""

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
from mipp_cli.files.atomic import try_all
from mipp_cli.files.folders import is_there, paths_in
from mipp_cli.report import Report
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.replay import check_pinned_key, numbers_behind

REMOVED_FOLDER = "removed"

Confirm = Callable[[str], None]
"""Asks a question before any change; raises DeclinedError if the answer is no."""


def unasked(question: str) -> None:
    """Continue without asking."""


@dataclass(frozen=True)
class Removal:
    """The record of a removal, ``removed/OID.json``.

    ``key``, ``number`` and ``digest`` are those of the membership that was in force. ``forgotten`` are the
    ids of SKs that the KMC must not accept again. ``released`` says that another owner may take the name;
    ``retired`` are keys that never may.
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
            raise ValueError("not a valid removal")

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
        """Return the record from the fields that :meth:`to_json` returned."""
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
    if not is_there(removal_file(directory, owner)):
        return None
    return directory.load(_file(owner), lambda fields: Removal.from_json(owner, fields))


def removals(directory: RoleDirectory) -> list[Removal]:
    """Return the records of all removals, including those of owners who came back."""
    names = [file.stem for file in paths_in(directory.file(REMOVED_FOLDER), ".json")]
    found = [removal_of(directory, name) for name in names if IDENTIFIER.fullmatch(name)]
    return [removal for removal in found if removal is not None]


def record_removal(directory: RoleDirectory, owner: str, in_force: Removal | None, *, release: bool) -> bool:
    """Record a removal, before the membership is deleted; return whether the record changed.

    ``in_force`` describes the membership, and is None if that ended before. A released name is free at once,
    and its key is retired for good. Raises InvalidRequestError for a name that was never enrolled.
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
    try:
        try_all(steps)
    except OutputError as error:
        raise OutputError(
            f"{error.message}; {owner!r} is removed, but some of the owner's files may be left or come back",
            path=error.path,
            hint=f"{error.hint or 'run the command again'}; the next run deletes the rest",
        ) from error


def check_spelling(directory: RoleDirectory, owner: str, others: Iterable[str]) -> None:
    """Raise ConflictError if a file system could take the owner's name for that of another owner.

    Some file systems ignore case, and some drop dots at the end of a folder's name.
    """
    known = {*others, *(file.stem for file in paths_in(directory.file(REMOVED_FOLDER), ".json"))}
    for other in sorted(known - {owner}):
        if _spelt(other) == _spelt(owner):
            raise ConflictError(
                f"is from {owner!r}, but {other!r} is known here: some file systems do not tell them apart",
                hint="ask the owner to choose another identifier: mipp owner init --id OID",
            )


def _spelt(owner: str) -> str:
    return owner.lower().rstrip(".")


def check_return(directory: RoleDirectory, header: Header, *, enrolled: bool) -> None:
    """Refuse an enrolment that a removal forbids.

    Raises ConflictError for a retired key, and for a name that was removed but not released and had another
    key; ReplayedError for an enrolment that is not newer than the one that was in force.
    """
    removal = removal_of(directory, header.sender)
    if removal is None:
        return
    if header.sender_key in removal.retired:
        raise ConflictError(
            f"is signed with a key that was retired when the name {header.sender!r} was released",
            hint="an owner who wants this name must start again: mipp owner init",
        )
    if enrolled or removal.released:
        return
    check_pinned_key(header, removal.key)
    if header.sequence_number <= removal.number:
        raise ReplayedError(
            f"is not newer than the enrolment that was in force when {header.sender!r} was removed",
            hint="to come back, the owner must make a new one: mipp owner authorize; "
            + numbers_behind(removal.number),
        )


def removal_question(what: str, place: str) -> str:
    """Return the question to ask before ``what`` is removed from ``place``."""
    return f"Remove {what} from {place}? This cannot be undone."


def already_removed(directory: RoleDirectory, owner: str) -> AlreadyAppliedError:
    """Return the error for a repeated removal."""
    return AlreadyAppliedError(
        f"the owner {owner!r} was already removed", path=directory.path, hint="there is nothing to do"
    )


def removal_report(directory: RoleDirectory, counts: dict[str, int], released: bool) -> Report:
    """Return the report of a removal; ``released`` says that the name is free."""
    notes = ("the name is free; its former key is retired for good",) if released else ()
    return Report((), {"owners": 1, **counts}, directory.warnings, {}, notes)
