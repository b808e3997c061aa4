"""The key management centre's directory: it holds the SKs and AULs of the owners.

An owner's authorised users are stored twice: as a list, `users/OID.json`, and as sorted tags,
`users/OID.tags`. A tag is 16 bytes of HMAC of a user's identifier and key under a key of the KMC. With the
tags, the user of a query is looked up quickly, however long the list is.
"""

from __future__ import annotations

import hmac
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.membership import AuthorisedUsers, Membership
from mipp_cli.errors import MalformedError, MippError, NotAuthorisedError, ReplayedError
from mipp_cli.files.atomic import write_bytes
from mipp_cli.files.folders import is_there, paths_in
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.keys import SealingKey, SealingKeys
from mipp_cli.scheme.secret_keys import KEY_BYTES, derive_key, key_id
from mipp_cli.workdir.directory import RoleDirectory

OWNERS_FOLDER = "owners"
USERS_FOLDER = "users"
CLOUDS_FOLDER = "clouds"
FEATURES_FOLDER = "features"
_TAG_BYTES = 16
_DIGEST_BYTES = 32

User = tuple[str, bytes]


@dataclass(frozen=True, repr=False)
class EnrolledOwner:
    """An owner as the KMC knows it: the current enrolment, its digest, and the SKs by key id.

    ``forgotten`` are the ids of SKs that the owner dropped; no enrolment restores them. The owner's features
    are encrypted under ``storage_key``. The list of users, which may be long, is read only for
    ``membership``.
    """

    name: str
    number: int
    key: bytes
    digest: str
    image_keys: dict[int, bytes]
    forgotten: frozenset[int]
    storage_key: bytes
    read_users: Callable[[], AuthorisedUsers]

    @cached_property
    def membership(self) -> Membership:
        """The current enrolment with its users; raises MalformedError if the list is damaged."""
        return Membership(self.name, self.number, self.key, self.read_users())


class Kmc:
    """A KMC's directory."""

    def __init__(self, directory: RoleDirectory):
        self.directory = directory

    @classmethod
    def open(cls, path: Path) -> Kmc:
        """Open a KMC's directory."""
        return cls(RoleDirectory.open(path, "kmc"))

    @property
    def sealing_key(self) -> SealingKey:
        """The key to which owners and users seal."""
        return SealingKey(self.directory.secret("sealing"))

    @property
    def sealing_keys(self) -> SealingKeys:
        """The keys that decrypt what owners and users sealed: the current one, then former ones."""
        former = reversed(self.directory.secret_list("former_sealing"))
        return SealingKeys(self.sealing_key, tuple(SealingKey(seeds) for seeds in former))

    def owner(self, name: str) -> EnrolledOwner | None:
        """Return an enrolled owner, or None."""
        if not is_there(self.owner_file(name)):
            return None
        try:
            return self.directory.load(_owner_file(name), partial(self._enrolled, name))
        except MalformedError:
            if is_there(self.owner_file(name)):
                raise
            return None  # removed meanwhile

    def _enrolled(self, name: str, fields: dict[str, Any]) -> EnrolledOwner:
        keys = [bytes.fromhex(key) for key in fields["image_keys"]]
        storage_key = bytes.fromhex(fields["storage_key"])
        if len(storage_key) != KEY_BYTES:
            raise ValueError("a key has a wrong length")
        return EnrolledOwner(
            name,
            int(fields["number"]),
            bytes.fromhex(fields["key"]),
            str(fields["digest"]),
            {key_id(key): key for key in keys},
            frozenset(int(key, 16) for key in fields["forgotten_keys"]),
            storage_key,
            lambda: self.listed_users(name)[1],
        )

    def listed_users(self, name: str) -> tuple[int, AuthorisedUsers]:
        """Return the users of an owner, and the number of the enrolment that lists them."""
        return self.directory.load(
            _users_file(name),
            lambda fields: (
                int(fields["number"]),
                frozenset((user, bytes.fromhex(key)) for user, key in fields["users"].items()),
            ),
        )

    def owner_file(self, name: str) -> Path:
        """Return the path of an owner's enrolment."""
        return self.directory.file(_owner_file(name))

    def users_files(self, name: str) -> tuple[Path, Path]:
        """Return the paths of an owner's list of users and of their tags."""
        return self.directory.file(_users_file(name)), self.directory.file(f"{USERS_FOLDER}/{name}.tags")

    def features_folder(self, name: str) -> Path:
        """Return the folder of an owner's features, in the schemes where the KMC ranks."""
        return self.directory.file(FEATURES_FOLDER) / name

    def owner_names(self) -> list[str]:
        """Return the OIDs of all enrolled owners."""
        return sorted(file.stem for file in paths_in(self.directory.file(OWNERS_FOLDER), ".json"))

    @cached_property
    def _tag_key(self) -> bytes:
        return derive_key(self.directory.secret("signing"), "mipp/1 tags of users", b"")

    def _hmac(self, *parts: str | bytes) -> bytes:
        return hmac.digest(self._tag_key, length_prefixed(*parts), "sha256")

    def tags(self, owner_name: str, users: AuthorisedUsers) -> bytes:
        """Return the content of an owner's file of tags for ``users``: the tags, then an HMAC of them."""
        tags = b"".join(sorted(self._hmac(*user)[:_TAG_BYTES] for user in users))
        return tags + self._hmac("tags of an owner", owner_name, tags)

    def authorises(self, owner_name: str, user: User) -> bool:
        """Return whether an owner is enrolled and authorised a user, (UID, AK); reads only the tags.

        Raises MalformedError if the file of tags is missing or damaged: a bit error on the disk must not
        silently drop an owner from a user's answers.
        """
        file, is_enrolled = self.users_files(owner_name)[1], partial(is_there, self.owner_file(owner_name))
        if not is_enrolled():
            return False
        try:
            content = file.read_bytes()
        except OSError:
            content = b""
        tags, tag = content[:-_DIGEST_BYTES], self._hmac(*user)[:_TAG_BYTES]
        digest = self._hmac("tags of an owner", owner_name, tags)
        if not hmac.compare_digest(content[-_DIGEST_BYTES:], digest):
            if not is_enrolled():
                return False  # the owner was removed meanwhile
            raise MalformedError(
                "is missing or damaged",
                path=file,
                hint="restore it from a backup, or enrol the owner again: mipp owner authorize, then "
                "mipp kmc enroll KMC enrolment.h5",
            )
        begins = range(0, len(tags), _TAG_BYTES)
        begin = _TAG_BYTES * bisect_left(begins, tag, key=lambda place: tags[place : place + _TAG_BYTES])
        return hmac.compare_digest(tags[begin : begin + _TAG_BYTES], tag)

    def authorising(self, user: User) -> tuple[list[str], dict[str, MippError]]:
        """Return the OIDs of the owners who authorised a user, (UID, AK), and errors by damaged owner."""
        names, damaged = [], {}
        for name in self.owner_names():
            try:
                if self.authorises(name, user):
                    names.append(name)
            except MippError as error:
                damaged[name] = error
        return names, damaged

    def cloud_file(self, key: bytes) -> Path:
        """Return the path of the public file of the cloud with this key."""
        return self.directory.folder(CLOUDS_FOLDER) / f"{key.hex()}.pub"

    def cloud_names(self) -> list[str]:
        """Return the keys of all enrolled clouds, in hex."""
        return sorted(file.stem for file in paths_in(self.directory.file(CLOUDS_FOLDER), ".pub"))

    def knows_cloud(self, key: bytes) -> bool:
        """Return whether a cloud with this key is enrolled."""
        return is_there(self.cloud_file(key))

    def check_cloud(self, header: Header) -> None:
        """Raise NotAuthorisedError for a message from a cloud that is not enrolled."""
        if not self.knows_cloud(header.sender_key):
            raise NotAuthorisedError(
                "comes from a cloud that is not enrolled with this KMC",
                hint="enrol the cloud first: mipp kmc enroll KMC cloud.pub",
            )

    def remember_answer(self, folder: str, name: str, digest: str) -> None:
        """Record the answer to a query; raises ReplayedError if it was answered differently before."""
        if self.directory.recorded(folder, name) not in (None, digest):
            raise ReplayedError(
                "answers a query that was answered with other images before",
                hint="a query is answered only once: ask the user to make a new query",
            )
        self.directory.record(folder, name, digest)

    def store_owner(self, owner: EnrolledOwner) -> None:
        """Store an owner's enrolment: the users first, so that an interrupted run can be repeated."""
        name, users = owner.name, owner.membership.users
        self.directory.folder(OWNERS_FOLDER)
        self.directory.folder(USERS_FOLDER)
        listed = {user: key.hex() for user, key in sorted(users)}
        self.directory.write_json(_users_file(name), {"number": owner.number, "users": listed})
        write_bytes(self.users_files(name)[1], self.tags(name, users), force=True, private=True)
        fields: dict[str, Any] = {
            "number": owner.number,
            "digest": owner.digest,
            "key": owner.key.hex(),
            "image_keys": [key.hex() for key in owner.image_keys.values()],
            "forgotten_keys": [f"{key:016x}" for key in sorted(owner.forgotten)],
            "storage_key": owner.storage_key.hex(),
        }
        self.directory.write_json(_owner_file(name), fields)


def same_as(known: Header) -> Callable[[Header], None]:
    """Return a check that a file's header is still ``known``, so nobody has changed the file since."""

    def check(header: Header) -> None:
        if header != known:
            raise MalformedError(
                "changed while it was read", hint="try again when no other program is writing it"
            )

    return check


def _owner_file(name: str) -> str:
    return f"{OWNERS_FOLDER}/{name}.json"


def _users_file(name: str) -> str:
    return f"{USERS_FOLDER}/{name}.json"
