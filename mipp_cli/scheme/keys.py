"""Key pairs: Ed25519 to sign, and HPKE with ML-KEM-768 + X25519 for the paper's secure channel."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from mipp_cli.errors import MalformedError, TamperedError, WrongDeploymentError

HPKE_SUITE = "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
_X25519_BYTES = 32
_ED25519_BYTES = 32
_P = 2**255 - 19  # Ed25519: −x² + y² = 1 + d·x²·y² modulo this
_D = -121665 * pow(121666, -1, _P) % _P


def _suite() -> Suite:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def check_public_key(key: bytes, *, many: bool = False) -> None:
    """Refuse an Ed25519 public key that is not a point, or of small order; raises MalformedError.

    Under a key of small order anybody can forge signatures, and the library accepts them. ``many`` says that
    many keys are checked. Source: RFC 8032, section 5.1.3, which also excludes y ≥ p.
    """
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)  # the last bit is the sign of x
    y2 = y * y
    # order 4: y = 0; order 1 and 2: y = ±1; order 8: doubling gives y = 0, which is x² = −y²
    if len(key) == _ED25519_BYTES and y * (y2 - 1) * (_D * y2 * y2 + 2 * y2 - 1) % _P == 0:
        raise MalformedError("names a signing key of small order, for which anybody can forge signatures")
    # x² = (y² − 1)/(d·y² + 1), which is a square where numerator times denominator is one
    square = (y2 - 1) * (_D * y2 + 1)
    if len(key) != _ED25519_BYTES or y >= _P or not _is_square(square % _P, many=many):
        raise MalformedError("names a signing key that is not a point of the curve")


def _is_square(x: int, *, many: bool) -> bool:
    """Return whether x is a square modulo _P; gmpy2 is fast, but worth its import only for ``many``."""
    if not many:
        return pow(x, (_P - 1) // 2, _P) in (0, 1)
    import gmpy2

    return bool(gmpy2.jacobi(x, _P) >= 0)


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Verify an Ed25519 signature (RFC 8032); raises TamperedError, and what check_public_key raises."""
    check_public_key(public_key)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise TamperedError("the signature could not be verified with the sender's key") from None


@dataclass(frozen=True, repr=False)
class SigningKey:
    """An Ed25519 key pair, stored as its 32-byte seed."""

    seed: bytes

    @classmethod
    def generate(cls) -> SigningKey:
        """Draw a key pair."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature of ``message``, 64 bytes."""
        return self._private.sign(message)


@dataclass(frozen=True)
class SealingPublicKey:
    """The public half of a sealing key: an ML-KEM-768 key, then an X25519 key."""

    data: bytes

    def __post_init__(self) -> None:
        _hybrid_public_key(self.data)

    @property
    def short_name(self) -> str:
        """The key's short name: the first 16 hex digits of its SHA-256."""
        return hashlib.sha256(self.data).hexdigest()[:16]

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """HPKE in base mode (RFC 9180): encapsulated key and ciphertext, bound to ``info``."""
        return _suite().encrypt(plaintext, _hybrid_public_key(self.data), info)


def _hybrid_public_key(data: bytes) -> MLKEM768X25519PublicKey:
    if len(data) != _MLKEM_PUBLIC_BYTES + _X25519_BYTES:
        raise MalformedError("a sealing key has the wrong length")
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(data[:_MLKEM_PUBLIC_BYTES])
        x25519 = X25519PublicKey.from_public_bytes(data[_MLKEM_PUBLIC_BYTES:])
        X25519PrivateKey.generate().exchange(x25519)  # raises for a point of small order
    except ValueError:
        raise MalformedError("a sealing key is invalid") from None
    return MLKEM768X25519PublicKey(mlkem, x25519)


@dataclass(frozen=True, repr=False)
class SealingKey:
    """A sealing key pair, stored as the seeds of its two halves (64 + 32 bytes)."""

    seeds: bytes

    @classmethod
    def generate(cls) -> SealingKey:
        """Draw a key pair."""
        mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        return cls(mlkem.private_bytes_raw() + x25519.private_bytes_raw())

    @cached_property
    def _halves(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        return (
            MLKEM768PrivateKey.from_seed_bytes(self.seeds[:_MLKEM_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(self.seeds[_MLKEM_SEED_BYTES:]),
        )

    @property
    def public(self) -> SealingPublicKey:
        """The public half."""
        mlkem, x25519 = self._halves
        return SealingPublicKey(
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Decrypt what was sealed to this key; raises WrongDeploymentError if that fails."""
        try:
            return _suite().decrypt(sealed, MLKEM768X25519PrivateKey(*self._halves), info)
        except (InvalidTag, ValueError):
            raise WrongDeploymentError(
                "the sealed part could not be decrypted with this KMC's key",
                hint="it was sealed to another KMC, or copied from another file: ask the sender for another",
            ) from None


@dataclass(frozen=True, repr=False)
class SealingKeys:
    """The sealing keys of one holder: the current one, and former ones kept for a while."""

    current: SealingKey
    former: tuple[SealingKey, ...] = ()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Decrypt what was sealed to any of the keys; raises WrongDeploymentError if none does."""
        for key in (self.current, *self.former):
            with suppress(WrongDeploymentError):
                return key.open(sealed, info)
        raise WrongDeploymentError(
            "the sealed part could not be decrypted with this KMC's keys",
            hint="if the KMC rotated its sealing key, the sender runs mipp user update-kmc-key or mipp owner "
            "update-kmc-key with sealing.pub and sends the file again; otherwise it was sealed to another "
            "KMC, or copied from another file",
        )
