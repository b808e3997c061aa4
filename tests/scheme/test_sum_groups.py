"""Eq. 1 and 2, KeyGen of the two groups, and the standard primes against the RFCs that print them."""

from __future__ import annotations

import hashlib
import math
from unittest.mock import patch

import gmpy2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.scheme.randomness import KeyStream
from mipp_cli.scheme.sum_groups import (
    PAPER_BITS,
    CompositeGroup,
    PrimeGroup,
    generate_composite_group,
    generate_prime_group,
    standard_prime,
)
from tests.support.examples import ScriptedStream

RFC_7919_FFDHE2048 = """
FFFFFFFF FFFFFFFF ADF85458 A2BB4A9A AFDC5620 273D3CF1 D8B9C583 CE2D3695 A9E13641 146433FB CC939DCE 249B3EF9
7D2FE363 630C75D8 F681B202 AEC4617A D3DF1ED5 D5FD6561 2433F51F 5F066ED0 85636555 3DED1AF3 B557135E 7F57C935
984F0C70 E0E68B77 E2A689DA F3EFE872 1DF158A1 36ADE735 30ACCA4F 483A797A BC0AB182 B324FB61 D108A94B B2C8E3FB
B96ADAB7 60D7F468 1D4F42A3 DE394DF4 AE56EDE7 6372BB19 0B07A7C8 EE0A6D70 9E02FCE1 CDF7E2EC C03404CD 28342F61
9172FE9C E98583FF 8E4F1232 EEF28183 C3FE3B1B 4C6FAD73 3BB5FCBC 2EC22005 C58EF183 7D1683B2 C6F34A26 C1B2EFFA
886B4238 61285C97 FFFFFFFF FFFFFFFF
"""
RFC_2409_GROUP_1 = """
FFFFFFFF FFFFFFFF C90FDAA2 2168C234 C4C6628B 80DC1CD1 29024E08 8A67CC74 020BBEA6 3B139B22 514A0879 8E3404DD
EF9519B3 CD3A431B 302B0A6D F25F1437 4FE1356D 6D51C245 E485B576 625E7EC6 F44C42E9 A63A3620 FFFFFFFF FFFFFFFF
"""
RFC_2409_GROUP_2 = """
FFFFFFFF FFFFFFFF C90FDAA2 2168C234 C4C6628B 80DC1CD1 29024E08 8A67CC74 020BBEA6 3B139B22 514A0879 8E3404DD
EF9519B3 CD3A431B 302B0A6D F25F1437 4FE1356D 6D51C245 E485B576 625E7EC6 F44C42E9 A637ED6B 0BFF5CB6 F406B7ED
EE386BFB 5A899FA5 AE9F2411 7C4B1FE6 49286651 ECE65381 FFFFFFFF FFFFFFFF
"""
UNLUCKY = int(
    "80ce398491b51d2c8171af485732974fcc7a1ae20630ca0b35be347e8caa6506"
    "a9f77d4041503650e658588289a7986351967427ceea448ca966448946936"
    "44bceed631790002744d7c51d6572ea4500894683734bb59b723212ee19544ff3"
    "ab09b92cd575884463d4f988587f4b89260b92172243d0fc96ea017ab92e640bf5",
    16,
)


@pytest.mark.parametrize(
    ("bits", "printed"), [(2048, RFC_7919_FFDHE2048), (768, RFC_2409_GROUP_1), (1024, RFC_2409_GROUP_2)]
)
def test_the_standard_primes_are_those_that_the_rfcs_print(bits: int, printed: str) -> None:
    assert standard_prime(bits) == int("".join(printed.split()), 16)


@pytest.mark.parametrize("bits", PAPER_BITS)
def test_every_standard_prime_is_a_safe_prime_of_its_size(bits: int) -> None:
    p = standard_prime(bits)
    assert p.bit_length() == bits
    assert p >> (bits - 64) == p & (2**64 - 1) == 2**64 - 1  # as both RFCs shape them
    assert gmpy2.powmod(2, p - 1, p) == 1
    assert gmpy2.powmod(2, (p - 1) // 2 - 1, (p - 1) // 2) == 1


@pytest.mark.parametrize("bits", [0, 512, 1536, 2047])
def test_a_size_without_a_standard_prime_is_refused(bits: int) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        standard_prime(bits)
    assert "768" in str(refused.value.hint)


def test_eq_1_gives_an_element_of_order_q_other_than_one(paper_group: PrimeGroup) -> None:
    p, q, h = paper_group.p, paper_group.q, paper_group.h
    assert p == 2 * q + 1
    assert paper_group.g1 == pow(h, (p - 1) // q, p)
    assert paper_group.g1 != 1
    assert pow(paper_group.g1, q, p) == 1


@pytest.mark.parametrize("h", [2, 3, -2])
def test_eq_1_never_gives_one_at_the_ends_of_h(h: int) -> None:
    p = standard_prime(768)
    group = PrimeGroup(p, h % p)
    assert group.g1 == h * h % p != 1


def test_eq_2_gives_an_element_of_order_q_modulo_p_squared(paper_group: PrimeGroup) -> None:
    p, q = paper_group.p, paper_group.q
    assert paper_group.g2 == pow(paper_group.g1, p, p * p)
    assert paper_group.g2 != 1
    assert pow(paper_group.g2, q, p * p) == 1


def test_exponents_of_eq_3_are_reduced_modulo_q(paper_group: PrimeGroup) -> None:
    q = paper_group.q
    r = [5, 7, q - 1, 0, 2]
    # 5·(7 − 2), 7·((q−1) − 5), (q−1)·(0 − 7), 0·(2 − (q−1)); the fifth is what makes the product one
    assert paper_group.exponents(5, ScriptedStream(r)) == [25, (-42) % q, 7, 0]
    assert all(0 <= e < 1 << paper_group.exponent_bits for e in paper_group.exponents(40, KeyStream()))


def test_repaired_exponents_fill_256_bits_with_one_left_out(dcr_group: CompositeGroup) -> None:
    drawn = dcr_group.exponents(200, KeyStream())
    assert len(drawn) == len(set(drawn)) == 199
    assert max(drawn) < 1 << 256 == 1 << dcr_group.exponent_bits
    together = 0
    for e in drawn:
        together |= e
    assert together == (1 << 256) - 1


def test_the_base_of_the_repair_is_hashed_from_the_modulus(dcr_group: CompositeGroup) -> None:
    n = dcr_group.n
    digest = hashlib.shake_256(b"mipp/1 h of scheme dcr" + n.to_bytes(128, "big")).digest(128 * 2 + 16)
    h = int.from_bytes(digest, "big") % (n * n)
    assert dcr_group.g2 == pow(h, 2 * n, n * n)
    assert math.gcd(dcr_group.g2 - 1, n) == 1


def test_the_base_of_the_repair_is_an_nth_residue() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024).private_numbers()
    n, order_of_residues = key.p * key.q, math.lcm(key.p - 1, key.q - 1)
    assert pow(CompositeGroup(n).g2, order_of_residues, n * n) == 1


def test_keygen_of_the_repair_keeps_nothing_but_the_modulus() -> None:
    first, second = generate_composite_group(1024), generate_composite_group(1024)
    assert first.n.bit_length() == second.n.bit_length() == 1024
    assert first.n != second.n
    assert vars(first) == {"n": first.n}


@pytest.mark.parametrize("bits", [0, 1016, 1025, 16392])
def test_keygen_of_the_repair_refuses_sizes_that_it_cannot_make(bits: int) -> None:
    with pytest.raises(InvalidRequestError):
        generate_composite_group(bits)


def test_paper_keygen_takes_a_standard_prime_and_a_random_h() -> None:
    first, second = generate_prime_group(768), generate_prime_group(768)
    assert first.p == second.p == int("".join(RFC_2409_GROUP_1.split()), 16)
    assert first.h != second.h


@pytest.mark.parametrize(("drawn", "h"), [("least", 2), ("most", -2)])
def test_keygen_of_the_paper_draws_h_from_the_whole_range(drawn: str, h: int) -> None:
    p = standard_prime(768)
    with patch.object(KeyStream, "below", lambda _, bound: 0 if drawn == "least" else bound - 1):
        assert generate_prime_group(768).h == h % p


@pytest.mark.parametrize("change", [-(1 << 700), -2, 1, 2])
def test_another_modulus_than_the_standard_prime_is_refused(change: int) -> None:
    with pytest.raises(MalformedError):
        PrimeGroup(standard_prime(768) + change, 4)


@pytest.mark.parametrize("p", [0, -1, 23, 2**521 - 1, -standard_prime(768)])
def test_a_prime_of_no_standard_is_refused(p: int) -> None:
    with pytest.raises(MalformedError):
        PrimeGroup(p, 4)


@pytest.mark.parametrize("h", [-1, 0, 1, standard_prime(768) - 1, standard_prime(768), 1 << 800])
def test_an_h_outside_two_to_p_minus_two_is_refused(h: int) -> None:
    with pytest.raises(MalformedError):
        PrimeGroup(standard_prime(768), h)


def test_an_even_modulus_is_refused(dcr_group: CompositeGroup) -> None:
    with pytest.raises(MalformedError):
        CompositeGroup(dcr_group.n + 1)


def test_a_negative_modulus_is_refused(dcr_group: CompositeGroup) -> None:
    with pytest.raises(MalformedError):
        CompositeGroup(-dcr_group.n)


@pytest.mark.parametrize("factor", [3, 257, 65521])
def test_a_modulus_with_a_small_factor_is_refused(factor: int) -> None:
    with pytest.raises(MalformedError, match="factor below 65536"):
        CompositeGroup(factor * standard_prime(1024))


@pytest.mark.parametrize("factor", [65537, standard_prime(768)])
def test_a_modulus_without_a_small_factor_is_taken(factor: int) -> None:
    n = factor * standard_prime(1024)
    assert math.gcd(CompositeGroup(n).g2, n) == 1


def test_a_modulus_whose_base_has_no_inverse_is_refused() -> None:
    """65537 divides it and the h that is hashed from it; found by trying multiples of 65537."""
    assert UNLUCKY % 65537 == 0
    with pytest.raises(MalformedError, match="common factor with the base g2"):
        CompositeGroup(UNLUCKY)


def test_a_prime_modulus_is_refused() -> None:
    with pytest.raises(MalformedError):
        CompositeGroup(standard_prime(1024))


def test_the_power_of_a_prime_is_refused() -> None:
    with pytest.raises(MalformedError):
        CompositeGroup(standard_prime(768) ** 2)


@pytest.mark.parametrize("n", [0, 15, (2**511 - 1) * (2**512 - 3)])
def test_a_modulus_that_is_too_small_is_refused(n: int) -> None:
    with pytest.raises(MalformedError):
        CompositeGroup(n)


def test_a_modulus_that_is_too_large_is_refused_unexamined() -> None:
    with pytest.raises(MalformedError), patch.object(gmpy2, "is_prime", side_effect=AssertionError):
        CompositeGroup((1 << 16384) + 1)
