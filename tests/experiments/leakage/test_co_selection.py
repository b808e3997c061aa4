"""What co-selection would tell of descriptors that rank well, and of one that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.describing import Described
from mipp_cli.experiments.base.result import Result, where
from mipp_cli.experiments.leakage.co_selection import (
    RANKED,
    CoSelectionOptions,
    measure_co_selection,
)
from mipp_cli.experiments.leakage.groups.claims import IMAGE
from mipp_cli.progress import silent
from tests.support.small_datasets import of_pictures

OPTIONS = CoSelectionOptions(watched=400)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder: Path = tmp_path_factory.mktemp("told")
    pictures = of_pictures(folder, images=40)
    random = np.random.default_rng(2)
    features = {
        "good": (100 * pictures.labels[:, None] + random.integers(0, 60, (80, 6))).astype(np.uint8),
        "bad": random.integers(0, 256, (80, 6)).astype(np.uint8),
    }
    datasets: list[DataSet] = [
        replace(pictures, features=codes, described=Described(label)) for label, codes in features.items()
    ]
    return measure_co_selection(datasets, OPTIONS, silent)


def share(result: Result, descriptor: str, measure: str, size: int | None) -> float:
    (row,) = where(result.observations, descriptor=descriptor, measure=measure, group_size=size)
    return float(row["share"])


def test_the_better_a_descriptor_ranks_the_more_is_told(told: Result) -> None:
    assert share(told, "good", RANKED, None) == 1
    assert share(told, "bad", RANKED, None) < 0.7
    assert share(told, "good", IMAGE, 1) > 0.95
    assert share(told, "bad", IMAGE, 1) < 0.7


def test_groups_hide_much_of_it(told: Result) -> None:
    assert share(told, "good", IMAGE, 8) < 0.7


def test_each_size_of_groups_has_a_conclusion(told: Result) -> None:
    alone, groups = told.claims
    assert "no groups" in alone.claimed
    assert "groups of 8" in groups.claimed
    assert alone.conclusion.startswith("not confirmed: better than chance")
    assert alone.measured.index("good") < alone.measured.index("bad")


def test_at_least_one_query_is_watched() -> None:
    with pytest.raises(InvalidRequestError):
        CoSelectionOptions(0)
