"""The errors of the operating system as errors of `mipp`, with a hint for each."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mipp_cli.errors import OutputError

_AWAY = "the disk or the server failed: check that it is there and mounted, then run the command again"
_HINTS = {  # for errors of the system, whatever the operation
    errno.EIO: _AWAY,
    errno.ENXIO: _AWAY,
    errno.ENODEV: _AWAY,
    errno.ESTALE: _AWAY,
    errno.ENOTCONN: _AWAY,
    errno.ETIMEDOUT: _AWAY,
    errno.ELOOP: "a link in this path leads back to itself: name another path, or replace the link",
    errno.ENAMETOOLONG: "the name is too long: give a shorter one",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), or give fewer --jobs",
    errno.ENFILE: "too many files are open on this machine: try again later",
    errno.EAGAIN: "no more processes can be started: give fewer --jobs, or raise the limit (ulimit -u)",
    errno.ENOMEM: "free some memory, or give fewer --jobs",
}
_ELSEWHERE = "choose another place"
_HINTS_OF_WRITING = {
    errno.ENOSPC: "there is no space left: free some, then run the command again",
    errno.EDQUOT: "the disk quota is used up: free some space, then run the command again",
    errno.EFBIG: f"the file system or a limit (ulimit -f) does not allow so large a file: {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only: mount it for writing, or {_ELSEWHERE}",
    errno.EACCES: f"you may not write there: {_ELSEWHERE}, or ask for permission",
    errno.EPERM: f"you may not write there: {_ELSEWHERE}, or ask for permission",
    errno.ENOENT: "the folder does not exist: make it first",
    errno.ENOTDIR: f"a part of the path is not a folder: {_ELSEWHERE}",
    errno.EINVAL: "the file system may not accept this name: choose another name or place",
    errno.EILSEQ: "the file system does not accept this name: choose another",
}
_HINTS_OF_ACCESS = {
    errno.EACCES: "you may not go there: ask for permission, or name another path",
    errno.EPERM: "you may not go there: ask for permission, or name another path",
}
_UNREACHABLE = (*_HINTS_OF_ACCESS, errno.ELOOP, errno.ENAMETOOLONG)
_HINTS_OF_DELETING = {
    errno.EROFS: "the file system is read-only: make it writable, then run the command again",
    errno.EACCES: "you may not delete there: ask for permission, then run the command again",
    errno.EPERM: "you may not delete there: ask for permission, then run the command again",
}


def hint_of(error: OSError, otherwise: str) -> str:
    """Return the hint for an error of the system; ``otherwise`` if it depends on the operation."""
    return _HINTS.get(error.errno or 0, otherwise)


def unforeseen_error(error: OSError, path: str | None) -> OutputError:
    """Return the OutputError for a failed system call that no step handles: the operation is not known."""
    number, reason = error.errno or 0, error.strerror or str(error)
    otherwise = "check the path, its permissions, and the free space on the disk"
    return OutputError(
        f"cannot be reached: {reason}" if number in _UNREACHABLE else reason,
        path=path,
        hint=hint_of(error, _HINTS_OF_ACCESS.get(number, otherwise)),
    )


def output_error(error: OSError, path: Path) -> OutputError:
    """Return the OutputError that says why ``path`` cannot be written, and what to do."""
    number = error.errno or 0
    reason = os.strerror(number) if number else "the write failed"
    hint = hint_of(error, _HINTS_OF_WRITING.get(number, "nothing was changed; try again"))
    return OutputError(f"cannot be written: {reason}", path=path, hint=hint)


def deletion_error(error: OSError, path: Path, failed: str = "cannot be deleted") -> OutputError:
    """Return the OutputError that says why ``path`` cannot be deleted, and what to do."""
    number = error.errno or 0
    reason = os.strerror(number) if number else "the deletion failed"
    hint = hint_of(error, _HINTS_OF_DELETING.get(number, "run the command again"))
    return OutputError(f"{failed}: {reason}", path=path, hint=hint)
