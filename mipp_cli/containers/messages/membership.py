"""`members` (owner → cloud) and `enrolment` (owner → KMC): who may search an owner's images."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import (
    Container,
    ContainerWriter,
    Schema,
    Sender,
    open_container,
    open_source,
    write_container,
)
from mipp_cli.containers.base.header import IDENTIFIER, Header
from mipp_cli.containers.base.sealed import seal_to_kmc, sealing_info
from mipp_cli.containers.base.source import BytesSource
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
    """An owner's word on who may search: OID, sequence number, the owner's key, AUL as (UID, AK)."""

    owner: str
    number: int
    key: bytes
    users: AuthorisedUsers


@dataclass(frozen=True, repr=False)
class Enrolment:
    """What an owner tells the KMC: its membership, its SKs by key id, and the ids of those it forgot."""

    membership: Membership
    image_keys: dict[int, bytes]
    forgotten: frozenset[int]


def write_members(path: Path, sender: Sender, number: int, users: AuthorisedUsers) -> None:
    """Write `members`, replacing an older one."""
    with write_container(path, MEMBERS, sender, number, force=True) as writer:
        _write_users(writer, users)


def write_enrolment(
    path: Path,
    sender: Sender,
    number: int,
    users: AuthorisedUsers,
    image_keys: list[bytes],
    sealing_key: SealingPublicKey,
    forgotten: Collection[int] = (),
) -> None:
    """Write `enrolment`, replacing an older one: AUL, SKs, sealed to the KMC, and ids of forgotten SKs."""
    sealed = seal_to_kmc(b"".join(image_keys), sealing_key, "enrolment", sender, str(number))
    with write_container(path, ENROLMENT, sender, number, force=True) as writer:
        _write_users(writer, users)
        writer.matrix("sealed_keys").append(np.frombuffer(sealed, dtype=np.uint8))
        writer.matrix("forgotten_keys").append(np.array(sorted(forgotten), dtype=np.uint64))


def _write_users(writer: ContainerWriter, users: AuthorisedUsers) -> None:
    for name, key in sorted(users):
        writer.ragged("user_ids").append(name.encode("ascii"))
        writer.matrix("user_keys").append(np.frombuffer(key, dtype=np.uint8).reshape(1, 32))


def parse_members(
    data: bytes, deployment: str, check: Callable[[Header], object] | None = None
) -> Membership:
    """Read and verify `members` from its bytes."""
    with open_source(BytesSource(data), MEMBERS, deployment=deployment, check=check) as container:
        return _read_membership(container)


def read_enrolment(
    path: Path,
    deployment: str,
    sealing_key: SealingKey | SealingKeys,
    check: Callable[[Header], object] | None = None,
) -> Enrolment:
    """Read and verify `enrolment`."""
    with (
        errors_at(path),
        open_container(path, ENROLMENT, deployment=deployment, check=check) as container,
    ):
        membership = _read_membership(container)
        sealed = container.data("sealed_keys", _SEALED_LIMIT)
        keys = sealing_key.open(sealed, sealing_info(container.header))
        if not keys or len(keys) % KEY_BYTES:
            raise MalformedError("the sealed image keys have an impossible length")
        if len(keys) > KEYS_LIMIT * KEY_BYTES:
            raise MalformedError(
                f"holds more than {KEYS_LIMIT} image keys",
                hint="the owner forgets those that no image needs: mipp owner forget-key",
            )
        seeds = [keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)]
        if len(container.matrix("forgotten_keys")) > FORGOTTEN_LIMIT:
            raise MalformedError(f"names more than {FORGOTTEN_LIMIT} forgotten keys")
        forgotten = frozenset(container.matrix("forgotten_keys").all().tolist())
        return Enrolment(membership, {key_id(seed): seed for seed in seeds}, forgotten)


def _read_membership(container: Container) -> Membership:
    if container.same_length("user_ids", "user_keys") > _USERS_LIMIT:
        raise MalformedError(f"lists more than {_USERS_LIMIT} users")
    names = container.ragged("user_ids").texts()
    if not all(IDENTIFIER.fullmatch(name) for name in names) or len(set(names)) != len(names):
        raise MalformedError("lists a user by an identifier that is not one, or twice")
    keys = [row.tobytes() for row in container.matrix("user_keys").all()]
    for key in keys:
        check_public_key(key, many=len(keys) > _MANY_KEYS)
    header = container.header
    users = frozenset(zip(names, keys, strict=True))
    return Membership(header.sender, header.sequence_number, header.sender_key, users)
