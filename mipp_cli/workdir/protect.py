"""Protect a directory with a passphrase, change the passphrase, or end the protection.

A single rename replaces secrets.json. The other sealed files are then sealed again, under a fresh storage
key that no earlier copy contains. If that is interrupted, everything can still be read, and running the same
command again finishes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mipp_cli.errors import AlreadyAppliedError, ConflictError, NotInitialisedError, OutputError
from mipp_cli.files.locks import locked
from mipp_cli.report import Output, Report
from mipp_cli.scheme.passphrase import PassphraseKey
from mipp_cli.workdir.directory import RoleDirectory, role_of
from mipp_cli.workdir.secrets_file import SECRETS_FILE, check_passphrase, sealed_files

_NOTE = "earlier copies, and deleted files on disks and in backups, still contain the keys in plain text"


def protect_directory(path: Path, new: Callable[[], bytes] | None) -> Report:
    """Protect the directory at ``path`` with the passphrase that ``new`` returns, or end its protection.

    Raises AlreadyAppliedError if nothing would change, PassphraseError if its present passphrase is missing
    or wrong.
    """
    role = role_of(path)
    if role is None:
        raise NotInitialisedError(
            "is not the directory of a role", path=path, hint="name a directory that `init` made"
        )
    directory = RoleDirectory.open(path, role)
    file = directory.file(SECRETS_FILE)
    if file.is_symlink():
        raise ConflictError(
            "is a symbolic link", path=file, hint="put the file itself there, then run the command again"
        )
    directory.secret("storage")  # fails now if there are no keys
    passphrase = None if new is None else check_passphrase(new())  # nobody types while holding a lock
    with directory.lock(), locked(path):
        before = directory.passphrase
        is_so = _gives(passphrase, before)
        if is_so and not directory.secret_list("former_storage"):
            what = "is not protected" if passphrase is None else "already has this passphrase"
            raise AlreadyAppliedError(what, path=path, hint="there is nothing to do")
        for name in sealed_files(path, role):
            directory.read_json(name)  # fails before anything changes if one cannot be read
        if not is_so:
            directory = directory.protect(None if passphrase is None else PassphraseKey.new(passphrase))
        warnings = _seal_anew(directory)
        warnings += directory.key_warnings
    output = Output(file, "keys")
    return Report((output,), {}, tuple(warnings), notes=() if before else (_NOTE,))


def _seal_anew(directory: RoleDirectory) -> list[str]:
    """Seal the other files under the fresh storage key; a failure does not undo the protection."""
    try:
        directory.seal_anew()
    except OutputError as error:
        return [f"{error.path}: {error.message}: some files still use the former key; run the command again"]
    return []


def _gives(passphrase: bytes | None, key: PassphraseKey | None) -> bool:
    """Return whether a key was derived from a passphrase; no passphrase (None) gives no key (None)."""
    if passphrase is None or key is None:
        return passphrase is None and key is None
    return PassphraseKey.derive(passphrase, key.stretching, key.salt) == key
