"""Eq. 7 squared on decrypted codes, and the nearest rows by it.

The key management centre decrypts features block by block. :func:`squared_distances` computes the distances
of a block; :class:`Nearest` keeps the rows that can still be among the nearest. All of it is exact: 65535 ·
255² < 2³².
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Distances = NDArray[np.uint32]

_SLICE_CODES = 1 << 18  # codes that numpy processes at once: few calls, and its buffers fit the cache
_LEAST_CODES = 1 << 22
_CHECKED_DIMENSIONS = (3, 31, 80, 127, 1001, 65535)
_SPARE_ROWS = 4096  # extra rows kept, so that pruning is rare; there may be 1,000 queries
_MOST_PARTS = 1024
_SPLITMIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # Steele, Lea and Flood, OOPSLA 2014


def squared_distances(query: NDArray[np.uint8], rows: NDArray[np.uint8]) -> Distances:
    """Eq. 7 squared: Σ(x − y)² of ``query``, shape (l,), and each of ``rows``, shape (n, l); shape (n,).

    ``rows`` is C-contiguous, 3 ≤ l ≤ 65535. The library numkong does it if it is installed and passes a
    check.
    """
    if not len(rows):
        return np.empty(0, dtype=np.uint32)
    # importing and checking it takes as long as numpy for some million codes
    is_there = rows.size >= _LEAST_CODES or _numkong.cache_info().currsize
    fast = _numkong() if is_there else None
    return _by_numpy(query, rows) if fast is None else _by_numkong(fast, query, rows)


@functools.cache
def _numkong() -> Any:
    """Return numkong's function, or None if it is not installed or computes wrong distances."""
    try:
        # imported on first use: it is an optional extra
        function = importlib.import_module("numkong").sqeuclidean
        return function if _computes_right(function) else None
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError, OSError):
        return None


def _computes_right(function: Any) -> bool:
    """Compare ``function`` with integer arithmetic, for the largest sums and for odd lengths."""
    random = np.random.default_rng(0)
    for l in _CHECKED_DIMENSIONS:
        codes = random.integers(0, 256, (5, l), dtype=np.uint8)
        codes[0], codes[1] = 0, 255
        for query in codes:
            difference = codes.astype(np.int64) - query
            if _by_numkong(function, query, codes).tolist() != (difference * difference).sum(axis=1).tolist():
                return False
    return True


def _by_numkong(function: Any, query: NDArray[np.uint8], rows: NDArray[np.uint8]) -> Distances:
    # float64 is its fastest output for short rows, and exact below 2^53
    distances = np.empty(len(rows), dtype=np.float64)
    function(query, rows, out=distances)
    return distances.astype(np.uint32)


def _by_numpy(query: NDArray[np.uint8], rows: NDArray[np.uint8]) -> Distances:
    """Eq. 7 squared in words of 16 bits, which hold the square of a difference, summed modulo 2³².

    255² < 2¹⁶ and every sum is below 2³², so nothing is lost. Floating point needs words twice as wide, and
    long rows have to be split where float32 is no longer exact: it took twice as long for l = 1280.
    """
    n, l = rows.shape
    width = -(-l // 4) * 4  # padded with zeros in both query and rows, which add nothing
    most = max(1, _SLICE_CODES // width)
    query_low, query_high = _repeated_query(query.tobytes(), min(n, most))
    low, high = np.empty_like(query_low), np.empty_like(query_low)
    total = np.empty(len(low) // 2, dtype=np.uint32)
    padded = np.zeros((min(n, most), width), dtype=np.uint8) if width != l else None
    distances = np.empty(n, dtype=np.uint32)
    for begin in range(0, n, most):
        part = rows[begin : begin + most]
        if padded is not None:
            padded[: len(part), :l] = part
            part = padded[: len(part)]
        codes = part.reshape(-1).view(np.uint16)
        a, b, words = low[: len(codes)], high[: len(codes)], total[: len(codes) // 2]
        np.bitwise_and(codes, 0xFF, out=a)
        np.subtract(a, query_low[: len(codes)], out=a)
        np.multiply(a, a, out=a)  # a negative difference wrapped around; its square is right modulo 2^16
        np.right_shift(codes, 8, out=b)
        np.subtract(b, query_high[: len(codes)], out=b)
        np.multiply(b, b, out=b)
        # a 32-bit word holds two squares, u·2^16 + v, and u + v = word − 65535·u
        a_pairs, b_pairs = a.view(np.uint32), b.view(np.uint32)
        np.add(a_pairs, b_pairs, out=words)
        np.right_shift(a_pairs, 16, out=a_pairs)
        np.right_shift(b_pairs, 16, out=b_pairs)
        np.add(a_pairs, b_pairs, out=a_pairs)
        np.multiply(a_pairs, 0xFFFF, out=a_pairs)
        np.subtract(words, a_pairs, out=words)
        # einsum adds short rows faster than sum does
        np.einsum("ij->i", words.reshape(len(part), -1), out=distances[begin : begin + len(part)])
    return distances


@functools.lru_cache(maxsize=1)
def _repeated_query(query: bytes, times: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return the low and high bytes of the query's words, repeated ``times``: numpy is slow on short rows."""
    words = np.frombuffer(query + bytes(-len(query) % 4), dtype=np.uint16)
    return np.tile(words & 0xFF, times), np.tile(words >> 8, times)


class Nearest:
    """The nearest rows of a stream of batches (Eq. 7); ties are broken by a keyed hash of the row's id.

    Without ``key`` nobody can choose which of several rows at the same distance comes first, and ties cost no
    more time or memory, however many there are.
    """

    def __init__(self, count: int, key: bytes = b"") -> None:
        if count < 1:
            raise ValueError("count must be at least 1")
        self._count = count
        self._keys = np.frombuffer(hashlib.sha256(key).digest(), dtype="<u8")[:2]
        # rows farther than this are not among the nearest; rows at it may be
        self._limit = np.uint32(2**32 - 1)
        self._parts: list[tuple[Distances, NDArray[np.int64]]] = []
        self._held = 0

    def add(self, distances: Distances, first: int) -> None:
        """Add the squared distances of the rows ``first``, ``first + 1`` and so on."""
        places = np.flatnonzero(distances <= self._limit)
        if not len(places):
            return
        self._parts.append((distances[places], places.astype(np.int64) + first))
        self._held += len(places)
        if self._held > 4 * self._count + _SPARE_ROWS or len(self._parts) > _MOST_PARTS:
            self._prune()

    def _prune(self) -> tuple[Distances, NDArray[np.int64]]:
        """Drop rows that cannot be among the nearest any more; return the ``count`` nearest so far."""
        distances = np.concatenate([np.empty(0, dtype=np.uint32), *(part[0] for part in self._parts)])
        ids = np.concatenate([np.empty(0, dtype=np.int64), *(part[1] for part in self._parts)])
        if len(ids) > self._count:
            self._limit = np.partition(distances, self._count - 1)[self._count - 1]
            nearer, tied = np.flatnonzero(distances < self._limit), np.flatnonzero(distances == self._limit)
            missing = self._count - len(nearer)
            first = np.argpartition(self._hashes(ids[tied]), missing - 1)[:missing]
            kept = np.concatenate([nearer, tied[first]])
            distances, ids = distances[kept], ids[kept]
        self._parts, self._held = [(distances, ids)], len(ids)
        return distances, ids

    def _hashes(self, ids: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return a hash of each id: the finaliser of splitmix64, twice, under two words of the key."""
        words = ids.astype(np.uint64)
        for key in self._keys:
            words += key
            for shift, factor in _SPLITMIX:
                words ^= words >> np.uint64(shift)
                words *= np.uint64(factor)
            words ^= words >> np.uint64(31)
        return words

    def nearest(self) -> list[tuple[int, int]]:
        """Return (squared distance, id) of the nearest rows, ascending."""
        distances, ids = self._prune()
        order = np.lexsort((self._hashes(ids), distances))
        return list(zip(distances[order].tolist(), ids[order].tolist(), strict=True))
