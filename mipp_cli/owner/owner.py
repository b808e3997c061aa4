"""The image owner: its keys, its list of authorised users (AUL), and the files that enrol both."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.messages.membership import AuthorisedUsers, write_enrolment, write_members
from mipp_cli.containers.messages.upload import NAME_LIMIT
from mipp_cli.errors import InvalidRequestError, MippError, OutputError
from mipp_cli.files.atomic import unchanged_on_failure
from mipp_cli.files.folders import is_there
from mipp_cli.owner.ledger import UPLOADS_FOLDER, Ledger
from mipp_cli.report import Output, Report
from mipp_cli.scheme.keys import SealingPublicKey
from mipp_cli.scheme.secret_keys import derive_key, key_id
from mipp_cli.workdir.directory import (
    STATE_FILE,
    RoleDirectory,
)
from mipp_cli.workdir.replay import clock_number
from mipp_cli.workdir.secrets_file import SECRETS_FILE

ENROLMENT_FILE = "enrolment.h5"
MEMBERS_FILE = "members.h5"
IMAGE_NAME_STYLES = ("hashed", "path")
NOT_IN_FORCE = "takes effect when the KMC has enrolled enrolment.h5 and the cloud members.h5"


def number_of(file: Path) -> int:
    """Return the sequence number of an owner's file; 0 if it cannot be read or has none."""
    try:
        return header_of(file).sequence_number
    except (MippError, ValueError):
        return 0


@dataclass(frozen=True)
class OwnerState:
    """The contents of state.json: the last sequence number, the AUL, and the style of wire names.

    ``forgotten`` are ids of SKs that the KMC is told to drop, ``unsure`` numbers of messages that may or may
    not have been sent.
    """

    number: int
    image_names: str
    users: AuthorisedUsers
    forgotten: frozenset[int] = frozenset()
    unsure: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.image_names not in IMAGE_NAME_STYLES or any(len(key) != 32 for _, key in self.users):
            raise ValueError("an unknown style of image names, or an impossible user key")

    def to_json(self) -> dict[str, Any]:
        """Return the fields of state.json."""
        return {
            "number": self.number,
            "image_names": self.image_names,
            "users": {name: key.hex() for name, key in sorted(self.users)},
            "forgotten_keys": [f"{key:016x}" for key in sorted(self.forgotten)],
            "unsure": sorted(self.unsure),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> OwnerState:
        """Read the result of :meth:`to_json`."""
        users = frozenset((name, bytes.fromhex(key)) for name, key in fields["users"].items())
        forgotten = frozenset(int(key, 16) for key in fields["forgotten_keys"])
        unsure = frozenset(map(int, fields["unsure"]))
        return cls(int(fields["number"]), fields["image_names"], users, forgotten, unsure)


class Owner:
    """An owner's directory and its state."""

    def __init__(self, directory: RoleDirectory):
        self.directory = directory

    @cached_property
    def state(self) -> OwnerState:
        """The state, read on first use: hold the lock first if it will be changed."""
        return self.directory.load(STATE_FILE, OwnerState.from_json)

    @classmethod
    def open(cls, path: Path) -> Owner:
        """Open an owner's directory."""
        return cls(RoleDirectory.open(path, "owner"))

    @property
    def users(self) -> AuthorisedUsers:
        """The AUL: (UID, AK)."""
        return self.state.users

    @property
    def last_number(self) -> int:
        """The last sequence number used."""
        return self.state.number

    @property
    def image_key(self) -> bytes:
        """SK, the current image key."""
        return self.directory.secret("image")

    @property
    def former_image_keys(self) -> dict[int, bytes]:
        """Former SKs by key id, oldest first."""
        return {key_id(key): key for key in self.directory.secret_list("former_images")}

    @property
    def ledger(self) -> Ledger:
        """The record of what was sent."""
        return Ledger(self.directory.folder(UPLOADS_FOLDER), self.state.unsure)

    def next_number(self) -> int:
        """Return the next sequence number: max(last + 1, microseconds since 1970)."""
        return max(self.state.number + 1, clock_number())

    def name_on_the_wire(self, path: str) -> str:
        """Return an image's wire name: an HMAC of its path, or the path (``--image-names path``).

        Raises InvalidRequestError if the path is too long for a name.
        """
        if self.state.image_names != "path":
            return self.row_key(path)[:16].hex()
        if len(path.encode()) > NAME_LIMIT:
            raise InvalidRequestError(
                f"is too long for the name of an image, which may have up to {NAME_LIMIT} bytes",
                path=f"{path[:60]}…",
                hint="give a --root closer to it, or move it",
            )
        return path

    def keyed_name(self, path: str) -> str:
        """Return the name that users see instead of a hidden path: an HMAC of it, as a file name."""
        return f"{self.row_key(path)[16:].hex()}.png"

    def row_key(self, path: str) -> bytes:
        """Return the keyed digest of a path by which the rows of an upload are sorted."""
        return hmac.digest(self._identifier_key, path.encode(), "sha256")

    def grouping_key(self, path: str) -> bytes:
        """Return another keyed digest of a path, by which new images are put into groups.

        It is never sent, unlike hashed names, which are half of :meth:`row_key`.
        """
        return hmac.digest(self._grouping_key, path.encode(), "sha256")[:16]

    @cached_property
    def _identifier_key(self) -> bytes:
        return self.directory.secret("identifier")

    @cached_property
    def _grouping_key(self) -> bytes:
        return derive_key(self._identifier_key, "mipp/1 groups of images", b"")

    def remember(self, number: int) -> None:
        """Mark sequence numbers up to ``number`` as used; numbers are never reused."""
        self._change(number=max(number, self.state.number))

    def begin_messages(self, count: int) -> list[int]:
        """Reserve the next sequence numbers for messages, which are unsure until :meth:`confirm`."""
        first = self.next_number()
        numbers = [*range(first, first + count)]
        self._change(number=numbers[-1], unsure=self.state.unsure.union(numbers))
        return numbers

    def confirm(self, numbers: Sequence[int]) -> None:
        """Mark messages as sent, all at once, when the command that wrote them is done.

        If that cannot be written they stay unsure, which only means that their images are sent again.
        """
        unsure = self.state.unsure.difference(numbers)
        with suppress(OutputError):
            self._change(unsure=frozenset(each for each in unsure if is_there(self.ledger.file(each))))

    def take_back(self, number: int) -> None:
        """Continue above ``number`` although higher numbers were used, because no receiver accepted those."""
        self._change(number=number)

    def _change(self, **changes: Any) -> None:
        """Change the state, on disk first."""
        state = replace(self.state, **changes)
        self.directory.write_json(STATE_FILE, state.to_json())
        self.state = state

    def write_membership(
        self, users: AuthorisedUsers, sealing_key: SealingPublicKey | None = None
    ) -> tuple[Output, ...]:
        """Write enrolment.h5 and members.h5 under the next sequence number, then store the AUL.

        The number is marked as used first, so that no two files ever share it. The image keys are sealed to
        ``sealing_key``, by default the directory's.
        """
        number, keys = self.next_number(), [*self.former_image_keys.values(), self.image_key]
        directory, sender = self.directory, self.directory.sender
        members = directory.file(MEMBERS_FILE)
        self.remember(number)
        with unchanged_on_failure(members, *map(directory.file, (ENROLMENT_FILE, STATE_FILE))):
            enrolment = self.write_enrolment(number, users, keys, self.state.forgotten, sealing_key)
            at_cloud = directory.deployment.parameters.protocol.users_at_cloud(users)
            write_members(members, sender, number, at_cloud)
            self._change(users=users)
        return enrolment, Output(members, "members")

    def change_image_keys(self, key: bytes, former: Sequence[bytes], forgotten: frozenset[int]) -> Output:
        """Write enrolment.h5 with new SKs under the next sequence number, then store them.

        A crash in between is harmless: the KMC learns of an unused key, or drops one that nobody needs.
        """
        number, directory = self.next_number(), self.directory
        self.remember(number)
        with unchanged_on_failure(*map(directory.file, (ENROLMENT_FILE, STATE_FILE, SECRETS_FILE))):
            output = self.write_enrolment(number, self.users, [*former, key], forgotten)
            self._change(forgotten=forgotten)
            directory.change_secrets({"image": key, "former_images": former})
        return output

    def write_enrolment(
        self,
        number: int,
        users: AuthorisedUsers,
        keys: Sequence[bytes],
        forgotten: frozenset[int],
        sealing_key: SealingPublicKey | None = None,
    ) -> Output:
        """Write enrolment.h5 under a reserved number: AUL, SKs (the current one last), forgotten key ids."""
        directory, path = self.directory, self.directory.file(ENROLMENT_FILE)
        sealing_key = sealing_key or directory.sealing_key
        write_enrolment(path, directory.sender, number, users, list(keys), sealing_key, forgotten)
        return Output(path, "enrolment")

    def report(
        self, outputs: Sequence[Output], counts: Mapping[str, int], *notes: str, shown: Mapping[str, str] = {}
    ) -> Report:
        """Return the report of a step that wrote enrolment.h5 or members.h5.

        It shows the owner's fingerprint (its public signing key) for each file.
        """
        fingerprint = self.directory.sender.signing_key.public.hex()
        fingerprints = {**shown, **{str(output.path): fingerprint for output in outputs}}
        return Report(tuple(outputs), counts, self.directory.warnings, fingerprints, notes)
