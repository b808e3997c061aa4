"""Sim over ciphertexts is checked against NewDis over plain codes."""

from __future__ import annotations

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.accuracy import equality_check
from mipp_cli.experiments.accuracy.equality_check import EqualityOptions, check_equality
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.trial_deployment import scheme_settings
from tests.support.small_datasets import INLINE

SMALL = tuple(scheme_settings(("mask", "dcr"), (1024,)))


def test_sim_over_ciphertexts_equals_newdis_over_plain_codes(dataset: DataSet) -> None:
    result = check_equality(dataset, EqualityOptions(SMALL, parallelism=INLINE))
    assert [row["scheme"] for row in result.observations] == ["mask", "dcr"]
    for row in result.observations:
        assert row["images"] == 18
        assert row["pairs"] == 5 * 18
        assert row["largest_difference"] == 0
        assert row["orders_equal"]
    assert "every Sim equals NewDis exactly" in result.notes[0]


def test_the_check_finds_sims_that_differ(dataset: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(features: np.ndarray, query: np.ndarray) -> np.ndarray:
        return np.zeros(len(features))

    monkeypatch.setattr(equality_check, "new_distances", wrong)
    result = check_equality(dataset, EqualityOptions(SMALL[:1], parallelism=INLINE))
    assert float(result.observations[0]["largest_difference"] or 0) > 0
    assert "DIFFER" in result.notes[0]


def test_the_check_finds_sims_that_are_no_numbers(dataset: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality_check, "new_distances", lambda features, _: np.full(len(features), np.nan))
    result = check_equality(dataset, EqualityOptions(SMALL[:1], parallelism=INLINE))
    assert not result.observations[0]["sims_equal"]
    assert "DIFFER" in result.notes[0]


def test_a_sample_below_fifty_images_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="too small"):
        EqualityOptions(SMALL, images=49)
