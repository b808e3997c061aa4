"""Authorise users to search an owner's images, and revoke them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mipp_cli.containers.messages.membership import AuthorisedUsers
from mipp_cli.containers.messages.public_files import Party, load_party
from mipp_cli.errors import ConflictError, InvalidRequestError
from mipp_cli.owner.owner import NOT_IN_FORCE, Owner
from mipp_cli.report import Report
from mipp_cli.workdir.fingerprints import check_fingerprints


def authorize_users(path: Path, files: Sequence[Path], *, fingerprints: Sequence[str] = ()) -> Report:
    """Add users to the list of authorised users (AUL) and rewrite enrolment.h5 and members.h5."""
    owner = Owner.open(path)
    with owner.directory.lock():
        deployment = owner.directory.deployment
        parties = {each: load_party(each, "user", deployment.fingerprint) for each in files}
        shown = check_fingerprints({each: party.fingerprint for each, party in parties.items()}, fingerprints)
        users = with_users(owner.users, parties)
        outputs = owner.write_membership(users)
    return owner.report(outputs, {"users": len(users)}, NOT_IN_FORCE, shown=shown)


def revoke_users(path: Path, names: Sequence[str]) -> Report:
    """Remove users from the AUL and rewrite enrolment.h5 and members.h5."""
    owner = Owner.open(path)
    with owner.directory.lock():
        known = {name for name, _ in owner.users}
        for name in names:
            if name not in known:
                raise InvalidRequestError(
                    f"the user {name!r} is not authorised",
                    path=path,
                    hint="authorised users: " + (", ".join(sorted(known)) or "none"),
                )
        users = frozenset(user for user in owner.users if user[0] not in names)
        outputs = owner.write_membership(users)
    return owner.report(outputs, {"users": len(users)}, NOT_IN_FORCE)


def with_users(users: AuthorisedUsers, parties: Mapping[Path, Party]) -> AuthorisedUsers:
    """Return ``users`` plus the users of public files; raises ConflictError for one name with two keys."""
    keys = dict(users)
    for file, party in parties.items():
        if keys.setdefault(party.name, party.key) != party.key:
            raise ConflictError(
                f"the user {party.name!r} is authorised with another key",
                path=file,
                hint="if the user made new keys, revoke the old ones first",
            )
    return frozenset(keys.items())
