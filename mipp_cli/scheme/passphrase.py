"""Encryption under a passphrase: AES-256-GCM with a key from scrypt (RFC 7914), which makes guesses slow."""

from __future__ import annotations

import os
from dataclasses import astuple, dataclass

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mipp_cli.errors import MalformedError, PassphraseError, TamperedError
from mipp_cli.log import timed
from mipp_cli.scheme.aead import seal, unseal
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.secret_keys import KEY_BYTES

SALT_BYTES = 16
_MOST_MEMORY = 1 << 30  # a manipulated file must not exhaust memory or time
_MOST_LANES = 16


@dataclass(frozen=True)
class Stretching:
    """The cost of one guess at a passphrase: scrypt's n, r and p; 128·n·r bytes of memory, p times."""

    n: int
    r: int
    p: int

    def __post_init__(self) -> None:
        whole = all(type(each) is int and each >= 1 for each in (self.n, self.r, self.p))
        if not whole or self.n < 2 or self.n & (self.n - 1):
            raise MalformedError("scrypt's parameters are invalid")
        if 128 * self.n * self.r > _MOST_MEMORY or self.p > _MOST_LANES:
            raise MalformedError("scrypt's parameters demand too much memory or time")


STRETCHING = Stretching(n=1 << 17, r=8, p=1)  # 128 MiB, some 0.4 s


@dataclass(frozen=True, repr=False)
class PassphraseKey:
    """A 32-byte key derived from a passphrase, with its scrypt parameters and salt."""

    stretching: Stretching
    salt: bytes
    key: bytes

    @classmethod
    @timed("deriving a key from the passphrase")
    def derive(cls, passphrase: bytes, stretching: Stretching, salt: bytes) -> PassphraseKey:
        """Derive the key with scrypt; raises PassphraseError if there is too little memory."""
        scrypt = Scrypt(salt=salt, length=KEY_BYTES, n=stretching.n, r=stretching.r, p=stretching.p)
        try:
            # length-prefixed: scrypt's HMAC does not distinguish a passphrase from the same with NUL bytes
            # appended
            key = scrypt.derive(length_prefixed("mipp/1 passphrase", passphrase))
        except MemoryError:
            needed = 128 * stretching.n * stretching.r >> 20
            raise PassphraseError(
                f"deriving a key from the passphrase needs {needed} MiB of memory",
                hint="free some memory, and run the command again",
            ) from None
        return cls(stretching, salt, key)

    @classmethod
    def new(cls, passphrase: bytes) -> PassphraseKey:
        """Derive a key with a fresh salt."""
        return cls.derive(passphrase, STRETCHING, os.urandom(SALT_BYTES))

    def seal(self, content: bytes, associated_data: bytes) -> bytes:
        """Encrypt, bound to ``associated_data``, the scrypt parameters and the salt."""
        return seal(self.key, content, self._bound(associated_data))

    def unseal(self, sealed: bytes, associated_data: bytes) -> bytes:
        """Decrypt; raises PassphraseError if the passphrase or the associated data is wrong."""
        try:
            return unseal(self.key, sealed, self._bound(associated_data))
        except TamperedError:
            raise PassphraseError(
                "the passphrase is wrong",
                hint="give the right one at a terminal or with --passphrase-file FILE; nothing was changed",
            ) from None

    def _bound(self, associated_data: bytes) -> bytes:
        return length_prefixed(*astuple(self.stretching), self.salt, associated_data)
