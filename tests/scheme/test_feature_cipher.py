"""ImageFeatureEnc: Eq. 3 to 6 against the formulas as printed, for both groups and for zero-sum masks."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.errors import MalformedError
from mipp_cli.scheme.feature_cipher import FeatureCipher, MaskCipher, ProductCipher, encrypt_features
from mipp_cli.scheme.fixed_base import fixed_base_table
from mipp_cli.scheme.randomness import KeyStream
from mipp_cli.scheme.sum_groups import CompositeGroup, PrimeGroup
from tests.support.examples import Features, ScriptedStream, every_code, features, numbers, repeatable, words


def blinding(cipher: ProductCipher, dimension: int) -> list[int]:
    """Draw R_1 … R_l as the cipher does."""
    group = cipher.group
    table = fixed_base_table(group.g2, group.m**2, group.exponent_bits, 4)
    return [int(r) for r in cipher.blinding_factors(group.exponents(dimension, KeyStream()), table)]


@repeatable(12)
@given(data=st.data(), dimension=st.integers(3, 6))
def test_eq_3_gives_the_blinding_factors_of_the_printed_formula(
    paper_group: PrimeGroup, data: st.DataObject, dimension: int
) -> None:
    p2, g2 = paper_group.p**2, paper_group.g2
    r = data.draw(st.lists(st.integers(0, paper_group.q - 1), min_size=dimension, max_size=dimension))
    printed = [
        pow(pow(g2, r[(i + 1) % dimension], p2) * pow(pow(g2, r[i - 1], p2), -1, p2), r[i], p2)
        for i in range(dimension)
    ]
    table = fixed_base_table(g2, p2, paper_group.exponent_bits, 4)
    factors = ProductCipher(paper_group).blinding_factors(
        paper_group.exponents(dimension, ScriptedStream(r)), table
    )
    assert factors == printed


def test_repaired_eq_3_uses_exponents_that_sum_to_zero(dcr_group: CompositeGroup) -> None:
    n2, e = dcr_group.n**2, [3, 1 << 255, (1 << 256) - 1, 0]
    table = fixed_base_table(dcr_group.g2, n2, 256, 4)
    factors = ProductCipher(dcr_group).blinding_factors(dcr_group.exponents(5, ScriptedStream(e)), table)
    assert factors == [pow(dcr_group.g2, each, n2) for each in (*e, -sum(e))]


@pytest.mark.parametrize("dimension", [3, 4, 80])
def test_the_product_of_all_blinding_factors_is_one(product_cipher: ProductCipher, dimension: int) -> None:
    """Eq. 3."""
    factors = blinding(product_cipher, dimension)
    assert len(factors) == dimension
    assert math.prod(factors) % product_cipher.group.m**2 == 1
    assert len(set(factors)) == dimension


@repeatable(20)
@given(drawn=features(most_rows=1))
def test_eq_4_hides_each_number_behind_its_blinding_factor(
    product_cipher: ProductCipher, drawn: tuple[Features, int]
) -> None:
    row = drawn[0][0].tolist()
    m, factors = product_cipher.group.m, blinding(product_cipher, len(row))
    encrypted = product_cipher.encrypt_with(row, [mpz(r) for r in factors])
    assert encrypted == [(1 + x * m) * r % (m * m) for x, r in zip(row, factors, strict=True)]


def test_eq_4_is_what_the_factors_of_n_decrypt_one_by_one() -> None:
    """Who keeps p and q of N decrypts each C_i as Paillier does: x = L(C^λ mod N²)/λ mod N."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024).private_numbers()
    n, secret = key.p * key.q, math.lcm(key.p - 1, key.q - 1)
    features = every_code()
    encrypted = numbers(ProductCipher(CompositeGroup(n)).encrypt(features.astype(np.uint16)))
    decrypted = [(pow(c, secret, n * n) - 1) // n * pow(secret, -1, n) % n for c in encrypted]
    assert decrypted == features[0].tolist()


@repeatable(20)
@given(drawn=features())
def test_eq_5_the_product_of_ciphertexts_gives_the_sum(
    product_cipher: ProductCipher, drawn: tuple[Features, int]
) -> None:
    m, plain = product_cipher.group.m, drawn[0]
    for row, encrypted in zip(plain.tolist(), product_cipher.encrypt(plain.astype(np.uint16)), strict=True):
        assert math.prod(numbers(encrypted)) % m**2 == 1 + m * sum(row)


def test_eq_6_reads_every_sum_that_the_modulus_holds(product_cipher: ProductCipher) -> None:
    m = product_cipher.group.m
    width = product_cipher.number_bytes
    for total in (0, 1, 560, m // 2, m - 1):
        data = b"".join(c.to_bytes(width, "big") for c in (1 + total * m, 1, 1))
        assert product_cipher.sums(np.frombuffer(data, np.uint8).reshape(1, 3, width)) == [total]


@repeatable(25)
@given(drawn=features(most_levels=256))
def test_image_feature_enc_keeps_both_sums_readable(
    cipher: FeatureCipher, drawn: tuple[Features, int]
) -> None:
    """Eq. 4 to 6: Σx from EF, Σx² from EFF."""
    plain = drawn[0]
    ef, eff = encrypt_features(cipher, plain)  # squares must not wrap in a byte
    assert ef.shape == eff.shape == (*plain.shape, cipher.number_bytes)
    assert cipher.sums(ef) == [sum(row) for row in plain.tolist()]
    assert cipher.sums(eff) == [sum(x * x for x in row) for row in plain.tolist()]


@pytest.mark.parametrize("code", [0, 7])
def test_the_ends_of_the_domain_come_back_as_sums(cipher: FeatureCipher, code: int) -> None:
    """Eq. 6 for 80 codes that are all least or all greatest."""
    ef, eff = encrypt_features(cipher, np.full((2, 80), code, dtype=np.uint8))
    assert cipher.sums(ef) == [80 * code] * 2
    assert cipher.sums(eff) == [80 * code * code] * 2


def test_no_vectors_are_encrypted_to_none(cipher: FeatureCipher) -> None:
    encrypted = cipher.encrypt(np.zeros((0, 80), dtype=np.uint16))
    assert encrypted.shape == (0, 80, cipher.number_bytes)
    assert cipher.sums(encrypted) == []


@pytest.mark.parametrize("order", ["C", "F"])
def test_sums_are_read_however_the_ciphertexts_lie_in_memory(
    cipher: FeatureCipher, order: Literal["C", "F"]
) -> None:
    plain = np.arange(12, dtype=np.uint16).reshape(3, 4)
    spread = np.zeros((3, 8, cipher.number_bytes), dtype=np.uint8, order=order)
    spread[:, ::2] = cipher.encrypt(plain)
    assert cipher.sums(spread[:, ::2]) == [6, 22, 38]


@repeatable(25)
@given(drawn=features(most_rows=1))
def test_encrypting_twice_never_gives_the_same(cipher: FeatureCipher, drawn: tuple[Features, int]) -> None:
    plain = drawn[0].astype(np.uint16)
    assert not np.array_equal(cipher.encrypt(plain), cipher.encrypt(plain))


def test_equal_rows_of_one_call_are_encrypted_differently(cipher: FeatureCipher) -> None:
    encrypted = cipher.encrypt(np.repeat(every_code(), 5, axis=0).astype(np.uint16))
    assert len({row.tobytes() for row in encrypted}) == 5


@repeatable(25)
@given(drawn=features())
def test_features_and_squares_never_share_a_blinding_factor(
    product_cipher: ProductCipher, drawn: tuple[Features, int]
) -> None:
    """Modulo p (or N) a ciphertext of Eq. 4 is its R_i; one R_i for both would give C'/C = 1 + (x²−x)·p."""
    m = product_cipher.group.m
    ef, eff = encrypt_features(product_cipher, drawn[0])
    blinding_of_features, blinding_of_squares = ([c % m for c in numbers(each)] for each in (ef, eff))
    assert not set(blinding_of_features) & set(blinding_of_squares)


@repeatable(25)
@given(drawn=features(most_rows=1))
def test_features_and_squares_never_share_their_masks(drawn: tuple[Features, int]) -> None:
    """Were the masks shared, EFF − EF would be x² − x."""
    row = drawn[0][0].tolist()
    ef, eff = encrypt_features(MaskCipher(), drawn[0])
    leaks = [
        (y - x) % 2**32 == code * code - code for code, x, y in zip(row, words(ef), words(eff), strict=True)
    ]
    assert not any(leaks)


def test_prepared_ciphers_encrypt_the_same(cipher: FeatureCipher) -> None:
    ready = cipher.prepared(10, 80)
    ef, eff = encrypt_features(ready, every_code())
    assert ready.number_bytes == cipher.number_bytes
    assert cipher.sums(ef) == [int(every_code().sum())]
    assert ready.sums(eff) == [int((every_code() ** 2).sum())]


def test_numbers_are_as_wide_as_the_square_of_the_modulus(
    dcr_group: CompositeGroup, paper_group: PrimeGroup
) -> None:
    assert ProductCipher(dcr_group).number_bytes == 2 * 1024 // 8
    assert ProductCipher(paper_group).number_bytes == 2 * 768 // 8
    assert MaskCipher().number_bytes == 4


@repeatable(30)
@given(
    row=st.integers(0, 2), column=st.integers(0, 3), place=st.integers(0, 10**6), change=st.integers(1, 255)
)
def test_a_changed_byte_of_a_ciphertext_leaves_no_encrypted_sum(
    product_cipher: ProductCipher, row: int, column: int, place: int, change: int
) -> None:
    """Eq. 6 has a remainder then."""
    encrypted = product_cipher.encrypt(np.ones((3, 4), dtype=np.uint16)).copy()
    encrypted[row, column, place % product_cipher.number_bytes] ^= change
    with pytest.raises(MalformedError):
        product_cipher.sums(encrypted)


@pytest.mark.parametrize("octet", [0, 255])
def test_numbers_that_are_no_ciphertexts_have_no_sum(product_cipher: ProductCipher, octet: int) -> None:
    with pytest.raises(MalformedError):
        product_cipher.sums(np.full((1, 5, product_cipher.number_bytes), octet, dtype=np.uint8))


def test_a_ciphertext_of_another_modulus_has_no_sum(
    dcr_group: CompositeGroup, paper_group: PrimeGroup
) -> None:
    dcr, paper = ProductCipher(dcr_group), ProductCipher(paper_group)
    narrow = paper.encrypt(every_code().astype(np.uint16))
    wide = np.zeros((1, 80, dcr.number_bytes), dtype=np.uint8)
    wide[..., -paper.number_bytes :] = narrow
    with pytest.raises(MalformedError):
        dcr.sums(wide)


def test_masks_of_a_row_sum_to_zero() -> None:
    """ΣC_i − Σx_i = Σm_i = 0 mod 2^32, on the data as they are sent."""
    plain = np.arange(30, dtype=np.uint16).reshape(3, 10)
    encrypted = MaskCipher().encrypt(plain)
    for row, sent in zip(plain.tolist(), encrypted, strict=True):
        masks = [(c - x) % 2**32 for x, c in zip(row, words(sent), strict=True)]
        assert sum(masks) % 2**32 == 0
        assert len(set(masks)) > 1


@pytest.mark.parametrize("code", [0, 7])
def test_every_bit_of_a_masked_number_is_set_half_the_time(code: int) -> None:
    rows = 6000
    encrypted = MaskCipher().encrypt(np.full((rows, 3), code, dtype=np.uint16))
    often = np.unpackbits(encrypted, axis=-1).reshape(rows, 3, 32).sum(axis=0, dtype=np.uint16)
    assert often.min() > rows * 0.42  # 12 standard deviations below a half
    assert often.max() < rows * 0.58
