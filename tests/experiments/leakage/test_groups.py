"""Selections of groups: groups never change, mates count for nothing, and what is told all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.bootstrap import Interval
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.leakage.groups.claims import (
    IMAGE,
    QUERIES,
    READ,
    REPEATED,
    best,
    interval_of,
    settings_of,
)
from mipp_cli.experiments.leakage.groups.images import (
    AND_SIZES,
    COUNTS,
    ORDER,
    SELECTIONS,
    SIZES,
    both,
    guesses,
    guesses_before,
    nearness,
    neighbours,
)
from mipp_cli.experiments.leakage.groups.leaks import measure_groups
from mipp_cli.experiments.leakage.groups.partition import GroupTrial, Partition, cut, file_sizes, with_decoys
from mipp_cli.experiments.leakage.groups.queries import (
    GOT,
    OWN,
    Asked,
    Places,
    alike,
    by_mixtures,
    by_own_queries,
)
from mipp_cli.experiments.leakage.groups.watching import (
    COSINE,
    EIGENVECTORS,
    Watched,
    leading_eigenvectors,
    most_alike,
    watch,
)
from mipp_cli.experiments.report.tables import key_table
from mipp_cli.progress import silent
from tests.support.small_datasets import apart, of_features, of_pictures, unrelated

SIZES_ALIKE = 5000


def random() -> np.random.Generator:
    return np.random.default_rng(3)


def measured(dataset: DataSet, trial: GroupTrial, sizes: NDArray[np.int64] | None = None) -> Result:
    return measure_groups(
        dataset, np.full(len(dataset), SIZES_ALIKE) if sizes is None else sizes, trial, 1, silent
    )


def rows_of(result: Result, measure: str, size: int, decoys: int = 0) -> list[Observation]:
    wanted = (measure, size, decoys)
    return [r for r in result.observations if (r["measure"], r["group_size"], r["decoys"]) == wanted]


def share(
    result: Result, measure: str, setting: tuple[int, int], queries: int, seen: str | None = None
) -> Interval:
    row = best(result.observations, measure, setting, queries, *([seen] if seen else []))
    assert row is not None
    return interval_of(row)


def test_the_last_group_takes_the_remainder() -> None:
    partition = cut(np.full(30, SIZES_ALIKE), 8, random())
    assert sorted(partition.rows.tolist()) == [8, 8, 14]
    assert partition.rows[-1] == 14
    assert cut(np.full(5, SIZES_ALIKE), 8, random()).rows.tolist() == [5]
    assert sorted(cut(np.full(5, SIZES_ALIKE), 1, random()).group_of.tolist()) == [0, 1, 2, 3, 4]


def test_groups_are_cut_by_size_class_and_at_random_within_it() -> None:
    sizes = np.array([100, 70_000] * 16)  # 2^6 and 2^16: classes 1 and 4
    partition = cut(sizes, 4, random())
    for group in range(8):
        assert len(set(sizes[partition.group_of == group].tolist())) == 1
    assert cut(sizes, 4, np.random.default_rng(4)).group_of.tolist() != partition.group_of.tolist()
    assert sizes[partition.group_of.argmin()] == 100  # the small class comes first


def test_one_size_class_is_one_factor_of_16() -> None:
    sizes = np.array([4096, 65_535] * 50)
    partition = cut(sizes, 2, random())
    mixed = [len(set(sizes[partition.group_of == group].tolist())) for group in range(len(partition))]
    assert 2 in mixed
    apart_by_one = np.array([4095, 4096] * 50)
    partition = cut(apart_by_one, 2, random())
    assert all(len(set(apart_by_one[partition.group_of == group].tolist())) == 1 for group in range(50))


def test_a_group_is_as_long_as_its_largest() -> None:
    partition = cut(np.array([16, 200, 100, 131]), 4, random())
    assert partition.lengths.tolist() == [208]  # the Padmé length of 200


def test_matches_are_counted_by_group() -> None:
    partition = Partition(np.array([0, 0, 1, 1, 2]), np.array([8, 8, 8]))
    counts = partition.counts(np.array([[0, 1, 4], [2, 0, 3]], dtype=np.int32))
    assert counts.tolist() == [[2, 1], [0, 2], [1, 0]]
    assert partition.mixtures(np.array([0, 1, 1, 1, 0])).tolist() == [[1, 1], [0, 2], [1, 0]]
    known = partition.mixtures(np.array([0, 1, 1, 1, 0]), np.array([1, 4]))
    assert known.tolist() == [[0, 1], [0, 0], [1, 0]]


def test_decoys_are_drawn_beside_the_answer_and_never_twice() -> None:
    answers = np.array([[0, 1], [4, 2], [0, 1]], dtype=np.int32)
    selected = with_decoys(answers, 3, 6, random())
    assert [row[:2].tolist() for row in selected] == answers.tolist()
    assert all(len(set(row.tolist())) == 5 and max(row) < 6 for row in selected)
    assert selected[0].tolist() != selected[2].tolist()


def test_longer_watching_includes_shorter_watching() -> None:
    partition = Partition(np.array([0, 0, 1, 2]), np.array([8, 8, 8]))
    selected = np.array([[0, 1], [0, 2], [3, 2]], dtype=np.int32)
    first, last = watch(partition, selected, (3, 1), weighted=True)
    assert (first.queries, last.queries) == (1, 3)
    assert first.times.tolist() == [2, 0, 0]
    assert first.seen.tolist() == [0]
    assert last.together.tolist() == [[5, 1, 0], [1, 2, 1], [0, 1, 1]]
    (plain,) = watch(partition, selected, (3,), weighted=False)
    assert plain.together.tolist() == [[2, 1, 0], [1, 2, 1], [0, 1, 1]]
    assert plain.alike(COSINE)[0, 1] == pytest.approx(1 / 2)


def test_leading_eigenvectors_are_the_largest() -> None:
    some = random().standard_normal((60, 60))
    matrix = some @ some.T
    values, vectors = leading_eigenvectors(matrix, 3)
    assert values == pytest.approx(np.linalg.eigvalsh(matrix)[::-1][:3], rel=1e-3)
    assert vectors.T @ vectors == pytest.approx(np.eye(3))


def test_eigenvectors_subtract_what_chance_would_give() -> None:
    same = np.arange(6)[:, np.newaxis] % 2 == np.arange(6) % 2
    together = np.where(same, 300.0, 200.0) + 200 * np.eye(6)
    watched = Watched(1000, np.full(6, 500.0), together, weighted=False)
    assert (watched.alike(COSINE) > 0).all()
    assert (watched.alike(EIGENVECTORS)[~same] < 0).all()  # less often than independent ones would


def test_the_most_alike_come_first_and_ties_are_random() -> None:
    alike = np.array([[0.5, 0.9, 0.5, 0.5 + 1e-12, 0.1]])
    draws = random()
    found = [most_alike(alike, 2, draws)[0].tolist() for _ in range(60)]
    assert {first for first, _ in found} == {1}
    assert {second for _, second in found} == {0, 2, 3}


def pure(groups: int, rows: int) -> tuple[Partition, NDArray[np.int64]]:
    """Groups whose images are all of one category, in turn."""
    group_of = np.repeat(np.arange(groups), rows)
    return Partition(group_of, np.full(groups, 8)), group_of % 2


def test_mates_are_no_neighbours() -> None:
    """Each group is of one category, all others of the other: whoever counts mates would be right."""
    partition, _ = pure(2, 12)
    found = neighbours(np.eye(2), partition, np.arange(2), random())
    assert found.precisions(partition.group_of).tolist() == [0] * 24
    assert found.chances(partition.group_of).tolist() == [0] * 24


def test_ten_neighbours_are_filled_from_the_most_alike_groups() -> None:
    partition, labels = pure(4, 6)
    alike = np.array([[9, 2, 3, 1], [2, 9, 1, 3], [3, 1, 9, 2], [1, 3, 2, 9]], dtype=np.float64)
    found = neighbours(alike, partition, np.arange(4), random())
    assert found.nearest[0].tolist()[:2] == [2, 1]
    assert found.taken[0].tolist() == [6, 4, 0]
    assert found.precisions(labels).tolist() == [0.6] * 24
    assert found.chances(labels) == pytest.approx([6 / 18] * 24)
    assert 0.2 < found.shuffled(labels, 50, random()).mean() < 0.7


def test_images_of_groups_that_were_never_selected_tell_nothing() -> None:
    partition, labels = pure(4, 6)
    found = neighbours(np.ones((4, 4)), partition, np.array([0, 2]), random())
    precisions = found.precisions(labels)
    assert np.isnan(precisions[partition.group_of % 2 == 1]).all()
    assert precisions[partition.group_of % 2 == 0].tolist() == [1] * 12


def test_both_attackers_find_groups_that_are_alike() -> None:
    partition, labels = pure(6, 10)
    selected = np.array([[0, 20, 40], [10, 30, 50]] * 10, dtype=np.int32)
    (watched,) = watch(partition, selected, (20,), weighted=False)
    for _, _, found in guesses(partition, watched, random()):
        assert found.precisions(labels).tolist() == [1] * 60


def test_two_likenesses_weigh_the_same() -> None:
    first = np.array([[50, 1, 2, 6], [1, 50, 5, 5], [2, 5, 50, 8], [6, 5, 8, 50]], dtype=np.float64)
    together = both(first, 1000 * first, np.arange(4))
    others = np.array([1, 2, 6])
    assert together[0, 1:] == pytest.approx(2 * (others - others.mean()) / others.std())
    assert together[1, [0, 2, 3]] == pytest.approx(np.array([-2, 1, 1]) * np.sqrt(2))
    assert nearness(np.array([1.0, 3.0])).tolist() == [[0, -2], [-2, 0]]


def test_groups_hide_the_category_that_file_sizes_tell() -> None:
    dataset = unrelated(200)
    sizes = 5000 + 40_000 * dataset.labels + np.random.default_rng(8).integers(0, 500, 200)
    result = measured(dataset, GroupTrial((1, 16), (100,), decoys=0, partitions=3), sizes)
    assert share(result, IMAGE, (1, 0), 0, SIZES).mean > 0.95
    assert share(result, IMAGE, (16, 0), 0, SIZES).mean < 0.6
    assert share(result, IMAGE, (1, 0), 100, SELECTIONS).mean < 0.6
    assert share(result, IMAGE, (1, 0), 100, SELECTIONS + AND_SIZES).mean > 0.8


def test_the_order_of_rows_tells_nothing() -> None:
    dataset = apart(200)
    found = list(guesses_before(cut(np.full(200, SIZES_ALIKE), 1, random()), random()))
    assert [seen for _, seen, _ in found] == [ORDER, SIZES]
    assert np.mean(found[0][2].precisions(dataset.labels)) < 0.6


TRIAL = GroupTrial((1, 8), (50, 1500), matches=5, decoys=5, partitions=3)


@pytest.fixture(scope="module")
def watched_apart() -> Result:
    """Two categories of 80 images that features tell apart."""
    return measured(apart(160), TRIAL)


def test_groups_hide_an_images_category_but_decoys_wash_out(watched_apart: Result) -> None:
    decoys = [share(watched_apart, IMAGE, (1, 5), each, SELECTIONS).mean for each in TRIAL.queries]
    alone = [share(watched_apart, IMAGE, (1, 0), each, SELECTIONS).mean for each in TRIAL.queries]
    groups = [share(watched_apart, IMAGE, (8, 0), each, SELECTIONS).mean for each in TRIAL.queries]
    assert min(alone) > 0.95
    assert decoys[1] > decoys[0] + 0.1
    assert max(groups) < 0.65
    assert abs(groups[1] - groups[0]) < 0.05


def test_groups_do_not_hide_which_queries_are_alike(watched_apart: Result) -> None:
    """Were groups drawn anew for every query, no query would look like another."""
    for size in (1, 8):
        assert share(watched_apart, QUERIES, (size, 0), 1500).low > 0.65
        again = [float(row["share"] or 0) for row in rows_of(watched_apart, REPEATED, size)]
        assert len(again) == 4
        assert min(again) > 0.99  # few others select the same groups by chance
    assert all(float(row["share"] or 0) < 0.9 for row in rows_of(watched_apart, REPEATED, 1, decoys=5))


def test_a_colluding_user_reads_queries_despite_groups(watched_apart: Result) -> None:
    for seen in (GOT, OWN):
        found = share(watched_apart, READ, (8, 0), 1500, seen)
        assert found.low > 0.65
        assert share(watched_apart, READ, (1, 0), 1500, seen).mean >= found.mean
    assert all(0.5 <= float(row["chance"] or 0) < 0.6 for row in rows_of(watched_apart, READ, 8))


def test_the_table_has_a_row_for_each_setting(watched_apart: Result) -> None:
    table = key_table(watched_apart)
    assert table is not None
    assert [row[0] for row in table.rows] == ["5 fresh decoys per match", "no groups", "groups of 8"]
    assert all(len(row) == len(table.header) and all(row) for row in table.rows)
    assert settings_of(watched_apart.observations) == [(1, 5), (1, 0), (8, 0)]
    assert len(watched_apart.claims) == 3
    assert "Better than shuffled categories: 5 fresh decoys per match, no groups" in (
        watched_apart.claims[0].measured
    )


def test_counts_are_seen_where_a_group_can_hold_two_matches(watched_apart: Result) -> None:
    attackers = {row["attacker"] for row in watched_apart.observations if row["measure"] == IMAGE}
    assert attackers == {"none", COSINE, EIGENVECTORS}
    seen = {size: {row["from"] for row in rows_of(watched_apart, IMAGE, size)} for size in (1, 8)}
    assert seen[8] - seen[1] == {COUNTS, COUNTS + AND_SIZES}


def test_selections_of_what_features_do_not_tell_say_nothing() -> None:
    result = measured(unrelated(160), GroupTrial((1, 8), (300,), decoys=0, partitions=4))
    assert "Better than" not in result.claims[0].measured
    for setting in settings_of(result.observations):
        assert abs(share(result, QUERIES, setting, 300).mean - 0.5) < 0.08
        assert abs(share(result, READ, setting, 300).mean - 0.5) < 0.15


def test_first_queries_and_repeated_ones_are_told_apart() -> None:
    images = np.array([7, 3, 7, 5, 3, 7])
    rows = np.zeros((6, 1), dtype=np.int32)
    asked = Asked(images, rows, rows).until(5)
    assert asked.first.tolist() == [0, 1, 3]
    assert asked.again.tolist() == [[0, 2], [1, 4]]
    assert Asked(images, rows, rows).until(2).again.shape == (0, 2)
    assert asked.accomplice == 1


def test_an_accomplice_weighs_mixtures_against_chance() -> None:
    known = np.array([[3, 1], [0, 4], [0, 0]], dtype=np.float64)  # 3 of 8 are of the first category
    counts = np.array([[1, 0, 0], [0, 1, 0], [2, 1, 5]], dtype=np.float32).T
    assert by_mixtures(known, counts).tolist() == [0, 1, 0]


def test_a_query_is_not_alike_to_itself() -> None:
    columns = np.eye(4)[:, [0, 0, 1, 1]]
    labels = np.arange(4)
    assert alike(Places(columns, columns), labels, random()).tolist() == [0] * 4


def test_a_query_with_the_same_image_does_not_vote() -> None:
    columns = np.eye(3)[:, [0, 1, 2]]
    stand = Places(columns, columns)
    guess = by_own_queries(stand, np.array([0]), np.array([1, 0, 0]), random())
    assert guess[0] == 0  # its own query alone would have said 1


def test_a_watch_of_next_to_nothing_is_no_error() -> None:
    features = np.arange(4 * 80, dtype=np.uint8).reshape(4, 80) % 8
    dataset = of_features(features, [0, 1, 0, 1])
    result = measured(dataset, GroupTrial((1, 4), (1,), matches=1, decoys=0, partitions=1))
    assert not [row for row in result.observations if row["queries"]]
    assert not result.claims


@pytest.mark.parametrize(
    "options",
    [
        {"groups": ()},
        {"groups": (0,)},
        {"queries": ()},
        {"matches": 0},
        {"decoys": -1},
        {"partitions": 0},
    ],
    ids=str,
)
def test_trials_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        GroupTrial(**options)


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    dataset = of_pictures(tmp_path / "pictures", 2)
    assert file_sizes(dataset).tolist() == [len(image.path.read_bytes()) for image in dataset.images]
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        file_sizes(apart(4))
