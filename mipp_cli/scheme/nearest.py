"""Exact nearest neighbours: Eq. 7 squared, in integers, and the k nearest rows of a stream of chunks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.unsignedinteger]
_MERGE_AT_LEAST = 4096  # rows that wait before they are sorted in


def squared_distances(
    columns: Codes, query: Codes, levels: int, scratch: Codes | None = None
) -> NDArray[np.unsignedinteger]:
    """Eq. 7 squared, of each column of ``columns``, shape (l, n), to ``query``, shape (l,); shape (n,).

    Exact for all codes below ``levels``: differences wrap around in the smallest word that holds their
    squares, which is right modulo the word, and sums move on to a wider word before they outgrow theirs.
    ``scratch``, of shape (l, n) and :func:`square_type`, spares the memory for the squares; the result may
    lie in it.
    """
    largest = (levels - 1) ** 2
    word = square_type(levels)
    squares = np.subtract(columns, query[:, np.newaxis], out=scratch, dtype=word, casting="unsafe")
    np.multiply(squares, squares, out=squares)
    while len(squares) > 1:
        largest *= 2
        squares = squares.astype(np.promote_types(squares.dtype, np.min_scalar_type(largest)), copy=False)
        half = (len(squares) + 1) // 2
        rest = squares[half:]
        np.add(squares[: len(rest)], rest, out=squares[: len(rest)])
        squares = squares[:half]
    sums: NDArray[np.unsignedinteger] = squares[0]
    return sums


def square_type(levels: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest word that holds the square of a difference of codes below ``levels``."""
    return np.min_scalar_type((levels - 1) ** 2)


class Nearest:
    """The ``count`` rows nearest to each of some queries among all that were added; ties by place.

    ``queries`` has shape (u, l). The first place wins a tie.
    """

    def __init__(self, queries: Codes, count: int, levels: int):
        self._queries, self._levels = queries, levels
        self._kept = [_Kept(count) for _ in queries]
        self._scratch = np.empty((0, 0), dtype=square_type(levels))

    def add(self, columns: Codes, first: int) -> None:
        """Look at rows, shape (l, n), whose places are ``first`` and up, beyond all that were added."""
        if self._scratch.shape != columns.shape:
            # memory that is taken and given back for every chunk is fetched anew from the system each time
            self._scratch = np.empty(columns.shape, dtype=self._scratch.dtype)
        for query, kept in zip(self._queries, self._kept, strict=True):
            kept.add(squared_distances(columns, query, self._levels, self._scratch), first)

    def places(self) -> list[NDArray[np.int64]]:
        """Return the places of the rows nearest to each query, nearest first; fewer if fewer were added."""
        return [kept.merged()[1] for kept in self._kept]

    def distances(self) -> list[NDArray[np.uint64]]:
        """Return the squared distances that go with :meth:`places`."""
        return [kept.merged()[0] for kept in self._kept]


class _Kept:
    """The nearest rows of one query, and rows that may be among them once they are sorted in."""

    def __init__(self, count: int):
        self._count = count
        self._bound: int | None = None  # what a row must be nearer than, once there are enough
        self._pending = [(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64))]
        self._waiting = 0

    def add(self, distances: NDArray[np.unsignedinteger], first: int) -> None:
        near = np.arange(len(distances)) if self._bound is None else np.flatnonzero(distances < self._bound)
        if len(near):
            self._pending.append((distances[near].astype(np.uint64), near + first))
            self._waiting += len(near)
        if self._waiting >= max(2 * self._count, _MERGE_AT_LEAST):
            self.merged()

    def merged(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        distances, places = (np.concatenate(column) for column in zip(*self._pending, strict=True))
        # stable, and what was kept stands before what came later: ties stay in the order of places
        order = np.argsort(distances, kind="stable")[: self._count]
        self._pending, self._waiting = [(distances[order], places[order])], len(order)
        if len(order) == self._count:
            self._bound = int(distances[order[-1]])
        return self._pending[0]
