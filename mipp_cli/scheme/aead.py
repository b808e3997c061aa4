"""AES-256-GCM under a random nonce, which is prefixed to the ciphertext. All data is encrypted this way.

This includes images (Algorithms 1 and 2). The paper XORs every image with SK itself, which is a many-time
pad. Here each image has its own nonce, so its own key stream, and the tag detects a swapped or modified
image.
"""

from __future__ import annotations

import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mipp_cli.errors import TamperedError

NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES


@lru_cache(maxsize=16)
def _aes_gcm(key: bytes) -> AESGCM:
    return AESGCM(key)


def seal(key: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Encrypt, bound to ``associated_data``: nonce (12 bytes), ciphertext, tag (16 bytes)."""
    nonce = os.urandom(NONCE_BYTES)
    # one buffer: joining nonce and ciphertext of a large image takes ten times as long as encrypting it
    out = bytearray(len(plaintext) + OVERHEAD_BYTES)
    out[:NONCE_BYTES] = nonce
    _aes_gcm(key).encrypt_into(nonce, plaintext, associated_data, memoryview(out)[NONCE_BYTES:])
    return bytes(out)


def unseal_into(key: bytes, sealed: memoryview, associated_data: bytes, out: memoryview) -> None:
    """Decrypt like :func:`unseal`, into an existing buffer; this is faster for megabytes."""
    try:
        _aes_gcm(key).decrypt_into(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data, out)
    except InvalidTag:
        raise TamperedError("could not be decrypted: it does not fit its key or its place") from None


def unseal(key: bytes, sealed: bytes | memoryview, associated_data: bytes) -> bytes:
    """Decrypt the output of :func:`seal`; raises TamperedError unless key, content and data match."""
    if len(sealed) < OVERHEAD_BYTES:
        raise TamperedError("is too short to be encrypted data")
    try:
        return _aes_gcm(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)
    except InvalidTag:
        raise TamperedError("could not be decrypted: it does not fit its key or its place") from None


def image_enc(key: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Algorithm 1, ImageEnc: nonce (12 bytes), plaintext XOR key stream, tag (16 bytes)."""
    return seal(key, plaintext, associated_data)


def image_dec(key: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
    """Algorithm 2, ImageDec; raises TamperedError unless key, content and associated data match."""
    try:
        return unseal(key, ciphertext, associated_data)
    except TamperedError:
        raise TamperedError(
            "an encrypted image does not fit its key, its owner, its name or its place"
        ) from None
