"""Groups of images in scheme `exact`: what the cloud brings is whole groups, and so hides which row is meant.

Groups are a fixed, disjoint partition: an image keeps its mates for life. Overlapping groups, or mates drawn
anew for each query, could be learnt from the selections.
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
    another keyed digest, which decides who becomes whose mate. The names of images tell ``key``: if new
    groups were cut by that, the names in a group of two classes would tell which of its rows are the larger.
    """

    path: str
    length: int
    key: bytes
    size_class: int = 0
    lot: bytes = b""


def size_class(length: int) -> int:
    """Return ⌊log2(length)/4⌋: rows of a group are padded to the largest, so like lengths go together."""
    return (length.bit_length() - 1) // _CLASS_BITS


def cut(rows: Iterable[Row], group_size: int) -> list[list[Row]]:
    """Cut ``rows`` into groups: by size class, then by their lots, the last group with the remainder.

    n rows make max(1, ⌊n/G⌋) groups, none of them of more than 2G − 1 rows.
    """
    ordered = sorted(rows, key=lambda row: (row.size_class, row.lot, row.key))
    count = max(1, len(ordered) // group_size)
    bounds = [*(number * group_size for number in range(count)), len(ordered)]
    return [ordered[begin:end] for begin, end in pairwise(bounds) if begin < end]


def in_order(groups: Collection[list[Row]]) -> list[list[Row]]:
    """Return groups in the order in which an upload holds them, and the rows of each in theirs.

    By the size class of a group's largest row, then by keyed digests: neither says which groups were sent
    before, nor which row of a group is the largest.
    """
    for group in groups:
        group.sort(key=lambda row: row.key)
    return sorted(groups, key=lambda group: (max(row.size_class for row in group), group[0].key))
