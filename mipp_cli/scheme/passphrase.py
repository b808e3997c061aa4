"""A key sealed under a passphrase: AES-256-GCM under scrypt (RFC 7914), which makes each guess dear."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mipp_cli.errors import MalformedError, PassphraseError, TamperedError
from mipp_cli.scheme.aead import OVERHEAD_BYTES, seal, unseal
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.secret_keys import KEY_BYTES

SALT_BYTES = 16
_MOST_MEMORY = 1 << 30  # who can write the file must not make us take all there is, or all the time
_MOST_LANES = 16


@dataclass(frozen=True)
class Stretching:
    """What a guess at a passphrase costs: scrypt's n, r and p; 128·n·r bytes of memory, p times over."""

    n: int
    r: int
    p: int

    def __post_init__(self) -> None:
        whole = all(type(each) is int and each >= 1 for each in (self.n, self.r, self.p))
        if not whole or self.n < 2 or self.n & (self.n - 1):
            raise MalformedError("scrypt's parameters cannot be")
        if 128 * self.n * self.r > _MOST_MEMORY or self.p > _MOST_LANES:
            raise MalformedError("scrypt's parameters ask for more memory or time than is reasonable")


STRETCHING = Stretching(n=1 << 17, r=8, p=1)  # 128 MiB, some 0.4 s


@dataclass(frozen=True)
class PassphraseSealed:
    """A key of 32 bytes under a passphrase: parameters, salt (16 bytes), nonce, ciphertext and tag (60)."""

    stretching: Stretching
    salt: bytes
    sealed: bytes

    def __post_init__(self) -> None:
        if len(self.salt) != SALT_BYTES or len(self.sealed) != KEY_BYTES + OVERHEAD_BYTES:
            raise MalformedError("a sealed key has another length")

    @classmethod
    def seal(cls, key: bytes, passphrase: bytes, associated_data: bytes) -> PassphraseSealed:
        """Seal ``key`` under ``passphrase`` and a fresh salt, bound to ``associated_data``."""
        stretching, salt = STRETCHING, os.urandom(SALT_BYTES)
        bound = _bound(stretching, salt, associated_data)
        return cls(stretching, salt, seal(_stretched(passphrase, stretching, salt), key, bound))

    def open(self, passphrase: bytes, associated_data: bytes) -> bytes:
        """Return the key; raises PassphraseError for another passphrase or other associated data."""
        key = _stretched(passphrase, self.stretching, self.salt)
        try:
            return unseal(key, self.sealed, _bound(self.stretching, self.salt, associated_data))
        except TamperedError:
            raise PassphraseError(
                "the passphrase is wrong", hint="nothing was changed; try the right one"
            ) from None


def _stretched(passphrase: bytes, stretching: Stretching, salt: bytes) -> bytes:
    scrypt = Scrypt(salt=salt, length=KEY_BYTES, n=stretching.n, r=stretching.r, p=stretching.p)
    try:
        # with its length: to scrypt's HMAC, a passphrase and the same with NUL bytes behind it are one
        return scrypt.derive(length_prefixed("mipp/1 passphrase", passphrase))
    except MemoryError:
        needed = 128 * stretching.n * stretching.r >> 20
        raise PassphraseError(
            f"a passphrase takes {needed} MiB of memory, which are not there", hint="free some memory"
        ) from None


def _bound(stretching: Stretching, salt: bytes, associated_data: bytes) -> bytes:
    return length_prefixed(stretching.n, stretching.r, stretching.p, salt, associated_data)
