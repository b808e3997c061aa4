"""Timing runs the commands' code at each size and gives one observation a repeat; no time is demanded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.base.trial_deployment import scheme_settings
from mipp_cli.experiments.cost.time_claims import Spread, spreads
from mipp_cli.experiments.cost.timing import (
    INDEX,
    ONE_IMAGE,
    PLAIN,
    WITH_INDEX,
    WITHOUT_INDEX,
    Collection,
    TimingOptions,
    nearest_plain,
    run_timing,
)
from mipp_cli.experiments.plots.drawings import draw
from tests.support.small_datasets import INLINE, apart, of_pictures

SETTINGS = tuple(scheme_settings(("dcr", "mask"), (1024,)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return of_pictures(tmp_path_factory.mktemp("timing") / "pictures", 2)


@pytest.fixture(scope="module")
def results(dataset: DataSet) -> list[Result]:
    options = TimingOptions(SETTINGS, (6, 3), 2, candidates=2, parallelism=INLINE)
    return run_timing(dataset, options)


def test_every_point_is_one_observation_a_repeat(results: list[Result]) -> None:
    index, retrieval = results
    found = sorted(tuple(list(row.values())[:6]) for row in [*index.observations, *retrieval.observations])
    assert found == sorted(
        (scheme, bits, step, size, int(size > 4), repeat)
        for scheme, bits, steps in [
            *(
                (each.scheme, each.modulus_bits, (INDEX, WITH_INDEX, ONE_IMAGE, WITHOUT_INDEX))
                for each in SETTINGS
            ),
            (PLAIN, None, (PLAIN,)),
        ]
        for step in steps
        for size in (3, 6)
        for repeat in (1, 2)
    )
    assert all(float(row["seconds"] or 0) > 0 for row in [*index.observations, *retrieval.observations])


def test_pictures_that_come_again_are_said_to(results: list[Result]) -> None:
    assert all(any("Above 4 images the pictures are repeated" in note for note in r.notes) for r in results)


def test_the_papers_ratios_are_compared_with_its_own_times(results: list[Result]) -> None:
    claims = [claim for claim in results[1].claims if claim.where == "section 7.3"]
    assert [claim.claimed for claim in claims] == [
        "with the index 8,160 × faster than without index",
        "with the index 1,200 × faster than plain retrieval; the paper contradicts itself: its own times, "
        "1 s against 50 ms, are 20 ×",
    ]
    for claim in claims:
        assert "dcr 1024 bits, 6 images" in claim.measured
        assert "mask, 6 images" in claim.measured


def test_each_figure_has_its_claim(results: list[Result]) -> None:
    assert [claim.where for claim in results[0].claims] == ["Fig. 5"]
    assert [claim.where for claim in results[1].claims][:4] == ["Fig. 6", "Fig. 7", "Fig. 7", "Fig. 8"]


def test_the_figures_are_drawn(results: list[Result], tmp_path: Path) -> None:
    drawn = draw(results, tmp_path)
    assert [path.stem for path in drawn if path.suffix == ".png"] == [result.name for result in results]
    assert {path.read_bytes()[:5] for path in drawn} == {b"\x89PNG\r", b"<?xml"}


def row(scheme: str, bits: int | None, seconds: float) -> Observation:
    return {"scheme": scheme, "modulus_bits": bits, "step": INDEX, "images": 10, "seconds": seconds}


def test_a_point_is_the_median_with_minimum_and_maximum() -> None:
    observations = [*(row("dcr", 2048, each) for each in (3.0, 1.0, 8.0)), row("mask", None, 2.0)]
    assert spreads(observations, INDEX) == {
        "dcr 2048 bits": {10: Spread(3.0, 1.0, 8.0)},
        "mask": {10: Spread(2.0, 2.0, 2.0)},
    }
    assert Spread(0.25, 0.1, 1.5).text == "250 ms (100–1.5e+03)"


def test_a_collection_uses_every_picture_before_repeating_one() -> None:
    dataset = apart(10)
    collection = Collection(dataset, 3)
    images = collection.images(0, 25)
    assert len({image.name for image in images}) == 25
    assert {image.path for image in images[:10]} == {image.path for image in dataset.images}
    assert [image.path for image in images[10:20]] == [image.path for image in images[:10]]
    assert images[7:25] == collection.images(7, 25)


def test_plain_retrieval_returns_the_nearest_features(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    np.save(path, np.array([[0, 0, 9], [0, 0, 2], [0, 0, 1]], dtype=np.uint8))
    assert nearest_plain(path, np.zeros(3, dtype=np.uint8), 2).tolist() == [2, 1]


def test_sizes_are_taken_once_each_in_their_order() -> None:
    assert TimingOptions(SETTINGS, (20, 10, 20)).ascending == (10, 20)


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": ()},
        {"sizes": (0,)},
        {"repeats": 0},
        {"candidates": 0},
        {"settings": ()},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        TimingOptions(**{"settings": SETTINGS, **options})
