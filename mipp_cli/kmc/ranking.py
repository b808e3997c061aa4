"""The stored ranking of a query: `rankings/NUMBER.json`, encrypted like keys.

It is written before the selection, so that the same query always selects the same groups. It holds what the
answer is made from: the user, the sealed USK, the groups, and which of their rows match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

from mipp_cli.containers.messages.manifest import SearchedOwner, searched_owner
from mipp_cli.containers.messages.selection import GroupRef, Selection
from mipp_cli.files.folders import is_there
from mipp_cli.workdir.directory import RoleDirectory

RANKINGS_FOLDER = "rankings"


class RankedGroup(NamedTuple):
    """A selected group: its place, length and number of its ciphertexts, SHA-256 of the names that match.

    ``matched`` is sorted, in hex, without duplicates, whichever query images a row matches.
    """

    ref: GroupRef
    length: int
    rows: int
    matched: tuple[str, ...]


class RankedMatch(NamedTuple):
    """A match: the query image, the place of the image in the answer, and the squared distance."""

    query: int
    image: int
    distance: int


@dataclass(frozen=True)
class Ranking:
    """The ranking of a query.

    ``room`` is the number of matches and owners that the answer's manifest has room for; ``left_out`` the
    number of groups left out. ``sealed_usk`` is sealed to ``sealing``.
    """

    number: str
    query_digest: str
    query_id: str
    user: str
    user_key: bytes
    sealed_usk: bytes
    sealing: bytes
    cloud: bytes
    groups: tuple[RankedGroup, ...]
    matches: tuple[RankedMatch, ...]
    owners: tuple[SearchedOwner, ...]
    room: tuple[int, int]
    left_out: int

    @property
    def selection(self) -> Selection:
        """The selection for the cloud."""
        refs = tuple(group.ref for group in self.groups)
        return Selection(self.number, self.cloud, refs, tuple(group.length for group in self.groups))

    @cached_property
    def places(self) -> list[int]:
        """Where the images of each group begin in the answer, then the number of all images."""
        places = [0]
        for group in self.groups:
            places.append(places[-1] + len(group.matched))
        return places


_FIELDS = [field.name for field in fields(Ranking) if field.name != "number"]
_BYTES = [field.name for field in fields(Ranking) if field.type == "bytes"]


def write_ranking(directory: RoleDirectory, ranking: Ranking) -> None:
    """Store a ranking; raises OutputError."""
    content = {name: getattr(ranking, name) for name in _FIELDS}
    content |= {name: content[name].hex() for name in _BYTES}
    content["owners"] = [asdict(owner) for owner in ranking.owners]
    directory.folder(RANKINGS_FOLDER)
    directory.write_json(_name(ranking.number), content)


def read_ranking(directory: RoleDirectory, number: str) -> Ranking | None:
    """Return the ranking stored under the number of a selection; MalformedError if it is damaged."""
    if not is_there(directory.file(_name(number))):
        return None
    hint = "restore it from a backup, or ask the user to make a new query"
    return directory.load(_name(number), lambda content: _ranking(number, content), hint)


def _ranking(number: str, content: Mapping[str, Any]) -> Ranking:
    groups = tuple(
        RankedGroup(GroupRef(*ref), length, rows, tuple(matched))
        for ref, length, rows, matched in content["groups"]
    )
    changes: dict[str, Any] = {name: bytes.fromhex(content[name]) for name in _BYTES}
    changes |= {"groups": groups, "room": tuple(content["room"])}
    changes["matches"] = tuple(RankedMatch(*each) for each in content["matches"])
    changes["owners"] = tuple(map(searched_owner, content["owners"]))
    return Ranking(number, **{**content, **changes})


def _name(number: str) -> str:
    return f"{RANKINGS_FOLDER}/{number}.json"
