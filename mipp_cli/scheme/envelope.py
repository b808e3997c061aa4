"""The plaintext of an encrypted image, and the length it is padded to."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import MalformedError, UnreadableImageError

IMAGE_LIMIT = 2**31 - 2**27  # padding adds at most 1/8; AESGCM takes at most 2^31 − 1 bytes

_ENVELOPE_VERSION = 1
_ENVELOPE_HEAD = struct.Struct(">BHBHQ")  # version, path, media type, codes, content


def padme(size: int) -> int:
    """Padmé: the padded length of ``size`` bytes, which leaks O(log log size) bits about it.

    Source: Nikitin et al., Reducing Metadata Leakage from Encrypted Files, PETS 2019, Algorithm 1.
    """
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << free_bits) - 1
    return (size + mask) & ~mask


def envelope_bytes(path_bytes: int, media_type: str, codes: int, content_bytes: int) -> int:
    """Return the length of an image's envelope, without its content."""
    return padme(_ENVELOPE_HEAD.size + path_bytes + len(media_type.encode()) + codes + content_bytes)


@dataclass(frozen=True)
class Envelope:
    """The plaintext of an encrypted image: its path (or the name shown to users instead), media type, feature
    and content.

    ``feature`` has shape (l,), or (0,) in a scheme where the user does not rank. ``content`` is the file bit
    for bit, or a PNG of its pixels alone.
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
        """Parse the output of :meth:`pack`; raises MalformedError for anything else."""
        if len(data) < _ENVELOPE_HEAD.size:
            raise MalformedError("an image's envelope is too short")
        version, path_size, type_size, codes, size = _ENVELOPE_HEAD.unpack_from(data)
        if version != _ENVELOPE_VERSION:
            raise MalformedError("an image's envelope has an unknown version")
        sizes = (path_size, type_size, codes, size)
        end = _ENVELOPE_HEAD.size + sum(sizes)
        if padme(end) > len(data) or data[end:].strip(b"\0"):
            raise MalformedError("an image's envelope has a length that does not match its content")
        parts, position = [], _ENVELOPE_HEAD.size
        for part in sizes:
            parts.append(data[position : position + part])
            position += part
        try:
            path, media_type = parts[0].decode(), parts[1].decode("ascii")
        except UnicodeDecodeError:
            raise MalformedError("an image's path is not valid UTF-8") from None
        return cls(path, media_type, np.frombuffer(parts[2], dtype=np.uint8), parts[3])
