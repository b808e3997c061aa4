"""Finds the nearest images of a query among the features stored at the KMC, block by block (Eq. 7)."""

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
    """A match: the query image, the match's group, SHA-256 of its name, and the squared distance."""

    query: int
    ref: GroupRef
    name: bytes
    distance: int


class NearestMatches(NamedTuple):
    """The result of a ranking: matches by query image and rank, their groups, and what was searched.

    ``sizes`` has, for each group, the length of its rows and the number of live ones.
    """

    matches: list[FoundMatch]
    sizes: Mapping[GroupRef, tuple[int, int]]
    owners: tuple[SearchedOwner, ...]


class _PlacedBlock(NamedTuple):
    """A block of a store, with the id of its first row in this ranking."""

    first: int
    store: FeatureStore
    block: StoredBlock


class _TableError(Exception):
    """Raised when the codes of a block could be ranked but its table cannot be read."""

    def __init__(self, owner: str, block: StoredBlock):
        super().__init__(owner, block)
        self.block = owner, block


@dataclass
class Collection:
    """The features of the owners who authorised a user; damaged blocks are left out and reported."""

    kmc: Kmc
    owners: Mapping[str, EnrolledOwner]
    _placed: list[_PlacedBlock] = field(default_factory=list)
    _without: set[tuple[str, StoredBlock]] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)

    @timed("ranking")
    def nearest(self, codes: Codes, query: Query, progress: Progress) -> NearestMatches:
        """Return the nearest images of each query image, ``codes`` of shape (u, l)."""
        while True:
            self._failed, self._placed = set(), []
            indexes = {name: self._index(name) for name in self.owners}
            try:
                found = self._nearest(indexes, codes, query, progress)
            except _TableError as error:
                self._without.add(error.block)
                continue
            # the index may have been replaced meanwhile and its files removed: try the new one
            if all(self._index(name) == indexes[name] for name in sorted(self._failed)):
                return found

    def _index(self, name: str) -> StoreIndex | None:
        try:
            return FeatureStore.of(self.kmc, self.owners[name]).index()
        except MippError:
            self._failed.add(name)
            return None  # skip this owner; the others can still be ranked

    def _nearest(
        self, indexes: Mapping[str, StoreIndex | None], codes: Codes, query: Query, progress: Progress
    ) -> NearestMatches:
        # a query's id is unpredictable, so no owner can choose which of equally distant rows comes first
        pools = [Nearest(query.candidates, f"{query.query_id} {n}".encode()) for n in range(len(codes))]
        total = sum(index.rows for index in indexes.values() if index)
        with progress("ranking", total, "image") as advance:
            owners = [self._rank_owner(name, index, codes, pools, advance) for name, index in indexes.items()]
        nearest = [pool.nearest() for pool in pools]
        rows: dict[int, tuple[GroupRef, bytes]] = {}
        sizes: dict[GroupRef, tuple[int, int]] = {}
        # sorted, so that each table is read once
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
        """Rank the rows of one owner; rows under keys that the KMC lacks are only counted."""
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
        """Return a row's group and name, and the length and number of the group's rows."""
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
    """Return the messages listed in an owner's newest one that have not arrived."""
    listed = next(index.lists(), (0, frozenset[int]()))[1]
    try:
        removed = floor_of(kmc.directory, owner).removed
    except MippError:
        removed = 0  # report messages dropped by a removal, too, rather than fail
    return {number for number in listed if index.message(number) is None and number > removed}
