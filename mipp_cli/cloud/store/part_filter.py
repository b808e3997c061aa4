"""A part of the index without some of its images: names, rows and places renumbered as it is streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.store.part import PartContent, PartReader, PartRows
from mipp_cli.scheme.retrieval_index import PairTable

_BATCH = 1 << 16


def without(reader: PartReader, found: PartRows, advance: Callable[[int], None]) -> PartContent:
    """Return a part without the images ``found`` in it; its segments must have lost the same rows.

    The part must not lose all of them. ``advance`` is called with the images done.
    """
    return PartContent(
        _pairs_left(reader, found.places),
        reader.names_bytes - found.names_bytes,
        _positions_left(reader, found.places),
        _names_left(reader, found, advance),
    )


def _kept(
    values: NDArray[np.int64], dropped: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which of ``values`` are not in ``dropped``, ascending, and how many of those are below each."""
    below = np.searchsorted(dropped, values)
    inside = below < len(dropped)
    keep = np.ones(len(values), dtype=bool)
    keep[inside] = dropped[below[inside]] != values[inside]
    return keep, below


def _pairs_left(reader: PartReader, places: NDArray[np.int64]) -> PairTable:
    """Count the images dropped at ``places`` off their pairs; a pair without images goes."""
    pairs = reader.pairs
    counts = np.diff(pairs.starts)
    for begin in range(0, len(reader), _BATCH):
        keep, _ = _kept(reader.positions(begin, min(begin + _BATCH, len(reader))), places)
        dropped = (begin + np.flatnonzero(~keep)).astype(np.uint64)
        pair_of = np.searchsorted(pairs.starts, dropped, side="right") - 1
        np.subtract.at(counts, pair_of, np.uint64(1))
    left = counts > 0
    starts = np.append(np.uint64(0), np.cumsum(counts[left], dtype=np.uint64))
    return PairTable(pairs.sum1[left], pairs.sum2[left], starts)


def _positions_left(reader: PartReader, places: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for begin in range(0, len(reader), _BATCH):
        positions = reader.positions(begin, min(begin + _BATCH, len(reader)))
        keep, below = _kept(positions, places)
        yield (positions - below)[keep]


def _names_left(
    reader: PartReader, found: PartRows, advance: Callable[[int], None]
) -> Iterator[tuple[Sequence[bytes], NDArray[np.int64]]]:
    dropped = np.sort(found.rows)
    for names, rows in reader.names():
        keep, below = _kept(rows, dropped)
        yield [name for name, stays in zip(names, keep.tolist(), strict=True) if stays], (rows - below)[keep]
        advance(len(names))
