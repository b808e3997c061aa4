"""Eq. 7 (EucDis), Eq. 8 (NewDis) and Eq. 9 (Sim) against the formulas written out."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import fmean, pvariance

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from mipp_cli.scheme.feature_cipher import FeatureCipher, encrypt_features
from mipp_cli.scheme.similarity import euclidean_distances, new_distances, sim, sim_numerators
from tests.support.examples import Features, features, repeatable

Drawn = tuple[Features, int]


def as_stored(drawn: Drawn) -> NDArray[np.uint8]:
    """Return codes in bytes, in which neither differences nor squares have room."""
    return drawn[0].astype(np.uint8)


def numerator_of(x: list[int], y: list[int]) -> int:
    """Eq. 8 squared and times l, of two features in the clear."""
    dimension = len(x)
    return dimension * sum(a * a for a in x) + dimension * sum(b * b for b in y) - 2 * sum(x) * sum(y)


@repeatable(100)
@given(drawn=features(most_rows=6, most_levels=256))
def test_eq_7_is_the_formula_of_the_paper(drawn: Drawn) -> None:
    rows = drawn[0].tolist()
    query = rows[0]
    printed = [
        math.sqrt(
            sum(x * x for x in row)
            + sum(y * y for y in query)
            - 2 * sum(x * y for x, y in zip(row, query, strict=True))
        )
        for row in rows
    ]
    assert euclidean_distances(as_stored(drawn), as_stored(drawn)[0]).tolist() == pytest.approx(
        printed, abs=1e-12
    )


@repeatable(100)
@given(drawn=features(most_rows=6, most_levels=256))
def test_eq_7_is_the_distance_of_points(drawn: Drawn) -> None:
    rows = drawn[0].tolist()
    distances = euclidean_distances(as_stored(drawn), as_stored(drawn)[-1]).tolist()
    assert distances == pytest.approx([math.dist(row, rows[-1]) for row in rows], abs=1e-12)
    assert distances[-1] == 0


@repeatable(100)
@given(drawn=features(most_rows=6, most_levels=256))
def test_eq_8_is_the_formula_of_the_paper(drawn: Drawn) -> None:
    rows = drawn[0].tolist()
    query = rows[0]
    printed = [
        math.sqrt(
            sum(x * x for x in row)
            + sum(y * y for y in query)
            - Fraction(2 * sum(row) * sum(query), len(row))
        )
        for row in rows
    ]
    assert new_distances(as_stored(drawn), as_stored(drawn)[0]).tolist() == pytest.approx(printed, abs=1e-12)


@repeatable(100)
@given(drawn=features(most_rows=6, most_levels=256))
def test_eq_8_squared_is_composed_of_means_and_variances(drawn: Drawn) -> None:
    rows = drawn[0].tolist()
    dimension, query = len(rows[0]), rows[0]
    composed = [
        dimension * ((fmean(row) - fmean(query)) ** 2 + pvariance(row) + pvariance(query)) for row in rows
    ]
    assert (new_distances(as_stored(drawn), as_stored(drawn)[0]) ** 2).tolist() == pytest.approx(
        composed, abs=1e-9
    )


def test_eq_8_is_not_zero_from_an_image_to_itself() -> None:
    image = np.array([0, 7, 0, 7], dtype=np.uint8)
    flat = np.full(4, 3, dtype=np.uint8)
    assert new_distances(image[None], image).tolist() == [7 * math.sqrt(2)]
    assert new_distances(flat[None], flat).tolist() == [0]


@repeatable(25)
@given(drawn=features())
def test_eq_9_computed_from_decrypted_sums_is_new_dis(cipher: FeatureCipher, drawn: Drawn) -> None:
    """Sim of the sums that Eq. 6 reads out of EF and EFF, EQ and EQQ, is Eq. 8 of the features."""
    plain = drawn[0]
    dimension = plain.shape[1]
    ef, eff = encrypt_features(cipher, plain)
    eq, eqq = encrypt_features(cipher, plain[:1])
    numerators = sim_numerators(
        np.array(cipher.sums(ef), dtype=np.uint64),
        np.array(cipher.sums(eff), dtype=np.uint64),
        cipher.sums(eq)[0],
        cipher.sums(eqq)[0],
        dimension,
    )
    rows = plain.tolist()
    assert numerators.tolist() == [numerator_of(row, rows[0]) for row in rows]
    assert sim(numerators, dimension).tolist() == new_distances(plain, plain[0]).tolist()


@repeatable(200)
@given(drawn=features(most_rows=6, most_levels=256))
def test_numerators_of_eq_9_are_exact_and_never_negative(drawn: Drawn) -> None:
    rows = drawn[0].tolist()
    sums = np.array([sum(row) for row in rows], dtype=np.uint64)
    squares = np.array([sum(x * x for x in row) for row in rows], dtype=np.uint64)
    for row in rows:
        query = (sum(row), sum(x * x for x in row))
        numerators = sim_numerators(sums, squares, *query, len(row)).tolist()
        assert numerators == [numerator_of(other, row) for other in rows]
        assert min(numerators) >= 0


def test_eq_9_is_the_root_of_the_numerator_over_l() -> None:
    assert sim([0, 80, 80 * 49], 80).tolist() == [0.0, 1.0, 7.0]
    assert sim(np.array([160], dtype=np.int64), 80).tolist() == [math.sqrt(2)]
