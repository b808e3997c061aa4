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
# what file systems say that cannot sync a folder, or folders that may be written and not read
_NOT_SYNCED = (
    *(errno.EINVAL, errno.EBADF, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
    *(errno.EACCES, errno.EPERM),
)
_PRIVATE_MODE = 0o600
_MODE = 0o644  # less the umask: others may read what is handed over, and never write it


_AWAY = "the disk or the server failed: check that it is there and mounted, then run the command again"
_HINTS = {  # what the system says, whatever is done
    errno.EIO: _AWAY,
    errno.ENXIO: _AWAY,
    errno.ENODEV: _AWAY,
    errno.ESTALE: _AWAY,
    errno.ENOTCONN: _AWAY,
    errno.ETIMEDOUT: _AWAY,
    errno.EMFILE: "too many files are open at a time: raise the limit (ulimit -n), or give fewer --jobs",
    errno.ENFILE: "too many files are open on this machine: try again later",
    errno.EAGAIN: "no more processes may be started: give fewer --jobs, or raise the limit (ulimit -u)",
    errno.ENOMEM: "free some memory, or give fewer --jobs",
}
_ELSEWHERE = "choose another place"
_HINTS_OF_WRITING = {
    errno.ENOSPC: "there is no space left: free some, then run the command again",
    errno.EDQUOT: "the disk quota is used up: free some space, then run the command again",
    errno.EFBIG: f"the file system or a limit (ulimit -f) allows no file so large: {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only: {_ELSEWHERE}",
    errno.EACCES: f"you may not write there: {_ELSEWHERE}, or ask for the right",
    errno.EPERM: f"you may not write there: {_ELSEWHERE}, or ask for the right",
    errno.ENOENT: "the folder does not exist: make it first",
    errno.ENOTDIR: f"a part of the path is not a folder: {_ELSEWHERE}",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EILSEQ: "the file system takes no such name: choose another",
}


def hint_of(error: OSError, otherwise: str) -> str:
    """Return what to do about what the system says: ``otherwise``, where that depends on what was done."""
    return _HINTS.get(error.errno or 0, otherwise)


def output_error(error: OSError, path: Path) -> OutputError:
    """Return the error that says why ``path`` cannot be written, and what to do."""
    number = error.errno or 0
    reason = os.strerror(number) if number else "the write failed"
    hint = hint_of(error, _HINTS_OF_WRITING.get(number, "nothing was changed; try again"))
    return OutputError(f"cannot be written: {reason}", path=path, hint=hint)


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
    """Give another name of a file; None for a link or a folder, which has none."""
    with ExitStack() as stack:
        try:
            is_file = path.is_file() and not path.is_symlink()
            old = stack.enter_context(_in_use(path, partial(_keep, path))) if is_file else None
        except OSError as error:
            raise output_error(error, path) from error
        yield old


def _keep(path: Path, temporary: Path) -> None:
    """Give a file a second name; or copy it, where there are no hard links.

    File systems say that in many ways (EPERM, ENOTSUP, ENOSYS, EMLINK, EXDEV, EINVAL, EACCES). Whatever
    stands in the way of the copy, too, is a failure.
    """
    try:
        os.link(path, temporary, follow_symlinks=False)
    except OSError:
        temporary.touch(stat.S_IMODE(path.stat().st_mode), exist_ok=False)
        shutil.copyfile(path, temporary)
        sync(temporary)


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
        with suppress(OSError):  # where there are no locks, no sweep gets one either, and takes nothing
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


def left_behind(folder: Path, name: str = "*") -> list[Path]:
    """Return the temporary files in ``folder``, or those of ``name``, that :func:`sweep` cannot remove."""
    left = []
    for path in sorted(folder.glob(f".{name}.*")):
        if TEMPORARY.fullmatch(path.name):
            try:
                _remove_unused(path)
            except (BlockingIOError, FileNotFoundError):  # in use, or gone meanwhile
                continue
            except OSError:
                left.append(path)
    return left


def _remove_unused(path: Path) -> None:
    # NFS locks for oneself alone what is open for writing, which a folder cannot be
    access = os.O_RDONLY if stat.S_ISDIR(path.lstat().st_mode) else os.O_RDWR
    descriptor = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
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
    """Make what was written to a file, or renamed into a folder, survive a power cut.

    Where the file system syncs no folders there is nothing that one could do.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SYNCED or not path.is_dir():
            raise
