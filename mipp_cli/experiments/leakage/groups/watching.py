"""A cloud that counts which groups are selected together, and two ways to make likeness of the counts.

``cosine`` takes the counts as they are. ``eigenvectors`` takes off what selections that know nothing of each
other would give, and keeps the leading eigenvectors of the rest: the noise, of decoys above all, is in the
others.
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
_SPARE, _ROUNDS = 10, 30  # of the iteration that finds eigenvectors

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Watched:
    """What was counted over ``queries``.

    ``times`` is how often each group was selected, shape (g,), and ``together`` how often two were, shape
    (g, g); if ``weighted``, a group counts in each query as often as it holds matches.
    """

    queries: int
    times: Matrix
    together: Matrix
    weighted: bool

    @property
    def seen(self) -> NDArray[np.int64]:
        """The groups that were ever selected, ascending."""
        return np.flatnonzero(self.times)

    @cached_property
    def _scale(self) -> Matrix:
        return np.sqrt(np.maximum(self.together.diagonal(), 1))

    @cached_property
    def _cosine(self) -> Matrix:
        """The queries with both, over the root of those with either: popular groups are not everybody's."""
        return self.together / self._scale[:, np.newaxis] / self._scale

    @cached_property
    def _leading(self) -> tuple[Matrix, Matrix]:
        scaled = self.times / self._scale
        return leading_eigenvectors(self._cosine - np.outer(scaled, scaled) / self.queries, KEPT)

    def alike(self, attacker: str) -> Matrix:
        """Return how alike any two groups are by the queries that select them, shape (g, g)."""
        if attacker == COSINE:
            return self._cosine
        values, vectors = self._leading
        places = unit_columns((vectors * np.sqrt(values)).T)
        return places.T @ places

    def places(self, attacker: str, counts: NDArray[np.float32]) -> Matrix:
        """Return where queries stand by the groups that they select, ``counts`` of shape (g, q).

        The cosine of two columns is how alike two queries are.
        """
        wide = counts.astype(np.float64)
        if attacker == COSINE:
            return unit_columns(wide)
        mean = (self.times / self.queries)[:, np.newaxis]
        return unit_columns(self._leading[1].T @ ((wide - mean) / self._scale[:, np.newaxis]))


def watch(
    partition: Partition, selected: Selected, queries: Sequence[int], *, weighted: bool
) -> Iterator[Watched]:
    """Count through the selections, and yield what was counted after each number of ``queries``."""
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
            together += counts @ counts.T  # whole numbers, exact in 32 bits
            begin = end
        yield Watched(watched, times.copy(), together.copy(), weighted)


def leading_eigenvectors(matrix: Matrix, count: int) -> tuple[Matrix, Matrix]:
    """Return the largest eigenvalues of a symmetric matrix, at most ``count``, and their vectors as columns.

    Orthogonal iteration: all of them would take minutes for some thousand images. What is negative counts
    as 0. Source: Golub and Van Loan, Matrix Computations, 4th edition, section 8.2.4.
    """
    width = min(len(matrix), count + _SPARE)
    basis = np.random.default_rng(0).standard_normal((len(matrix), width))
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(matrix @ basis)
    values, turn = np.linalg.eigh(basis.T @ matrix @ basis)
    largest = np.argsort(-values)[:count]
    return np.maximum(values[largest], 0), basis @ turn[:, largest]


def unit_columns(columns: Matrix) -> Matrix:
    """Return columns scaled to length 1; what is nearly 0 stays."""
    lengths = np.linalg.norm(columns, axis=0)
    return np.asarray(columns / np.maximum(lengths, 1e-12))


def most_alike(alike: Matrix, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return for each row the ``count`` columns with the largest values, largest first; ties at random."""
    mixed = random.permutation(alike.shape[1])
    values = -np.round(alike[:, mixed], 9)  # so that what is equal but for the order of summing ties
    count = min(count, len(mixed))
    largest = np.argpartition(values, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(values, largest, axis=1), axis=1, kind="stable")
    return mixed[np.take_along_axis(largest, order, axis=1)]
