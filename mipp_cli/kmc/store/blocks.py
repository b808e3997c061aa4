"""Files of the KMC's feature store: sealed parts, one behind the other, each bound to what it is.

A file that the index does not list yet counts for nothing, so it is written straight to its place; it is on
the disk, and its folder too, before the index that lists it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mipp_cli.errors import MalformedError, TamperedError
from mipp_cli.files.atomic import output_error
from mipp_cli.scheme.aead import NONCE_BYTES, OVERHEAD_BYTES
from mipp_cli.scheme.encoding import length_prefixed

Octets = bytes | bytearray | memoryview


@dataclass(frozen=True, repr=False)
class StoreCipher:
    """AES-256-GCM under the storage key of one owner, bound to deployment and owner."""

    key: bytes
    deployment: str
    owner: str

    @cached_property
    def _aes_gcm(self) -> AESGCM:
        return AESGCM(self.key)

    def bound(self, *place: str | int) -> bytes:
        """Return associated data: the part's purpose and where it belongs."""
        return length_prefixed("mipp/1 features at the KMC", self.deployment, self.owner, *place)

    def seal(self, parts: Sequence[tuple[Octets, bytes]]) -> bytearray:
        """Return what a file holds of ``parts``, each with its associated data."""
        out = bytearray(sum(len(data) + OVERHEAD_BYTES for data, _ in parts))
        view, begin = memoryview(out), 0
        for data, associated_data in parts:
            end = begin + len(data) + OVERHEAD_BYTES
            nonce = os.urandom(NONCE_BYTES)
            view[begin : begin + NONCE_BYTES] = nonce
            self._aes_gcm.encrypt_into(nonce, data, associated_data, view[begin + NONCE_BYTES : end])
            begin = end
        return out

    def open(self, sealed: Octets, associated_data: bytes, out: memoryview | None = None) -> memoryview:
        """Open one part, into ``out`` if it is given; raises TamperedError."""
        sealed, size = memoryview(sealed), len(sealed) - OVERHEAD_BYTES
        if size < 0:
            raise TamperedError("is cut short")
        opened = memoryview(bytearray(size)) if out is None else out
        try:
            self._aes_gcm.decrypt_into(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data, opened)
        except InvalidTag:
            raise TamperedError("is not as the KMC stored it") from None
        return opened


def map_part(path: Path, size: int, file_size: int) -> memoryview:
    """Return the first ``size`` bytes of a file as they lie in the page cache; raises as :func:`read_part`.

    Copying them first takes as long as opening them. Nobody writes into a file of the store once it is
    there: what changes is written anew, and a file that is removed stays for whoever has it mapped.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size == file_size:
                return memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))
        finally:
            os.close(descriptor)
    except OSError:
        pass  # some file systems map nothing; if it is something else, reading says what
    return read_part(path, 0, size, file_size)


def read_part(path: Path, offset: int, size: int, file_size: int) -> memoryview:
    """Return ``size`` bytes of a file at ``offset``.

    Raises MalformedError if the file is not of ``file_size``, or is missing.
    """
    data = memoryview(bytearray(size))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(error) from None
    try:
        found = os.fstat(descriptor).st_size
        done = 0
        while found == file_size and done < size:
            count = os.preadv(descriptor, [data[done:]], offset + done)
            if not count:
                break
            done += count
    except OSError as error:
        raise _unreadable(error) from None
    finally:
        os.close(descriptor)
    if done != size:
        raise MalformedError(f"has {found} bytes, not {file_size}")
    return data


def _unreadable(error: OSError) -> MalformedError:
    if isinstance(error, FileNotFoundError):
        return MalformedError("is missing")
    return MalformedError(f"cannot be read: {os.strerror(error.errno or 0)}")


def write_unlisted(path: Path, data: Octets) -> None:
    """Write a file that no index lists yet, mode 0600, and sync it but not its folder; raises OutputError."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        path.unlink(missing_ok=True)  # what an interrupted command left under this name
        descriptor = os.open(path, flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise output_error(error, path) from error
