"""Groups and ciphers at the smallest size that the package makes, once for the whole run."""

from __future__ import annotations

import pytest

from mipp_cli.scheme.feature_cipher import FeatureCipher, MaskCipher, ProductCipher
from mipp_cli.scheme.sum_groups import (
    CompositeGroup,
    PrimeGroup,
    generate_composite_group,
    generate_prime_group,
)


@pytest.fixture(scope="session")
def dcr_group() -> CompositeGroup:
    return generate_composite_group(1024)


@pytest.fixture(scope="session")
def paper_group() -> PrimeGroup:
    return generate_prime_group(768)


@pytest.fixture(scope="session", params=["dcr", "paper"])
def product_cipher(
    request: pytest.FixtureRequest, dcr_group: CompositeGroup, paper_group: PrimeGroup
) -> ProductCipher:
    return ProductCipher(dcr_group if request.param == "dcr" else paper_group)


@pytest.fixture(scope="session", params=["dcr", "paper", "mask"])
def cipher(
    request: pytest.FixtureRequest, dcr_group: CompositeGroup, paper_group: PrimeGroup
) -> FeatureCipher:
    if request.param == "mask":
        return MaskCipher()
    return ProductCipher(dcr_group if request.param == "dcr" else paper_group)
