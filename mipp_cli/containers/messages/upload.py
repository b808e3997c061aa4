"""`upload` (owner → cloud): the name and EW of each image, and further columns of the scheme.

In the sum schemes these are EF and EFF of each image; in `exact`, the end row of each group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Container, Schema
from mipp_cli.containers.base.writer import ContainerWriter, Sender, write_container
from mipp_cli.containers.messages.earlier import EARLIER, listed, read_earlier
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.aead import OVERHEAD_BYTES, image_dec, image_enc
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.envelope import IMAGE_LIMIT
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.protocol import FeatureProtocol
from mipp_cli.scheme.secret_keys import derive_key, key_id

NAME_LIMIT = 4096
_ROWS_LIMIT = 2**32 - 1
_IMAGES: dict[str, Matrix | Ragged] = {"EW": Ragged(), "image_names": Ragged(limit=NAME_LIMIT)}
GROUP_ENDS = "group_ends"
LONGEST_ROW = IMAGE_LIMIT + 2**27
Ciphertexts = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _schema(features: Mapping[str, int | None], *, grouped: bool) -> Schema:
    columns: dict[str, Matrix | Ragged] = {name: Matrix("u1", width) for name, width in features.items()}
    groups = {GROUP_ENDS: Matrix("<u4")} if grouped else {}
    return Schema("upload", {**_IMAGES, **EARLIER, **columns, **groups}, ("key_id",))


def upload_schema(parameters: Parameters) -> Schema:
    """Return the schema of `upload` for a scheme.

    A row of EF or EFF is l joined numbers; ``group_ends`` is the end row of each group.
    """
    protocol = parameters.protocol
    return _schema(protocol.upload_columns, grouped=protocol.grouped)


def any_upload_schemas() -> list[Schema]:
    """Return all schemas of `upload`, for readers that do not know the deployment."""
    return [_schema({}, grouped=True), _schema({"EF": None, "EFF": None}, grouped=False)]


@dataclass(frozen=True, repr=False)
class CipherOfUpload:
    """AES-256-GCM for data of one upload, under HKDF(SK, number), bound to the owner and the upload."""

    image_key: bytes
    deployment: str
    owner: str
    number: int
    _purpose: ClassVar[str]
    _kind: ClassVar[str]

    @cached_property
    def _key(self) -> bytes:
        return derive_key(self.image_key, self._purpose, self.number.to_bytes(8, "big"))

    @cached_property
    def _upload(self) -> bytes:
        return length_prefixed(self._kind, self.deployment, self.owner, key_id(self.image_key), self.number)

    def _seal(self, plaintext: bytes, *place: str | bytes | int) -> bytes:
        return image_enc(self._key, plaintext, self._upload + length_prefixed(*place))

    def _open(self, sealed: bytes, *place: str | bytes | int) -> bytes:
        return image_dec(self._key, sealed, self._upload + length_prefixed(*place))


class UploadCipher(CipherOfUpload):
    """ImageEnc and ImageDec for the images of one upload."""

    _purpose = "mipp/1 images of an upload"
    _kind = "image"

    def encrypt(self, plaintext: bytes, name: str) -> bytes:
        """Encrypt an image with the wire name ``name`` by Algorithm 1, which gives EW."""
        return self._seal(plaintext, name)

    def decrypt(self, ew: bytes, name: str) -> bytes:
        """Decrypt EW by Algorithm 2; raises TamperedError if image, owner, name, key or upload differ."""
        return self._open(ew, name)


@dataclass
class UploadWriter:
    """Appends images to an upload."""

    _writer: ContainerWriter
    _protocol: FeatureProtocol

    def append(self, name: str, ew: bytes, features: Sequence[bytes] = ()) -> None:
        """Append an image: its wire name, EW, and its encrypted features, one per column."""
        beside = dict(zip(self._protocol.upload_columns, features, strict=True))
        self._writer.add(EW=[ew], image_names=[name], **beside)

    def end_group(self) -> None:
        """End a group after the last image, if the scheme has groups."""
        if self._protocol.grouped:
            self._writer.add(group_ends=[self._writer.ragged("EW").rows])


@contextmanager
def write_upload(
    path: Path,
    parameters: Parameters,
    sender: Sender,
    number: int,
    key_id: int,
    *,
    earlier: Collection[int] = (),
    force: bool = False,
) -> Iterator[UploadWriter]:
    """Write an `upload` of images encrypted under the image key ``key_id``.

    ``earlier`` are the numbers of the earlier messages that still decide an image after this one.
    """
    with write_container(path, upload_schema(parameters), sender, number, force=force) as writer:
        writer.add(key_id=key_id, earlier=listed(earlier))
        yield UploadWriter(writer, parameters.protocol)


@dataclass(frozen=True)
class UploadReader:
    """An open upload, or an open `segment`, which may have no images."""

    container: Container
    parameters: Parameters

    def __post_init__(self) -> None:
        rows = self.container.same_length("image_names", "EW", *self.parameters.protocol.upload_columns)
        if not rows and self.container.header.kind == "upload":
            raise MalformedError("contains no images")
        if rows > _ROWS_LIMIT:
            raise MalformedError("has too many images")
        if self.parameters.protocol.grouped:
            check_group_ends(self.group_ends(), rows, empty_too=self.container.header.kind != "upload")

    def __len__(self) -> int:
        return len(self.container.ragged("EW"))

    @property
    def key_id(self) -> int:
        """Id of the image key."""
        return self.container.number("key_id")

    def earlier(self) -> tuple[int, ...]:
        """Return the numbers of the earlier messages that still decide an image; raises MalformedError."""
        return read_earlier(self.container)

    def names(self) -> list[str]:
        """Return the names of all images; raises MalformedError as :func:`check_names` does."""
        return check_names(self.container.ragged("image_names").all())

    def name(self, row: int) -> str:
        """Return the name of one image."""
        return check_names([self.container.ragged("image_names").row(row)])[0]

    def encrypted_image(self, row: int) -> bytes:
        """Return EW of one image."""
        return self.container.ragged("EW").row(row)

    def image_bytes(self, row: int) -> int:
        """Return the length of EW of one image."""
        return self.container.ragged("EW").sizes(row, row + 1)[0]

    def stored_image(self, row: int) -> bytes:
        """Return EW of one image without verifying its blocks, as the KMC has the owner's digest of it."""
        return self.container.ragged("EW").unverified_row(row)

    def group_ends(self) -> NDArray[np.int64]:
        """Return the end row of each group; groups are counted from 0."""
        return self.container.matrix(GROUP_ENDS).all().astype(np.int64)

    def group_rows(self, group: int) -> range:
        """Return the rows of a group; none if there is no such group."""
        column = self.container.matrix(GROUP_ENDS)
        if not 0 <= group < len(column):
            return range(0)
        bounds = column.rows(max(group - 1, 0), group + 1).tolist()
        return range(bounds[0] if group else 0, bounds[-1])

    def encrypted_features(self, begin: int, end: int) -> Ciphertexts:
        """Return EF and EFF of rows ``begin`` to ``end``, each of shape (n, l, number_bytes)."""
        shape = (end - begin, self.parameters.l, self.parameters.cipher.number_bytes)
        ef, eff = (self.container.matrix(name).rows(begin, end) for name in ("EF", "EFF"))
        return ef.astype(np.uint8, copy=False).reshape(shape), eff.astype(np.uint8, copy=False).reshape(shape)

    def check_images(self) -> None:
        """Refuse encrypted images of invalid length, and groups with too many images."""
        protocol = self.parameters.protocol
        most = 2 * protocol.group_size - 1
        if protocol.grouped and np.diff(self.group_ends(), prepend=0).max(initial=0) > most:
            raise MalformedError(f"has a group of more than {most} images")
        ew = self.container.ragged("EW")
        for begin in range(0, len(self), 4096):
            sizes = ew.sizes(begin, min(begin + 4096, len(self)))
            if max(sizes) > LONGEST_ROW:
                raise MalformedError("contains an image that is too large")
            if min(sizes) < OVERHEAD_BYTES:
                raise MalformedError("contains an encrypted image that is too short")


def check_group_ends(ends: NDArray[np.int64], rows: int, *, empty_too: bool = False) -> None:
    """Refuse groups that are not a partition of ``rows``; raises MalformedError.

    In a segment, groups may be empty, as groups keep their numbers when images are removed.
    """
    sizes = np.diff(ends, prepend=0)
    if (ends[-1] if len(ends) else 0) != rows or (sizes < (0 if empty_too else 1)).any():
        raise MalformedError("has groups that do not match its images")


def check_names(rows: list[bytes]) -> list[str]:
    """Decode image names; raises MalformedError if one is empty, not UTF-8, contains NUL, or occurs twice."""
    try:
        names = [row.decode() for row in rows]
    except UnicodeDecodeError:
        raise MalformedError("has an image name that is not UTF-8") from None
    if any(not name or "\0" in name for name in names):
        raise MalformedError("has an image name that is empty or contains NUL")
    if len(set(names)) != len(names):
        raise MalformedError("contains two images with the same name")
    return names
