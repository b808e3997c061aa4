"""Files that appear whole or not at all: written beside their place, synced, and renamed into it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from mipp_cli.errors import OutputError

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.(tmp|old)")  # what is called so was not finished
_NO_SECOND_NAME = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)  # what file systems without links say
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
    """Raise OutputError if ``path`` exists and ``force`` is not given, or if it is no regular file.

    A link counts as what it points to; one that points nowhere may be replaced.
    """
    try:
        mode, has_folder = path.stat().st_mode if path.exists() else None, path.parent.is_dir()
    except OSError as error:  # the name is too long, or a folder on the way may not be entered
        raise output_error(error, path) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError("is a folder, not a file", path=path, hint="name a file for the output")
    if not has_folder:
        raise OutputError("its folder does not exist", path=path, hint="make the folder first")
    if mode is not None and not stat.S_ISREG(mode):  # a device, a pipe or a socket: nothing to write over
        raise OutputError(
            "is not a regular file, and is not replaced", path=path, hint="name a file for the output"
        )
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
    mode = _PRIVATE_MODE if private else _MODE
    try:
        with _in_use(path, lambda temporary: temporary.touch(mode, exist_ok=False)) as temporary:
            yield temporary
            sync(temporary)
            refuse_existing(path, force=force)
            with unchanged_on_failure(path):
                temporary.replace(path)
                sync(path.parent)
    except OSError as error:
        raise output_error(error, path) from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a private folder beside ``path`` to fill; rename it there when the block succeeds.

    If that fails, nothing is left of it. An OSError inside the block is taken for a failure to write.
    Raises OutputError.
    """
    sweep(path.parent, path.name)
    try:
        with _in_use(path, lambda temporary: temporary.mkdir(mode=0o700)) as temporary:
            yield temporary
            temporary.rename(path)
            try:
                sync(path.parent)
            except OSError:
                path.rename(temporary)
                raise
    except OSError as error:
        raise output_error(error, path) from error


@contextmanager
def unchanged_on_failure(*paths: Path) -> Iterator[None]:
    """Put files back as they were if the block fails; those that were not there are removed.

    Meanwhile the old ones lie beside their places under temporary names. A disk that became read-only
    lets nothing be put back. Raises OutputError.
    """
    with ExitStack() as stack:
        before = {path: stack.enter_context(_old_file(path)) for path in paths if os.path.lexists(path)}
        try:
            yield
        except BaseException:
            for path in paths:
                with suppress(OSError):
                    if path not in before:
                        path.unlink()
                    elif (old := before[path]) is not None:
                        old.replace(path)
            raise


@contextmanager
def _old_file(path: Path) -> Iterator[Path | None]:
    """Give another name of a file; None where it cannot have one."""
    with ExitStack() as stack:
        try:
            make = partial(os.link, path, follow_symlinks=False)
            old = None if path.is_symlink() else stack.enter_context(_in_use(path, make))
        except OSError as error:
            if error.errno not in _NO_SECOND_NAME:
                raise output_error(error, path) from error
            old = None
        yield old


@contextmanager
def _in_use(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Make a temporary file or folder beside ``path``, which :func:`sweep` of others does not touch.

    It is locked, and so in use for as long as this process lives, and no longer.
    """
    while True:
        temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")
        try:
            make(temporary)
            with _claimed(temporary) as is_ours:
                if is_ours:
                    yield temporary
                    return
        finally:
            with suppress(OSError):
                _remove(temporary)


@contextmanager
def _claimed(temporary: Path) -> Iterator[bool]:
    """Lock what was just made; False if another took it for a leftover before it was locked."""
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # shared: one file may be held under several names
        yield os.fstat(descriptor).st_nlink > 0 and temporary.exists()
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove from ``folder`` the temporary files and folders that killed commands left behind.

    Those of ``name`` alone, if it is given. What a running command uses is locked, and stays; what cannot
    be removed does no harm where it is.
    """
    begin = "." if name is None else f".{name[:40]}."
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.name.startswith(begin) and TEMPORARY.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_unused(Path(entry.path))


def _remove_unused(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, *, force: bool = False, private: bool = False) -> None:
    """Write ``data`` to ``path``, whole or not at all; raises OutputError."""
    with new_file(path, force=force, private=private) as temporary:
        temporary.write_bytes(data)


def discard(path: Path) -> None:
    """Remove an output after a failure; an error here is suppressed, so that the first one is reported."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def remove(path: Path, *, for_good: bool = False) -> None:
    """Remove a file, if it is there; ``for_good`` makes that survive a power cut. Raises OutputError."""
    try:
        path.unlink(missing_ok=True)
        if for_good and path.parent.exists():
            sync(path.parent)
    except OSError as error:
        raise output_error(error, path) from error


def sync(path: Path) -> None:
    """Make what was written to a file, or renamed into a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
