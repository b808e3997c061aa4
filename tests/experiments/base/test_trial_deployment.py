"""Settings of deployments made for a trial."""

from __future__ import annotations

import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.trial_deployment import SchemeSetting, scheme_settings

SMALL = tuple(scheme_settings(("mask", "dcr"), (1024,)))


def test_every_scheme_is_set_with_every_modulus() -> None:
    settings = scheme_settings(("mask", "paper"), (1024, 2048))
    assert settings == [
        SchemeSetting("mask", None), SchemeSetting("paper", 1024), SchemeSetting("paper", 2048),
    ]  # fmt: skip
    with pytest.raises(InvalidRequestError, match="'rot13' is not a scheme"):
        scheme_settings(("rot13",), (1024,))


def test_a_setting_is_named_by_its_modulus_where_it_has_one() -> None:
    assert [setting.label for setting in scheme_settings(("dcr", "mask"), (2048,))] == [
        "dcr 2048 bits",
        "mask",
    ]
