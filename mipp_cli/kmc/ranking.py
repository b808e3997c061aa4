"""What the KMC remembers of a query that it ranked: `rankings/NUMBER.json`, sealed like keys.

It is in place before the selection is out, so that the same query always selects the same groups, and holds
what the answer is made from: who asked, the sealed USK, the groups, and which of their rows match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.manifest import SearchedOwner
from mipp_cli.containers.messages.query import Query
from mipp_cli.containers.messages.selection import GroupRef, Selection
from mipp_cli.errors import MalformedError
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.secret_keys import KEY_BYTES, derive_key
from mipp_cli.workdir.directory import RoleDirectory

RANKINGS_FOLDER = "rankings"
_NUMBER_BYTES = 16
_LEAST_ROOM = 16


@dataclass(frozen=True)
class RankedGroup:
    """A selected group: where it is, length and number of its ciphertexts, SHA-256 of the names that match.

    ``matched`` is ascending, each once, whichever query images it matches.
    """

    ref: GroupRef
    length: int
    rows: int
    matched: tuple[bytes, ...]


@dataclass(frozen=True)
class RankedMatch:
    """A match: the query image, the places of the group and of the name in it, and the squared distance."""

    query: int
    group: int
    name: int
    distance: int


@dataclass(frozen=True)
class Ranking:
    """A query as it was ranked.

    ``room`` says for how many matches and owners the answer's manifest has room; ``left_out`` how many groups
    were left out. ``sealed_usk`` was sealed under ``sealing_info``.
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

    @property
    def bytes_to_bring(self) -> int:
        """How much the cloud will bring."""
        return sum(group.length * group.rows for group in self.groups)

    @cached_property
    def places(self) -> list[int]:
        """At which place of the answer the images of each group begin, and the number of all images."""
        places = [0]
        for group in self.groups:
            places.append(places[-1] + len(group.matched))
        return places

    def open_usk(self, kmc: Kmc) -> bytes:
        """Return USK; raises MalformedError or WrongDeploymentError."""
        usk = kmc.sealing_keys.open(self.sealed_usk, self.sealing)
        if len(usk) != KEY_BYTES:
            raise MalformedError("the sealed part of the query has an impossible length")
        return usk

    def to_json(self) -> dict[str, Any]:
        """Return the ranking as JSON fields."""
        return {
            "query_digest": self.query_digest,
            "query_id": self.query_id,
            "user": self.user,
            "user_key": self.user_key.hex(),
            "sealed_usk": self.sealed_usk.hex(),
            "sealing": self.sealing.hex(),
            "cloud": self.cloud.hex(),
            "groups": [[*g.ref, g.length, g.rows, [name.hex() for name in g.matched]] for g in self.groups],
            "matches": [[m.query, m.group, m.name, m.distance] for m in self.matches],
            "owners": [asdict(owner) for owner in self.owners],
            "room": list(self.room),
            "left_out": self.left_out,
        }

    @classmethod
    def from_json(cls, number: str, fields: Mapping[str, Any]) -> Ranking:
        """Read what :meth:`to_json` gave; KeyError, ValueError, TypeError or the like if it is damaged."""
        groups = tuple(
            RankedGroup(
                GroupRef(owner, int(upload), int(group)),
                int(length),
                int(rows),
                tuple(map(bytes.fromhex, names)),
            )
            for owner, upload, group, length, rows, names in fields["groups"]
        )
        matches = tuple(RankedMatch(*map(int, match)) for match in fields["matches"])
        if any(not 0 <= match.name < len(groups[match.group].matched) for match in matches):
            raise ValueError("a match is of no image")
        owners = tuple(
            SearchedOwner(**{**each, "uploads": tuple(each["uploads"]), "gaps": tuple(each["gaps"])})
            for each in fields["owners"]
        )
        matches_room, owners_room = map(int, fields["room"])
        return cls(
            number,
            str(fields["query_digest"]),
            str(fields["query_id"]),
            str(fields["user"]),
            bytes.fromhex(fields["user_key"]),
            bytes.fromhex(fields["sealed_usk"]),
            bytes.fromhex(fields["sealing"]),
            bytes.fromhex(fields["cloud"]),
            groups,
            matches,
            owners,
            (matches_room, owners_room),
            int(fields["left_out"]),
        )


def ranking_number(kmc: Kmc, header: Header) -> str:
    """Return the number of a query's selection: 128 bits that only this KMC can tell from random ones.

    The same query has the same, so that a second run finds what the first remembered.
    """
    place = length_prefixed(header.sender, header.sender_key, header.number)
    return derive_key(kmc.directory.secret("signing"), "mipp/1 selection", place)[:_NUMBER_BYTES].hex()


def ranking_file(directory: RoleDirectory, number: str) -> Path:
    """Return where the ranking of a selection is kept."""
    return directory.file(_name(number))


def read_ranking(directory: RoleDirectory, number: str) -> Ranking | None:
    """Return what was remembered under the number of a selection; MalformedError if it is damaged."""
    if not ranking_file(directory, number).exists():
        return None
    fields = directory.read_json(_name(number))
    try:
        return Ranking.from_json(number, fields)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, MalformedError):
        raise MalformedError(
            "is damaged",
            path=ranking_file(directory, number),
            hint="restore it from a backup, or ask the user to make a new query",
        ) from None


def write_ranking(directory: RoleDirectory, ranking: Ranking) -> None:
    """Remember a ranking; raises OutputError."""
    directory.folder(RANKINGS_FOLDER)
    directory.write_json(_name(ranking.number), ranking.to_json())


def room_for(query: Query, owners: int) -> tuple[int, int]:
    """Return for how many matches and owners an answer has room: what the cloud sees must say no more."""
    room = _LEAST_ROOM
    while room < owners:
        room *= 2
    return query.images * query.candidates, room


def sealing_of(query: Query) -> bytes:
    """Return what the sealed USK of a query is bound to."""
    return query.header.sealing_info


def _name(number: str) -> str:
    return f"{RANKINGS_FOLDER}/{number}.json"
