"""Why scheme `paper` hides nothing, shown by reading it; and that the same reading fails on the others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gmpy2 import mpz

from mipp_cli.scheme.feature_cipher import MaskCipher, ProductCipher, encrypt_features
from mipp_cli.scheme.fixed_base import fixed_base_table
from mipp_cli.scheme.randomness import KeyStream
from mipp_cli.scheme.sum_groups import CompositeGroup, PrimeGroup
from tests.support.examples import every_code, numbers, words


def read_without_key(ciphertexts: list[int], modulus: int, exponent: int) -> list[int | None]:
    """Read x_i from C_i^exponent = 1 − x_i·modulus mod modulus²; None where it is not of that form."""
    read: list[int | None] = []
    for c in ciphertexts:
        x, remainder = divmod((1 - pow(c, exponent, modulus**2)) % modulus**2, modulus)
        read.append(None if remainder else x)
    return read


def test_the_public_p_reveals_all_codes_and_squares_of_eq_4(paper_group: PrimeGroup) -> None:
    """The order of every R_i divides p − 1, so C^(p−1) = (1 + x·p)^(p−1) = 1 − x·p mod p²."""
    p, codes = paper_group.p, every_code(80)
    ef, eff = encrypt_features(ProductCipher(paper_group), codes)
    assert set(codes[0].tolist()) == set(range(8))
    assert read_without_key(numbers(ef), p, p - 1) == codes[0].tolist()
    assert read_without_key(numbers(eff), p, p - 1) == (codes[0] ** 2).tolist()


@pytest.mark.parametrize("exponent", ["N - 1", "N", "2 * N", "N * (N - 1)", "(N - 1) // 2"])
def test_the_same_reading_of_the_repair_gives_nothing(dcr_group: CompositeGroup, exponent: str) -> None:
    n = dcr_group.n
    e = {"N - 1": n - 1, "N": n, "2 * N": 2 * n, "N * (N - 1)": n * (n - 1), "(N - 1) // 2": (n - 1) // 2}
    ef, eff = encrypt_features(ProductCipher(dcr_group), every_code(16))
    for ciphertexts in (numbers(ef), numbers(eff)):
        assert read_without_key(ciphertexts, n, e[exponent]) == [None] * 16
        assert {math.gcd(pow(c, e[exponent], n) - 1, n) for c in ciphertexts} == {1}


def test_the_same_reading_of_masked_features_gives_nothing() -> None:
    modulus = 2**32
    ef, eff = encrypt_features(MaskCipher(), every_code(80))
    for ciphertexts in (words(ef), words(eff)):
        read = read_without_key(ciphertexts, modulus, modulus - 1)
        assert sum(x is not None for x in read) <= 2  # a word is 1 by chance


def test_a_blinding_shared_by_code_and_square_reveals_the_code(
    product_cipher: ProductCipher,
) -> None:
    """As the paper prints Eq. 4 for EF and EFF: C'/C = 1 + (x² − x)·m under any modulus m."""
    group, codes = product_cipher.group, every_code(80)[0].tolist()
    m = group.m
    table = fixed_base_table(group.g2, m**2, group.exponent_bits, 4)
    shared: list[mpz] = product_cipher.blinding_factors(group.exponents(80, KeyStream()), table)
    of_codes = product_cipher.encrypt_with(codes, shared)
    of_squares = product_cipher.encrypt_with([x * x for x in codes], shared)
    quotients = [
        int(square) * pow(int(code), -1, m**2) % m**2
        for code, square in zip(of_codes, of_squares, strict=True)
    ]
    assert [divmod(quotient - 1, m) for quotient in quotients] == [(x * x - x, 0) for x in codes]


def test_the_quotient_of_square_and_code_reveals_nothing_here(product_cipher: ProductCipher) -> None:
    """ImageFeatureEnc draws EF and EFF separately."""
    m = product_cipher.group.m
    ef, eff = encrypt_features(product_cipher, every_code(80))
    quotients = [y * pow(x, -1, m**2) % m**2 for x, y in zip(numbers(ef), numbers(eff), strict=True)]
    assert all((quotient - 1) % m for quotient in quotients)


def test_subtracting_masked_code_from_square_reveals_nothing() -> None:
    codes = every_code(80)
    ef, eff = encrypt_features(MaskCipher(), codes)
    differences = [(y - x) % 2**32 for x, y in zip(words(ef), words(eff), strict=True)]
    leaks = codes.astype(np.int64) ** 2 - codes
    assert sum(np.equal(differences, leaks[0]).tolist()) <= 2
