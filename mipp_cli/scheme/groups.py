"""Groups of images in scheme `exact`: the cloud returns whole groups, which hides the row that matched.

Groups are a fixed, disjoint partition: an image keeps the same group for life. With overlapping groups, or
groups drawn anew for each query, the selections would reveal the match.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import NamedTuple

GROUP_SIZE = 8
LARGEST_GROUP_SIZE = 1024
_CLASS_BITS = 4  # lengths of one class differ by a factor of 16 at most


class Row(NamedTuple):
    """An image to be put into a group: its path, the length of its ciphertext, its keyed digest.

    ``size_class`` is :func:`size_class` of the length, or 0 in a scheme that does not sort by it. ``lot`` is
    another keyed digest, which decides which images share a group. ``key`` is visible in the wire names of
    images: if groups were cut by it, the names in a group of two size classes would reveal which rows are the
    larger.
    """

    path: str
    length: int
    key: bytes
    size_class: int = 0
    lot: bytes = b""


def size_class(length: int) -> int:
    """Return ⌊log2(length)/4⌋: rows of a group are padded to its largest, so similar lengths go together."""
    return (length.bit_length() - 1) // _CLASS_BITS


def cut(rows: Iterable[Row], group_size: int) -> list[list[Row]]:
    """Cut ``rows`` into groups, sorted by size class, then by lot; the last group takes the remainder.

    n rows make max(1, ⌊n/G⌋) groups of at most 2G − 1 rows.
    """
    ordered = sorted(rows, key=lambda row: (row.size_class, row.lot, row.key))
    count = max(1, len(ordered) // group_size)
    bounds = [*(number * group_size for number in range(count)), len(ordered)]
    return [ordered[begin:end] for begin, end in pairwise(bounds) if begin < end]


def in_order(groups: Collection[list[Row]]) -> list[list[Row]]:
    """Return groups in the order of an upload, and the rows within each.

    Groups are sorted by the size class of their largest row, then by keyed digest; rows by keyed digest. The
    order reveals neither which groups were sent before nor which row of a group is the largest.
    """
    for group in groups:
        group.sort(key=lambda row: row.key)
    return sorted(groups, key=lambda group: (max(row.size_class for row in group), group[0].key))
