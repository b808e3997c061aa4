"""`features` (owner → KMC): the features of an upload's images, by which the KMC ranks (scheme `exact`).

For each row of the upload it has the SHA-256 of the wire name, the SHA-256 of the ciphertext, and the codes,
some thousand rows sealed together under a key derived from SK and the upload's number. For each group it has
the end row and the length of its ciphertexts. The file has the upload's number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Check, Container, Schema, closed_on_failure, open_container
from mipp_cli.containers.base.source import DIGEST_BYTES
from mipp_cli.containers.base.writer import ContainerWriter, Sender, write_container
from mipp_cli.containers.messages.earlier import EARLIER, listed, read_earlier
from mipp_cli.containers.messages.upload import GROUP_ENDS, LONGEST_ROW, CipherOfUpload, check_group_ends
from mipp_cli.errors import MalformedError, TamperedError
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.encoding import name_digest
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.protocol import Codes
from mipp_cli.scheme.secret_keys import key_id

_CHUNK_BYTES = 1 << 18
_ROWS_LIMIT = 2**32 - 1

FEATURES = Schema(
    "features",
    {
        "codes": Ragged(limit=_CHUNK_BYTES + OVERHEAD_BYTES),
        "name_digests": Matrix("u1", DIGEST_BYTES),
        "image_digests": Matrix("u1", DIGEST_BYTES),
        GROUP_ENDS: Matrix("<u4"),
        "group_lengths": Matrix("<u8"),
        **EARLIER,
    },
    ("key_id",),
)

Digests = NDArray[np.uint8]


def chunk_rows(l: int) -> int:
    """Return the number of rows whose codes are sealed together."""
    return max(1, _CHUNK_BYTES // l)


class FeatureCipher(CipherOfUpload):
    """AES-256-GCM for the codes of one upload, bound also to their rows and names."""

    _purpose = "mipp/1 features of an upload"
    _kind = "features"

    def encrypt(self, codes: Codes, first: int, names: Digests) -> bytes:
        """Seal the codes, shape (n, l), of the rows from ``first`` on with name digests of shape (n, 32)."""
        return self._seal(codes.tobytes(), first, hashlib.sha256(names.tobytes()).digest())

    def decrypt(self, sealed: bytes, first: int, names: Digests) -> bytes:
        """Open what :meth:`encrypt` sealed; raises TamperedError."""
        return self._open(sealed, first, hashlib.sha256(names.tobytes()).digest())


@dataclass
class FeaturesWriter:
    """Appends images to a features file, in the order of the upload's rows."""

    _writer: ContainerWriter
    _cipher: FeatureCipher
    _chunk_rows: int
    _names: bytearray = field(default_factory=bytearray)  # a list would take three times the memory
    _codes: bytearray = field(default_factory=bytearray)
    _first: int = 0

    def append(self, name: str, image_digest: bytes, codes: Codes) -> None:
        """Append an image: its wire name, the SHA-256 of its ciphertext, and its codes, shape (l,)."""
        self._writer.add(image_digests=image_digest)
        self._names += name_digest(name)
        self._codes += codes.tobytes()
        if self._waiting == self._chunk_rows:
            self._flush()

    @property
    def _waiting(self) -> int:
        return len(self._names) // DIGEST_BYTES

    def end_group(self, length: int) -> None:
        """End a group after the last image; its ciphertexts have ``length`` bytes each."""
        self._writer.add(group_ends=[self._first + self._waiting], group_lengths=[length])

    def _flush(self) -> None:
        if not self._names:
            return
        names, codes = (np.frombuffer(bytes(each), dtype=np.uint8) for each in (self._names, self._codes))
        sealed = self._cipher.encrypt(codes, self._first, names)
        self._writer.add(name_digests=names.reshape(-1, DIGEST_BYTES), codes=[sealed])
        self._first += self._waiting
        self._names.clear()
        self._codes.clear()


@contextmanager
def write_features(
    path: Path,
    l: int,
    sender: Sender,
    number: int,
    image_key: bytes,
    *,
    earlier: Collection[int] = (),
    force: bool = False,
) -> Iterator[FeaturesWriter]:
    """Write the `features` of the upload ``number``; ``earlier`` is the same as in the upload."""
    with write_container(path, FEATURES, sender, number, force=force) as container:
        container.add(key_id=key_id(image_key), earlier=listed(earlier))
        cipher = FeatureCipher(image_key, sender.deployment, sender.name, number)
        writer = FeaturesWriter(container, cipher, chunk_rows(l))
        yield writer
        writer._flush()


@dataclass(frozen=True)
class FeaturesReader:
    """An open features file whose groups and lengths were checked."""

    container: Container
    parameters: Parameters

    def __post_init__(self) -> None:
        rows = self.container.same_length("name_digests", "image_digests")
        self.container.same_length(GROUP_ENDS, "group_lengths")
        if not 1 <= rows <= _ROWS_LIMIT:
            raise MalformedError("contains no images, or too many")
        check_group_ends(self.group_ends, rows)
        most = 2 * self.parameters.protocol.group_size - 1
        if np.diff(self.group_ends, prepend=0).max() > most:
            raise MalformedError(f"has a group of more than {most} images")
        lengths = self.container.matrix("group_lengths").all()
        if lengths.min() < OVERHEAD_BYTES or lengths.max() > LONGEST_ROW:
            raise MalformedError("states a length that no encrypted image has")
        if len(self.container.ragged("codes")) != -(-rows // self._chunk_rows):
            raise MalformedError("has more or fewer codes than images")

    def __len__(self) -> int:
        return len(self.container.matrix("name_digests"))

    @property
    def _chunk_rows(self) -> int:
        return chunk_rows(self.parameters.l)

    @property
    def number(self) -> int:
        """Number of the upload."""
        return self.container.header.sequence_number

    @property
    def key_id(self) -> int:
        """Id of the image key under which the codes are encrypted."""
        return self.container.number("key_id")

    def earlier(self) -> tuple[int, ...]:
        """Return the numbers of the earlier messages that still decide an image; raises MalformedError."""
        return read_earlier(self.container)

    @cached_property
    def group_ends(self) -> NDArray[np.int64]:
        """The end row of each group; groups are counted from 0."""
        return self.container.matrix(GROUP_ENDS).all().astype(np.int64)

    @cached_property
    def group_lengths(self) -> NDArray[np.int64]:
        """The length of the ciphertexts of each group, in bytes."""
        return self.container.matrix("group_lengths").all().astype(np.int64)

    @cached_property
    def name_digests(self) -> Digests:
        """SHA-256 of each wire name, shape (n, 32)."""
        return self.container.matrix("name_digests").all().astype(np.uint8, copy=False)

    def image_digests(self, begin: int, end: int) -> Digests:
        """SHA-256 of the ciphertexts of rows ``begin`` to ``end``, shape (n, 32)."""
        return self.container.matrix("image_digests").rows(begin, end).astype(np.uint8, copy=False)

    def chunks(self, cipher: FeatureCipher | None) -> Iterator[tuple[int, int, Codes | None]]:
        """Yield the first row, end row and codes, shape (n, l), of each chunk of rows sealed together.

        Without a cipher the codes are None. Raises TamperedError if they do not match the key, the upload or
        the names, and MalformedError for invalid codes.
        """
        l, levels = self.parameters.l, self.parameters.levels
        for number, begin in enumerate(range(0, len(self), self._chunk_rows)):
            end = min(begin + self._chunk_rows, len(self))
            if cipher is None:
                yield begin, end, None
                continue
            sealed = self.container.ragged("codes").row(number)
            try:
                opened = cipher.decrypt(sealed, begin, self.name_digests[begin:end])
            except TamperedError:
                raise TamperedError(
                    "contains codes that could not be decrypted",
                    hint="they belong to another key or another upload: ask the owner",
                ) from None
            if len(opened) != (end - begin) * l:
                raise MalformedError("has more or fewer codes than images")
            codes = np.frombuffer(opened, dtype=np.uint8).reshape(-1, l)
            if codes.max() >= levels:
                raise MalformedError(f"contains a code that is not below {levels}")
            yield begin, end, codes


def open_features(
    path: Path, parameters: Parameters, deployment: str, check: Check | None = None
) -> FeaturesReader:
    """Read and verify a features file; the caller closes the reader's container."""
    container = open_container(path, FEATURES, deployment=deployment, check=check)
    with closed_on_failure(container):
        return FeaturesReader(container, parameters)
