"""Algorithms 1 and 2, ImageEnc and ImageDec: a key stream over the image, here AES-256-GCM's.

The paper XORs each image with SK itself; reused, that is a many-time pad. Here each image has a nonce of
its own, the tag makes a swapped or changed image show, and the key stream is still what hides it.
"""

from __future__ import annotations

from mipp_cli.errors import TamperedError
from mipp_cli.scheme.aead import seal, unseal


def image_enc(key: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Algorithm 1, ImageEnc: nonce (12 bytes), plaintext XOR key stream, tag (16 bytes)."""
    return seal(key, plaintext, associated_data)


def image_dec(key: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
    """Algorithm 2, ImageDec; raises TamperedError unless key, content and associated data all fit."""
    try:
        return unseal(key, ciphertext, associated_data)
    except TamperedError:
        raise TamperedError(
            "an encrypted image does not fit its key, its owner, its name or its place"
        ) from None
