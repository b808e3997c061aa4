"""Queries and intervals: drawn from a seed, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.bootstrap import mean_interval, mean_intervals
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.sampling import QueryChoice, draw_queries, draw_sample
from mipp_cli.experiments.base.seeds import Purpose, generator
from tests.support.small_datasets import of_features


def test_queries_are_drawn_alike_from_a_seed(dataset: DataSet) -> None:
    drawn = {seed: draw_queries(dataset, QueryChoice(2, 10, seed)).tolist() for seed in range(8)}
    again = {seed: draw_queries(dataset, QueryChoice(2, 10, seed)).tolist() for seed in range(8)}
    assert drawn == again
    assert len({tuple(each) for each in drawn.values()}) > 1
    for queries in drawn.values():
        assert np.bincount(dataset.labels[queries]).tolist() == [2, 2, 2]


def test_as_many_categories_are_drawn_from_as_asked(dataset: DataSet) -> None:
    queries = draw_queries(dataset, QueryChoice(3, 2, 5))
    assert sorted(np.unique(dataset.labels[queries], return_counts=True)[1].tolist()) == [3, 3]


def test_all_queries_are_all_images(dataset: DataSet) -> None:
    assert draw_queries(dataset, QueryChoice(None, None)).tolist() == list(range(18))


def test_fewer_images_than_queries_are_refused(dataset: DataSet) -> None:
    with pytest.raises(InvalidRequestError, match="has 6 images, fewer than the 7 queries"):
        draw_queries(dataset, QueryChoice(7))


@pytest.mark.parametrize("queries", [1, None])
def test_a_category_of_one_image_is_refused(queries: int | None) -> None:
    alone = of_features(np.zeros((3, 80), dtype=np.uint8), [0, 0, 1])
    with pytest.raises(InvalidRequestError, match="'c1' has only one image"):
        draw_queries(alone, QueryChoice(queries))


@pytest.mark.parametrize("wrong", [(0, 10, 1), (5, 0, 1)])
def test_choices_that_make_no_sense_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidRequestError):
        QueryChoice(*wrong)


def test_intervals_are_those_of_the_normal_law_for_many_values() -> None:
    values = np.random.default_rng(3).normal(10, 2, 4000)
    interval = mean_interval(values, seed=1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_intervals_come_from_the_seed_alone() -> None:
    values = np.random.default_rng(3).uniform(size=(40, 3))
    assert mean_intervals(values, 1) == mean_intervals(values, 1)
    assert mean_intervals(values, 1) != mean_intervals(values, 2)
    # every column is resampled by the same draws, whatever stands beside it
    beside, alone = mean_intervals(values, 1)[1], mean_interval(values[:, 1], 1)
    # but for the last bits: a product of matrices is summed in another order than one with a vector
    assert beside == pytest.approx(alone, rel=1e-12)


def test_one_value_has_an_interval_of_itself() -> None:
    interval = mean_interval(np.array([0.25]), 1)
    assert (interval.mean, interval.low, interval.high) == (0.25, 0.25, 0.25)
    assert interval.percent == "25.0 [25.0, 25.0] %"
    assert interval.points == "25.0 [25.0, 25.0] points"


def test_intervals_hold_their_mean_where_all_values_are_alike() -> None:
    for value in np.random.default_rng(5).uniform(size=50).tolist():
        interval = mean_interval(np.full(30, value), 1)
        assert interval.low <= interval.mean <= interval.high
        assert interval.low == pytest.approx(interval.high)


@pytest.mark.parametrize("images", [7, 18, 500])
def test_samples_are_drawn_from_the_seed_for_each_purpose_apart(dataset: DataSet, images: int) -> None:
    one, again, other = (draw_sample(dataset, images, seed).tolist() for seed in (1, 1, 2))
    assert one == again == sorted(set(one))
    if images < 18:
        assert len(one) == images
        assert one not in (other, draw_sample(dataset, images, 1, Purpose.LEAKAGE_QUERIES).tolist())
    else:
        assert one == other == list(range(18))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="the seed is negative"):
        generator(-1, Purpose.QUERIES)
