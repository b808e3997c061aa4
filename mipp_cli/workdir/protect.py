"""Protecting a directory with a passphrase, changing the passphrase, and ending the protection.

lock.json comes first and goes last, so whatever is interrupted leaves a directory that opens, and the same
command again finishes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mipp_cli.errors import (
    AlreadyAppliedError,
    InvalidRequestError,
    NotInitialisedError,
    PassphraseError,
    errors_at,
)
from mipp_cli.files.atomic import output_error, sync_folder
from mipp_cli.files.json_state import read_state, write_state
from mipp_cli.files.locks import locked
from mipp_cli.report import Output, Report
from mipp_cli.workdir.directory import RoleDirectory, role_of
from mipp_cli.workdir.passphrases import check_passphrase
from mipp_cli.workdir.protection import (
    LOCK_FILE,
    Lock,
    Protection,
    draft_files,
    is_sealed,
    read_secrets,
    refuse_lost_lock,
    secret_files,
)

_NOTE = "copies made before, and what a disk or backup keeps of deleted files, still hold the keys in plain"


def protect_directory(
    path: Path, given: bytes | None, ask: Callable[[], bytes | None], new: Callable[[], bytes]
) -> Report:
    """Protect the directory at ``path`` with the passphrase that ``new`` returns.

    The one that it has is ``given``, or else ``ask`` returns it. The secrets of a directory that was in
    plain are sealed under a fresh key; a directory that was protected keeps its key under the new
    passphrase. Raises InvalidRequestError if a passphrase is given for a directory that has none,
    AlreadyAppliedError if it has the new one already, PassphraseError if neither opens it.
    """
    directory = _directory(path)
    protected = Lock.read(path) is not None
    if given is not None and not protected:
        raise InvalidRequestError(
            "is not protected with a passphrase",
            path=path,
            hint="leave out --passphrase-file; --new-passphrase-file FILE names the one that it gets",
        )
    old = (given or ask()) if protected else None  # who types must not hold a lock
    passphrase = check_passphrase(new())
    with directory.lock(), locked(path):
        lock = Lock.read(path)
        if lock is None:
            protection = Protection.draw(directory.role, directory.name)
        else:
            protection, opened_with = _unlock(directory, lock, [old, passphrase])
            if opened_with == passphrase and lock.finished and not _plain(directory):
                raise AlreadyAppliedError(
                    "has this passphrase already", path=path, hint="there is nothing to do"
                )
        plain = _plain(directory)
        if plain:
            for draft in draft_files(path, directory.role):
                draft.unlink(missing_ok=True)
            protection.lock(passphrase, finished=False).write(path)
            for file in plain:
                write_state(path / file, protection.seal(file, read_state(path / file)))
        protection.lock(passphrase, finished=True).write(path)
    notes = (_NOTE,) if plain else ()
    return Report((Output(path / LOCK_FILE, "lock"),), {"files sealed": len(plain)}, notes=notes)


def unprotect_directory(path: Path, given: bytes | None, ask: Callable[[], bytes | None]) -> Report:
    """End the protection of the directory at ``path``: its secrets stand in plain again, mode 0600.

    Raises AlreadyAppliedError if it is not protected, PassphraseError for a wrong passphrase.
    """
    directory = _directory(path)
    old = (given or ask()) if Lock.read(path) is not None else None
    with directory.lock(), locked(path):
        lock = Lock.read(path)
        if lock is None:
            raise AlreadyAppliedError("is not protected", path=path, hint="there is nothing to do")
        protection, passphrase = _unlock(directory, lock, [old])
        protection = protection.unfinished()
        sealed = [file for file in secret_files(path, directory.role) if is_sealed(read_state(path / file))]
        for file in sealed:
            read_secrets(path, file, protection)  # that all of them open, before one changes
        if lock.finished:
            protection.lock(passphrase, finished=False).write(path)
        for file in sealed:
            write_state(path / file, read_secrets(path, file, protection))
        try:
            (path / LOCK_FILE).unlink()
            sync_folder(path)
        except OSError as error:
            raise output_error(error, path / LOCK_FILE) from error
    return Report((), {"files in plain": len(sealed)})


def _directory(path: Path) -> RoleDirectory:
    role = role_of(path)
    if role is None:
        raise NotInitialisedError("is no role's directory", path=path, hint="name what `init` made")
    if Lock.read(path) is None:
        refuse_lost_lock(path, secret_files(path, role))  # another key would lock it for good
    return RoleDirectory(path, role)


def _unlock(directory: RoleDirectory, lock: Lock, candidates: list[bytes | None]) -> tuple[Protection, bytes]:
    """Open the directory's key with the first passphrase that does, and return that passphrase too.

    After an interruption it may be the new one that does.
    """
    failure = PassphraseError(
        "is protected with a passphrase",
        hint="give it with --passphrase-file FILE, or run the command in a terminal, where it asks",
    )
    with errors_at(directory.path):
        for passphrase in dict.fromkeys(each for each in candidates if each is not None):
            try:
                check_passphrase(passphrase)
                return Protection.unlock(lock, directory.role, directory.name, passphrase), passphrase
            except PassphraseError as error:
                failure = error if candidates[0] is not None else failure
        raise failure


def _plain(directory: RoleDirectory) -> list[str]:
    files = secret_files(directory.path, directory.role)
    return [file for file in files if not is_sealed(read_state(directory.file(file)))]
