"""Powers of a fixed base: with a table of g^(d·2^(w·j)), a power costs one multiplication per window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gmpy2 import mpz

LARGEST_WINDOW = 12  # 2^12 entries in each of 22 rows: 75 MB at a modulus of 3072 bits


def best_window(exponent_bits: int, powers: int) -> int:
    """Return the window (bits) that minimises the cost of the table plus ``powers`` powers from it."""

    def cost(window: int) -> int:
        rows = -(-exponent_bits // window)
        return rows * ((1 << window) + powers)

    return min(range(1, LARGEST_WINDOW + 1), key=cost)


@dataclass(frozen=True)
class FixedBaseTable:
    """Table of one base: ``rows[j][d]`` is base^(d·2^(window·j)) mod modulus.

    Fixed-base windowing: Brickell, Gordon, McCurley and Wilson, EUROCRYPT '92. The time of a power and the
    table entries it reads depend on the exponent. An attacker who observes the caches of the owner's own
    machine is outside the threat model (docs/threat-model.md).
    """

    modulus: mpz
    window: int
    exponent_bits: int
    rows: list[list[mpz]]

    def power(self, exponent: int) -> mpz:
        """Return base^exponent mod modulus for 0 ≤ exponent < 2^exponent_bits."""
        if not 0 <= exponent < 1 << self.exponent_bits:
            raise ValueError("exponent outside the table")
        modulus, window, digit_mask = self.modulus, self.window, (1 << self.window) - 1
        result = mpz(1)
        for row in self.rows:
            digit = exponent & digit_mask
            if digit:
                result = result * row[digit] % modulus
            exponent >>= window
        return result


@lru_cache(maxsize=2)
def fixed_base_table(base: int, modulus: int, exponent_bits: int, window: int) -> FixedBaseTable:
    """Return the table of ``base`` modulo ``modulus``, kept for the process."""
    m, step = mpz(modulus), mpz(base)
    rows = []
    for _ in range(-(-exponent_bits // window)):
        row = [mpz(1)]
        while len(row) < 1 << window:
            row.append(row[-1] * step % m)
        rows.append(row)
        step = row[-1] * step % m  # base^(2^window − 1) · base
    return FixedBaseTable(m, window, exponent_bits, rows)
