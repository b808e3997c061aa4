"""Files that the cloud keeps: copied once, never changed, and checked block by block when read.

Beside each file is ``NAME.blocks``, the SHA-256 digests of its 64 KiB blocks. The digest of that list is in
the file's header; the digest of the header, the *root*, is in CLOUD/index.h5.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mipp_cli.containers.base.header import HEAD_BYTES, Header, parse
from mipp_cli.containers.base.source import (
    DIGEST_BYTES,
    BlockVerifiedSource,
    FileSource,
    Source,
    block_digests,
    check_digests,
    content_blocks,
    digest_of,
    read_file,
)
from mipp_cli.errors import MalformedError, MippError, TamperedError, errors_at
from mipp_cli.files.atomic import new_file, write_bytes
from mipp_cli.files.folders import is_there
from mipp_cli.log import timed

ROOT_BYTES = DIGEST_BYTES
_DIGESTS_LIMIT = 1 << 31


def blocks_path(path: Path) -> Path:
    """Return the path of the block digests of a stored file."""
    return path.with_name(path.name + ".blocks")


def root_of(source: Source) -> bytes:
    """Return the root of a container: the SHA-256 of its user block, which has the digest of the content."""
    return hashlib.sha256(source.read_at(0, HEAD_BYTES)).digest()


@timed("verifying and storing a container: {header.kind}, {source.size} bytes")
def store_copy(source: Source, path: Path, header: Header, advance: Callable[[int], None]) -> bytes:
    """Copy a container to ``path`` and check its content in the same pass; return the root.

    ``advance`` is called with the number of bytes copied. Raises TamperedError, and leaves no file, if the
    content does not match the header.
    """
    digests, head = bytearray(), source.read_at(0, HEAD_BYTES)
    if parse(head) != header:
        raise TamperedError("was changed while it was read")
    with new_file(path, force=True) as temporary, temporary.open("wb") as copy:
        copy.write(head)
        for block in content_blocks(source):
            digests += hashlib.sha256(block).digest()
            copy.write(block)
            advance(len(block))
        copy.flush()
        check_digests(bytes(digests), header)
    write_bytes(blocks_path(path), bytes(digests), force=True)
    return hashlib.sha256(head).digest()


def store_digests(path: Path) -> bytes:
    """Write the block digests of a new file, and return its root."""
    with closing(FileSource(path)) as source:
        write_bytes(blocks_path(path), block_digests(source), force=True)
        return root_of(source)


def has_digests(path: Path, header: Header) -> bool:
    """Return whether the block digests that belong to ``header`` are beside a file."""
    try:
        return digest_of(read_file(blocks_path(path), _DIGESTS_LIMIT)) == header.digest
    except MippError:
        return False


def open_stored(path: Path, root: bytes) -> BlockVerifiedSource:
    """Open a stored file, whose blocks are checked when they are read; raises TamperedError."""
    with errors_at(path):
        for each in (path, blocks_path(path)):
            if not is_there(each):
                raise MalformedError(
                    "is missing from the cloud's store",
                    path=each,
                    hint="restore it from a backup, or run: mipp cloud index CLOUD --rebuild",
                )
        digests = read_file(blocks_path(path), _DIGESTS_LIMIT)
        source = FileSource(path)
        try:
            head = source.read_at(0, HEAD_BYTES)
            if not hmac.compare_digest(hashlib.sha256(head).digest(), root):
                raise TamperedError("the header differs from what was stored")
            if digest_of(digests) != parse(head).digest:
                raise TamperedError("differs from what was stored", path=blocks_path(path))
            return BlockVerifiedSource(source, head, digests)
        except BaseException:
            source.close()
            raise
