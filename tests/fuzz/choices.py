"""Decisions read off a string of bytes, so that whoever mutates the bytes mutates the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

# where readers have their limits, and where sums, products and casts of them overflow
EXTREMES = tuple(
    sorted(
        {
            0,
            1,
            2,
            3,
            7,
            8,
            9,
            31,
            32,
            33,
            63,
            64,
            65,
            255,
            256,
            4096,
            4097,
            65_535,
            65_536,
            100_001,
            1_000_001,
        }
        | {
            (1 << bits) + step
            for bits in (20, 27, 29, 31, 32, 40, 45, 58, 59, 62, 63, 64)
            for step in (-1, 0, 1)
        }
    )
)


class Choices:
    """Decisions off ``data``; where it ends, every decision is the first there is."""

    def __init__(self, data: bytes):
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        """Say whether there is something left to decide by."""
        return self._position < len(self._data)

    def data(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer at the end."""
        begin, self._position = self._position, min(len(self._data), self._position + size)
        return self._data[begin : self._position]

    def below(self, bound: int) -> int:
        """Return a number below ``bound``."""
        size = max(1, ((bound - 1).bit_length() + 7) // 8)
        return int.from_bytes(self.data(size), "big") % bound

    def of(self, items: Sequence[Item]) -> Item:
        """Return one of ``items``."""
        return items[self.below(len(items))]

    def number(self) -> int:
        """Return a number of at most 65 bits: a small one, one at a limit, or any."""
        match self.below(4):
            case 0:
                return self.below(12)
            case 1:
                return int.from_bytes(self.data(8), "little")
            case _:
                return self.of(EXTREMES)
