"""`upload` (owner → cloud): EW, EF and EFF under the names of their images."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.columns import Matrix, Ragged
from mipp_cli.containers.container import Container, ContainerWriter, Schema, Sender, write_container
from mipp_cli.containers.earlier import EARLIER, read_earlier, write_earlier
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.image_cipher import (
    IMAGE_LIMIT,
    OVERHEAD_BYTES,
    derive_key,
    image_dec,
    image_enc,
    key_id,
    length_prefixed,
)
from mipp_cli.scheme.parameters import Parameters

NAME_LIMIT = 4096
_ROWS_LIMIT = 2**32 - 1
_IMAGES: dict[str, Matrix | Ragged] = {"image_names": Ragged(limit=NAME_LIMIT), "EW": Ragged(limit=2**31)}
_NUMBERS = ("key_id",)


def feature_bytes(parameters: Parameters | None) -> int | None:
    """Return the bytes of an encrypted feature, EF; None for any scheme."""
    return None if parameters is None else parameters.l * parameters.cipher.number_bytes


def upload_schema(parameters: Parameters | None) -> Schema:
    """Return the schema of `upload` for a scheme (or any).

    A row of EF or EFF is l numbers, end to end.
    """
    width = feature_bytes(parameters)
    columns = {**_IMAGES, **EARLIER, "EF": Matrix("u1", width), "EFF": Matrix("u1", width)}
    return Schema("upload", columns, _NUMBERS)


@dataclass(frozen=True, repr=False)
class UploadCipher:
    """ImageEnc and ImageDec for the images of one upload: the key is HKDF(SK, upload's number)."""

    image_key: bytes
    deployment: str
    owner: str
    number: int

    @cached_property
    def _key(self) -> bytes:
        return derive_key(self.image_key, "mipp/1 images of an upload", self.number.to_bytes(8, "big"))

    @cached_property
    def _place(self) -> bytes:
        key = key_id(self.image_key)
        return length_prefixed("image", self.deployment, self.owner, key, self.number)

    def _associated_data(self, name: str) -> bytes:
        return self._place + length_prefixed(name)

    def encrypt(self, plaintext: bytes, name: str) -> bytes:
        """Algorithm 1: EW of one image, called ``name`` on the wire."""
        return image_enc(self._key, plaintext, self._associated_data(name))

    def decrypt(self, ew: bytes, name: str) -> bytes:
        """Algorithm 2; raises TamperedError if the image, its owner, name, key or upload does not fit."""
        return image_dec(self._key, ew, self._associated_data(name))


@dataclass(frozen=True)
class UploadSize:
    """How large an upload will be: images, and bytes of all names and of all encrypted images."""

    rows: int
    name_bytes: int
    ew_bytes: int


@dataclass
class UploadWriter:
    """Appends images to an upload."""

    _writer: ContainerWriter

    def append(self, name: str, ew: bytes, ef: bytes, eff: bytes) -> None:
        """Append an image: name on the wire, encrypted image, encrypted feature and squares."""
        self._writer.ragged("image_names").append(name.encode())
        self._writer.ragged("EW").append(ew)
        for column, feature in (("EF", ef), ("EFF", eff)):
            self._writer.matrix(column).append(np.frombuffer(feature, dtype=np.uint8).reshape(1, -1))


@contextmanager
def write_upload(
    path: Path,
    parameters: Parameters,
    sender: Sender,
    number: int,
    key_id: int,
    *,
    earlier: Collection[int] = (),
    size: UploadSize | None = None,
    force: bool = False,
) -> Iterator[UploadWriter]:
    """Write an `upload` of images encrypted under the image key ``key_id``.

    ``earlier`` are the numbers of the messages before it that still decide an image once it counts. With
    ``size`` every column lies in one piece, which is read fastest; without it, in chunks.
    """
    with write_container(path, upload_schema(parameters), sender, number, force=force) as writer:
        writer.number("key_id", key_id)
        write_earlier(writer, earlier)
        if size is not None:
            writer.ragged("image_names").expect(size.rows, size.name_bytes)
            writer.ragged("EW").expect(size.rows, size.ew_bytes)
            for column in ("EF", "EFF"):
                writer.matrix(column).expect(size.rows)
        yield UploadWriter(writer)


@dataclass(frozen=True)
class UploadReader:
    """An open upload, of an owner's or of the cloud's store, or a `segment`, which may have no images."""

    container: Container
    parameters: Parameters

    def __post_init__(self) -> None:
        rows = self.container.same_length("image_names", "EW", "EF", "EFF")
        if not rows and self.container.header.kind == "upload":
            raise MalformedError("holds no images")
        if rows > _ROWS_LIMIT:
            raise MalformedError("has too many images")

    def __len__(self) -> int:
        return len(self.container.ragged("EW"))

    @property
    def key_id(self) -> int:
        """Id of the image key in use."""
        return self.container.number("key_id")

    def earlier(self) -> tuple[int, ...]:
        """Return the numbers of the earlier messages that still decide an image; raises MalformedError."""
        return read_earlier(self.container)

    def names(self) -> list[str]:
        """Return the names of all images; MalformedError if one is empty, no text, or there twice."""
        rows = [row for batch in self.container.ragged("image_names").batches() for row in batch]
        return check_names(rows)

    def name(self, row: int) -> str:
        """Return the name of one image."""
        return check_names([self.container.ragged("image_names").row(row)])[0]

    def encrypted_image(self, row: int) -> bytes:
        """Return EW of one image."""
        return self.container.ragged("EW").row(row)

    def encrypted_features(self, begin: int, end: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return EF and EFF of rows ``begin`` to ``end``, each of shape (n, l, number_bytes)."""
        shape = (end - begin, self.parameters.l, self.parameters.cipher.number_bytes)
        ef, eff = (self.container.matrix(name).rows(begin, end) for name in ("EF", "EFF"))
        return ef.astype(np.uint8, copy=False).reshape(shape), eff.astype(np.uint8, copy=False).reshape(shape)

    def check_images(self) -> None:
        """Refuse encrypted images of a length that cannot be."""
        ew = self.container.ragged("EW")
        for begin in range(0, len(self), 4096):
            sizes = ew.sizes(begin, min(begin + 4096, len(self)))
            if max(sizes) > IMAGE_LIMIT + 2**27:
                raise MalformedError("holds an image that is too large")
            if min(sizes) < OVERHEAD_BYTES:
                raise MalformedError("holds an encrypted image that is too short to be one")


def check_names(rows: list[bytes]) -> list[str]:
    """Return image names as text; MalformedError if one is empty, not UTF-8, holds NUL, or comes twice."""
    try:
        names = [row.decode() for row in rows]
    except UnicodeDecodeError:
        raise MalformedError("names an image by bytes that are no text") from None
    if any(not name or "\0" in name for name in names):
        raise MalformedError("names an image by nothing")
    if len(set(names)) != len(names):
        raise MalformedError("names two images alike")
    return names
