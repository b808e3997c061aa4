"""Write files atomically: to a temporary file beside the path, which is synced and renamed."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from mipp_cli.errors import OutputError
from mipp_cli.files.folders import is_there, paths_in
from mipp_cli.files.locks import lock
from mipp_cli.files.system_errors import deletion_error, output_error

# names of unfinished files, and those by which NFS and FUSE keep a removed file while it is open
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.(tmp|old)|\.nfs[0-9a-f]{24}|\.fuse_hidden[0-9a-f]{16}")
# errors of file systems that cannot sync folders, and for folders that may be written but not read
_NOT_SYNCED = (
    *(errno.EINVAL, errno.EBADF, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
    *(errno.EACCES, errno.EPERM),
)
_PRIVATE_MODE = 0o600
_MODE = 0o644  # less the umask: others may read the files to hand over, but never write them


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError if ``path`` exists without ``force``, or is not a regular file.

    A link counts as its target; a dangling link may be replaced.
    """
    try:
        mode, has_folder = path.stat().st_mode if is_there(path) else None, path.parent.is_dir()
    except OSError as error:  # the name is too long, or a parent folder is inaccessible
        raise output_error(error, path) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError("is a folder, not a file", path=path, hint="name a file for the output")
    if not has_folder:
        raise OutputError("its folder does not exist", path=path, hint="make the folder first")
    if mode is not None and not stat.S_ISREG(mode):  # a device, pipe or socket must not be replaced
        raise OutputError(
            "is not a regular file, and is not replaced", path=path, hint="name a file for the output"
        )
    if os.path.lexists(path) and not force:
        raise OutputError(
            "the output exists", path=path, hint="choose another name, or give --force to replace it"
        )


@contextmanager
def new_file(path: Path, *, force: bool = False, private: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file beside ``path``, and rename it to ``path`` if the block succeeds.

    With ``private``, only its owner can read the file; otherwise others can read it if the umask allows, but
    never write it. If the block fails, the temporary file is removed and ``path`` is unchanged. An OSError in
    the block counts as a failure to write. Raises OutputError.
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
    """Yield a private folder beside ``path`` to fill, and rename it to ``path`` if the block succeeds.

    If it fails, the folder is removed. An OSError in the block counts as a failure to write. Raises
    OutputError.
    """
    sweep(path.parent, path.name)
    try:
        with _in_use(path, lambda temporary: temporary.mkdir(mode=0o700)) as temporary:
            try:
                yield temporary
            except OutputError as error:  # the temporary name will be gone
                error.path = error.path and error.path.replace(str(temporary), str(path))
                raise
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
    """Restore files if the block fails; those that did not exist are removed.

    Until then the old files are kept beside the paths under temporary names. They cannot be restored on a
    disk that became read-only. Raises OutputError.
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
    """Yield a second name of a file; None for a link or a folder, which cannot have one."""
    with ExitStack() as stack:
        try:
            is_file = path.is_file() and not path.is_symlink()
            old = stack.enter_context(_in_use(path, partial(_keep, path))) if is_file else None
        except OSError as error:
            raise output_error(error, path) from error
        yield old


def _keep(path: Path, temporary: Path) -> None:
    """Give a file a second name by a hard link, or copy it if the file system has none that can be used.

    File systems report that by many errors (EPERM, ENOTSUP, ENOSYS, EMLINK, EXDEV, EINVAL, EACCES), so only
    an error of the copy is a failure. SMB has hard links, but cannot open a file by two names at once.
    """
    try:
        os.link(path, temporary, follow_symlinks=False)
        with temporary.open("rb"), path.open("rb"):
            pass
    except OSError:
        temporary.unlink(missing_ok=True)
        temporary.touch(stat.S_IMODE(path.stat().st_mode), exist_ok=False)
        shutil.copyfile(path, temporary)
        sync(temporary)


@contextmanager
def _in_use(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Make a temporary file or folder beside ``path`` that :func:`sweep` in other processes leaves alone.

    It is locked, and so counts as in use until this process is done with it or ends.
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
    """Lock a new temporary file; yield False if another process removed it before it was locked."""
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        with suppress(OSError):  # without locks, sweeps get none either, and remove nothing
            lock(descriptor, shared=True, wait=True)  # shared: a file may be held under several names
        yield is_there(temporary)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove from ``folder`` the temporary files and folders that killed commands left behind.

    With ``name``, only those of this file. Files that a running command uses are locked, and stay; files
    that cannot be removed do no harm.
    """
    begin = "." if name is None else f".{name[:40]}."
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.name.startswith(begin) and TEMPORARY.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_unused(Path(entry.path))


def left_behind(folder: Path, name: str | None = None) -> list[Path]:
    """Return the temporary files in ``folder``, or those of ``name``, that :func:`sweep` cannot remove.

    Raises OutputError if the folder cannot be listed.
    """
    left = []
    begin = "." if name is None else f".{name}."
    for path in paths_in(folder):
        if path.name.startswith(begin) and TEMPORARY.fullmatch(path.name):
            try:
                _remove_unused(path)
            except (BlockingIOError, FileNotFoundError):  # in use, or gone meanwhile
                continue
            except OSError:
                left.append(path)
    return left


def _remove_unused(path: Path) -> None:
    # exclusive locks are for files open for writing, which a folder cannot be
    access = os.O_RDONLY if stat.S_ISDIR(path.lstat().st_mode) else os.O_RDWR
    descriptor = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        lock(descriptor, shared=False, wait=False)
        _remove(path)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, *, force: bool = False, private: bool = False) -> None:
    """Write ``data`` to ``path`` atomically; raises OutputError."""
    with new_file(path, force=force, private=private) as temporary:
        temporary.write_bytes(data)


def discard(path: Path) -> None:
    """Remove an output after a failure; an error here is suppressed, so that the first one is reported."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def remove(path: Path, *, for_good: bool = False) -> None:
    """Remove a file if it exists; ``for_good`` makes this survive a power cut. Raises OutputError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise deletion_error(error, path) from error
    if for_good:
        sync_deletions(path.parent)


def sync_deletions(folder: Path) -> None:
    """Make deletions in a folder survive a power cut, if it is there; raises OutputError."""
    try:
        if is_there(folder):
            sync(folder)
    except OSError as error:
        raise deletion_error(error, folder, "a deletion in it may not survive a power cut") from error


def remove_all(paths: Iterable[Path]) -> None:
    """Remove every file that can be removed; then raise the OutputError of the first that cannot be."""
    try_all(partial(remove, path) for path in paths)


def try_all(steps: Iterable[Callable[[], object]]) -> None:
    """Take every step, even if others fail; then raise the OutputError of the first that failed."""
    failures = list[OutputError]()
    for step in steps:
        try:
            step()
        except OutputError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def sync(path: Path) -> None:
    """Make writes to a file, or renames in a folder, survive a power cut, by fsync.

    If the file system cannot sync folders, do nothing.
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
