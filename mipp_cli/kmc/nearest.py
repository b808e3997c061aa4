"""The nearest images of a query among the features that the KMC keeps, block by block (Eq. 7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.messages.manifest import SearchedOwner
from mipp_cli.containers.messages.query import Query
from mipp_cli.containers.messages.selection import GroupRef
from mipp_cli.errors import MalformedError, MippError
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.ranking import RankedGroup
from mipp_cli.kmc.store.index import StoredMessage, StoreIndex
from mipp_cli.kmc.store.store import PAGE_ROWS, TABLE, FeatureStore, Table, pages_of
from mipp_cli.progress import Advance, Progress
from mipp_cli.scheme.nearest import Nearest, squared_distances
from mipp_cli.scheme.protocol import Codes
from mipp_cli.workdir.floors import floor_of

_BlockId = tuple[str, int, int, int]


class FoundMatch(NamedTuple):
    """A match: the query image, the group that it lies in, SHA-256 of its name, and the squared distance."""

    query: int
    ref: GroupRef
    name: bytes
    distance: int


@dataclass(frozen=True)
class NearestMatches:
    """What a ranking found: matches by query image and rank, their groups, and what was searched.

    ``sizes`` gives for each group the length of its rows and how many are live.
    """

    matches: tuple[FoundMatch, ...]
    sizes: Mapping[GroupRef, tuple[int, int]]
    owners: tuple[SearchedOwner, ...]

    def also(self, owners: Iterable[SearchedOwner]) -> NearestMatches:
        """Return the same with more owners of whom nothing could be searched."""
        return replace(self, owners=(*self.owners, *owners))

    def within(self, limit: int) -> tuple[tuple[RankedGroup, ...], int]:
        """Return the groups as they are selected, and how many of the largest were left out.

        What is left is no more than ``limit`` bytes together.
        """
        names: defaultdict[GroupRef, set[bytes]] = defaultdict(set)
        for match in self.matches:
            names[match.ref].add(match.name)
        size = {ref: length * rows for ref, (length, rows) in self.sizes.items()}
        kept, total = dict(self.sizes), sum(size.values())
        for ref in sorted(size, key=lambda each: (-size[each], each)):
            if total <= limit:
                break
            total -= size[ref]
            del kept[ref]
        groups = (RankedGroup(ref, *kept[ref], tuple(sorted(names[ref]))) for ref in sorted(kept))
        return tuple(groups), len(size) - len(kept)


class _Block(NamedTuple):
    """A block of a store, and the id of its first row in this ranking."""

    first: int
    store: FeatureStore
    message: StoredMessage
    number: int


@dataclass
class Collection:
    """The features of the owners who authorised a user; a block that is damaged is left out and told of."""

    kmc: Kmc
    owners: Mapping[str, EnrolledOwner]
    _blocks: list[_Block] = field(default_factory=list)
    _without: set[_BlockId] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)

    def nearest(self, codes: Codes, query: Query, progress: Progress) -> NearestMatches:
        """Rank: the nearest images of each query image, ``codes`` of shape (u, l)."""
        while True:
            self._failed = set()
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
        self._blocks = []
        total = sum(index.rows for index in indexes.values() if index)
        with progress("ranking", total, "image") as advance:
            owners = [self._rank_owner(name, index, codes, pools, advance) for name, index in indexes.items()]
        matches: list[FoundMatch] = []
        firsts = np.array([block.first for block in self._blocks], dtype=np.int64)
        tables = _Tables(self._blocks, firsts)
        nearest = [pool.nearest() for pool in pools]
        ids = sorted({row_id for found in nearest for _, row_id in found})
        rows = {row_id: tables.row(row_id) for row_id in ids}  # in order, so that a table is read once
        for number, found in enumerate(nearest):
            matches += [FoundMatch(number, rows[i].ref, rows[i].name, distance) for distance, i in found]
        sizes = {row.ref: (row.length, row.mates) for row in rows.values()}
        return NearestMatches(tuple(matches), sizes, tuple(owners))

    def _rank_owner(
        self,
        name: str,
        index: StoreIndex | None,
        codes: Codes,
        pools: list[Nearest],
        advance: Advance,
    ) -> SearchedOwner:
        """Rank what there is of one owner; rows under keys that are not held are counted alone."""
        if index is None:
            return SearchedOwner(name, 0, unread=True)
        owner = self.owners[name]
        store = FeatureStore.of(self.kmc, owner)
        buffer = store.buffer(index)
        ranked = unranked = 0
        damaged: set[int] = set()
        for message in index.uploads:
            if not message.coded or message.key_id not in owner.image_keys:
                unranked += message.rows
                continue
            for number, block in enumerate(message.blocks):
                try:
                    if _block_id(name, message, number) in self._without:
                        raise MalformedError("has a table that is damaged")
                    rows = store.codes(message, number, buffer)
                except MippError:
                    self._failed.add(name)
                    damaged.add(message.number)
                    continue
                self._add(store, message, number, rows, codes, pools)
                ranked += block.rows
                advance(block.rows)
        gaps = tuple(sorted(damaged | _gaps(self.kmc, name, index)))
        return SearchedOwner(name, ranked, unranked=unranked, gaps=gaps)

    def _add(
        self,
        store: FeatureStore,
        message: StoredMessage,
        number: int,
        rows: Codes,
        codes: Codes,
        pools: list[Nearest],
    ) -> None:
        last = self._blocks[-1] if self._blocks else None
        first = last.first + last.message.blocks[last.number].rows if last else 0
        self._blocks.append(_Block(first, store, message, number))
        for pool, query in zip(pools, codes, strict=True):
            pool.add(squared_distances(query, rows), first)


def _gaps(kmc: Kmc, owner: str, index: StoreIndex) -> set[int]:
    """Return the messages that an owner's newest one lists and that never came."""
    listed = next(index.lists(), (0, frozenset[int]()))[1]
    try:
        removed = floor_of(kmc.directory, owner).removed
    except MippError:
        removed = 0  # what a removal took is named, too, rather than nobody searched
    return {number for number in listed if index.message(number) is None and number > removed}


def _block_id(owner: str, message: StoredMessage, number: int) -> _BlockId:
    """Return what tells a block from all others, and from itself as a newer index writes it."""
    return owner, message.number, number, message.blocks[number].generation


class _RankedRow(NamedTuple):
    """A row that matches: its group, its name, the length of the group's rows, and how many there are."""

    ref: GroupRef
    name: bytes
    length: int
    mates: int


class _TableError(Exception):
    """Raised when the codes of a block could be ranked, and its table cannot be read."""

    def __init__(self, block: _BlockId):
        super().__init__(block)
        self.block = block


class _Tables:
    """The tables of the blocks that matches lie in, the piece used last at hand."""

    def __init__(self, blocks: list[_Block], firsts: NDArray[np.int64]):
        self._blocks, self._firsts = blocks, firsts
        self._at_hand: tuple[int, int, int] | None = None  # a block, and of its table the pages at hand
        self._table = np.empty(0, dtype=TABLE)

    def _around(self, place: int, row: int) -> tuple[int, Table]:
        """Return a piece of a block's table that holds all of the group of ``row``, and where it begins."""
        block = self._blocks[place]
        pages = pages_of(block.message.blocks[block.number].rows)
        if self._at_hand is None or self._at_hand[0] != place:
            self._read(place, row // PAGE_ROWS, row // PAGE_ROWS + 1)
        while True:
            _, begin, end = self._at_hand or (place, 0, 0)
            first, groups = begin * PAGE_ROWS, self._table["group"]
            if not first <= row < first + len(groups):
                self._read(place, row // PAGE_ROWS, row // PAGE_ROWS + 1)
            elif begin and groups[row - first] == groups[0]:
                self._read(place, begin - 1, end)
            elif end < pages and groups[row - first] == groups[-1]:
                self._read(place, begin, end + 1)
            else:
                return first, self._table

    def _read(self, place: int, begin: int, end: int) -> None:
        if self._at_hand == (place, begin, end):
            return
        block = self._blocks[place]
        try:
            self._table = block.store.pages(block.message, block.number, begin, end)
        except MippError as error:
            raise _TableError(_block_id(block.store.owner, block.message, block.number)) from error
        self._at_hand = place, begin, end

    def row(self, row_id: int) -> _RankedRow:
        """Return a row by its id in this ranking."""
        place = int(np.searchsorted(self._firsts, row_id, side="right")) - 1
        block = self._blocks[place]
        first, table = self._around(place, row_id - block.first)
        row = table[row_id - block.first - first]
        begin, end = np.searchsorted(table["group"], (row["group"], row["group"] + 1)).tolist()
        ref = GroupRef(block.store.owner, block.message.number, int(row["group"]))
        return _RankedRow(ref, row["name"].tobytes(), int(row["length"]), end - begin)
