"""IndexConstruct and ImageRetrieval: Table 2 of the paper, and its nearest rows (sections 5.5, 5.6).

Sim depends on the sums alone, so it is evaluated once per distinct pair (Σx, Σx²). The table is sorted by
pair, and within a pair by the digest of the image's name, which also breaks ties.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipp_cli.errors import MalformedError
from mipp_cli.scheme.similarity import sim_numerators

ID_BYTES = 16
ID = np.dtype(f"S{ID_BYTES}")
_KEY = np.dtype(f"S{8 + ID_BYTES}")
_BATCH = 1 << 16

Ids = NDArray[np.bytes_]
Keys = NDArray[np.bytes_]
Places = NDArray[np.int64]


def ids_of(names: Iterable[bytes]) -> Ids:
    """Return the ids of an owner's images: the first 16 bytes of the SHA-256 of each name."""
    digests = b"".join(hashlib.sha256(name).digest()[:ID_BYTES] for name in names)
    return np.frombuffer(digests, dtype=ID)


def among(ids: Ids, known: Ids) -> NDArray[np.bool_]:
    """Return for each of ``ids`` whether it is in ``known``, which is sorted."""
    if not len(known):
        return np.zeros(len(ids), dtype=bool)
    found: NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, ids), len(known) - 1)] == ids
    return found


def check_sums(sum1: int, sum2: int, l: int, levels: int) -> None:
    """Raise MalformedError for sums that no feature of ``l`` codes below ``levels`` can have."""
    possible = (
        0 <= sum1 <= l * (levels - 1)
        and sum1 <= sum2 <= (levels - 1) * sum1
        and sum1 * sum1 <= l * sum2
        and (sum1 - sum2) % 2 == 0  # x² − x is even
    )
    if not possible:
        raise MalformedError(
            f"no feature can have the sums Σx = {_short(sum1)} and Σx² = {_short(sum2)}",
            hint="ask the sender for a new file: its features are forged, or under another modulus",
        )


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**15 else f"a number of {value.bit_length()} bits"


@dataclass(frozen=True)
class PairTable:
    """The distinct pairs (Σx, Σx²) of a table, ascending, and where the rows of each begin.

    ``sum1`` and ``sum2`` have shape (pairs,), uint64; ``starts`` has shape (pairs + 1,), uint64. The rows of
    pair i are starts[i] … starts[i+1] − 1 of the sorted table.
    """

    sum1: NDArray[np.uint64]
    sum2: NDArray[np.uint64]
    starts: NDArray[np.uint64]

    def __post_init__(self) -> None:
        pairs = len(self.sum1)
        if len(self.sum2) != pairs or len(self.starts) != pairs + 1:
            raise MalformedError("the columns of the index have different lengths")
        if self.starts[0] != 0 or (self.starts[1:] <= self.starts[:-1]).any():
            raise MalformedError("the rows of the index are not sorted")

    @property
    def rows(self) -> int:
        """How many rows the table has."""
        return int(self.starts[-1])


def keys_of(sum1: ArrayLike, sum2: ArrayLike, ids: Ids) -> Keys:
    """Return the sort keys of images: Σx and Σx², four bytes each, big-endian, then the id."""
    sums = np.stack([sum1, sum2], axis=1).astype(">u4", order="C")
    columns = (sums.view(np.uint8), ids.view(np.uint8).reshape(-1, ID_BYTES))
    return np.concatenate(columns, axis=1).view(_KEY).reshape(-1)


@dataclass(frozen=True)
class Rows:
    """Rows of Table 2: the sort key of each (:func:`keys_of`), and the number of its image, from 0."""

    keys: Keys
    images: Places

    def __len__(self) -> int:
        return len(self.images)

    def read(self, begin: int, end: int) -> Rows:
        """Return the rows ``begin`` to ``end`` (exclusive)."""
        return self.take(slice(begin, end))

    def take(self, chosen: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Rows:
        """Return the rows ``chosen``: a slice, row numbers or a boolean mask."""
        return Rows(self.keys[chosen], self.images[chosen])

    @property
    def pairs(self) -> NDArray[np.uint64]:
        """Σx · 2^32 + Σx² of each row."""
        return self._bytes[:, :8].copy().view(">u8").reshape(-1).astype(np.uint64)

    @property
    def ids(self) -> Ids:
        """The id of each row."""
        return self._bytes[:, 8:].copy().view(ID).reshape(-1)

    @property
    def _bytes(self) -> NDArray[np.uint8]:
        return self.keys.view(np.uint8).reshape(-1, ID_BYTES + 8)


class Table(Protocol):
    """Sorted rows, in memory or in a file."""

    def __len__(self) -> int: ...

    def read(self, begin: int, end: int) -> Rows:
        """Return the rows ``begin`` to ``end`` (exclusive)."""


def index_construct(sum1: ArrayLike, sum2: ArrayLike, ids: Ids) -> Rows:
    """IndexConstruct: the rows of Table 2, sorted."""
    keys = keys_of(sum1, sum2, ids)
    order = np.argsort(keys, kind="stable")
    return Rows(keys[order], order)


def merged(tables: Sequence[Table], gone: Sequence[Places]) -> Iterator[Rows]:
    """Yield the sorted rows of several tables as one table, batch by batch.

    ``gone`` gives, per table, the images to leave out, ascending; the others are renumbered through all
    tables.
    """
    begins, sizes = [0] * len(tables), [len(table) for table in tables]
    bases = [*accumulate((size - len(each) for size, each in zip(sizes, gone, strict=True)), initial=0)]
    while begins != sizes:
        ends = [min(begin + _BATCH, size) for begin, size in zip(begins, sizes, strict=True)]
        heads = [table.read(*bounds) for table, *bounds in zip(tables, begins, ends, strict=True)]
        # rows of a table not read yet sort after those read
        last = [head.keys[-1] for head, end, size in zip(heads, ends, sizes, strict=True) if end < size]
        if last:
            heads = [head.read(0, int(np.searchsorted(head.keys, min(last), side="right"))) for head in heads]
        begins = [begin + len(head) for begin, head in zip(begins, heads, strict=True)]
        left = [_left(*each) for each in zip(heads, gone, bases[:-1], strict=True)]
        rows = Rows(np.concatenate([x.keys for x in left]), np.concatenate([x.images for x in left]))
        yield rows.take(np.argsort(rows.keys, kind="stable"))


def _left(rows: Rows, gone: Places, base: int) -> Rows:
    """Return the rows of images that are not ``gone``, renumbered without those and from ``base``."""
    below = np.searchsorted(gone, rows.images)
    stays = np.searchsorted(gone, rows.images, side="right") == below
    return Rows(rows.keys[stays], (rows.images - below + base)[stays])


def nearest_pairs(
    table: PairTable,
    query_sum1: int,
    query_sum2: int,
    l: int,
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """ImageRetrieval on a pair table: the pairs that may contain one of the ``count`` nearest rows.

    Returns their positions, nearest first, and their Sim numerators (:func:`sim_numerators`). All pairs that
    tie with the last one are included, so that the caller can break ties by identifier.
    """
    numerators = sim_numerators(table.sum1, table.sum2, query_sum1, query_sum2, l)
    if count < len(numerators):
        # every pair has a row, so the count nearest pairs have at least count rows
        bound = np.partition(numerators, count - 1)[count - 1]
        chosen = np.flatnonzero(numerators <= bound)
    else:
        chosen = np.arange(len(numerators))
    chosen = chosen[np.argsort(numerators[chosen], kind="stable")]
    reached = np.cumsum(table.starts[chosen + 1] - table.starts[chosen])
    enough = int(np.searchsorted(reached, count))
    if enough < len(chosen):
        chosen = chosen[numerators[chosen] <= numerators[chosen[enough]]]
    return chosen, numerators[chosen]
