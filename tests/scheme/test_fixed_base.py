"""Powers from a table against Python's own ``pow``."""

from __future__ import annotations

import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.scheme.fixed_base import LARGEST_WINDOW, best_window, fixed_base_table
from tests.support.examples import repeatable


@repeatable(150)
@given(
    modulus=st.integers(2, 2**200),
    base=st.integers(0, 2**200),
    bits=st.integers(1, 70),
    window=st.integers(1, 7),
    data=st.data(),
)
def test_a_power_from_the_table_is_the_power(
    modulus: int, base: int, bits: int, window: int, data: st.DataObject
) -> None:
    exponent = data.draw(st.integers(0, 2**bits - 1))
    table = fixed_base_table(base % modulus, modulus, bits, window)
    assert table.power(exponent) % modulus == pow(base, exponent, modulus)


@pytest.mark.parametrize("window", range(1, LARGEST_WINDOW + 1))
def test_every_window_handles_the_least_and_largest_exponent(window: int) -> None:
    modulus = 10**40 + 121
    table = fixed_base_table(3, modulus, 64, window)
    assert table.power(0) == 1
    assert table.power(2**64 - 1) == pow(3, 2**64 - 1, modulus)


def test_each_table_entry_is_its_power() -> None:
    table = fixed_base_table(7, 10**9 + 7, 12, 4)
    assert tuple(map(tuple, table.rows)) == tuple(
        tuple(mpz(pow(7, d * 2 ** (4 * j), 10**9 + 7)) for d in range(16)) for j in range(3)
    )


@pytest.mark.parametrize("exponent", [-1, 2**64, 2**64 + 2**65])
def test_an_exponent_outside_the_table_is_refused(exponent: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        fixed_base_table(3, 10**40 + 121, 64, 5).power(exponent)


@repeatable(200)
@given(bits=st.integers(1, 2000), powers=st.integers(0, 10**6))
def test_no_other_window_makes_table_and_powers_cheaper(bits: int, powers: int) -> None:
    def products(window: int) -> int:
        rows = (bits + window - 1) // window
        return rows * (1 << window) + rows * powers

    chosen = best_window(bits, powers)
    assert 1 <= chosen <= LARGEST_WINDOW
    assert products(chosen) == min(products(window) for window in range(1, LARGEST_WINDOW + 1))


def test_a_table_is_made_once() -> None:
    assert fixed_base_table(3, 10**40 + 121, 64, 5) is fixed_base_table(3, 10**40 + 121, 64, 5)
