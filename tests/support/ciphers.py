"""HKDF, AES-GCM and what is bound to them, by other means than the package's; and changed bytes."""

from __future__ import annotations

import hmac
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import strategies as st

KEY = bytes(range(32))


def hkdf(seed: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA256 without salt, as RFC 5869 writes it."""
    key = hmac.digest(bytes(32), seed, "sha256")
    out, block = b"", b""
    for i in range(1, 1 + -(-size // 32)):
        block = hmac.digest(key, block + info + bytes([i]), "sha256")
        out += block
    return out[:size]


def prefixed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def gcm_decrypt(key: bytes, ew: bytes, associated_data: bytes) -> bytes:
    """AES-256-GCM of nonce (12), ciphertext, tag (16), by the streaming interface."""
    decryptor = Cipher(algorithms.AES(key), modes.GCM(ew[:12], ew[-16:])).decryptor()
    decryptor.authenticate_additional_data(associated_data)
    return decryptor.update(ew[12:-16]) + decryptor.finalize()


CHANGES = {"place": st.integers(0, 10**6), "change": st.integers(1, 255)}


def changed(data: bytes, place: int, change: int) -> bytes:
    out = bytearray(data)
    out[place % len(out)] ^= change
    return bytes(out)
