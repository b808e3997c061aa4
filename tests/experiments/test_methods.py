"""Each method's order against one found by brute force, and rankings that a researcher brings."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.experiments.accuracy.rankings import read_rankings
from mipp_cli.experiments.base.methods import CloudSim, EndToEnd, Euclidean
from tests.experiments.conftest import made_up

# few levels and short features, so that there are many ties
FEATURES = np.random.default_rng(11).integers(0, 3, (40, 6)).astype(np.uint8)
DATASET = made_up(FEATURES, [number % 4 for number in range(40)])


def squared_euclidean(x: list[int], y: list[int]) -> int:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def squared_new_distance(x: list[int], y: list[int]) -> Fraction:
    """Eq. 8 squared, as printed."""
    return sum(a * a for a in x) + sum(b * b for b in y) - Fraction(2 * sum(x) * sum(y), len(x))


def brute_force(query: int, distance: object, among: list[int]) -> list[int]:
    rows = FEATURES.tolist()
    assert callable(distance)
    return sorted(among, key=lambda image: (distance(rows[image], rows[query]), image))


def others(query: int) -> list[int]:
    return [image for image in range(40) if image != query]


@pytest.mark.parametrize("query", [0, 7, 39])
def test_euclidean_distance_ranks_as_by_hand(query: int) -> None:
    expected = brute_force(query, squared_euclidean, others(query))
    assert Euclidean(DATASET).order(query).tolist() == expected


@pytest.mark.parametrize("query", [0, 7, 39])
def test_sim_ranks_as_eq_8_by_hand(query: int) -> None:
    expected = brute_force(query, squared_new_distance, others(query))
    assert CloudSim(DATASET).order(query).tolist() == expected


@pytest.mark.parametrize("candidates", [1, 5, 39, 100])
def test_end_to_end_ranks_the_clouds_candidates_again(candidates: int) -> None:
    first = brute_force(7, squared_new_distance, others(7))[:candidates]
    expected = brute_force(7, squared_euclidean, first)
    assert EndToEnd(CloudSim(DATASET), candidates).order(7).tolist() == expected


def test_given_rankings_are_read_in_the_order_of_ranks(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    names = DATASET.names
    lines = [f"{names[4]},{rank},{names[image]}" for rank, image in ((9, 2), (1, 4), (3, 0), (2, 7))]
    file.write_text("\n".join(["query,rank,image", *lines, f"{names[5]},1,{names[1]}"]))
    given = read_rankings(file, DATASET, np.array([4, 5]))
    assert given.name == "mine"
    assert given.order(4).tolist() == [7, 0, 2]  # without the query itself
    assert given.order(5).tolist() == [1]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("query,place,image\n", MalformedError, "no columns"),
        ("query,rank,image\nc0/000.png,1,c9/1.png\n", MalformedError, "line 2 names an image"),
        ("query,rank,image\nc0/000.png,first,c1/001.png\n", MalformedError, "no whole number"),
        ("query,rank,image\nc0/000.png,1\n", MalformedError, "names an image"),
        ("query,rank,image\nc0/000.png,1,c1/001.png\nc0/000.png,1,c2/002.png\n", MalformedError, "twice"),
        ("query,rank,image\nc0/000.png,1,c1/001.png\nc0/000.png,2,c1/001.png\n", MalformedError, "twice"),
        ("query,rank,image\nc1/001.png,1,c0/000.png\n", InvalidRequestError, "no answer to 1 of 1"),
    ],
)
def test_bad_rankings_are_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(error, match=message):
        read_rankings(file, DATASET, np.array([0]))


def test_rankings_that_are_no_text_or_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        read_rankings(tmp_path / "none.csv", DATASET, np.array([0]))
    (tmp_path / "binary.csv").write_bytes(b"query,rank,image\n\xff\xfe\n")
    with pytest.raises(MalformedError, match="UTF-8"):
        read_rankings(tmp_path / "binary.csv", DATASET, np.array([0]))
