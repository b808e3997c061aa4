"""Sources of a container's bytes, read by position: files and memory, verified or not, and HDF5's view."""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mipp_cli.containers.base.header import HEAD_BYTES, Header
from mipp_cli.errors import InvalidRequestError, MalformedError, TamperedError
from mipp_cli.files.system_errors import hint_of
from mipp_cli.log import timed

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 1 << 16  # each block has its own digest
DIGEST_BYTES = 32
_CACHED_BLOCKS = 64


class Source(Protocol):
    """Bytes of a known size, read by position."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, fewer only at the end."""

    def close(self) -> None:
        """Release the resources."""


class FileSource:
    """A regular file, read through one descriptor, with the size that it had when it was opened."""

    def __init__(self, path: Path):
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            hint = hint_of(error, "check the path and its permissions")
            raise InvalidRequestError(f"cannot be read: {reason}", path=path, hint=hint) from error
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise InvalidRequestError("is not a regular file", path=path, hint="give a regular file")
        self.size = status.st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes by position; raises MalformedError if the disk fails or the file was shortened."""
        parts = []
        size = max(0, min(size, self.size - offset))
        while size > 0:
            try:
                part = os.pread(self._descriptor, size, offset)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                raise MalformedError(f"reading failed: {reason}", hint=hint_of(error, "try again")) from error
            if not part:
                raise MalformedError("was shortened while it was read")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def read_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a file; raises MalformedError if it is longer than ``limit``."""
    with closing(FileSource(path)) as source:
        if source.size > limit:
            raise MalformedError(f"is larger than the limit of {limit} bytes", path=path)
        return source.read_at(0, source.size)


class BytesSource:
    """Bytes in memory: a container inside another."""

    def __init__(self, data: bytes):
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes by position."""
        return self._data[offset : offset + size]

    def close(self) -> None:
        """Do nothing."""


class BlockTags:
    """Tags of the blocks of a file that this process verified: AES-256-GMAC under a key of its own.

    They detect later changes to the file about five times faster than SHA-256. Only this process can use
    them.
    """

    size = 16

    def __init__(self) -> None:
        self._aes_gcm = AESGCM(os.urandom(32))

    def of(self, number: int, block: bytes | memoryview) -> bytes:
        """Return the tag of a block; ``number`` is its nonce, which is unique in the file."""
        return self._aes_gcm.encrypt(number.to_bytes(12, "big"), b"", block)


class BlockDigests:
    """SHA-256 digests of the blocks of a stored file."""

    size = DIGEST_BYTES

    def of(self, number: int, block: bytes | memoryview) -> bytes:
        """Return the digest of a block."""
        return hashlib.sha256(block).digest()


class BlockVerifiedSource:
    """A container of which each 64 KiB block is checked against its digest before it is used.

    ``digests`` are the joined SHA-256 digests, or the tags that ``kind`` makes; blocks are counted from the
    end of the user block, ``head``. Some blocks are cached, so that small reads near each other do not hash
    again.
    """

    def __init__(
        self, source: Source, head: bytes, digests: bytes, kind: BlockDigests | BlockTags | None = None
    ):
        self._kind = kind or BlockDigests()
        if len(digests) != self._kind.size * -(-max(source.size - HEAD_BYTES, 0) // BLOCK_BYTES):
            raise TamperedError("does not have the size that it was stored with")
        self._source, self._head, self._digests = source, head, digests
        self.size = source.size
        self.unverified = source
        self._kept_block = lru_cache(_CACHED_BLOCKS)(self._block)

    def _block(self, number: int) -> bytes:
        block = self._source.read_at(HEAD_BYTES + number * BLOCK_BYTES, BLOCK_BYTES)
        self._check(number, block)
        return block

    def _check(self, number: int, block: bytes | memoryview) -> None:
        begin = number * self._kind.size
        if self._kind.of(number, block) != self._digests[begin : begin + self._kind.size]:
            raise TamperedError(f"block {number} differs from what was stored: the disk lost or changed it")

    def read_at(self, offset: int, size: int) -> bytes:
        """Return verified bytes by position; raises TamperedError."""
        if offset < HEAD_BYTES:
            head = self._head[offset : offset + size]
            rest = size - len(head)
            return head + self.read_at(HEAD_BYTES, rest) if rest else head
        begin, end = offset - HEAD_BYTES, min(offset + size, self.size) - HEAD_BYTES
        if end <= begin:
            return b""
        first, last = begin // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        start = first * BLOCK_BYTES
        if last - first >= _CACHED_BLOCKS // 8:  # read at once: joining blocks would double the cost
            data = self._source.read_at(HEAD_BYTES + start, (last + 1 - first) * BLOCK_BYTES)
            for place, number in enumerate(range(first, last + 1)):
                self._check(number, memoryview(data)[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES])
        else:
            data = b"".join(self._kept_block(number) for number in range(first, last + 1))
        return data[begin - start : end - start]

    def close(self) -> None:
        """Close the underlying source."""
        self._source.close()


def content_blocks(source: Source) -> Iterator[bytes]:
    """Yield the content after the user block in blocks of 64 KiB."""
    for offset in range(HEAD_BYTES, source.size, BLOCK_BYTES):
        yield source.read_at(offset, BLOCK_BYTES)


def block_digests(source: Source) -> bytes:
    """Return the joined SHA-256 digests of the blocks of a container."""
    return b"".join(hashlib.sha256(block).digest() for block in content_blocks(source))


def digest_of(digests: bytes) -> str:
    """Return the content digest for the header: the SHA-256 of the joined block digests, in hex."""
    return hashlib.sha256(digests).hexdigest()


def check_digests(digests: bytes, header: Header) -> None:
    """Check the digests of the content's blocks against the header; raises TamperedError."""
    if not hmac.compare_digest(digest_of(digests), header.digest):
        raise TamperedError(
            "the content does not match the digest that its sender signed",
            hint="the file was cut short or changed in transit: fetch it again",
        )


@timed("verifying a container: {header.kind}, {source.size} bytes")
def check_digest(source: Source, header: Header) -> Source:
    """Check the content against the digest in its header; raises TamperedError.

    Returns the source to read from now on. It verifies the bytes again when they are read, as the file may
    be changed in the meantime.
    """
    tags, digests, tagged = BlockTags(), bytearray(), bytearray()
    for number, block in enumerate(content_blocks(source)):
        digests += hashlib.sha256(block).digest()
        tagged += tags.of(number, block)
    check_digests(bytes(digests), header)
    if isinstance(source, BytesSource):  # in this process's memory: nobody else can change them
        return source
    return BlockVerifiedSource(source, source.read_at(0, HEAD_BYTES), bytes(tagged), tags)


class BodyView(io.RawIOBase):
    """The file that HDF5 sees: a source from ``start`` on.

    HDF5 looks for its superblock at 0, 512, 1024 and so on. Without the user block, it finds it at 0.
    """

    def __init__(self, source: Source, start: int):
        self._source, self._start = source, start
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size - self._start}
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer`` from the position on."""
        target = memoryview(buffer).cast("B")
        data = self._source.read_at(self._start + self._position, len(target))
        target[: len(data)] = data
        self._position += len(data)
        return len(data)
