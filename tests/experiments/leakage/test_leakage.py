"""What the cloud can work out: on features whose answers are known, and on pictures really encrypted."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import both_sums, cloud_sim
from mipp_cli.experiments.base.trial_deployment import SchemeSetting
from mipp_cli.experiments.leakage.groups.partition import GroupTrial
from mipp_cli.experiments.leakage.leakage import LeakageOptions, run_leakage
from mipp_cli.experiments.leakage.linking import LinkTrial, collection_sizes, false_link_shares, link_pictures
from mipp_cli.experiments.leakage.reordering import BY_SIM, BY_SUMS_AGAIN, measure_positions, shares_by_tenth
from mipp_cli.experiments.leakage.selections import co_selection, learnt, measure_selections, neighbours
from mipp_cli.experiments.leakage.two_sums import (
    BY_CODES,
    BY_SUMS,
    guess_category,
    measure_categories,
    measure_ranking,
    precisions_of,
    sensible_neighbours,
    standardised,
    sums_distance,
)
from mipp_cli.experiments.plots.drawings import draw
from mipp_cli.progress import silent
from tests.support.small_datasets import (
    INLINE,
    apart,
    flat_and_steep,
    of_features,
    of_pictures,
    unrelated,
)


def everything(dataset: DataSet) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(len(dataset))


def test_the_sums_are_those_of_table_2() -> None:
    features = np.array([[1, 2, 3], [0, 0, 7]], dtype=np.uint8)
    assert both_sums(features).tolist() == [[6, 14], [7, 49]]


def test_standardised_columns_have_mean_0_and_deviation_1() -> None:
    found = standardised(np.array([[1, 5], [3, 5]]))
    assert found.tolist() == [[-1, 0], [1, 0]]


def test_the_sums_distance_ranks_equal_sums_first() -> None:
    features = np.array([[3, 1, 2], [7, 7, 7], [1, 2, 3], [0, 0, 0]], dtype=np.uint8)
    assert sums_distance(features, np.arange(4)).order(0).tolist()[0] == 2


@pytest.mark.parametrize(("images", "neighbours"), [(2, 1), (8, 1), (9, 3), (25, 5), (100, 9)])
def test_as_many_neighbours_vote_as_the_root_of_a_category(images: int, neighbours: int) -> None:
    assert sensible_neighbours(np.repeat([0, 1, 2], images)) == neighbours


def test_the_nearer_voters_win_a_tie() -> None:
    places = np.array([[0.0], [1.0], [2.0], [-3.0], [-4.0]])
    assert guess_category(places, np.arange(5), np.array([0, 2, 2, 1, 1]), 0, 4) == 2
    assert guess_category(places, np.arange(5), np.array([0, 1, 1, 2, 2]), 0, 4) == 1


def test_categories_that_the_sums_tell_apart_are_guessed() -> None:
    result = measure_categories(apart(), everything(apart()), 1, silent)
    assert all(row["right"] for row in result.observations)
    assert {row["known"] for row in result.observations} == {BY_SUMS, BY_CODES}
    assert "does not hold" in result.claims[0].measured


def test_categories_unrelated_to_features_are_not_guessed() -> None:
    dataset = unrelated()
    result = measure_categories(dataset, everything(dataset), 1, silent)
    assert "not better than chance" in result.claims[0].measured


def test_the_sums_rank_categories_that_they_tell_apart() -> None:
    dataset = flat_and_steep()
    result = measure_ranking(dataset, everything(dataset), 1, silent)
    assert {row["returned"] for row in result.observations} == {10}  # 100 are more than there are
    assert precisions_of(result.observations, "sums", 10).mean() > 0.98
    assert precisions_of(result.observations, "sim", 10).tolist() == [1.0] * 20 + [0.0] * 20
    assert {row["chance"] for row in result.observations} == {19 / 39}
    assert "better than Sim" in result.claims[0].measured  # which prefers flat images


def test_the_sums_do_not_rank_what_they_do_not_tell() -> None:
    dataset = unrelated()
    result = measure_ranking(dataset, everything(dataset), 1, silent)
    assert all("no better than chance" in claim.measured for claim in result.claims)


def test_false_links_equal_those_counted_over_all_collections() -> None:
    pairs = np.array([[1, 1], [1, 1], [1, 1], [2, 4], [3, 5], [3, 5]])
    for size in range(1, 7):
        for image, share in enumerate(false_link_shares(pairs, size)):
            others = [other for other in range(6) if other != image]
            met = [
                any((pairs[other] == pairs[image]).all() for other in drawn)
                for drawn in combinations(others, size - 1)
            ]
            assert share == pytest.approx(np.mean(met))


@pytest.mark.parametrize(
    ("images", "sizes"), [(30, [30]), (50, [50]), (200, [50, 100, 200]), (600, [50, 100, 200, 500, 600])]
)
def test_collections_grow_up_to_all_images(images: int, sizes: list[int]) -> None:
    assert collection_sizes(images) == sizes


@pytest.mark.parametrize(("scheme", "bits"), [("dcr", 1024), ("mask", None)])
def test_pictures_of_two_owners_are_linked_despite_their_keys(
    tmp_path: Path, scheme: str, bits: int | None
) -> None:
    dataset = of_pictures(tmp_path / "pictures", 5)
    result = link_pictures(dataset, LinkTrial(3, SchemeSetting(scheme, bits)), 1, INLINE, progress=silent)
    sums = dict(zip(dataset.names, both_sums(dataset.features).tolist(), strict=True))
    assert len(result.observations) == 6
    for row in result.observations:
        assert row["linked"] == row["given_by_both"]
        assert [row["sum1"], row["sum2"]] == sums[str(row["picture"])]
    assert sum(bool(row["linked"]) for row in result.observations) == 3
    assert "3 of 3 shared pictures" in result.claims[0].measured


def test_two_owners_need_enough_pictures() -> None:
    with pytest.raises(InvalidRequestError, match="are too few for two owners"):
        link_pictures(apart(20), LinkTrial(7), 1, INLINE, progress=silent)


def test_reordering_by_sums_brings_similar_images_forward() -> None:
    dataset = apart(40)
    result = measure_positions(dataset, everything(dataset), 30, 1, silent)
    counts = {
        order: [int(row["similar"] or 0) for row in result.observations if row["order"] == order]
        for order in (BY_SIM, BY_SUMS_AGAIN)
    }
    totals = {order: np.reshape(found, (40, 10)).sum(axis=1).tolist() for order, found in counts.items()}
    cloud = cloud_sim(dataset.features, dataset.ties)
    similar = [(dataset.labels[cloud.order(i)[:30]] == dataset.labels[i]).sum() for i in range(40)]
    assert totals[BY_SIM] == totals[BY_SUMS_AGAIN] == similar
    shares = shares_by_tenth(result.observations, BY_SUMS_AGAIN)
    assert shares.sum(axis=1) == pytest.approx(np.ones(40))
    assert shares[:, -1].max() == 0  # the others stand at the end
    assert "moves them to the front" in result.claims[0].measured


def test_co_selection_counts_answers_and_not_popularity() -> None:
    answers = np.array([[0, 1, 4], [0, 1, 4], [2, 3, 4]], dtype=np.int32)
    alike = co_selection(answers, 6)
    assert alike[0, 1] == pytest.approx(1)
    assert alike[0, 2] == 0
    assert alike[0, 4] == pytest.approx(2 / np.sqrt(2 * 3))  # 4 is in every answer
    assert alike[5].tolist() == [0] * 6


def test_neighbours_are_sought_among_selected_images() -> None:
    labels = np.array([0] * 12 + [1] * 12)
    answers = np.array([list(range(12)), list(range(12, 24))], dtype=np.int32)
    found = neighbours(co_selection(answers, 24), np.random.default_rng(1))
    assert found.precisions(labels).tolist() == [1.0] * 24
    assert found.chances(labels).tolist() == [11 / 23] * 24
    assert 11 / 23 < found.shuffled(labels, np.random.default_rng(1)) < 0.7
    found = neighbours(co_selection(answers[:1], 24), np.random.default_rng(1))
    assert found.selected.tolist() == list(range(12))
    # chance knows just as well that all of them are of one category
    assert found.precisions(labels).tolist() == found.chances(labels).tolist() == [1.0] * 12
    assert found.shuffled(labels, np.random.default_rng(1)) == 1


def test_selections_by_sim_tell_categories_apart_too() -> None:
    dataset = apart(60)
    result = measure_selections(dataset, [5], [2, 200], 1, silent)
    told = learnt(result.observations, 5, 200, 1)
    assert told is not None
    assert told.above_chance
    assert told.precision.low > told.chance + 0.1
    assert "does not hide similarity from the cloud" in result.claims[0].measured


def test_an_answer_that_is_always_the_same_image_tells_nothing() -> None:
    features = np.array([[0] * 80, [7] * 80, [6] * 80, [5] * 80], dtype=np.uint8)
    result = measure_selections(of_features(features, [0, 1, 0, 1]), [1], [1], 1, silent)
    assert not result.observations
    assert not result.claims


def test_selections_tell_nothing_of_what_features_do_not_tell() -> None:
    result = measure_selections(unrelated(100), [10], [100], 1, silent)
    assert all("not better than chance" in claim.measured for claim in result.claims)


@pytest.mark.parametrize(
    "options",
    [{"queries": 0}, {"returned": 9}, {"candidates": ()}, {"watched": (0,)}],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        LeakageOptions(**options)


@pytest.mark.slow
def test_all_leaks_are_measured_and_drawn_reproducibly(tmp_path: Path) -> None:
    dataset = of_pictures(tmp_path / "pictures", 8)
    options = LeakageOptions(
        candidates=(3,),
        watched=(4, 8),
        returned=10,
        links=LinkTrial(2, SchemeSetting("mask", None)),
        groups=GroupTrial((1, 4), (5, 30), matches=3, decoys=2, partitions=2),
        parallelism=INLINE,
    )
    results = run_leakage(dataset, options)
    again = run_leakage(dataset, options)
    assert [r.observations for r in results] == [r.observations for r in again]
    for result in results:
        assert result.claims
        assert len({tuple(row) for row in result.observations}) == 1
    drawn = draw(results, tmp_path)
    assert [path.stem for path in drawn if path.suffix == ".png"] == [result.name for result in results]
    assert {path.read_bytes()[:5] for path in drawn} == {b"\x89PNG\r", b"<?xml"}


def test_a_data_set_that_is_too_small_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="too few"):
        run_leakage(apart(10), LeakageOptions())
