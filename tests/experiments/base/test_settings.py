"""Schemes and samples of what is really encrypted."""

from __future__ import annotations

import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.settings import SchemeSetting, draw_sample, scheme_settings

SMALL = tuple(scheme_settings(("mask", "dcr"), (1024,)))


def test_samples_come_from_the_seed(dataset: DataSet) -> None:
    drawn = [draw_sample(dataset, 5, seed).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert draw_sample(dataset, 500, 1).tolist() == list(range(18))


def test_every_scheme_is_set_with_every_modulus() -> None:
    settings = scheme_settings(("mask", "paper"), (1024, 2048))
    assert settings == [
        SchemeSetting("mask", None), SchemeSetting("paper", 1024), SchemeSetting("paper", 2048),
    ]  # fmt: skip
    with pytest.raises(InvalidRequestError, match="no scheme 'rot13'"):
        scheme_settings(("rot13",), (1024,))
