"""Protecting a directory with a passphrase, changing the passphrase, and ending the protection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mipp_cli.errors import AlreadyAppliedError, NotInitialisedError
from mipp_cli.report import Output, Report
from mipp_cli.scheme.passphrase import PassphraseKey
from mipp_cli.workdir.directory import RoleDirectory, role_of
from mipp_cli.workdir.secrets_file import SECRETS_FILE, check_passphrase

_NOTE = "copies made before, and what a disk or backup keeps of deleted files, still hold the keys in plain"


def protect_directory(path: Path, new: Callable[[], bytes]) -> Report:
    """Protect the directory at ``path`` with the passphrase that ``new`` returns.

    Raises AlreadyAppliedError if it has that one already, PassphraseError if it has another one and that
    is wrong or was not given.
    """
    directory = _open(path)
    passphrase = check_passphrase(new())  # who types must not hold a lock
    with directory.lock():
        before = directory.passphrase
        if before and PassphraseKey.derive(passphrase, before.stretching, before.salt) == before:
            raise AlreadyAppliedError("has this passphrase already", path=path, hint="there is nothing to do")
        directory.protect(PassphraseKey.new(passphrase))
        directory.sweep()  # of the file that was replaced, too, if its removal failed
        left = [each for each in path.glob(f".{SECRETS_FILE}.*") if before is None]
    output = Output(directory.file(SECRETS_FILE), "keys")
    warnings = tuple(f"{each} may hold the keys in plain: remove it" for each in left)
    return Report((output,), {}, warnings, notes=() if before else (_NOTE,))


def unprotect_directory(path: Path) -> Report:
    """End the protection of the directory at ``path``: its keys stand in plain again, mode 0600.

    Raises AlreadyAppliedError if it is not protected, PassphraseError for a wrong passphrase.
    """
    directory = _open(path)
    with directory.lock():
        if directory.passphrase is None:
            raise AlreadyAppliedError("is not protected", path=path, hint="there is nothing to do")
        directory.protect(None)
    return Report((Output(directory.file(SECRETS_FILE), "keys"),))


def _open(path: Path) -> RoleDirectory:
    role = role_of(path)
    if role is None:
        raise NotInitialisedError("is no role's directory", path=path, hint="name what `init` made")
    directory = RoleDirectory.open(path, role)
    directory.secret("storage")  # that the keys are there at all
    return directory
