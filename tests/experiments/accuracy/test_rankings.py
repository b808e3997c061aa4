"""Rankings that a researcher brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.experiments.accuracy.rankings import read_rankings
from tests.support.small_datasets import of_features

# few levels and short features, so that there are many ties
FEATURES = np.random.default_rng(11).integers(0, 3, (40, 6)).astype(np.uint8)
DATASET = of_features(FEATURES, [number % 4 for number in range(40)])


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
