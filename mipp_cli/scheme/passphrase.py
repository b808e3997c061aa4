"""What a passphrase seals: AES-256-GCM under scrypt (RFC 7914), which makes each guess dear."""

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


@dataclass(frozen=True, repr=False)
class PassphraseKey:
    """A key of 32 bytes that a passphrase gives, with the parameters and the salt that it takes."""

    stretching: Stretching
    salt: bytes
    key: bytes

    @classmethod
    @timed("deriving a key from the passphrase")
    def derive(cls, passphrase: bytes, stretching: Stretching, salt: bytes) -> PassphraseKey:
        """Stretch a passphrase; raises PassphraseError if there is not the memory for it."""
        scrypt = Scrypt(salt=salt, length=KEY_BYTES, n=stretching.n, r=stretching.r, p=stretching.p)
        try:
            # with its length: to scrypt's HMAC, a passphrase and the same with NUL bytes behind it are one
            key = scrypt.derive(length_prefixed("mipp/1 passphrase", passphrase))
        except MemoryError:
            needed = 128 * stretching.n * stretching.r >> 20
            raise PassphraseError(
                f"a passphrase takes {needed} MiB of memory, which are not there", hint="free some memory"
            ) from None
        return cls(stretching, salt, key)

    @classmethod
    def new(cls, passphrase: bytes) -> PassphraseKey:
        """Stretch a passphrase with a fresh salt."""
        return cls.derive(passphrase, STRETCHING, os.urandom(SALT_BYTES))

    def seal(self, content: bytes, associated_data: bytes) -> bytes:
        """Encrypt, bound to ``associated_data`` and to what the key was derived with."""
        return seal(self.key, content, self._bound(associated_data))

    def unseal(self, sealed: bytes, associated_data: bytes) -> bytes:
        """Decrypt; raises PassphraseError for another passphrase or other associated data."""
        try:
            return unseal(self.key, sealed, self._bound(associated_data))
        except TamperedError:
            raise PassphraseError(
                "the passphrase is wrong",
                hint="nothing was changed; give the right one, with --passphrase-file FILE or at a terminal",
            ) from None

    def _bound(self, associated_data: bytes) -> bytes:
        return length_prefixed(*astuple(self.stretching), self.salt, associated_data)
