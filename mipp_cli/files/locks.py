"""Locks between commands that work in one directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mipp_cli.errors import OutputError
from mipp_cli.files.system_errors import output_error


class LockedError(Exception):
    """Raised when another process holds the lock and the caller does not wait."""


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file or folder; without ``wait``, raises LockedError if it is held elsewhere.

    On network file systems, the lock of a file holds on all machines, that of a folder only on one. The
    system releases it when the process ends in any way. Raises OutputError if the file system has no locks.
    """
    # NFS grants exclusive locks only on files open for writing, which a folder cannot be
    access = os.O_RDONLY if shared or path.is_dir() else os.O_RDWR
    try:
        descriptor = os.open(path, access | os.O_CLOEXEC)
    except OSError as error:
        raise output_error(error, path) from error
    try:
        try:
            fcntl.flock(
                descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            )
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
