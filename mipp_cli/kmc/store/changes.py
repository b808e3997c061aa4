"""The next state of an owner's feature store, as messages make it, in whatever order they come.

For a name, the highest number that mentions it decides: its row is live in that upload, or deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.messages.features import FeatureCipher, FeaturesReader
from mipp_cli.errors import MalformedError
from mipp_cli.kmc.store.index import StoredBlock, StoredMessage, StoreIndex
from mipp_cli.kmc.store.names import NameSet
from mipp_cli.kmc.store.store import TABLE, Codes, Digests, FeatureStore, Table, renewed
from mipp_cli.progress import Progress, silent

_BLOCK_BYTES = 4 << 20
_BLOCK_ROWS = 1 << 16  # of short features, whose tables would be large

Mask = NDArray[np.bool_]


class Standing(NamedTuple):
    """What a message met: which of its names newer messages decide, and how many older rows it takes away."""

    late: Mask
    removed: int


class StoreChange:
    """The next index; what is written for it counts for nothing until the index on the disk lists it.

    Rows leave the blocks only in :meth:`finish`, so that many messages of one run write a block anew once.
    """

    def __init__(self, store: FeatureStore, index: StoreIndex, progress: Progress = silent):
        self.index = replace(index, number=index.number + 1)
        self._store, self._progress = store, progress
        self._stay: dict[tuple[int, int], Mask] = {}  # of blocks that lose rows, which rows stay

    def decide(self, number: int, names: NameSet) -> Standing:
        """Compare the ``names`` of a message with what others say; older rows of these names leave."""
        late, removed = self._late(number, names), 0
        for message, block_number, table in self._store.tables(self._older(number)):
            which, _ = names.find(table["name"])
            stay = self._stay.get((message.number, block_number), np.ones(len(table), dtype=bool))
            which = which[stay[which]]
            if len(which):
                stay[which] = False
                self._stay[message.number, block_number] = stay
                removed += len(which)
        return Standing(late, removed)

    def _late(self, number: int, names: NameSet) -> Mask:
        """Say which of ``names`` messages above ``number`` decide."""
        late = np.zeros(len(names), dtype=bool)
        newer = replace(self.index, messages=tuple(m for m in self.index.messages if m.number > number))
        for message, block_number, table in self._store.tables(newer):
            which, places = names.find(table["name"])
            if (stay := self._stay.get((message.number, block_number))) is not None:
                places = places[stay[which]]
            late[places] = True
        for message in newer.messages:
            if message.deleted:
                late[names.find(self._store.deleted(message))[1]] = True
        return late

    def _older(self, number: int) -> StoreIndex:
        return replace(self.index, messages=tuple(m for m in self.index.messages if m.number < number))

    def add_upload(
        self,
        message: StoredMessage,
        reader: FeaturesReader,
        cipher: FeatureCipher | None,
        earlier: Collection[int],
        late: Mask,
    ) -> None:
        """Store the rows of an upload that no newer message decides; without a cipher, without codes."""
        bounds = _blocks(reader.group_ends, block_rows(self._store.l))
        firsts = np.searchsorted(reader.group_ends, bounds[:-1], side="right").tolist()
        kept = [int(np.count_nonzero(~late[b:e])) for b, e in pairwise(bounds)]
        blocks = zip(kept, firsts, strict=True)
        if any(kept):
            stored = tuple(StoredBlock(rows, self.index.number, first) for rows, first in blocks)
            message = replace(message, blocks=stored, coded=cipher is not None)
        with self._progress("storing features", len(reader), "image") as advance:
            for number, begin, codes, table in _pieces(reader, cipher, bounds):
                if kept[number]:
                    self._write(message, number, codes, table, ~late[begin : begin + len(table)])
                advance(len(table))
        self.index = self.index.with_message(message, earlier)

    def add_deletion(self, message: StoredMessage, names: Digests, earlier: Collection[int]) -> None:
        """Keep the digests of the names, ascending, that a deletion deletes."""
        self._store.write_deleted(message, names)
        self.index = self.index.with_message(message, earlier)

    def repair_upload(
        self,
        message: StoredMessage,
        damaged: Collection[int],
        reader: FeaturesReader,
        cipher: FeatureCipher | None,
    ) -> None:
        """Fill the ``damaged`` blocks of an upload from its file, with the rows that the index says.

        If its key was forgotten meanwhile, there is no cipher, and the other blocks lose their codes, too.
        """
        late = self._late(message.number, NameSet(reader.name_digests))
        ends = reader.group_ends
        firsts = [block.first_group for block in message.blocks]
        if firsts[-1] >= len(ends):
            raise _unlike_index()
        bounds = [0, *(int(ends[first - 1]) for first in firsts[1:]), len(reader)]
        coded = message.coded and cipher is not None
        anew, again = replace(message, coded=coded), []
        for number, block in enumerate(message.blocks):
            if number in damaged:
                stay = ~late[bounds[number] : bounds[number + 1]]
                if np.count_nonzero(stay) != block.rows:
                    raise _unlike_index()
                again.append(number)
            elif block.rows and coded != message.coded:
                again.append(number)
            else:
                continue
            anew = renewed(anew, number, block.rows, self.index.number)
        with self._progress("repairing features", len(reader), "image") as advance:
            for number, begin, codes, table in _pieces(reader, cipher if coded else None, bounds):
                if number in again and number in damaged:
                    self._write(anew, number, codes, table, ~late[begin : begin + len(table)])
                elif number in again:
                    self._store.write_block(anew, number, None, self._store.table(message, number))
                advance(len(table))
        self.index = self.index.with_changed(anew)

    def _write(
        self, message: StoredMessage, block_number: int, codes: Codes | None, table: Table, stay: Mask
    ) -> None:
        if not stay.all():
            codes, table = None if codes is None else codes[stay], table[stay]
        self._store.write_block(message, block_number, codes, table)

    def finish(self) -> None:
        """Write anew what is left of the blocks that lost rows."""
        for (number, block_number), stay in self._stay.items():
            message = self.index.message(number)
            if message is None:
                continue
            rows = int(np.count_nonzero(stay))
            changed = renewed(message, block_number, rows, self.index.number)
            if rows:
                codes = self._store.codes(message, block_number) if message.coded else None
                self._write(changed, block_number, codes, self._store.table(message, block_number), stay)
            elif not changed.rows:
                changed = replace(changed, blocks=(), coded=False)
            self.index = self.index.with_changed(changed)
        self._stay = {}


def block_rows(l: int) -> int:
    """Return how many rows a block has, but for the rest of its last group."""
    return max(1, min(_BLOCK_BYTES // l, _BLOCK_ROWS))


def _blocks(group_ends: NDArray[np.int64], rows: int) -> list[int]:
    """Return where blocks of ``rows`` rows or a few more begin and end: no group lies in two."""
    bounds = [0]
    while bounds[-1] < group_ends[-1]:
        place = min(int(np.searchsorted(group_ends, bounds[-1] + rows)), len(group_ends) - 1)
        bounds.append(int(group_ends[place]))
    return bounds


def _pieces(
    reader: FeaturesReader, cipher: FeatureCipher | None, bounds: list[int]
) -> Iterator[tuple[int, int, Codes | None, Table]]:
    """Yield number, first row, codes and table of each block of a features file, all rows checked."""
    number, rows = 0, bounds[1]
    collected = np.empty((rows, reader.parameters.l), dtype=np.uint8) if cipher else None
    for begin, end, codes in reader.chunks(cipher):
        done = begin
        while done < end:
            upto = min(end, bounds[number + 1])
            if collected is not None and codes is not None:
                first = bounds[number]
                collected[done - first : upto - first] = codes[done - begin : upto - begin]
            done = upto
            if done == bounds[number + 1]:
                yield number, bounds[number], collected, _table(reader, bounds[number], done)
                number += 1
                if collected is not None and number + 1 < len(bounds):
                    rows = bounds[number + 1] - bounds[number]
                    collected = np.empty((rows, reader.parameters.l), dtype=np.uint8)


def _table(reader: FeaturesReader, begin: int, end: int) -> Table:
    table = np.empty(end - begin, dtype=TABLE)
    table["name"] = reader.name_digests[begin:end]
    table["image"] = reader.image_digests(begin, end)
    groups = np.searchsorted(reader.group_ends, np.arange(begin, end), side="right")
    table["group"], table["length"] = groups, reader.group_lengths[groups]
    return table


def _unlike_index() -> MalformedError:
    return MalformedError(
        "holds other images than the KMC's index says are left of it",
        hint="restore the owner's features from a backup, or remove the owner and let it enrol again",
    )
