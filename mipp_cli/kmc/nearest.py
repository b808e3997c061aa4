"""The nearest images of a query among the features that the KMC keeps, block by block (Eq. 7)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mipp_cli.containers.messages.manifest import SearchedOwner
from mipp_cli.containers.messages.query import Query
from mipp_cli.containers.messages.selection import GroupRef
from mipp_cli.errors import MalformedError, MippError
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.kmc.store_index import StoredBlock, StoreIndex
from mipp_cli.log import timed
from mipp_cli.progress import Advance, Progress
from mipp_cli.scheme.nearest import Nearest, squared_distances
from mipp_cli.scheme.protocol import Codes
from mipp_cli.workdir.floors import floor_of


class FoundMatch(NamedTuple):
    """A match: the query image, the group that it lies in, SHA-256 of its name, and the squared distance."""

    query: int
    ref: GroupRef
    name: bytes
    distance: int


class NearestMatches(NamedTuple):
    """What a ranking found: matches by query image and rank, their groups, and what was searched.

    ``sizes`` gives for each group the length of its rows and how many are live.
    """

    matches: list[FoundMatch]
    sizes: Mapping[GroupRef, tuple[int, int]]
    owners: tuple[SearchedOwner, ...]


class _PlacedBlock(NamedTuple):
    """A block of a store, and the id of its first row in this ranking."""

    first: int
    store: FeatureStore
    block: StoredBlock


class _TableError(Exception):
    """Raised when the codes of a block could be ranked, and its table cannot be read."""

    def __init__(self, owner: str, block: StoredBlock):
        super().__init__(owner, block)
        self.block = owner, block


@dataclass
class Collection:
    """The features of the owners who authorised a user; a block that is damaged is left out and told of."""

    kmc: Kmc
    owners: Mapping[str, EnrolledOwner]
    _placed: list[_PlacedBlock] = field(default_factory=list)
    _without: set[tuple[str, StoredBlock]] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)

    @timed("ranking")
    def nearest(self, codes: Codes, query: Query, progress: Progress) -> NearestMatches:
        """Rank: the nearest images of each query image, ``codes`` of shape (u, l)."""
        while True:
            self._failed, self._placed = set(), []
            indexes = {name: self._index(name) for name in self.owners}
            try:
                found = self._nearest(indexes, codes, query, progress)
            except _TableError as error:
                self._without.add(error.block)
                continue
            # what an index lists is removed once another is in force: what failed may be there anew
            if all(self._index(name) == indexes[name] for name in sorted(self._failed)):
                return found

    def _index(self, name: str) -> StoreIndex | None:
        try:
            return FeatureStore.of(self.kmc, self.owners[name]).index()
        except MippError:
            self._failed.add(name)
            return None  # nothing of it can be ranked, and other owners must not suffer

    def _nearest(
        self, indexes: Mapping[str, StoreIndex | None], codes: Codes, query: Query, progress: Progress
    ) -> NearestMatches:
        # nobody knows a query's id before it is made, so no owner can choose which of like rows come first
        pools = [Nearest(query.candidates, f"{query.query_id} {n}".encode()) for n in range(len(codes))]
        total = sum(index.rows for index in indexes.values() if index)
        with progress("ranking", total, "image") as advance:
            owners = [self._rank_owner(name, index, codes, pools, advance) for name, index in indexes.items()]
        nearest = [pool.nearest() for pool in pools]
        rows: dict[int, tuple[GroupRef, bytes]] = {}
        sizes: dict[GroupRef, tuple[int, int]] = {}
        # in order, so that a table is read once
        for row_id in sorted({row_id for found in nearest for _, row_id in found}):
            ref, name, size = self._row(row_id)
            rows[row_id], sizes[ref] = (ref, name), size
        matches = [
            FoundMatch(number, *rows[row_id], distance)
            for number, found in enumerate(nearest)
            for distance, row_id in found
        ]
        return NearestMatches(matches, sizes, tuple(owners))

    def _rank_owner(
        self, name: str, index: StoreIndex | None, codes: Codes, pools: list[Nearest], advance: Advance
    ) -> SearchedOwner:
        """Rank what there is of one owner; rows under keys that are not held are counted alone."""
        if index is None:
            return SearchedOwner(name, 0, unread=True)
        owner, ranked, unranked = self.owners[name], 0, 0
        store = FeatureStore.of(self.kmc, owner)
        damaged: set[int] = set()
        for message in index.messages:
            for block in message.blocks:
                if not block.coded or message.key_id not in owner.image_keys:
                    unranked += block.rows
                    continue
                try:
                    if (name, block) in self._without:
                        raise MalformedError("has a table that is damaged")
                    rows = store.codes(block)
                except MippError:
                    self._failed.add(name)
                    damaged.add(message.number)
                    continue
                last = self._placed[-1] if self._placed else None
                first = last.first + last.block.rows if last else 0
                self._placed.append(_PlacedBlock(first, store, block))
                for pool, query in zip(pools, codes, strict=True):
                    pool.add(squared_distances(query, rows), first)
                ranked += block.rows
                advance(block.rows)
        gaps = tuple(sorted(damaged | _gaps(self.kmc, name, index)))
        return SearchedOwner(name, ranked, unranked=unranked, gaps=gaps)

    def _row(self, row_id: int) -> tuple[GroupRef, bytes, tuple[int, int]]:
        """Return a row's group and name; of the group the length of its rows, and how many there are."""
        place = bisect_right(self._placed, row_id, key=lambda each: each.first) - 1
        first, store, block = self._placed[place]
        try:
            group, number = store.group_of_row(block, row_id - first)
        except MippError as error:
            raise _TableError(store.owner, block) from error
        row = group[number]
        ref = GroupRef(store.owner, block.upload, int(row["group"]))
        return ref, row["name"].tobytes(), (int(row["length"]), len(group))


def _gaps(kmc: Kmc, owner: str, index: StoreIndex) -> set[int]:
    """Return the messages that an owner's newest one lists and that never came."""
    listed = next(index.lists(), (0, frozenset[int]()))[1]
    try:
        removed = floor_of(kmc.directory, owner).removed
    except MippError:
        removed = 0  # what a removal took is named, too, rather than nobody searched
    return {number for number in listed if index.message(number) is None and number > removed}
