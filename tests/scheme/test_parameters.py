"""KeyGen of a deployment: which parameters are made, which are refused, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.scheme.feature_cipher import MaskCipher, ProductCipher
from mipp_cli.scheme.parameters import PAPER_WARNING, Parameters, generate_parameters
from mipp_cli.scheme.sum_groups import CompositeGroup, PrimeGroup, standard_prime


def test_keygen_of_scheme_dcr_makes_a_modulus_of_3072_bits_unless_told() -> None:
    parameters = generate_parameters("dcr")
    assert isinstance(parameters.group, CompositeGroup)
    assert parameters.modulus_bits == 3072
    assert parameters.warnings == []


def test_keygen_of_scheme_paper_takes_a_standard_prime_of_3072_bits_unless_told() -> None:
    parameters = generate_parameters("paper")
    assert isinstance(parameters.group, PrimeGroup)
    assert parameters.group.p == standard_prime(3072)
    assert parameters.modulus_bits == 3072


def test_keygen_of_scheme_mask_makes_no_modulus() -> None:
    parameters = generate_parameters("mask")
    assert parameters.group is None
    assert parameters.modulus_bits is None
    assert parameters.warnings == []


def test_each_scheme_has_its_feature_cipher(dcr_group: CompositeGroup, paper_group: PrimeGroup) -> None:
    assert Parameters("dcr", dcr_group).cipher == ProductCipher(dcr_group)
    assert Parameters("paper", paper_group).cipher == ProductCipher(paper_group)
    assert Parameters("mask", None).cipher == MaskCipher()


def test_the_feature_is_eighty_codes_of_eight_levels() -> None:
    parameters = generate_parameters("mask")
    assert (parameters.descriptor, parameters.l, parameters.levels) == ("edge-histogram", 80, 8)


@pytest.mark.parametrize(
    ("scheme", "bits"), [("dcr", 1024), ("dcr", 2040), ("dcr", 0), ("paper", 768), ("paper", 1024)]
)
def test_an_insecure_modulus_is_refused_unless_it_is_allowed(scheme: str, bits: int) -> None:
    with pytest.raises(InvalidRequestError, match="insecure"):
        generate_parameters(scheme, modulus_bits=bits)


@pytest.mark.parametrize(("scheme", "bits"), [("dcr", 1024), ("paper", 768)])
def test_an_insecure_modulus_is_made_where_it_is_allowed(scheme: str, bits: int) -> None:
    assert generate_parameters(scheme, modulus_bits=bits, allow_insecure=True).modulus_bits == bits


@pytest.mark.parametrize(("scheme", "bits"), [("dcr", 512), ("dcr", 1028), ("paper", 512), ("paper", 2056)])
def test_a_modulus_that_cannot_be_made_is_refused_even_where_insecure_ones_are_allowed(
    scheme: str, bits: int
) -> None:
    with pytest.raises(InvalidRequestError):
        generate_parameters(scheme, modulus_bits=bits, allow_insecure=True)


def test_the_least_secure_modulus_is_made() -> None:
    assert generate_parameters("paper", modulus_bits=2048).modulus_bits == 2048
    assert generate_parameters("dcr", modulus_bits=2048).warnings == []


@pytest.mark.parametrize("allow_insecure", [False, True])
def test_scheme_mask_refuses_a_modulus(allow_insecure: bool) -> None:
    with pytest.raises(InvalidRequestError):
        generate_parameters("mask", modulus_bits=3072, allow_insecure=allow_insecure)


def test_scheme_paper_is_warned_about_whatever_its_modulus(paper_group: PrimeGroup) -> None:
    for parameters in (Parameters("paper", paper_group), generate_parameters("paper")):
        assert parameters.warnings == [PAPER_WARNING]
    assert "hides no feature" in PAPER_WARNING


def test_an_insecure_modulus_is_warned_about(dcr_group: CompositeGroup) -> None:
    (warning,) = Parameters("dcr", dcr_group).warnings
    assert "1024 bits is insecure" in warning


@pytest.mark.parametrize("grey_bits", [9, 12, 16])
def test_the_depth_of_grey_pictures_is_kept(grey_bits: int) -> None:
    assert generate_parameters("mask", grey_bits=grey_bits).grey_bits == grey_bits


@pytest.mark.parametrize(
    "change",
    [
        {"grey_bits": 8},
        {"grey_bits": 17},
        {"grey_bits": -16},
        {"grey_bits": 12.5},
        {"grey_bits": 16.0},
        {"grey_bits": float("nan")},
        {"grey_bits": True},
        {"grey_bits": None},
        {"l": 79},
        {"l": 80.0},
        {"levels": 9},
        {"levels": 8.0},
        {"descriptor": "Colour layout"},
        {"descriptor": None},
        {"scheme": "rsa"},
        {"scheme": ""},
        {"scheme": "MASK"},
        {"scheme": "dcr"},
        {"scheme": "paper"},
    ],
    ids=str,
)
def test_parameters_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        replace(generate_parameters("mask"), **change)


@pytest.mark.parametrize("scheme", ["dcr", "paper", "mask"])
def test_a_scheme_with_the_modulus_of_another_is_refused(
    scheme: str, dcr_group: CompositeGroup, paper_group: PrimeGroup
) -> None:
    own = {"dcr": dcr_group, "paper": paper_group, "mask": None}[scheme]
    for group in (dcr_group, paper_group, None):
        if group is not own:
            with pytest.raises(MalformedError):
                Parameters(scheme, group)
