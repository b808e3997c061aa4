"""Measures of rankings against values worked out by hand, and against slow loops."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from mipp_cli.experiments.accuracy.measures import (
    average_precisions,
    chance_measures,
    discounted_gains,
    measure_label,
    r_precisions,
    ranking_measures,
)


def hits(*rows: str) -> np.ndarray:
    """Return rankings, a letter a rank: x is relevant."""
    return np.array([[letter == "x" for letter in row] for row in rows])


def test_average_precision_is_the_mean_at_relevant_ranks() -> None:
    # relevant at ranks 1, 3 and 5: precisions there 1, 2/3 and 3/5
    assert average_precisions(hits("x.x.x"))[0] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert average_precisions(hits("xx...", "...xx")).tolist() == pytest.approx([1, (1 / 4 + 2 / 5) / 2])


def test_ndcg_discounts_by_the_logarithm_of_ranks() -> None:
    # relevant at ranks 2 and 3 of 2 relevant: gains 1/log2(3) and 1/2, the most is 1 and 1/log2(3)
    ideal = 1 + 1 / math.log2(3)
    assert discounted_gains(hits(".xx.."), 5)[0] == pytest.approx((1 / math.log2(3) + 1 / 2) / ideal)
    assert discounted_gains(hits(".xx.."), 2)[0] == pytest.approx((1 / math.log2(3)) / ideal)
    assert discounted_gains(hits(".xx..", "xx..."), 1).tolist() == [0, 1]


def test_ndcg_of_more_than_there_are_is_of_all() -> None:
    assert discounted_gains(hits("xx."), 9)[0] == 1


def test_r_precision_looks_at_as_many_as_are_relevant() -> None:
    assert r_precisions(hits("x.xx.", "xxx..", "..xxx")).tolist() == pytest.approx([2 / 3, 1, 1 / 3])


def slow_measures(row: list[bool], returned: int) -> dict[str, float]:
    """Work out every measure of one ranking by its definition, rank by rank."""
    relevant, found = sum(row), 0
    precisions, gain, ideal = [], 0.0, 0.0
    for rank, hit in enumerate(row, start=1):
        found += hit
        if hit:
            precisions.append(found / rank)
        if rank <= returned:
            gain += hit / math.log2(rank + 1)
            ideal += (rank <= relevant) / math.log2(rank + 1)
    precision, recall = sum(row[:returned]) / returned, sum(row[:returned]) / relevant
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision else 0.0,
        "mAP": sum(precisions) / relevant,
        "nDCG": gain / ideal,
        "R-precision": sum(row[:relevant]) / relevant,
    }


def test_all_measures_equal_a_slow_implementation() -> None:
    random = np.random.default_rng(1)
    rows = random.random((50, 30)) < random.uniform(0.05, 0.9, (50, 1))
    rows[np.arange(50), random.integers(0, 30, 50)] = True  # every query has a relevant image
    for returned in (1, 10, 30):
        found = ranking_measures(rows, returned)
        for number, row in enumerate(rows.tolist()):
            for measure, value in slow_measures(row, returned).items():
                assert found[measure][number] == pytest.approx(value)


@pytest.mark.parametrize(("relevant", "returned"), [(1, 2), (2, 3), (5, 2)])
def test_chance_is_the_mean_over_all_orders(relevant: int, returned: int) -> None:
    row = [True] * relevant + [False] * (5 - relevant)
    orders = np.array(list(permutations(row)))
    found, expected = ranking_measures(orders, returned), chance_measures(np.array([relevant]), 5, returned)
    assert found.keys() == expected.keys()
    for measure, values in found.items():
        assert expected[measure][0] == pytest.approx(values.mean()), measure


def test_measures_of_the_first_say_of_how_many() -> None:
    names = ("precision", "f1", "nDCG", "mAP", "R-precision")
    assert [measure_label(name, 10) for name in names] == [
        "precision at 10", "F1 at 10", "nDCG at 10", "mAP", "R-precision",
    ]  # fmt: skip
