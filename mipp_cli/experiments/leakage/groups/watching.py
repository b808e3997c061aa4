"""A cloud that counts which groups are selected together, and two similarities from these counts.

``cosine`` uses the counts directly. ``eigenvectors`` subtracts their expectation for independent selections,
and keeps the leading eigenvectors of the rest: noise, mainly from decoys, is in the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.leakage.groups.partition import Partition, Selected

COSINE, EIGENVECTORS = "cosine", "eigenvectors"
ATTACKERS = (COSINE, EIGENVECTORS)
KEPT = 20  # eigenvectors
_AT_A_TIME = 1000  # queries
_SPARE, _ROUNDS = 10, 30  # of the eigenvector iteration

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Watched:
    """Counts over ``queries``.

    ``times``, shape (g,), is how often each group was selected, and ``together``, shape (g, g), how often two
    were. If ``weighted``, a group counts in each query with its number of matches.
    """

    queries: int
    times: Matrix
    together: Matrix
    weighted: bool

    @property
    def seen(self) -> NDArray[np.int64]:
        """The groups selected at least once, ascending."""
        return np.flatnonzero(self.times)

    @cached_property
    def _scale(self) -> Matrix:
        return np.sqrt(np.maximum(self.together.diagonal(), 1))

    @cached_property
    def _cosine(self) -> Matrix:
        """Cosine: queries with both, over the geometric mean of those with each, so popular groups do not
        dominate.
        """
        return self.together / self._scale[:, np.newaxis] / self._scale

    @cached_property
    def _leading(self) -> tuple[Matrix, Matrix]:
        scaled = self.times / self._scale
        return leading_eigenvectors(self._cosine - np.outer(scaled, scaled) / self.queries, KEPT)

    def alike(self, attacker: str) -> Matrix:
        """Return the similarity of any two groups by the queries that select them, shape (g, g)."""
        if attacker == COSINE:
            return self._cosine
        values, vectors = self._leading
        places = unit_columns((vectors * np.sqrt(values)).T)
        return places.T @ places

    def places(self, attacker: str, counts: NDArray[np.float32]) -> Matrix:
        """Return coordinates of queries from the groups they select, ``counts`` of shape (g, q).

        The cosine of two columns is the similarity of two queries.
        """
        wide = counts.astype(np.float64)
        if attacker == COSINE:
            return unit_columns(wide)
        mean = (self.times / self.queries)[:, np.newaxis]
        return unit_columns(self._leading[1].T @ ((wide - mean) / self._scale[:, np.newaxis]))


def watch(
    partition: Partition, selected: Selected, queries: Sequence[int], *, weighted: bool
) -> Iterator[Watched]:
    """Count over the selections, and yield the counts after each number of ``queries``."""
    groups = len(partition)
    times, together = np.zeros(groups), np.zeros((groups, groups))
    begin = 0
    for watched in sorted(set(queries)):
        while begin < watched:
            end = min(begin + _AT_A_TIME, watched)
            counts = partition.counts(selected[begin:end])
            if not weighted:
                counts = np.minimum(counts, 1)
            times += counts.sum(axis=1)
            together += counts @ counts.T  # integers, exact in 32-bit floats
            begin = end
        yield Watched(watched, times.copy(), together.copy(), weighted)


def leading_eigenvectors(matrix: Matrix, count: int) -> tuple[Matrix, Matrix]:
    """Return the largest eigenvalues of a symmetric matrix, at most ``count``, and their vectors as columns.

    Orthogonal iteration: a full decomposition takes minutes for some thousand images. Negative ones count as
    0. Source: Golub and Van Loan, Matrix Computations, 4th edition, section 8.2.4.
    """
    width = min(len(matrix), count + _SPARE)
    basis = np.random.default_rng(0).standard_normal((len(matrix), width))
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(matrix @ basis)
    values, turn = np.linalg.eigh(basis.T @ matrix @ basis)
    largest = np.argsort(-values)[:count]
    return np.maximum(values[largest], 0), basis @ turn[:, largest]


def unit_columns(columns: Matrix) -> Matrix:
    """Return columns scaled to length 1; nearly zero columns stay."""
    lengths = np.linalg.norm(columns, axis=0)
    return np.asarray(columns / np.maximum(lengths, 1e-12))


def most_alike(alike: Matrix, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return for each row the ``count`` columns with the largest values, largest first; ties at random."""
    mixed = random.permutation(alike.shape[1])
    values = -np.round(alike[:, mixed], 9)  # so that values that differ only by rounding tie
    count = min(count, len(mixed))
    largest = np.argpartition(values, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(values, largest, axis=1), axis=1, kind="stable")
    return mixed[np.take_along_axis(largest, order, axis=1)]
