"""Files that the cloud keeps: copied once, never changed, and checked a block at a time when read.

Beside each file lies ``NAME.blocks``, the SHA-256 digests of its blocks of 64 KiB; the digest of that
list, the *root*, stands in CLOUD/index.h5.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

from mipp_cli.containers.base.header import BLOCK_BYTES as USER_BLOCK_BYTES
from mipp_cli.containers.base.source import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    DIGEST_BYTES,
    BlockVerifiedSource,
    FileSource,
    Source,
    read_file,
)
from mipp_cli.errors import MalformedError, MippError, TamperedError, errors_at
from mipp_cli.files.atomic import new_file, write_bytes

ROOT_BYTES = DIGEST_BYTES
_DIGESTS_LIMIT = 1 << 31


def blocks_path(path: Path) -> Path:
    """Return where the digests of a stored file's blocks lie."""
    return path.with_name(path.name + ".blocks")


def store_copy(source: Source, path: Path, body_digest: str, advance: Callable[[int], None]) -> bytes:
    """Copy a container to ``path`` and check its content against ``body_digest`` in the same pass.

    ``advance`` is called with the bytes done. Returns the root. Raises TamperedError, with nothing left
    behind, if the digest does not fit.
    """
    from concurrent.futures import ThreadPoolExecutor  # which takes long to import

    body, blocks = hashlib.sha256(), bytearray()
    with (
        new_file(path, force=True) as temporary,
        temporary.open("wb") as copy,
        ThreadPoolExecutor(1) as second,  # hashing lets go of the interpreter: two digests, two cores
    ):
        for offset in range(0, source.size, CHUNK_BYTES):
            chunk = source.read_at(offset, CHUNK_BYTES)
            hashed = second.submit(body.update, chunk[USER_BLOCK_BYTES:] if offset == 0 else chunk)
            for start in range(0, len(chunk), BLOCK_BYTES):
                blocks += hashlib.sha256(chunk[start : start + BLOCK_BYTES]).digest()
            copy.write(chunk)
            hashed.result()
            advance(len(chunk))
        copy.flush()
        if not hmac.compare_digest(body.hexdigest(), body_digest):
            raise TamperedError(
                "the content does not fit the digest that its sender signed",
                hint="the file was cut short or changed on its way: fetch it again",
            )
    write_bytes(blocks_path(path), bytes(blocks), force=True)
    return hashlib.sha256(blocks).digest()


def store_digests(path: Path) -> bytes:
    """Write the block digests of a file that was just made, and return the root."""
    source = FileSource(path)
    try:
        starts = range(0, source.size, BLOCK_BYTES)
        blocks = b"".join(hashlib.sha256(source.read_at(start, BLOCK_BYTES)).digest() for start in starts)
    finally:
        source.close()
    write_bytes(blocks_path(path), blocks, force=True)
    return hashlib.sha256(blocks).digest()


def has_digests(path: Path, root: bytes) -> bool:
    """Say whether the block digests that belong to ``root`` lie beside a file."""
    try:
        digests = read_file(blocks_path(path), _DIGESTS_LIMIT)
    except MippError:
        return False
    return hmac.compare_digest(hashlib.sha256(digests).digest(), root)


def open_stored(path: Path, root: bytes) -> BlockVerifiedSource:
    """Open a stored file whose blocks are checked as they are read; raises TamperedError."""
    with errors_at(path):
        for each in (path, blocks_path(path)):
            if not each.exists():
                raise MalformedError(
                    "is missing from the cloud's store",
                    path=each,
                    hint="restore it from a backup, or run: mipp cloud index CLOUD --rebuild",
                )
        digests = read_file(blocks_path(path), _DIGESTS_LIMIT)
        if not hmac.compare_digest(hashlib.sha256(digests).digest(), root):
            raise TamperedError("is not as it was stored", path=blocks_path(path))
        source = FileSource(path)
        try:
            return BlockVerifiedSource(source, digests)
        except BaseException:
            source.close()
            raise
