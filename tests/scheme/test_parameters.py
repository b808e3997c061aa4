"""KeyGen of a deployment: which parameters are made, which are refused, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mipp_cli.errors import InvalidRequestError, MalformedError, MippError
from mipp_cli.scheme.descriptor import Descriptor
from mipp_cli.scheme.feature_cipher import MaskCipher, ProductCipher
from mipp_cli.scheme.groups import GROUP_SIZE, LARGEST_GROUP_SIZE
from mipp_cli.scheme.parameters import (
    PAPER_WARNING,
    SCHEMES,
    SUM_SCHEMES,
    Parameters,
    generate_parameters,
)
from mipp_cli.scheme.protocol import ExactProtocol, SumProtocol
from mipp_cli.scheme.sum_groups import CompositeGroup, PrimeGroup, standard_prime


def test_scheme_dcr_makes_a_3072_bit_modulus_by_default() -> None:
    parameters = generate_parameters("dcr")
    assert isinstance(parameters.group, CompositeGroup)
    assert parameters.modulus_bits == 3072
    assert parameters.warnings == []


def test_scheme_paper_uses_the_3072_bit_prime_by_default() -> None:
    parameters = generate_parameters("paper")
    assert isinstance(parameters.group, PrimeGroup)
    assert parameters.group.p == standard_prime(3072)
    assert parameters.modulus_bits == 3072


@pytest.mark.parametrize("scheme", ["exact", "mask"])
def test_keygen_of_a_scheme_without_a_modulus_makes_none(scheme: str) -> None:
    parameters = generate_parameters(scheme)
    assert parameters.group is None
    assert parameters.modulus_bits is None
    assert parameters.warnings == []


def test_each_scheme_has_its_feature_cipher(dcr_group: CompositeGroup, paper_group: PrimeGroup) -> None:
    assert Parameters("dcr", dcr_group).cipher == ProductCipher(dcr_group)
    assert Parameters("paper", paper_group).cipher == ProductCipher(paper_group)
    assert Parameters("mask", None).cipher == MaskCipher()


def test_each_scheme_has_its_protocol(dcr_group: CompositeGroup, paper_group: PrimeGroup) -> None:
    dcr, paper = Parameters("dcr", dcr_group), Parameters("paper", paper_group)
    assert dcr.protocol == SumProtocol(ProductCipher(dcr_group), 80)
    assert paper.protocol == SumProtocol(ProductCipher(paper_group), 80)
    assert Parameters("mask", None).protocol == SumProtocol(MaskCipher(), 80)
    assert Parameters("exact", None, group_size=5).protocol == ExactProtocol(80, 5)


def test_the_sum_schemes_are_all_but_exact() -> None:
    assert set(SCHEMES) == {"exact", *SUM_SCHEMES}
    assert "exact" not in SUM_SCHEMES


def test_keygen_makes_groups_of_eight_unless_told() -> None:
    assert GROUP_SIZE == 8
    assert generate_parameters("exact").group_size == 8


@pytest.mark.parametrize("size", [1, 2, 11, LARGEST_GROUP_SIZE])
def test_keygen_takes_the_size_of_groups_asked_for(size: int) -> None:
    parameters = generate_parameters("exact", group_size=size)
    assert (parameters.group_size, parameters.protocol.group_size) == (size, size)


@pytest.mark.parametrize("scheme", SUM_SCHEMES)
def test_a_sum_scheme_has_no_groups(scheme: str, dcr_group: CompositeGroup, paper_group: PrimeGroup) -> None:
    group = {"dcr": dcr_group, "paper": paper_group}.get(scheme)
    parameters = Parameters(scheme, group)
    assert (parameters.group_size, parameters.protocol.grouped) == (None, False)
    with pytest.raises(InvalidRequestError, match="has no groups"):
        generate_parameters(scheme, group_size=8)
    with pytest.raises(MalformedError, match="group size of 1 to"):
        replace(parameters, group_size=8)


@pytest.mark.parametrize("size", [None, 0, -1, LARGEST_GROUP_SIZE + 1, 8.0, True, "8"], ids=str)
def test_scheme_exact_takes_no_size_of_groups_that_cannot_be(size: Any) -> None:
    with pytest.raises(MalformedError, match="group size of 1 to"):
        Parameters("exact", None, group_size=size)


@pytest.mark.parametrize("size", [0, -1, LARGEST_GROUP_SIZE + 1])
def test_keygen_refuses_a_size_of_groups_that_cannot_be(size: int) -> None:
    with pytest.raises(MippError):
        generate_parameters("exact", group_size=size)


def test_the_feature_is_eighty_codes_of_eight_levels() -> None:
    parameters = generate_parameters("mask")
    assert (parameters.descriptor, parameters.l, parameters.levels) == (Descriptor(), 80, 8)


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
def test_allowing_insecure_sizes_allows_no_impossible_modulus(scheme: str, bits: int) -> None:
    with pytest.raises(InvalidRequestError):
        generate_parameters(scheme, modulus_bits=bits, allow_insecure=True)


def test_the_least_secure_modulus_is_made() -> None:
    assert generate_parameters("paper", modulus_bits=2048).modulus_bits == 2048
    assert generate_parameters("dcr", modulus_bits=2048).warnings == []


@pytest.mark.parametrize("allow_insecure", [False, True])
@pytest.mark.parametrize("scheme", ["exact", "mask"])
def test_a_scheme_without_a_modulus_refuses_one(scheme: str, allow_insecure: bool) -> None:
    with pytest.raises(InvalidRequestError, match="no modulus"):
        generate_parameters(scheme, modulus_bits=3072, allow_insecure=allow_insecure)


def test_scheme_paper_is_warned_about_whatever_its_modulus(paper_group: PrimeGroup) -> None:
    for parameters in (Parameters("paper", paper_group), generate_parameters("paper")):
        assert parameters.warnings == [PAPER_WARNING]
    assert "is broken" in PAPER_WARNING


def test_an_insecure_modulus_is_warned_about(dcr_group: CompositeGroup) -> None:
    (warning,) = Parameters("dcr", dcr_group).warnings
    assert "1024 bits is insecure" in warning


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "rsa"},
        {"scheme": ""},
        {"scheme": "MASK"},
        {"scheme": "dcr"},
        {"scheme": "paper"},
        {"scheme": "exact"},
        {"group_size": 8},
    ],
    ids=str,
)
def test_parameters_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        replace(generate_parameters("mask"), **change)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_with_the_modulus_of_another_is_refused(
    scheme: str, dcr_group: CompositeGroup, paper_group: PrimeGroup
) -> None:
    own = {"dcr": dcr_group, "paper": paper_group}.get(scheme)
    size = 8 if scheme == "exact" else None
    for group in (dcr_group, paper_group, None):
        if group is not own:
            with pytest.raises(MalformedError):
                Parameters(scheme, group, group_size=size)
