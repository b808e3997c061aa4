"""The description of an image by the first pass of `owner encrypt`, in memory and as a line on disk."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.envelope import envelope_bytes


class PictureFacts(NamedTuple):
    """What a report says of a picture.

    ``frame`` is the one taken of a DICOM file with several; ``flat`` says whether all pixels have one value,
    ``edgeless`` whether the feature is an edge histogram that says nothing.
    """

    kind: str
    width: int
    height: int
    bits: int
    frame: int | None
    flat: bool
    edgeless: bool = False


KEYED_NAME_BYTES: Final = 36
"""Length of a keyed name, which replaces a path: 16 bytes in hex, and a suffix."""


@dataclass(frozen=True)
class DescribedImage:
    """The description of an image.

    ``version`` identifies the version of the file (size and times), ``digest`` is the SHA-256 of its bytes,
    ``payload_bytes`` the length of the plaintext payload, ``codes`` the feature.
    """

    path: str
    version: str
    digest: str
    payload_bytes: int
    media_type: str
    codes: bytes
    inside: int  # number of codes inside the encrypted image
    name_bytes: int  # length of the name that users see
    facts: PictureFacts
    features: tuple[bytes, ...] = ()  # encrypted, as stored beside the image in the upload

    @property
    def feature(self) -> NDArray[np.uint8]:
        """The feature, shape (l,)."""
        return np.frombuffer(self.codes, dtype=np.uint8)

    @property
    def sealed_bytes(self) -> int:
        """Length of the encrypted image, EW."""
        size = envelope_bytes(self.name_bytes, self.media_type, self.inside, self.payload_bytes)
        return size + OVERHEAD_BYTES

    def pack(self) -> bytes:
        """Return the description as a line, with a digest that reveals a torn write."""
        binary = [base64.b64encode(each).decode() for each in (self.codes, *self.features)]
        fields = (
            self.path,
            self.version,
            self.digest,
            self.payload_bytes,
            self.media_type,
            self.inside,
            self.name_bytes,
            self.facts,
        )
        line = json.dumps([fields, binary]).encode() + b"\n"
        return _digest(line) + line

    @classmethod
    def read(cls, file: BinaryIO) -> DescribedImage | None:
        """Read the next description; None at the end or at a torn write."""
        digest, line = file.read(len(_digest(b""))), file.readline()
        if digest != _digest(line):
            return None
        fields, binary = json.loads(line)
        path, version, sha256, payload_bytes, media_type, inside, name_bytes, facts = fields
        codes, *features = map(base64.b64decode, binary)
        rest = (inside, name_bytes, PictureFacts(*facts), tuple(features))
        return cls(path, version, sha256, payload_bytes, media_type, codes, *rest)


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest().encode()
