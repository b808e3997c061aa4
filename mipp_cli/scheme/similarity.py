"""Distances between features: Eq. 7 (EucDis), Eq. 8 (NewDis) and Eq. 9 (Sim)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def euclidean_distances(features: NDArray[np.generic], query: NDArray[np.generic]) -> NDArray[np.float64]:
    """Eq. 7: EucDis of each row of ``features``, shape (n, l), to ``query``, shape (l,); shape (n,)."""
    difference = features.astype(np.int64) - query.astype(np.int64)
    squares: NDArray[np.int64] = np.einsum("ij,ij->i", difference, difference)
    return np.sqrt(squares.astype(np.float64))


def new_distances(features: NDArray[np.generic], query: NDArray[np.generic]) -> NDArray[np.float64]:
    """Eq. 8: NewDis of each row of ``features``, shape (n, l), to ``query``, shape (l,); shape (n,)."""
    f, q = features.astype(np.int64), query.astype(np.int64)
    l = len(q)
    return sim(sim_numerators(f.sum(axis=1), (f * f).sum(axis=1), int(q.sum()), int((q * q).sum()), l), l)


def sim_numerators(
    sum1: NDArray[np.integer],
    sum2: NDArray[np.integer],
    query_sum1: int,
    query_sum2: int,
    l: int,
) -> NDArray[np.int64]:
    """Eq. 9 squared times l: l·(Σx² + Σy²) − 2·(Σx)(Σy), an exact integer to rank by.

    ``sum1`` and ``sum2`` are Σx and Σx² of the images. For a fixed query it is linear in both, and by
    Cauchy–Schwarz never negative.
    """
    return l * (sum2.astype(np.int64) + query_sum2) - 2 * query_sum1 * sum1.astype(np.int64)


def sim(numerators: ArrayLike, l: int) -> NDArray[np.float64]:
    """Eq. 9: Sim = √(numerator / l)."""
    return np.sqrt(np.asarray(numerators, dtype=np.float64) / l)
