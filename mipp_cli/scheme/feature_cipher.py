"""ImageFeatureEnc and the sums it reveals: Eq. 3–6, and zero-sum masks as an alternative."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from mipp_cli.errors import MalformedError
from mipp_cli.scheme.fixed_base import FixedBaseTable, best_window, fixed_base_table
from mipp_cli.scheme.randomness import KeyStream
from mipp_cli.scheme.sum_groups import SumGroup

Bytes = NDArray[np.uint8]
Integers = NDArray[np.unsignedinteger]
_WORD = np.dtype("<u4")


@dataclass(frozen=True)
class ProductCipher:
    """Eq. 3–6 over a group: C_i = (1 + x_i·m)·R_i mod m², with ∏R_i = 1.

    ``window`` is the window of the table of powers; without it each call chooses one for its size.
    """

    group: SumGroup
    window: int | None = None
    # whether sums take longer than sending the ciphertexts to another process
    sums_take_long: ClassVar[bool] = True

    @property
    def number_bytes(self) -> int:
        """Bytes of the ciphertext of one number, big-endian."""
        return (2 * self.group.m.bit_length() + 7) // 8

    @cached_property
    def _m_squared(self) -> mpz:
        return mpz(self.group.m) ** 2

    def prepared(self, vectors: int, l: int) -> ProductCipher:
        """Return the cipher with the best window for ``vectors``; the table is built on first use."""
        return ProductCipher(self.group, best_window(self.group.exponent_bits, vectors * (l - 1)))

    def _table(self, powers: int) -> FixedBaseTable:
        bits = self.group.exponent_bits
        window = self.window or best_window(bits, powers)
        return fixed_base_table(self.group.g2, int(self._m_squared), bits, window)

    def encrypt(self, x: Integers) -> Bytes:
        """Eq. 4: encrypt ``x``, shape (n, l), to shape (n, l, number_bytes), with fresh randomness."""
        n, l = x.shape
        stream = KeyStream()
        table = self._table(n * (l - 1))
        out = bytearray()
        for row in x.tolist():
            for c in self.encrypt_with(row, self.blinding_factors(self.group.exponents(l, stream), table)):
                out += c.to_bytes(self.number_bytes, "big")
        return np.frombuffer(bytes(out), dtype=np.uint8).reshape(n, l, self.number_bytes)

    def blinding_factors(self, exponents: list[int], table: FixedBaseTable) -> list[mpz]:
        """Eq. 3: R_i = g2^{e_i} for i < l, and R_l the inverse of their product."""
        factors = [table.power(e) for e in exponents]
        product = mpz(1)
        for factor in factors:
            product = product * factor % self._m_squared
        factors.append(gmpy2.invert(product, self._m_squared))
        return factors

    def encrypt_with(self, x: list[int], factors: list[mpz]) -> list[mpz]:
        """Eq. 4 with the blinding factors given: C_i = (1 + x_i·m)·R_i mod m²."""
        m, m_squared = mpz(self.group.m), self._m_squared
        return [(1 + x_i * m) * r_i % m_squared for x_i, r_i in zip(x, factors, strict=True)]

    def sums(self, c: Bytes) -> list[int]:
        """Eq. 5, C = ∏C_i mod m², and Eq. 6, Σx_i = (C − 1)/m, for each row of ``c``, (n, l, number_bytes).

        Raises MalformedError where the product is not the encryption of a sum.
        """
        m, m_squared, width = mpz(self.group.m), self._m_squared, self.number_bytes
        totals = []
        for row in np.ascontiguousarray(c):
            data = row.tobytes()
            product = mpz.from_bytes(data[:width])
            for start in range(width, len(data), width):
                product = product * mpz.from_bytes(data[start : start + width]) % m_squared
            total, remainder = gmpy2.f_divmod(product - 1, m)
            if remainder:
                raise MalformedError("the ciphertexts of a feature do not multiply to an encrypted sum")
            totals.append(int(total))
        return totals


@dataclass(frozen=True)
class MaskCipher:
    """Zero-sum masks: C_i = x_i + m_i mod 2^32 with Σm_i = 0 mod 2^32.

    Any l−1 of the masks are uniform and independent, so the ciphertexts reveal the sum and nothing else,
    whatever the adversary's computing power. A word is large enough for Σx² of every descriptor (see
    descriptor.py).
    """

    sums_take_long: ClassVar[bool] = False

    @property
    def number_bytes(self) -> int:
        """Bytes of a word, little-endian."""
        return _WORD.itemsize

    def prepared(self, vectors: int, l: int) -> MaskCipher:
        """Return itself: masks need no table."""
        return self

    def encrypt(self, x: Integers) -> Bytes:
        """Mask each row of ``x``, shape (n, l), to shape (n, l, number_bytes)."""
        words = KeyStream().words(x.shape, _WORD)
        words[:, -1] -= np.einsum("ij->i", words)  # now the l words of a row add up to 0
        words += x
        return words.view(np.uint8).reshape(*x.shape, self.number_bytes)

    def sums(self, c: Bytes) -> list[int]:
        """Σx_i = ΣC_i mod 2^32 of each row."""
        words = np.ascontiguousarray(c).view(_WORD)[..., 0]
        totals: list[int] = np.einsum("ij->i", words).tolist()
        return totals


FeatureCipher = ProductCipher | MaskCipher
"""A cipher of vectors that reveals the sum of each vector and nothing else (except `paper`)."""


def encrypt_features(cipher: FeatureCipher, features: Bytes) -> tuple[Bytes, Bytes]:
    """ImageFeatureEnc: EF of the features and EFF of their squares, with independent randomness.

    ``features`` has shape (n, l), uint8. The paper prints the same R_i for both, which leaks
    C'/C = 1 + (x²−x)·p; here the two are always drawn separately. Source: paper, section 5.3.3.
    """
    return cipher.encrypt(features), cipher.encrypt(np.multiply(features, features, dtype=np.uint16))
