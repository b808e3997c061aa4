"""Locks between commands that work in one directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mipp_cli.files.atomic import output_error


class LockedError(Exception):
    """Raised when a lock is held by another, and waiting was not asked for."""


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file or folder; LockedError if another holds it and ``wait`` is not given.

    The system gives it back when the process ends, however it ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise output_error(error, path.parent) from error
    try:
        try:
            fcntl.flock(
                descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            )
        except BlockingIOError:
            raise LockedError from None
        yield
    finally:
        os.close(descriptor)
