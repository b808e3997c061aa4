"""Scheme `exact`: features encrypted for the KMC, in chunks of rows that it opens at the speed of memory.

A chunk is AES-256-GCM of the codes of up to 4096 images, code by code: those of the first dimension of all
its rows, then those of the second, and so on. That is the order in which distances are computed. Codes take
a byte, or two, little-endian, for more than 256 levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from mipp_cli.errors import MalformedError, TamperedError
from mipp_cli.scheme.image_cipher import (
    NONCE_BYTES,
    OVERHEAD_BYTES,
    derive_key,
    image_enc,
    key_id,
    length_prefixed,
)
from mipp_cli.scheme.parameters import Parameters

_MOST_ROWS = 4096
_MOST_BYTES = 1 << 19  # and its squares stay in the cache

Codes = NDArray[np.unsignedinteger]


@dataclass(frozen=True, order=True)
class ChunkPlace:
    """Which chunk it is: the upload that its rows came with, and its number there.

    Row i of an upload is row i % n of chunk i // n, n = :func:`chunk_rows`, until rows leave it.
    """

    upload: int
    number: int


@dataclass(frozen=True)
class LiveChunk:
    """A chunk as it is now: ``version`` is the number of the message that this ciphertext came with."""

    place: ChunkPlace
    version: int
    key_id: int
    rows: int


def stored_type(parameters: Parameters) -> np.dtype[np.unsignedinteger]:
    """Return how codes are kept: in one byte, or in two, little-endian."""
    return parameters.features.code_type.newbyteorder("<")


def chunk_rows(parameters: Parameters) -> int:
    """Return how many rows a full chunk has: 4096, or fewer of long features."""
    return max(1, min(_MOST_ROWS, _MOST_BYTES // (parameters.l * stored_type(parameters).itemsize)))


def chunk_bytes(parameters: Parameters, rows: int) -> int:
    """Return the bytes of an encrypted chunk of so many rows."""
    return OVERHEAD_BYTES + rows * parameters.l * stored_type(parameters).itemsize


def check_codes(codes: Codes, levels: int) -> None:
    """Refuse codes that no feature has; raises MalformedError."""
    if levels <= np.iinfo(codes.dtype).max and codes.max(initial=0) >= levels:
        raise MalformedError(
            f"holds a feature with a code that is not below {levels}",
            hint="its owner made it by other means than mipp, or for another deployment",
        )


@dataclass(frozen=True, repr=False)
class FeatureChunkCipher:
    """Encrypts and decrypts the chunks of one upload: the key is HKDF(SK, upload's number)."""

    image_key: bytes
    deployment: str
    owner: str
    upload: int
    parameters: Parameters

    @cached_property
    def _key(self) -> bytes:
        return derive_key(self.image_key, "mipp/1 features of an upload", self.upload.to_bytes(8, "big"))

    @cached_property
    def _aes_gcm(self) -> AESGCM:
        return AESGCM(self._key)

    @cached_property
    def _place(self) -> bytes:
        key = key_id(self.image_key)
        return length_prefixed(
            "features", self.deployment, self.parameters.scheme, self.owner, key, self.upload
        )

    def _associated_data(self, number: int, version: int, rows: int) -> bytes:
        return self._place + length_prefixed(number, version, rows)

    def encrypt(self, codes: Codes, number: int, version: int) -> bytes:
        """Return nonce, ciphertext and tag of chunk ``number``; ``codes`` has shape (rows, l).

        ``version`` is the number of the message that the ciphertext goes out with.
        """
        columns = np.ascontiguousarray(codes.T, dtype=stored_type(self.parameters))
        return image_enc(self._key, columns.tobytes(), self._associated_data(number, version, len(codes)))

    def decrypt(
        self, encrypted: bytes, number: int, version: int, rows: int, into: bytearray | None = None
    ) -> Codes:
        """Return the codes of a chunk, shape (l, rows): one column an image.

        ``into``, as long as the chunk or longer, is where they will lie, in the place of new memory. Raises
        TamperedError unless key, content and place all fit, MalformedError for codes or a length that
        cannot be.
        """
        octets, associated = memoryview(encrypted), self._associated_data(number, version, rows)
        memory = bytearray(len(octets)) if into is None else into
        plaintext = memoryview(memory)[: len(octets) - OVERHEAD_BYTES]
        if len(octets) < OVERHEAD_BYTES:
            raise _does_not_fit()
        try:
            self._aes_gcm.decrypt_into(octets[:NONCE_BYTES], octets[NONCE_BYTES:], associated, plaintext)
        except InvalidTag:
            raise _does_not_fit() from None
        if len(encrypted) != chunk_bytes(self.parameters, rows):
            raise MalformedError("encrypted features have a length that does not fit their rows")
        codes = np.frombuffer(plaintext, dtype=stored_type(self.parameters))
        check_codes(codes, self.parameters.levels)
        return codes.reshape(self.parameters.l, rows)


def _does_not_fit() -> TamperedError:
    return TamperedError("encrypted features do not fit their key, their owner or their place")
