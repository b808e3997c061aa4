"""`members` (owner → cloud) and `enrolment` (owner → KMC): who may search an owner's images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Check, Container, Schema, open_container, open_source
from mipp_cli.containers.base.source import BytesSource
from mipp_cli.containers.base.writer import Sender, write_whole
from mipp_cli.errors import MalformedError, errors_at
from mipp_cli.scheme.keys import SealingKey, SealingKeys, SealingPublicKey, check_public_key
from mipp_cli.scheme.secret_keys import KEY_BYTES, key_id

_USERS: dict[str, Matrix | Ragged] = {"user_ids": Ragged(limit=64), "user_keys": Matrix("u1", 32)}
MEMBERS = Schema("members", _USERS)
ENROLMENT = Schema("enrolment", {**_USERS, "sealed_keys": Matrix("u1"), "forgotten_keys": Matrix("<u8")})

AuthorisedUsers = frozenset[tuple[str, bytes]]
_USERS_LIMIT = 100_000
_MANY_KEYS = 100
MEMBERS_BYTES_LIMIT = 1 << 26
_SEALED_LIMIT = 1 << 20
FORGOTTEN_LIMIT = 1 << 16
KEYS_LIMIT = 4096


@dataclass(frozen=True)
class Membership:
    """An owner's list of who may search: OID, sequence number, the owner's key, and AUL as (UID, AK)."""

    owner: str
    number: int
    key: bytes
    users: AuthorisedUsers


@dataclass(frozen=True, repr=False)
class Enrolment:
    """An owner's message to the KMC: its membership, its SKs by key id, and the ids of forgotten SKs."""

    membership: Membership
    image_keys: dict[int, bytes]
    forgotten: frozenset[int]


def write_members(path: Path, sender: Sender, number: int, users: AuthorisedUsers) -> None:
    """Write `members`, replacing an older one."""
    write_whole(path, MEMBERS, sender, number, force=True, **_columns(users))


def write_enrolment(
    path: Path,
    sender: Sender,
    number: int,
    users: AuthorisedUsers,
    image_keys: list[bytes],
    sealing_key: SealingPublicKey,
    forgotten: Collection[int] = (),
) -> None:
    """Write `enrolment`, replacing an older one: AUL, SKs sealed to the KMC, and ids of forgotten SKs."""
    sealed = sender.seal(b"".join(image_keys), sealing_key, "enrolment", str(number))
    columns = {**_columns(users), "sealed_keys": sealed, "forgotten_keys": sorted(forgotten)}
    write_whole(path, ENROLMENT, sender, number, force=True, **columns)


def _columns(users: AuthorisedUsers) -> dict[str, ArrayLike]:
    names, keys = zip(*sorted(users), strict=True) if users else ((), ())
    return {"user_ids": names, "user_keys": b"".join(keys)}


def parse_members(data: bytes, deployment: str, check: Check | None = None) -> Membership:
    """Read and verify `members` from its bytes."""
    with open_source(BytesSource(data), MEMBERS, deployment=deployment, check=check) as container:
        return _read_membership(container)


def read_enrolment(
    path: Path,
    deployment: str,
    sealing_key: SealingKey | SealingKeys,
    check: Check | None = None,
) -> Enrolment:
    """Read and verify `enrolment`."""
    with (
        errors_at(path),
        open_container(path, ENROLMENT, deployment=deployment, check=check) as container,
    ):
        membership = _read_membership(container)
        sealed = container.data("sealed_keys", _SEALED_LIMIT)
        keys = sealing_key.open(sealed, container.header.sealing_info)
        if not keys or len(keys) % KEY_BYTES:
            raise MalformedError("the sealed image keys have an invalid length")
        if len(keys) > KEYS_LIMIT * KEY_BYTES:
            raise MalformedError(
                f"contains more than {KEYS_LIMIT} image keys",
                hint="the owner should forget the keys that no image needs: mipp owner forget-key",
            )
        seeds = [keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)]
        if len(container.matrix("forgotten_keys")) > FORGOTTEN_LIMIT:
            raise MalformedError(f"names more than {FORGOTTEN_LIMIT} forgotten keys")
        forgotten = frozenset(container.whole_numbers("forgotten_keys"))
        return Enrolment(membership, {key_id(seed): seed for seed in seeds}, forgotten)


def _read_membership(container: Container) -> Membership:
    if container.same_length("user_ids", "user_keys") > _USERS_LIMIT:
        raise MalformedError(f"lists more than {_USERS_LIMIT} users")
    names = container.identifiers("user_ids", "a user")
    if len(set(names)) != len(names):
        raise MalformedError("lists a user twice")
    keys = [row.tobytes() for row in container.matrix("user_keys").all()]
    for key in keys:
        check_public_key(key, many=len(keys) > _MANY_KEYS)
    header = container.header
    users = frozenset(zip(names, keys, strict=True))
    return Membership(header.sender, header.sequence_number, header.sender_key, users)
