"""Rankings that a researcher brings."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.experiments.accuracy.comparison import Comparison, query_list
from mipp_cli.experiments.accuracy.rankings import read_rankings
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.images.collection import ImageFile
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


def test_names_that_could_be_formulas_are_read_back(tmp_path: Path) -> None:
    names = ["=cmd|' C'!A1/0.png", "@a/1.png", "plain/\n2.png", "plain/3, 4.png"]
    images = tuple(ImageFile(tmp_path / name, name) for name in names)
    categories = ("=cmd|' C'!A1", "@a", "plain")
    dataset = DataSet(tmp_path, categories, images, np.array([0, 1, 2, 2]), FEATURES[:4], "0" * 64)
    chosen = Comparison(dataset, np.arange(4), ())
    with query_list(chosen).write_csv(tmp_path).open(newline="") as file:
        queries = [row["query"] for row in csv.DictReader(file)]
    for given in (queries, names):
        with (tmp_path / "mine.csv").open("w", newline="") as file:
            lines = [(query, 1, given[number - 1]) for number, query in enumerate(given)]
            csv.writer(file).writerows([("query", "rank", "image"), *lines])
        found = read_rankings(tmp_path / "mine.csv", dataset, chosen.queries)
        assert [found.order(query).tolist() for query in range(4)] == [[3], [0], [1], [2]]


def test_names_are_read_however_they_are_composed(tmp_path: Path) -> None:
    names = ["a/é.png", "a/e\N{COMBINING ACUTE ACCENT}.png", "b/e\N{COMBINING ACUTE ACCENT}.png"]
    images = tuple(ImageFile(tmp_path / name, name) for name in names)
    dataset = DataSet(tmp_path, ("a", "b"), images, np.array([0, 0, 1]), FEATURES[:3], "0" * 64)
    file = tmp_path / "mine.csv"
    file.write_text(f"query,rank,image\nb/é.png,1,{names[1]}\nb/é.png,2,{names[0]}\n", encoding="utf-8")
    assert read_rankings(file, dataset, np.array([2])).order(2).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("query,place,image\n", MalformedError, "lacks the columns"),
        ("query,rank,image\nc0/000.png,1,c9/1.png\n", MalformedError, "line 2 names an image"),
        ("query,rank,image\nc0/000.png,first,c1/001.png\n", MalformedError, "not an integer"),
        ("query,rank,image\nc0/000.png,1\n", MalformedError, "names an image"),
        (
            "query,rank,image\nc0/000.png,1,c1/001.png\nc0/000.png,1,c2/002.png\n",
            MalformedError,
            "repeats a rank",
        ),
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
