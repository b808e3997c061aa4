"""How several values become the bytes that a key is derived from, or that a ciphertext is bound to."""

from __future__ import annotations

import hashlib


def length_prefixed(*parts: str | bytes | int) -> bytes:
    """Join parts, each behind its length in 8 bytes, so that no two lists of parts give the same bytes."""
    out = bytearray()
    for part in parts:
        if isinstance(part, int):
            data = part.to_bytes(8, "big")
        else:
            data = part.encode() if isinstance(part, str) else part
        out += len(data).to_bytes(8, "big") + data
    return bytes(out)


def name_digest(name: str) -> bytes:
    """SHA-256 of an image's name on the wire, by which a features file and a deletion call it; 32 bytes."""
    return hashlib.sha256(name.encode()).digest()
