"""Digests of names found among others, a million at once and none of them by a loop."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.uint8]
Places = NDArray[np.int64]


def _keys(digests: Digests) -> NDArray[np.uint64]:
    """Return the first eight bytes of each digest as a number, the first byte the highest."""
    prefixes = np.ascontiguousarray(digests[:, :8])
    return prefixes.view(">u8").reshape(-1).astype(np.uint64)


class NameSet:
    """SHA-256 digests of names, shape (n, 32), to be looked up.

    They are sorted by their first eight bytes. Whoever chooses names may choose some whose digests begin
    alike, so a digest counts as found only if all of it fits.
    """

    def __init__(self, digests: Digests):
        self._digests = digests

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(_keys(self._digests))

    @cached_property
    def _sorted(self) -> NDArray[np.uint64]:
        return _keys(self._digests)[self._order]

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, digests: Digests) -> tuple[Places, Places]:
        """Return which of ``digests``, shape (m, 32), are here, and the place here of each of those."""
        if not len(self) or not len(digests):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        keys = _keys(digests)
        begin = np.searchsorted(self._sorted, keys)
        which = np.flatnonzero(self._sorted[np.minimum(begin, len(self) - 1)] == keys)
        step, hits, places = begin[which], [which[:0]], [which[:0]]
        while len(which):  # once, unless digests begin alike
            place = self._order[step]
            fits = (self._digests[place] == digests[which]).all(axis=1)
            hits.append(which[fits])
            places.append(place[fits])
            which, step = which[~fits], step[~fits] + 1
            alike = step < len(self)
            which, step = which[alike], step[alike]
            alike = self._sorted[step] == keys[which]
            which, step = which[alike], step[alike]
        return np.concatenate(hits), np.concatenate(places)

    @cached_property
    def most_alike(self) -> int:
        """How many digests begin alike at the most: those of real names hardly ever do."""
        keys = np.sort(_keys(self._digests))  # which is much faster than finding their order
        begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        return int(np.diff(begins, append=len(keys)).max(initial=0))

    def has_twins(self) -> bool:
        """Say whether a digest is here twice."""
        if self.most_alike < 2:
            return False
        alike = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        suspects = self._digests[self._order[np.union1d(alike, alike + 1)]]
        return len(np.unique(suspects, axis=0)) < len(suspects)
