"""256-bit symmetric keys: generating SK and USK, their key ids, and keys derived from them."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mipp_cli.scheme.encoding import length_prefixed

KEY_BYTES = 32


def generate_key() -> bytes:
    """KeyGen: generate SK or USK, a 256-bit seed."""
    return os.urandom(KEY_BYTES)


def key_id(key: bytes) -> int:
    """Return the 64-bit id of a key: derived from the key, so that one id does not name two keys."""
    return int.from_bytes(derive_key(key, "mipp/1 key id", b"")[:8], "big")


def derive_key(seed: bytes, purpose: str, context: bytes) -> bytes:
    """HKDF-SHA256 of a seed for one purpose and context; 32 bytes."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=length_prefixed(purpose, context)).derive(seed)
