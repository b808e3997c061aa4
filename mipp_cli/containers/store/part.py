"""`part`: rows of Table 2 of one owner, sorted so that a search reads only the rows that it returns.

It has the distinct pairs (Σx, Σx²) in ascending order with their numbers of images and, for each image,
sorted by pair and id, its id and its row in the segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.columns import Matrix
from mipp_cli.containers.base.container import Container, Schema
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.retrieval_index import (
    ID,
    ID_BYTES,
    Ids,
    PairTable,
    Places,
    Rows,
    Table,
    among,
    keys_of,
    merged,
)

_PAIRS = ("pair_sum1", "pair_sum2", "pair_counts")
PART = Schema(
    "part",
    {**dict.fromkeys(_PAIRS, Matrix("<u4")), "ids": Matrix("u1", ID_BYTES), "rows": Matrix("<u4")},
)
ROWS_LIMIT = 2**32 - 1
_BATCH = 1 << 16
_NONE = np.empty(0, dtype=np.int64)


def write_part(
    path: Path,
    sender: Sender,
    number: int,
    tables: Sequence[Table],
    gone: Sequence[Places] = (),
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a `part` of the rows of some tables, without the images ``gone`` of each, ascending.

    Images of a later table are numbered after those of an earlier one. ``advance`` is called with the number
    of images written.
    """
    gone = gone or [_NONE] * len(tables)
    pairs, counts = [np.empty(0, dtype=np.uint64)], [_NONE]
    with write_container(path, PART, sender, number, force=True) as writer:
        for batch in merged(tables, gone):
            writer.matrix("ids").append(batch.ids.view(np.uint8).reshape(-1, ID_BYTES))
            writer.matrix("rows").append(batch.images)
            found, times = np.unique(batch.pairs, return_counts=True)
            pairs.append(found)
            counts.append(times)
            advance(len(batch))
        # the rows of a pair may continue in the next batch
        every_pair, place = np.unique(np.concatenate(pairs), return_inverse=True)
        count = np.zeros(len(every_pair), dtype=np.int64)
        np.add.at(count, place, np.concatenate(counts))
        for name, values in zip(_PAIRS, (*np.divmod(every_pair, 2**32), count), strict=True):
            writer.matrix(name).append(values)


@dataclass(frozen=True)
class PartReader:
    """An open part; each block is checked when it is read."""

    container: Container
    pairs: PairTable

    def __len__(self) -> int:
        return self.pairs.rows

    def ids(self, begin: int, end: int) -> Ids:
        """Return the ids of rows ``begin`` to ``end``, exclusive."""
        return np.ascontiguousarray(self.container.matrix("ids").rows(begin, end)).view(ID).reshape(-1)

    def images(self, begin: int, end: int) -> Places:
        """Return the images of these rows."""
        return self.container.matrix("rows").rows(begin, end).astype(np.int64)

    def read(self, begin: int, end: int) -> Rows:
        """Return these rows."""
        pair = np.searchsorted(self.pairs.starts, np.arange(begin, end, dtype=np.uint64), side="right") - 1
        keys = keys_of(self.pairs.sum1[pair], self.pairs.sum2[pair], self.ids(begin, end))
        return Rows(keys, self.images(begin, end))

    def batches(self) -> Iterator[Rows]:
        """Yield all rows in batches."""
        for begin in range(0, len(self), _BATCH):
            yield self.read(begin, min(begin + _BATCH, len(self)))

    def find(self, ids: Ids) -> tuple[Ids, Places]:
        """Return those of ``ids``, ascending, that the part contains, and their images."""
        found, images = [ids[:0]], [_NONE]
        for begin in range(0, len(self), _BATCH):
            end = min(begin + _BATCH, len(self))
            here = self.ids(begin, end)
            hits = among(here, ids)
            if hits.any():
                found.append(here[hits])
                images.append(self.images(begin, end)[hits])
        return np.concatenate(found), np.concatenate(images)


def read_part(container: Container) -> PartReader:
    """Return the reader of an open part after reading its pairs; raises MalformedError."""
    container.same_length(*_PAIRS)
    sum1, sum2, counts = (container.matrix(name).all().astype(np.uint64) for name in _PAIRS)
    pairs = PairTable(sum1, sum2, np.append(np.uint64(0), np.cumsum(counts, dtype=np.uint64)))
    if pairs.rows != container.same_length("ids", "rows"):
        raise MalformedError("the counts of the pairs do not match the number of rows")
    return PartReader(container, pairs)
