"""A directory protected with a passphrase: its key, sealed in lock.json, and the files sealed under that key.

What holds keys is sealed with AES-256-GCM under a random key of the directory's own, and that key under the
passphrase: another passphrase changes lock.json alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mipp_cli.errors import ConflictError, MalformedError, MissingKeyError, TamperedError, errors_at
from mipp_cli.files.json_state import read_state, write_state
from mipp_cli.scheme.aead import seal, unseal
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.passphrase import PassphraseSealed, Stretching
from mipp_cli.scheme.secret_keys import generate_key, key_id

LOCK_FILE = "lock.json"
SECRETS_FILE = "secrets.json"
_SECRET_FOLDERS = {
    "kmc": ("owners", "users", "rankings"),  # SKs and storage keys; who may search; what was asked
    "user": ("queries",),  # USKs, features and small pictures
}
_BACKUP = "restore the directory from a backup"


def holds_secrets(role: str, name: str) -> bool:
    """Say whether a file of a role's directory holds keys, and is sealed where the directory is protected."""
    folder, _, rest = name.rpartition("/")
    return name == SECRETS_FILE or (rest.endswith(".json") and folder in _SECRET_FOLDERS.get(role, ()))


def secret_files(path: Path, role: str) -> list[str]:
    """Return the names of the files in a directory that hold keys."""
    found = [path / SECRETS_FILE]
    for folder in _SECRET_FOLDERS.get(role, ()):
        found += sorted((path / folder).glob("*.json"))
    return [file.relative_to(path).as_posix() for file in found if file.exists()]


def draft_files(path: Path, role: str) -> list[Path]:
    """Return what killed commands left of files with keys: no others, which a command may be writing."""
    found = list(path.glob(f".{SECRETS_FILE}.*.tmp"))
    for folder in _SECRET_FOLDERS.get(role, ()):
        found += path.glob(f"{folder}/.*.json.*.tmp")
    return found


@dataclass(frozen=True)
class Lock:
    """What lock.json says: the directory's key under the passphrase, its id, and whether all is sealed.

    While ``finished`` is not so, files may still stand in plain: a command that protects the directory,
    or ends its protection, was interrupted.
    """

    sealed: PassphraseSealed
    key_id: str
    finished: bool

    @classmethod
    def read(cls, path: Path) -> Lock | None:
        """Read a directory's lock.json; None if it is not protected, MalformedError if it is damaged."""
        file = path / LOCK_FILE
        if not file.exists():
            return None
        fields = read_state(file)
        try:
            with errors_at(file):
                stretching = Stretching(**fields["scrypt"])
                sealed = PassphraseSealed(
                    stretching, bytes.fromhex(fields["salt"]), bytes.fromhex(fields["key"])
                )
            return cls(sealed, str(fields["key_id"]), fields["finished"] is True)
        except MalformedError as error:
            error.hint = _BACKUP  # nobody sent it
            raise
        except (KeyError, ValueError, TypeError):
            raise MalformedError("is damaged", path=file, hint=_BACKUP) from None

    def write(self, path: Path) -> None:
        """Write lock.json."""
        sealed = self.sealed
        stretching = {"n": sealed.stretching.n, "r": sealed.stretching.r, "p": sealed.stretching.p}
        fields = {"scrypt": stretching, "salt": sealed.salt.hex(), "key": sealed.sealed.hex()}
        write_state(path / LOCK_FILE, {**fields, "key_id": self.key_id, "finished": self.finished})


@dataclass(frozen=True, repr=False)
class Protection:
    """The key of a protected directory, and whether all of its secrets are sealed under it."""

    key: bytes
    role: str
    name: str
    finished: bool

    @classmethod
    def draw(cls, role: str, name: str) -> Protection:
        """Draw the key of a directory that is protected from its beginning."""
        return cls(generate_key(), role, name, finished=True)

    @classmethod
    def unlock(cls, lock: Lock, role: str, name: str, passphrase: bytes) -> Protection:
        """Open the directory's key; raises PassphraseError."""
        key = lock.sealed.open(passphrase, _lock_data(role, name, lock.finished))
        return cls(key, role, name, lock.finished)

    @property
    def key_id(self) -> str:
        """The id of the key, which tells nothing of it."""
        return f"{key_id(self.key):016x}"

    def lock(self, passphrase: bytes, *, finished: bool) -> Lock:
        """Return the lock.json that opens with ``passphrase``."""
        sealed = PassphraseSealed.seal(self.key, passphrase, _lock_data(self.role, self.name, finished))
        return Lock(sealed, self.key_id, finished)

    def seal(self, file: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return what a file holds in the place of ``fields``."""
        sealed = seal(self.key, json.dumps(fields).encode(), self._file_data(file))
        return {"sealed": base64.b64encode(sealed).decode("ascii")}

    def unseal(self, file: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return what :meth:`seal` sealed; raises TamperedError if it is another file's, or another's."""
        try:
            opened = json.loads(unseal(self.key, base64.b64decode(fields["sealed"]), self._file_data(file)))
        except (TamperedError, ValueError, TypeError):
            raise TamperedError("is not sealed with the key of this directory", hint=_BACKUP) from None
        return dict(opened)

    def _file_data(self, file: str) -> bytes:
        return length_prefixed("mipp/1 file of a directory", self.role, self.name, file)

    def unfinished(self) -> Protection:
        """Return the protection of a directory of which some files may stand in plain."""
        return replace(self, finished=False)


def _lock_data(role: str, name: str, finished: bool) -> bytes:
    return length_prefixed("mipp/1 key of a directory", role, name, int(finished))


def is_sealed(fields: dict[str, Any]) -> bool:
    """Say whether a file's fields are sealed."""
    return set(fields) == {"sealed"}


def read_secrets(path: Path, file: str, protection: Protection | None) -> dict[str, Any]:
    """Read a file that holds keys, sealed as it should be.

    Raises MissingKeyError if it is sealed and the directory was opened without protection, MalformedError
    if it stands in plain where nothing should, TamperedError if it is sealed with another key.
    """
    fields = read_state(path / file)
    with errors_at(path / file):
        if protection is None and is_sealed(fields):
            if Lock.read(path) is not None:
                raise ConflictError(
                    "is sealed, and the directory was opened without its passphrase",
                    hint="run the command again",
                )
            raise _lost_lock(path / file)
        if protection is None:
            return fields
        if is_sealed(fields):
            return protection.unseal(file, fields)
        if protection.finished:
            if not (path / LOCK_FILE).exists():
                raise _changed_meanwhile(path)
            raise MalformedError(
                "stands in plain in a protected directory",
                hint=f"if you restored it yourself, seal it with: mipp protect {path}",
            )
        return fields


def write_secrets(path: Path, file: str, fields: dict[str, Any], protection: Protection | None) -> None:
    """Write a file that holds keys, sealed if the directory is protected.

    The caller holds the directory's own lock, so that its protection does not change meanwhile. Raises
    ConflictError if it did since the directory was opened.
    """
    lock = Lock.read(path)
    if (lock and lock.key_id) != (protection and protection.key_id):
        raise _changed_meanwhile(path)
    write_state(path / file, fields if protection is None else protection.seal(file, fields))


def refuse_lost_lock(path: Path, files: Sequence[str]) -> None:
    """Refuse a directory without lock.json if one of ``files`` is sealed; raises MissingKeyError."""
    for file in files:
        if (path / file).exists() and is_sealed(read_state(path / file)):
            raise _lost_lock(path / file)


def _lost_lock(file: Path) -> MissingKeyError:
    return MissingKeyError(
        f"is sealed, and {LOCK_FILE}, which holds the key to it, is missing", path=file, hint=_BACKUP
    )


def _changed_meanwhile(path: Path) -> ConflictError:
    return ConflictError(
        "another command changed how it is protected meanwhile", path=path, hint="run the command again"
    )
