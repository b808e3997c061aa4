"""Exact nearest neighbours: Eq. 7 squared, in integers, and the k nearest rows of a stream of chunks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.unsignedinteger]
_MERGE_AT_LEAST = 4096  # rows that wait before they are sorted in


def squared_distances(columns: Codes, query: Codes, levels: int) -> NDArray[np.unsignedinteger]:
    """Eq. 7 squared, of each column of ``columns``, shape (l, n), to ``query``, shape (l,); shape (n,).

    Exact for all codes below ``levels``: differences wrap around in the smallest word that holds their
    squares, which is right modulo the word, and sums move on to a wider word before they outgrow theirs.
    """
    largest = (levels - 1) ** 2
    word = np.min_scalar_type(largest)
    squares = np.subtract(columns, query[:, np.newaxis], dtype=word, casting="unsafe")
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


class Nearest:
    """The ``count`` rows nearest to one query among all that were added; ties by place, the first wins."""

    def __init__(self, query: Codes, count: int, levels: int):
        self._query, self._count, self._levels = query, count, levels
        self._bound: int | None = None  # what a row must be nearer than, once there are enough
        self._pending: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
        self._waiting = 0

    def add(self, columns: Codes, first: int) -> None:
        """Look at rows, shape (l, n), whose places are ``first`` and up, beyond all that were added."""
        distances = squared_distances(columns, self._query, self._levels)
        near = np.arange(len(distances)) if self._bound is None else np.flatnonzero(distances < self._bound)
        if len(near):
            self._pending.append((distances[near].astype(np.uint64), near + first))
            self._waiting += len(near)
        if self._waiting >= max(2 * self._count, _MERGE_AT_LEAST):
            self._merge()

    def _merge(self) -> None:
        if not self._pending:
            return
        distances, places = (np.concatenate(column) for column in zip(*self._pending, strict=True))
        # stable, and what was kept stands before what came later: ties stay in the order of places
        order = np.argsort(distances, kind="stable")[: self._count]
        self._pending, self._waiting = [(distances[order], places[order])], len(order)
        if len(order) == self._count:
            self._bound = int(distances[order[-1]])

    def places(self) -> NDArray[np.int64]:
        """Return the places of the nearest rows, nearest first; fewer if fewer were added."""
        self._merge()
        return self._pending[0][1] if self._pending else np.empty(0, dtype=np.int64)

    def distances(self) -> NDArray[np.uint64]:
        """Return the squared distances that go with :meth:`places`."""
        self._merge()
        return self._pending[0][0] if self._pending else np.empty(0, dtype=np.uint64)
