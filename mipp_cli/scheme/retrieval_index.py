"""IndexConstruct and ImageRetrieval: Table 2 of the paper, and the nearest rows of it (section 5.5, 5.6).

Sim depends on the sums alone, so rows that share a pair (Σx, Σx²) share one evaluation: the table is
kept sorted by pair, and within a pair by image identifier, which is also how ties are broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import MalformedError
from mipp_cli.scheme.similarity import sim_numerators


def check_sums(sum1: int, sum2: int, l: int, levels: int) -> None:
    """Refuse sums that no feature of ``l`` codes below ``levels`` can have; raises MalformedError."""
    possible = (
        0 <= sum1 <= l * (levels - 1)
        and sum1 <= sum2 <= (levels - 1) * sum1
        and sum1 * sum1 <= l * sum2
        and (sum1 - sum2) % 2 == 0  # x² − x is even
    )
    if not possible:
        raise MalformedError(
            f"no feature has the sums Σx = {_short(sum1)} and Σx² = {_short(sum2)}",
            hint="the features were encrypted under another modulus, or the file was made to mislead",
        )


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**15 else f"a number of {value.bit_length()} bits"


@dataclass(frozen=True)
class PairTable:
    """The distinct pairs (Σx, Σx²) of a table, ascending, and where the rows of each begin.

    ``sum1`` and ``sum2`` have shape (pairs,), uint64; ``starts`` shape (pairs + 1,), uint64: the rows
    of pair i are starts[i] … starts[i+1] − 1 of the sorted table.
    """

    sum1: NDArray[np.uint64]
    sum2: NDArray[np.uint64]
    starts: NDArray[np.uint64]

    def __post_init__(self) -> None:
        pairs = len(self.sum1)
        if len(self.sum2) != pairs or len(self.starts) != pairs + 1:
            raise MalformedError("the columns of the index have different lengths")
        if self.starts[0] != 0 or (self.starts[1:] <= self.starts[:-1]).any():
            raise MalformedError("the rows of the index do not ascend")

    @property
    def rows(self) -> int:
        """How many rows the table has."""
        return int(self.starts[-1])


def index_construct(
    sum1: Sequence[int], sum2: Sequence[int], image_ids: Sequence[bytes]
) -> tuple[PairTable, NDArray[np.int64]]:
    """IndexConstruct: return the pair table, and the order that sorts rows by (Σx, Σx², identifier)."""
    rows = len(image_ids)
    first, second = np.asarray(sum1, dtype=np.uint64), np.asarray(sum2, dtype=np.uint64)
    by_id = np.empty(rows, dtype=np.int64)
    by_id[sorted(range(rows), key=image_ids.__getitem__)] = np.arange(rows)
    order = np.lexsort((by_id, second, first)).astype(np.int64)
    table, _ = _grouped(first[order], second[order], np.ones(rows, dtype=np.uint64))
    return table, order


def merge_pairs(tables: Sequence[PairTable]) -> tuple[PairTable, list[NDArray[np.int64]]]:
    """Return the pair table of several together, and where each pair of each table is in it."""
    first = np.concatenate([table.sum1 for table in tables])
    second = np.concatenate([table.sum2 for table in tables])
    counts = np.concatenate([np.diff(table.starts) for table in tables])
    order = np.lexsort((second, first))
    merged, group = _grouped(first[order], second[order], counts[order])
    pair_of = np.empty(len(order), dtype=np.int64)
    pair_of[order] = group
    return merged, np.split(pair_of, np.cumsum([len(table.sum1) for table in tables])[:-1])


def _grouped(
    first: NDArray[np.uint64], second: NDArray[np.uint64], counts: NDArray[np.uint64]
) -> tuple[PairTable, NDArray[np.int64]]:
    """Put equal neighbours of sorted pairs together: the pair table, and the pair of each entry."""
    fresh = np.ones(len(first), dtype=bool)
    fresh[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    begins = np.flatnonzero(fresh)
    ends = np.append(begins, len(first))
    starts = np.append(np.uint64(0), np.cumsum(counts, dtype=np.uint64))[ends]
    return PairTable(first[begins], second[begins], starts), np.cumsum(fresh) - 1


def nearest_pairs(
    table: PairTable,
    query_sum1: int,
    query_sum2: int,
    l: int,
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """ImageRetrieval on a pair table: the pairs that can hold one of the ``count`` nearest rows.

    Returns their positions, nearest first, and their Sim numerators (:func:`sim_numerators`); pairs as
    near as the last one needed are all among them, so that ties can be broken by identifier.
    """
    numerators = sim_numerators(table.sum1, table.sum2, query_sum1, query_sum2, l)
    if count < len(numerators):
        # every pair has a row, so the count nearest pairs hold at least count rows
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
