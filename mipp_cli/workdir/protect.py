"""Protecting a directory with a passphrase, changing the passphrase, and ending the protection.

One rename changes how secrets.json is kept. What is sealed besides is then sealed anew, under a storage key
that no copy made before holds; if that is interrupted all opens, and the same command again finishes it.
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

_NOTE = "copies made before, and what a disk or backup keeps of deleted files, still hold the keys in plain"


def protect_directory(path: Path, new: Callable[[], bytes] | None) -> Report:
    """Protect the directory at ``path`` with the passphrase that ``new`` returns, or end its protection.

    Raises AlreadyAppliedError if that is so already, PassphraseError if the passphrase that it has was not
    given or is wrong.
    """
    role = role_of(path)
    if role is None:
        raise NotInitialisedError("is no role's directory", path=path, hint="name what `init` made")
    directory = RoleDirectory.open(path, role)
    file = directory.file(SECRETS_FILE)
    if file.is_symlink():
        raise ConflictError("is a link", path=file, hint="put the file itself there, then run it again")
    directory.secret("storage")  # that the keys are there at all
    passphrase = None if new is None else check_passphrase(new())  # who types must not hold a lock
    with directory.lock(), locked(path):
        before = directory.passphrase
        is_so = _gives(passphrase, before)
        if is_so and not directory.secret_list("former_storage"):
            what = "is not protected" if passphrase is None else "has this passphrase already"
            raise AlreadyAppliedError(what, path=path, hint="there is nothing to do")
        for name in sealed_files(path, role):
            directory.read_json(name)  # that all of them open, before anything changes
        if not is_so:
            directory = directory.protect(None if passphrase is None else PassphraseKey.new(passphrase))
        warnings = _seal_anew(directory)
        warnings += directory.key_warnings
    output = Output(file, "keys")
    return Report((output,), {}, tuple(warnings), notes=() if before else (_NOTE,))


def _seal_anew(directory: RoleDirectory) -> list[str]:
    """Seal the other files under the fresh storage key; what hinders that does not undo the protection."""
    try:
        directory.seal_anew()
    except OutputError as error:
        return [f"{error.path}: {error.message}: files are still under the former key; run the command again"]
    return []


def _gives(passphrase: bytes | None, key: PassphraseKey | None) -> bool:
    """Say whether a passphrase is the one that a key was derived from; None gives none."""
    if passphrase is None or key is None:
        return passphrase is None and key is None
    return PassphraseKey.derive(passphrase, key.stretching, key.salt) == key
