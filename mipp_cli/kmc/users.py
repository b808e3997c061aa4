"""Finds the owners who authorised the user of a query."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.manifest import SearchedOwner
from mipp_cli.containers.messages.query import Query
from mipp_cli.errors import ConflictError, MippError, NotAuthorisedError
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc


class Authorising(NamedTuple):
    """The owners who authorised a user, and errors of owners whose records are damaged.

    ``unread`` are those damaged owners that the user is told about: they authorised the user, or the query
    names them.
    """

    owners: Mapping[str, EnrolledOwner]
    damaged: Mapping[str, MippError]
    unread: frozenset[str]


def check_user(kmc: Kmc, header: Header) -> tuple[list[str], dict[str, MippError]]:
    """Return the owners who authorised a user, and errors of owners whose records are damaged.

    Raises NotAuthorisedError if there is none, or the first of these errors.
    """
    names, damaged = kmc.authorising((header.sender, header.sender_key))
    if not names and damaged:
        raise next(iter(damaged.values()))
    if not names:
        raise NotAuthorisedError(
            f"no enrolled owner authorised the user {header.sender!r} with this key",
            hint="the owner must run mipp owner authorize, then the KMC mipp kmc enroll",
        )
    return names, damaged


def authorising_owners(kmc: Kmc, query: Query) -> Authorising:
    """Return the owners who authorised the user of a query; if it names owners, only those.

    Raises NotAuthorisedError if there is none.
    """
    names, found = check_user(kmc, query.header)
    damaged = {name: error for name, error in found.items() if query.names_owner(name)}
    unread = query.owners & damaged.keys()
    owners: dict[str, EnrolledOwner] = {}
    for name in filter(query.names_owner, names):
        try:
            owner = kmc.owner(name)
        except ConflictError:
            raise  # the passphrase changed meanwhile: not damage
        except MippError as error:
            damaged[name] = error
            unread |= {name}
            continue
        if owner is not None:
            owners[name] = owner
    if not owners and damaged:
        raise next(iter(damaged.values()))
    if not owners:
        raise query.no_named_owner(names)
    return Authorising(owners, damaged, unread)


def not_searched(query: Query, searched: Collection[str]) -> tuple[SearchedOwner, ...]:
    """Return the owners named in a query that are not among those ``searched``."""
    return tuple(SearchedOwner(name) for name in sorted(query.owners) if name not in searched)
