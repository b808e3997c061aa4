"""The public parameters of a deployment's scheme, and its feature cipher."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.scheme.descriptor import EDGES, Descriptor
from mipp_cli.scheme.groups import GROUP_SIZE, LARGEST_GROUP_SIZE
from mipp_cli.scheme.protocol import ExactProtocol, FeatureProtocol, SumProtocol

if TYPE_CHECKING:
    from mipp_cli.scheme.feature_cipher import FeatureCipher
    from mipp_cli.scheme.sum_groups import CompositeGroup, PrimeGroup

SCHEMES = ("exact", "dcr", "mask", "paper")
SUM_SCHEMES = SCHEMES[1:]
DEFAULT_MODULUS_BITS = 3072
SECURE_BITS = 2048
_WITHOUT_MODULUS = ("exact", "mask")
PAPER_WARNING = (
    "scheme paper is broken: anybody who has an upload or a query can read every code with the public p; "
    "use it only to reproduce the paper"
)


@dataclass(frozen=True)
class Parameters:
    """Scheme, descriptor and group of a deployment. Every instance is valid.

    ``group`` is None for the schemes `exact` and `mask`. ``group_size`` is G, the number of images in a
    group; only `exact` has it.
    """

    scheme: str
    group: PrimeGroup | CompositeGroup | None
    descriptor: Descriptor = EDGES
    group_size: int | None = None

    def __post_init__(self) -> None:
        has_modulus = self.scheme in SCHEMES and self.scheme not in _WITHOUT_MODULUS
        fits = self.group is None if not has_modulus else getattr(self.group, "scheme", None) == self.scheme
        if self.scheme not in SCHEMES or not fits:
            raise MalformedError(f"the scheme {self.scheme!r} is unknown or does not match its modulus")
        size = self.group_size
        if (size is None) == (self.scheme == "exact") or not (
            size is None or (type(size) is int and 1 <= size <= LARGEST_GROUP_SIZE)
        ):
            raise MalformedError(
                f"scheme exact needs a group size of 1 to {LARGEST_GROUP_SIZE}, and other schemes have none"
            )

    @property
    def l(self) -> int:  # noqa: E743 -- the paper's symbol
        """The dimension of a feature."""
        return self.descriptor.l

    @property
    def levels(self) -> int:
        """How many levels a code has."""
        return self.descriptor.levels

    @cached_property
    def cipher(self) -> FeatureCipher:
        """The feature cipher of a sum scheme."""
        from mipp_cli.scheme.feature_cipher import MaskCipher, ProductCipher

        if self.group is None:
            return MaskCipher()
        return ProductCipher(self.group)

    @cached_property
    def protocol(self) -> FeatureProtocol:
        """The protocol of the scheme."""
        if self.group_size is not None:
            return ExactProtocol(self.l, self.group_size)
        return SumProtocol(self.cipher, self.l)

    @property
    def modulus_bits(self) -> int | None:
        """Bits of p or N; None for a scheme without a modulus."""
        return None if self.group is None else self.group.m.bit_length()

    @property
    def warnings(self) -> list[str]:
        """Warnings that every command with these parameters prints."""
        said = [PAPER_WARNING] if self.scheme == "paper" else []
        bits = self.modulus_bits
        if self.scheme == "dcr" and bits is not None and bits < SECURE_BITS:
            said.append(f"a modulus of {bits} bits is insecure; use it only for tests")
        return said


def generate_parameters(
    scheme: str,
    *,
    descriptor: Descriptor | None = None,
    modulus_bits: int | None = None,
    group_size: int | None = None,
    allow_insecure: bool = False,
) -> Parameters:
    """Draw the public parameters of a deployment (KeyGen of the sum protocol, Eq. 1 and 2).

    Raises InvalidRequestError for a modulus that is too small, for a modulus in a scheme without one, and for
    a group size in a scheme without groups.
    """
    described = descriptor or EDGES
    if scheme != "exact" and group_size is not None:
        raise InvalidRequestError(f"scheme {scheme} has no groups", hint="leave out --group-size")
    if scheme in _WITHOUT_MODULUS:
        if modulus_bits is not None:
            raise InvalidRequestError(f"scheme {scheme} has no modulus", hint="leave out --modulus-bits")
        default = GROUP_SIZE if scheme == "exact" else None
        size = default if group_size is None else group_size
        return Parameters(scheme, None, described, size)
    from mipp_cli.scheme import sum_groups

    bits = DEFAULT_MODULUS_BITS if modulus_bits is None else modulus_bits
    if bits < SECURE_BITS and not allow_insecure:
        smallest = sum_groups.DCR_LEAST_BITS if scheme == "dcr" else sum_groups.PAPER_BITS[0]
        raise InvalidRequestError(
            f"a modulus of {bits} bits is insecure",
            hint=f"use {SECURE_BITS} or more; for tests, --allow-insecure-modulus allows {smallest} and more",
        )
    draw = sum_groups.generate_composite_group if scheme == "dcr" else sum_groups.generate_prime_group
    return Parameters(scheme, draw(bits), described)
