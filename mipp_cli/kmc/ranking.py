"""What the KMC remembers of a query that it ranked: `rankings/NUMBER.json`, sealed like keys.

It is in place before the selection is out, so that the same query always selects the same groups, and holds
what the answer is made from: who asked, the sealed USK, the groups, and which of their rows match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

from mipp_cli.containers.messages.manifest import SearchedOwner, searched_owner
from mipp_cli.containers.messages.selection import GroupRef, Selection
from mipp_cli.workdir.directory import RoleDirectory

RANKINGS_FOLDER = "rankings"


class RankedGroup(NamedTuple):
    """A selected group: where it is, length and number of its ciphertexts, SHA-256 of the names that match.

    ``matched`` is ascending, in hex, each once, whichever query images it matches.
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
    """A query as it was ranked.

    ``room`` says for how many matches and owners the answer's manifest has room; ``left_out`` how many groups
    were left out. ``sealed_usk`` was sealed under ``sealing``.
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
        """What the cloud is asked for."""
        refs = tuple(group.ref for group in self.groups)
        return Selection(self.number, self.cloud, refs, tuple(group.length for group in self.groups))

    @cached_property
    def places(self) -> list[int]:
        """At which place of the answer the images of each group begin, and the number of all images."""
        places = [0]
        for group in self.groups:
            places.append(places[-1] + len(group.matched))
        return places


_FIELDS = [field.name for field in fields(Ranking) if field.name != "number"]
_BYTES = [field.name for field in fields(Ranking) if field.type == "bytes"]


def write_ranking(directory: RoleDirectory, ranking: Ranking) -> None:
    """Remember a ranking; raises OutputError."""
    content = {name: getattr(ranking, name) for name in _FIELDS}
    content |= {name: content[name].hex() for name in _BYTES}
    content["owners"] = [asdict(owner) for owner in ranking.owners]
    directory.folder(RANKINGS_FOLDER)
    directory.write_json(_name(ranking.number), content)


def read_ranking(directory: RoleDirectory, number: str) -> Ranking | None:
    """Return what was remembered under the number of a selection; MalformedError if it is damaged."""
    if not directory.file(_name(number)).exists():
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
