"""Locks between commands that work in one directory."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mipp_cli.errors import OutputError
from mipp_cli.files.system_errors import output_error

_LOCKED_BYTE = 1 << 62  # far behind the content of every file


class LockedError(Exception):
    """Raised when another process holds the lock and the caller does not wait."""


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file or folder; without ``wait``, raises LockedError if it is held elsewhere.

    On network file systems, the lock of a file holds on all machines, that of a folder only on one. The
    system releases it when the process ends in any way. Raises OutputError if the file system has no locks.
    """
    # exclusive locks are for files open for writing, which a folder cannot be
    access = os.O_RDONLY if shared or path.is_dir() else os.O_RDWR
    try:
        descriptor = os.open(path, access | os.O_CLOEXEC)
    except OSError as error:
        raise output_error(error, path) from error
    try:
        try:
            lock(descriptor, shared=shared, wait=wait)
        except BlockingIOError:
            raise LockedError from None
        except OSError as error:
            raise OutputError(
                f"cannot be locked: {os.strerror(error.errno or 0)}",
                path=path,
                hint="its file system has no locks, or its lock service is down: mount it with locks (for "
                "Lustre -o flock, for NFS without nolock), or keep the directory on a local disk",
            ) from error
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int, *, shared: bool, wait: bool) -> None:
    """Lock an open file or folder until it is closed; without ``wait``, raises BlockingIOError if it is held.

    Of a file only a byte behind its content is locked. SMB enforces locks: if all of it were locked, nobody
    could write or read it, not even this process through another descriptor.
    """
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        try:
            _lock_byte(descriptor, shared=shared, wait=wait)
            return
        except OSError as error:
            if error.errno == errno.EACCES:  # so SMB says that another process holds it
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
            if error.errno != errno.EINVAL:  # so a system without such locks says so, such as gVisor
                raise
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def _lock_byte(descriptor: int, *, shared: bool, wait: bool) -> None:
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    fcntl.fcntl(descriptor, command, struct.pack("hhqqi", kind, os.SEEK_SET, _LOCKED_BYTE, 1, 0))
