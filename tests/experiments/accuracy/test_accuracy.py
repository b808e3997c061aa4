"""Eq. 10–12 and Fig. 2–4 against values computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.accuracy.accuracy import AccuracyOptions, run_accuracy
from mipp_cli.experiments.accuracy.comparison import compare
from mipp_cli.experiments.accuracy.measures import measures
from mipp_cli.experiments.accuracy.positions import PositionsOptions, position_shares, run_positions
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.base.sampling import QueryChoice
from tests.support.small_datasets import alike, of_features

EVERY = QueryChoice(None, None, 1)


def line() -> DataSet:
    """Five images on a line, by the first code: 0 1 2 | 3 7, in two categories."""
    features = np.zeros((5, 80), dtype=np.uint8)
    features[:, 0] = (0, 1, 2, 3, 7)
    return of_features(features, [0, 0, 0, 1, 1])


def rows(result: Result, **wanted: object) -> list[Observation]:
    return [row for row in result.observations if all(row[key] == value for key, value in wanted.items())]


def test_measures_are_eq_10_to_12() -> None:
    # 3 of 10 images returned are similar, of 12 that there are
    true_positives, returned, relevant = (np.array([value]) for value in (3, 10, 12))
    found = measures(true_positives, returned, relevant)
    assert found["precision"] == pytest.approx(0.3)
    assert found["recall"] == pytest.approx(0.25)
    assert found["f1"] == pytest.approx(2 * 0.3 * 0.25 / (0.3 + 0.25))
    assert measures(np.array([0]), returned, relevant)["f1"] == 0


def test_euclidean_precision_recall_and_f1_match_hand_results() -> None:
    options = AccuracyOptions(EVERY, candidates=(2,), returned=(1, 2, 4))
    means, each, queries = run_accuracy(line(), options)
    # orders: 0→1 2 3 4, 1→0 2 3 4, 2→1 3 0 4 (1 and 3 tie), 3→2 1 0 4, 4→3 2 1 0
    found = {row["query"]: row["precision"] for row in rows(each, method="euclidean", returned=2)}
    assert found == {
        "c0/000.png": 1.0, "c0/001.png": 1.0, "c0/002.png": 0.5, "c1/003.png": 0.0, "c1/004.png": 0.5,
    }  # fmt: skip
    (mean,) = rows(means, method="euclidean", measure="precision", returned=2)
    assert mean["mean"] == pytest.approx(3 / 5)
    (mean,) = rows(means, method="euclidean", measure="recall", returned=2)
    assert mean["mean"] == pytest.approx((1 + 1 + 1 / 2 + 0 + 1) / 5)
    (mean,) = rows(means, method="euclidean", measure="f1", returned=2)
    assert mean["mean"] == pytest.approx((1 + 1 + 1 / 2 + 0 + 2 / 3) / 5)
    assert len(queries.observations) == 5


def test_chance_is_the_share_of_similar_images() -> None:
    means = run_accuracy(line(), AccuracyOptions(EVERY, candidates=(2,), returned=(1, 4)))[0]
    for count in (1, 4):
        (mean,) = rows(means, method="chance", measure="precision", returned=count)
        assert mean["mean"] == pytest.approx((3 * 2 / 4 + 2 * 1 / 4) / 5)
    (mean,) = rows(means, method="chance", measure="recall", returned=4)
    assert mean["mean"] == pytest.approx(1)


def test_methods_that_tell_nothing_are_worth_chance() -> None:
    """Names begin with the category: in their order, one category would come first in every answer."""
    each = run_accuracy(alike(300), AccuracyOptions(EVERY, candidates=(200,), returned=(100,)))[1]
    for method in ("euclidean", "sim", "end-to-end-200"):
        found = [row["precision"] for row in rows(each, method=method)]
        assert found == pytest.approx([99 / 299] * 300, abs=0.15)


def test_an_answer_ends_with_its_candidates() -> None:
    means = run_accuracy(line(), AccuracyOptions(EVERY, candidates=(2,), returned=(1, 2, 4)))[0]
    assert {row["returned"] for row in rows(means, method="end-to-end-2")} == {1, 2}
    assert {row["returned"] for row in rows(means, method="sim")} == {1, 2, 4}


def test_all_candidates_end_to_end_are_euclidean_distance(dataset: DataSet) -> None:
    options = AccuracyOptions(EVERY, candidates=(17,), returned=(1, 5, 17))
    means = run_accuracy(dataset, options)[0]
    plain, whole = (
        [(row["measure"], row["returned"], row["mean"]) for row in rows(means, method=method)]
        for method in ("euclidean", "end-to-end-17")
    )
    assert plain == whole


def test_the_same_seed_gives_the_same_files(dataset: DataSet, tmp_path: Path) -> None:
    texts = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        choice = QueryChoice(2, 10, seed)
        results = [
            *run_accuracy(dataset, AccuracyOptions(choice)),
            *run_positions(dataset, PositionsOptions(choice)),
        ]
        texts.append([result.write_csv(folder).read_bytes() for result in results])
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_rankings_of_ones_own_are_one_more_method(dataset: DataSet, tmp_path: Path) -> None:
    """A method that knows the categories is right as long as there are similar images."""
    file = tmp_path / "oracle.csv"
    lines = ["query,rank,image"]
    for query, name in enumerate(dataset.names):
        others = [image for image in range(len(dataset)) if image != query]
        others.sort(key=lambda image: dataset.labels[image] != dataset.labels[query])
        lines += [f"{name},{rank},{dataset.names[image]}" for rank, image in enumerate(others, 1)]
    file.write_text("\n".join(lines))
    options = AccuracyOptions(EVERY, rankings=(file,), returned=(5, 10))
    means = run_accuracy(dataset, options)[0]
    assert [row["mean"] for row in rows(means, method="oracle", measure="precision")] == [1.0, 0.5]
    assert any("oracle: " in claim.measured for claim in means.claims)
    with pytest.raises(InvalidRequestError, match="method named 'oracle'"):
        compare(dataset, AccuracyOptions(EVERY, rankings=(file, file)))


def test_more_images_than_there_are_cannot_be_returned(dataset: DataSet) -> None:
    with pytest.raises(InvalidRequestError, match="18 images cannot be returned: only 17"):
        run_accuracy(dataset, AccuracyOptions(EVERY, returned=(18,)))
    with pytest.raises(InvalidRequestError, match="18 images cannot be returned: only 17"):
        run_positions(dataset, PositionsOptions(EVERY, returned=18))


@pytest.mark.parametrize("wrong", [{"returned": (0,)}, {"candidates": (0,)}])
def test_numbers_below_one_are_refused(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(InvalidRequestError):
        AccuracyOptions(EVERY, **wrong)


def test_positions_are_shared_out_by_tenths() -> None:
    # of 20 images returned ranks 0, 1, 2, and 19 are similar; in the second answer none is
    hits = np.zeros((2, 20), dtype=bool)
    hits[0, [0, 1, 2, 19]] = True
    shares = position_shares(list(hits), 20)
    assert shares[0].tolist() == [0.5, 0.25, 0, 0, 0, 0, 0, 0, 0, 0.25]
    assert np.isnan(shares[1]).all()


def test_ranges_are_right_where_ten_does_not_divide_the_answer() -> None:
    shares = position_shares([np.ones(17, dtype=bool)], 17)
    assert (17 * shares[0]).round().astype(int).tolist() == [2, 2, 2, 1, 2, 2, 1, 2, 2, 1]


def test_shares_of_positions_add_up_to_one(dataset: DataSet) -> None:
    means = run_positions(dataset, PositionsOptions(EVERY, returned=12))[0]
    for method in ("euclidean", "sim"):
        found = rows(means, method=method)
        assert len(found) == 10
        assert sum(float(row["mean"] or 0) for row in found) == pytest.approx(1)
    with pytest.raises(InvalidRequestError, match="cannot be divided into 10 ranges"):
        PositionsOptions(EVERY, returned=9)
