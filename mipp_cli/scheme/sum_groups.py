"""The groups of the sum protocol: Eq. 1 and 2 modulo p² (`paper`), and the repaired version modulo N²
(`dcr`).

Both provide what Eq. 3–6 need: a plaintext modulus ``m`` (p or N), ciphertexts modulo m², and exponents e_1 …
e_l whose blinding factors R_i = g2^{e_i} multiply to 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar

import gmpy2
from cryptography.hazmat.primitives.asymmetric import rsa
from gmpy2 import mpz

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.scheme.randomness import KeyStream

DCR_EXPONENT_BITS = 256  # short exponents: uniform in [0, 2^256)
DCR_LEAST_BITS = 1024  # minimum of the RSA key generator
DCR_MOST_BITS = 16384  # its maximum; also bounds the time to check a forged N
DCR_TRIAL_BOUND = 1 << 16  # N has no factor below it

# Safe primes p = 2^b − 2^(b−64) − 1 + 2^64·(⌊2^(b−130)·c⌋ + x): b → (c, x).
# c = e: RFC 7919, ffdhe2048 … ffdhe8192; c = π: RFC 2409, groups 1 and 2, too small to be secure.
_STANDARD_PRIMES: dict[int, tuple[str, int]] = {
    768: ("pi", 149686),
    1024: ("pi", 129093),
    2048: ("e", 560316),
    3072: ("e", 2625351),
    4096: ("e", 5736041),
    6144: ("e", 15705020),
    8192: ("e", 10965728),
}
PAPER_BITS = tuple(_STANDARD_PRIMES)


def standard_prime(bits: int) -> int:
    """Return the standard safe prime of ``bits`` bits (RFC 7919; RFC 2409 for 768 and 1024).

    Raises InvalidRequestError for any other size.
    """
    if bits not in _STANDARD_PRIMES:
        sizes = ", ".join(map(str, _STANDARD_PRIMES))
        raise InvalidRequestError(f"no standard safe prime has {bits} bits", hint=f"use one of {sizes}")
    constant, x = _STANDARD_PRIMES[bits]
    with gmpy2.context(precision=bits + 64):
        value = gmpy2.exp(1) if constant == "e" else gmpy2.const_pi()
        digits = int(gmpy2.floor(gmpy2.mul_2exp(value, bits - 130)))
    return (1 << bits) - (1 << (bits - 64)) + ((digits + x) << 64) - 1


@dataclass(frozen=True)
class PrimeGroup:
    """Eq. 1 and 2 exactly: p a standard safe prime, q = (p−1)/2, h fixed for the deployment.

    Only to reproduce the paper: it hides nothing. C_i^(p−1) = 1 − x_i·p mod p² reveals every x_i to anybody
    who knows p, which is public (README.md, "The published cipher is broken").
    """

    p: int
    h: int
    scheme: ClassVar[str] = "paper"

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> PrimeGroup:
        """Parse the output of :meth:`to_fields`; raises KeyError or ValueError for anything else."""
        return cls(int(fields["p"], 16), int(fields["h"], 16))

    def to_fields(self) -> dict[str, str]:
        """Return the group as stored in kmc.pub."""
        return {"p": f"{self.p:x}", "h": f"{self.h:x}"}

    def __post_init__(self) -> None:
        if self.p.bit_length() not in _STANDARD_PRIMES or self.p != standard_prime(self.p.bit_length()):
            raise MalformedError("the modulus of scheme paper is not a standard safe prime")
        if not 1 < self.h < self.p - 1:
            raise MalformedError("the base h of scheme paper is outside 2 … p−2")

    @property
    def m(self) -> int:
        """The plaintext modulus, p."""
        return self.p

    @property
    def q(self) -> int:
        """The prime order of the group, q | p−1."""
        return (self.p - 1) // 2

    @cached_property
    def g1(self) -> int:
        """Eq. 1: g1 = h^((p−1)/q) mod p; never 1, since 1 < h < p−1."""
        return int(gmpy2.powmod(self.h, (self.p - 1) // self.q, self.p))

    @cached_property
    def g2(self) -> int:
        """Eq. 2: g2 = g1^p mod p², of order q."""
        return int(gmpy2.powmod(self.g1, self.p, self.p * self.p))

    @property
    def exponent_bits(self) -> int:
        """Bits of an exponent: those of q."""
        return self.q.bit_length()

    def exponents(self, l: int, stream: KeyStream) -> list[int]:
        """Eq. 3 in the exponent: e_i = r_i·(r_{i+1} − r_{i−1}) mod q for i < l, r_i random in Z_q."""
        r = [stream.below(self.q) for _ in range(l)]
        return [r[i] * (r[(i + 1) % l] - r[i - 1]) % self.q for i in range(l - 1)]


@cache
def _small_primes() -> mpz:
    return gmpy2.primorial(DCR_TRIAL_BOUND)


@dataclass(frozen=True)
class CompositeGroup:
    """The repaired group: N of unknown factorisation instead of p, g2 = h^(2N) mod N², h hashed from N.

    R_i = g2^{e_i} is an N-th residue. C_i hides x_i under the decisional composite residuosity assumption
    (Paillier, EUROCRYPT '99; Joye and Libert, FC 2013) with short exponents.
    """

    n: int
    scheme: ClassVar[str] = "dcr"
    exponent_bits: ClassVar[int] = DCR_EXPONENT_BITS

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> CompositeGroup:
        """Parse the output of :meth:`to_fields`; raises KeyError or ValueError for anything else."""
        return cls(int(fields["N"], 16))

    def to_fields(self) -> dict[str, str]:
        """Return the group as stored in kmc.pub."""
        return {"N": f"{self.n:x}"}

    def __post_init__(self) -> None:
        bits = self.n.bit_length()
        if self.n < 0 or not DCR_LEAST_BITS <= bits <= DCR_MOST_BITS or self.n % 2 == 0:
            raise MalformedError("the modulus N is too small, too large or even")
        if gmpy2.gcd(self.n, _small_primes()) != 1:
            raise MalformedError(f"the modulus N has a factor below {DCR_TRIAL_BOUND}")
        if gmpy2.is_prime(mpz(self.n)) or gmpy2.is_power(mpz(self.n)):
            raise MalformedError("the modulus N is not a product of two primes")
        if gmpy2.gcd(self._h, self.n) != 1:  # equivalent to g2 = h^(2N) having no inverse
            raise MalformedError("the modulus N has a common factor with the base g2 derived from it")

    @property
    def m(self) -> int:
        """The plaintext modulus, N."""
        return self.n

    @property
    def _h(self) -> int:
        size = (self.n.bit_length() + 7) // 8
        seed = b"mipp/1 h of scheme dcr" + self.n.to_bytes(size, "big")
        return int.from_bytes(hashlib.shake_256(seed).digest(2 * size + 16), "big") % (self.n * self.n)

    @cached_property
    def g2(self) -> int:
        """g2 = h^(2N) mod N², h = SHAKE-256(N) mod N², so nobody can choose it."""
        return int(gmpy2.powmod(self._h, 2 * self.n, self.n * self.n))

    def exponents(self, l: int, stream: KeyStream) -> list[int]:
        """Return l−1 exponents uniform in [0, 2^256); e_l is minus their integer sum."""
        return [stream.bits(DCR_EXPONENT_BITS) for _ in range(l - 1)]


SumGroup = PrimeGroup | CompositeGroup


def generate_prime_group(bits: int) -> PrimeGroup:
    """KeyGen of scheme `paper`: a standard p, and h random in Z_p."""
    p = standard_prime(bits)
    return PrimeGroup(p, 2 + KeyStream().below(p - 3))


def generate_composite_group(bits: int) -> CompositeGroup:
    """KeyGen of scheme `dcr`: N from two random primes, which are discarded at once.

    Raises InvalidRequestError for a size that the key generator does not support.
    """
    if not DCR_LEAST_BITS <= bits <= DCR_MOST_BITS or bits % 8:
        raise InvalidRequestError(
            f"a modulus cannot have {bits} bits",
            hint=f"use {DCR_LEAST_BITS} to {DCR_MOST_BITS} bits, in steps of 8",
        )
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return CompositeGroup(key.public_key().public_numbers().n)
