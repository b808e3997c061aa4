"""Algorithms 1 and 2, ImageEnc and ImageDec: a key stream over the image, here AES-256-GCM's.

The paper XORs each image with SK itself; reused, that is a many-time pad. Here each image has a nonce of
its own, the tag makes a swapped or changed image show, and the key stream is still what hides it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from mipp_cli.errors import MalformedError, TamperedError, UnreadableImageError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
IMAGE_LIMIT = 2**31 - 2**27  # padding adds at most an eighth part; GCM here takes 2^31 − 1 bytes

_ENVELOPE_VERSION = 1
_ENVELOPE_HEAD = struct.Struct(">BHBHQ")  # version, path, media type, codes, content


def generate_key() -> bytes:
    """KeyGen: draw SK or USK, a seed of 256 bits."""
    return os.urandom(KEY_BYTES)


def key_id(key: bytes) -> int:
    """Return the 64-bit id by which a key is called: a digest of it, so that an id cannot name two keys."""
    return int.from_bytes(derive_key(key, "mipp/1 key id", b"")[:8], "big")


def derive_key(seed: bytes, purpose: str, context: bytes) -> bytes:
    """HKDF-SHA256 of a seed for one purpose and context; 32 bytes."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=length_prefixed(purpose, context)).derive(seed)


def length_prefixed(*parts: str | bytes | int) -> bytes:
    """Join parts, each behind its length in 8 bytes, so that no two lists of parts give the same bytes."""
    out = bytearray()
    for part in parts:
        if isinstance(part, int):
            octets = part.to_bytes(8, "big")
        else:
            octets = part.encode() if isinstance(part, str) else part
        out += len(octets).to_bytes(8, "big") + octets
    return bytes(out)


@lru_cache(maxsize=16)
def _aes_gcm(key: bytes) -> AESGCM:
    return AESGCM(key)


def image_enc(key: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Algorithm 1, ImageEnc: nonce (12 bytes), plaintext XOR key stream, tag (16 bytes)."""
    nonce = os.urandom(NONCE_BYTES)
    # into one buffer: joining nonce and ciphertext of a large image costs ten times its encryption
    out = bytearray(len(plaintext) + OVERHEAD_BYTES)
    out[:NONCE_BYTES] = nonce
    _aes_gcm(key).encrypt_into(nonce, plaintext, associated_data, memoryview(out)[NONCE_BYTES:])
    return bytes(out)


def image_dec(key: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
    """Algorithm 2, ImageDec; raises TamperedError unless key, content and associated data all fit."""
    if len(ciphertext) < OVERHEAD_BYTES:
        raise TamperedError("an encrypted image is too short")
    try:
        return _aes_gcm(key).decrypt(ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], associated_data)
    except InvalidTag:
        raise TamperedError(
            "an encrypted image does not fit its key, its owner, its name or its place"
        ) from None


def padme(size: int) -> int:
    """Padmé: the padded length of ``size`` bytes, which tells O(log log size) bits of it.

    Source: Nikitin et al., Reducing Metadata Leakage from Encrypted Files, PETS 2019, Algorithm 1.
    """
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << free_bits) - 1
    return (size + mask) & ~mask


def envelope_bytes(path: str, media_type: str, codes: int, content_bytes: int) -> int:
    """Return the length of the envelope of an image whose content is not at hand yet."""
    return padme(_ENVELOPE_HEAD.size + len(path.encode()) + len(media_type.encode()) + codes + content_bytes)


@dataclass(frozen=True)
class Envelope:
    """What is encrypted of an image: its path, media type, feature and content.

    ``feature`` has shape (l,), or (0,) in a scheme where the user does not rank; ``content`` is the file bit
    for bit, or the packed pixels.
    """

    path: str
    media_type: str
    feature: NDArray[np.uint8]
    content: bytes

    def __post_init__(self) -> None:
        if len(self.content) > IMAGE_LIMIT:
            raise UnreadableImageError(
                "the image is too large to encrypt",
                path=self.path,
                hint="images of 2 GiB or more are refused",
            )
        if len(self.path.encode()) >= 1 << 16 or len(self.media_type.encode()) >= 1 << 8:
            raise MalformedError("an image's path or media type is too long")

    def pack(self, length: int = 0) -> bytes:
        """Return the envelope as bytes, padded with zeros to a Padmé length, and to ``length`` at least."""
        path, media_type = self.path.encode(), self.media_type.encode()
        head = _ENVELOPE_HEAD.pack(
            _ENVELOPE_VERSION, len(path), len(media_type), len(self.feature), len(self.content)
        )
        parts = (head, path, media_type, self.feature.tobytes(), self.content)
        size = sum(map(len, parts))
        return b"".join((*parts, bytes(max(padme(size), length) - size)))

    @classmethod
    def unpack(cls, data: bytes) -> Envelope:
        """Read what :meth:`pack` wrote; raises MalformedError for anything else."""
        if len(data) < _ENVELOPE_HEAD.size:
            raise MalformedError("an image's envelope is too short")
        version, path_size, type_size, codes, size = _ENVELOPE_HEAD.unpack_from(data)
        if version != _ENVELOPE_VERSION:
            raise MalformedError("an image's envelope is of an unknown version")
        sizes = (path_size, type_size, codes, size)
        end = _ENVELOPE_HEAD.size + sum(sizes)
        if padme(end) > len(data) or data[end:].strip(b"\0"):
            raise MalformedError("an image's envelope has a length that does not fit its content")
        parts, position = [], _ENVELOPE_HEAD.size
        for part in sizes:
            parts.append(data[position : position + part])
            position += part
        try:
            path, media_type = parts[0].decode(), parts[1].decode("ascii")
        except UnicodeDecodeError:
            raise MalformedError("an image's path is not text") from None
        return cls(path, media_type, np.frombuffer(parts[2], dtype=np.uint8), parts[3])


def sha256(data: bytes) -> bytes:
    """SHA-256 of ``data``; 32 bytes."""
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize()
