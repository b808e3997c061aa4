"""Unambiguous encoding of several values as bytes, for key derivation and associated data."""

from __future__ import annotations

import hashlib


def length_prefixed(*parts: str | bytes | int) -> bytes:
    """Join parts, each prefixed with its length in 8 bytes; different lists never give the same bytes."""
    out = bytearray()
    for part in parts:
        if isinstance(part, int):
            data = part.to_bytes(8, "big")
        else:
            data = part.encode() if isinstance(part, str) else part
        out += len(data).to_bytes(8, "big") + data
    return bytes(out)


def name_digest(name: str) -> bytes:
    """SHA-256 of an image's wire name; features files and deletions identify images by it. 32 bytes."""
    return hashlib.sha256(name.encode()).digest()
