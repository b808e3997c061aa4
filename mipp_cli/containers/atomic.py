"""Files that appear whole or not at all: written beside their place, synced, and renamed into it."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mipp_cli.errors import OutputError

_PRIVATE_MODE = 0o600
_MODE = 0o644  # less the umask: others may read what is handed over, and never write it


def output_error(error: OSError, path: Path) -> OutputError:
    """Return the error that says why ``path`` cannot be written, and what to do."""
    hints = {
        errno.ENOSPC: "there is no space left: free some, then run the command again",
        errno.EDQUOT: "the disk quota is used up: free some space, then run the command again",
        errno.EROFS: "the file system is read-only: choose another place",
        errno.EACCES: "you may not write there: choose another place, or ask for the right",
        errno.EPERM: "you may not write there: choose another place, or ask for the right",
        errno.ENOENT: "the folder does not exist: make it first",
        errno.ENOTDIR: "a part of the path is not a folder: choose another place",
        errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    }
    number = error.errno or 0
    reason = os.strerror(number) if number else "the write failed"
    return OutputError(
        f"cannot be written: {reason}", path=path, hint=hints.get(number, "nothing was changed; try again")
    )


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError if ``path`` exists and ``force`` is not given, or if it is a folder."""
    try:
        is_folder, has_folder = path.is_dir(), path.parent.is_dir()
    except OSError as error:  # the name is too long, or a folder on the way may not be entered
        raise output_error(error, path) from error
    if is_folder:
        raise OutputError("is a folder, not a file", path=path, hint="name a file for the output")
    if not has_folder:
        raise OutputError("its folder does not exist", path=path, hint="make the folder first")
    if os.path.lexists(path) and not force:
        raise OutputError(
            "the output exists", path=path, hint="choose another name, or give --force to replace it"
        )


@contextmanager
def new_file(path: Path, *, force: bool = False, private: bool = False) -> Iterator[Path]:
    """Give the path of a temporary file beside ``path``; rename it there when the block succeeds.

    ``private`` keeps the file readable by its owner alone; otherwise others may read it if the umask lets
    them, and never write it. If the block fails, the temporary file is removed and ``path`` is as it was.
    An OSError inside the block is taken for a failure to write. Raises OutputError.
    """
    refuse_existing(path, force=force)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            os.close(os.open(temporary, flags, _PRIVATE_MODE if private else _MODE))
            yield temporary
            _sync(temporary)
            refuse_existing(path, force=force)
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise output_error(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, data: bytes, *, force: bool = False, private: bool = False) -> None:
    """Write ``data`` to ``path``, whole or not at all; raises OutputError."""
    with new_file(path, force=force, private=private) as temporary:
        temporary.write_bytes(data)


def sync_folder(folder: Path) -> None:
    """Make what was renamed into ``folder`` survive a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
