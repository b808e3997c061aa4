"""Each method's order against one found by brute force."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mipp_cli.experiments.base.methods import cloud_sim, end_to_end, euclidean

# few levels and short features, so that there are many ties
FEATURES = np.random.default_rng(11).integers(0, 3, (40, 6)).astype(np.uint8)
TIES = np.random.default_rng(12).permutation(40)


def squared_euclidean(x: list[int], y: list[int]) -> int:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def squared_new_distance(x: list[int], y: list[int]) -> Fraction:
    """Eq. 8 squared, as printed."""
    return sum(a * a for a in x) + sum(b * b for b in y) - Fraction(2 * sum(x) * sum(y), len(x))


def brute_force(query: int, distance: object, among: list[int]) -> list[int]:
    rows = FEATURES.tolist()
    assert callable(distance)
    return sorted(among, key=lambda image: (distance(rows[image], rows[query]), TIES.tolist().index(image)))


def others(query: int) -> list[int]:
    return [image for image in range(40) if image != query]


@pytest.mark.parametrize("query", [0, 7, 39])
def test_euclidean_distance_ranks_as_by_hand(query: int) -> None:
    expected = brute_force(query, squared_euclidean, others(query))
    assert euclidean(FEATURES, TIES).order(query).tolist() == expected


@pytest.mark.parametrize("query", [0, 7, 39])
def test_sim_ranks_as_eq_8_by_hand(query: int) -> None:
    expected = brute_force(query, squared_new_distance, others(query))
    assert cloud_sim(FEATURES, TIES).order(query).tolist() == expected


@pytest.mark.parametrize("candidates", [1, 5, 39, 100])
def test_end_to_end_ranks_the_clouds_candidates_again(candidates: int) -> None:
    first = brute_force(7, squared_new_distance, others(7))[:candidates]
    expected = brute_force(7, squared_euclidean, first)
    assert end_to_end(FEATURES, TIES, candidates).order(7).tolist() == expected
