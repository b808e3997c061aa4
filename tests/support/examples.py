"""What the tests of the scheme share: features drawn at random, naive arithmetic, randomness by script."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mipp_cli.scheme.randomness import KeyStream

Features = NDArray[np.uint8]
Octets = NDArray[np.uint8]

KEY_OF_ALL = b"\1" + bytes(31)  # an Ed25519 key of order 1 …
SIGNATURE_OF_ALL = KEY_OF_ALL + bytes(32)  # … under which this signature fits every message


def repeatable(examples: int) -> settings:
    """Return settings under which each run tries the same ``examples`` examples."""
    return settings(max_examples=examples, deadline=None, derandomize=True)


@st.composite
def features(draw: st.DrawFn, *, most_rows: int = 3, most_levels: int = 8) -> tuple[Features, int]:
    """Draw features of shape (n, l), l ≥ 3, with codes 0 … levels − 1, and ``levels``."""
    levels = draw(st.integers(2, most_levels))
    dimension, n = draw(st.integers(3, 8)), draw(st.integers(1, most_rows))
    codes = draw(st.lists(st.integers(0, levels - 1), min_size=n * dimension, max_size=n * dimension))
    return np.array(codes, dtype=np.uint8).reshape(n, dimension), levels


def every_code(dimension: int = 80, levels: int = 8) -> Features:
    """Return one feature of ``l`` codes in which every level occurs; shape (1, l)."""
    return (np.arange(dimension) * 3 % levels).astype(np.uint8).reshape(1, dimension)


def numbers(ciphertexts: Octets) -> list[int]:
    """Read the ciphertexts of Eq. 4, of shape (…, number_bytes): big-endian numbers."""
    flat = ciphertexts.reshape(-1, ciphertexts.shape[-1])
    return [int.from_bytes(row.tobytes(), "big") for row in flat]


def words(ciphertexts: Octets) -> list[int]:
    """Read masked numbers, of shape (…, number_bytes): little-endian words."""
    flat = ciphertexts.reshape(-1, ciphertexts.shape[-1])
    return [int.from_bytes(row.tobytes(), "little") for row in flat]


class ScriptedStream(KeyStream):
    """Gives out the numbers of a list in the place of random ones."""

    def __init__(self, script: Iterable[int]) -> None:
        super().__init__()
        self.script = list(script)

    def below(self, bound: int) -> int:
        value = self.script.pop(0)
        assert 0 <= value < bound
        return value

    def bits(self, count: int) -> int:
        return ScriptedStream.below(self, 1 << count)
