"""Read and write secrets.json, the keys of a role's directory: in plain text, or sealed under a passphrase.

All other secrets of a directory are in files that are always sealed, under a key in secrets.json. So adding,
changing or removing a passphrase replaces a single file.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mipp_cli.errors import (
    ConflictError,
    InvalidRequestError,
    MissingKeyError,
    PassphraseError,
    TamperedError,
    errors_at,
)
from mipp_cli.files.atomic import left_behind, sweep
from mipp_cli.files.folders import is_there, paths_in
from mipp_cli.files.json_state import damaged_unless_sound, read_state, write_state
from mipp_cli.scheme.aead import seal, unseal
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.passphrase import SALT_BYTES, PassphraseKey, Stretching

ROLE_FILE = "role.json"
SECRETS_FILE = "secrets.json"
RESTORE_ALL = "restore the directory from a backup"
MOST_PASSPHRASE_BYTES = 4096
_AS_TEXT = "write it as one line of text, and save it as UTF-8"
_SEALED_FOLDERS = {
    "kmc": ("owners", "users", "rankings"),  # SKs and storage keys; who may search; queries and their ranking
    "user": ("queries",),  # USKs, features and small pictures
}


@dataclass(frozen=True, repr=False)
class Passphrases:
    """Where a command gets passphrases from.

    ``ask`` returns the passphrase of a protected directory, or None if there is nobody to ask. ``given``
    says that the caller supplied it, so that the directory must be protected. ``new`` protects a directory
    that the command makes.
    """

    ask: Callable[[Path], bytes | None] = lambda path: None
    given: bool = False
    new: bytes | None = None


_NOBODY = Passphrases()
_CURRENT = ContextVar("passphrases", default=_NOBODY)


@contextmanager
def passphrases_from(source: Passphrases) -> Iterator[None]:
    """Use ``source`` for the passphrases of directories opened and made in the block."""
    token = _CURRENT.set(source)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def check_passphrase(passphrase: bytes) -> bytes:
    """Return ``passphrase``, one line of UTF-8, in the form NFC; raises InvalidRequestError for others.

    So a passphrase from a file can be typed in a terminal, and on the keyboard of another system.
    """
    if not passphrase:
        raise InvalidRequestError("the passphrase is empty", hint="choose one that is hard to guess")
    if len(passphrase) > MOST_PASSPHRASE_BYTES:
        raise InvalidRequestError(
            "the passphrase is too long", hint=f"use at most {MOST_PASSPHRASE_BYTES} bytes"
        )
    if passphrase.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in passphrase:
        raise InvalidRequestError("the passphrase is in UTF-16 or is not text", hint=_AS_TEXT)
    try:
        text = passphrase.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError("the passphrase is not in UTF-8", hint=_AS_TEXT) from None
    if "\n" in text or "\r" in text:
        raise InvalidRequestError("the passphrase has more than one line", hint=_AS_TEXT)
    return unicodedata.normalize("NFC", text).encode()


@dataclass(frozen=True, repr=False)
class SecretsFile:
    """The secrets.json of the directory at ``path``, and the key from its passphrase, if it has one."""

    path: Path
    passphrase: PassphraseKey | None = None

    @classmethod
    def open(cls, path: Path) -> SecretsFile:
        """Open the secrets.json of a directory.

        Raises PassphraseError if the passphrase is wrong or missing, InvalidRequestError if one was given
        for a directory that is not protected.
        """
        source, file = _CURRENT.get(), path / SECRETS_FILE
        fields = _read(file) if is_there(file) or source.given else {}
        if "sealed" in fields:
            sweep(path, SECRETS_FILE)  # temporary files of killed commands may contain the keys in plain text
        else:
            if source.given:
                raise InvalidRequestError(
                    "is not protected with a passphrase",
                    path=path,
                    hint=f"leave out --passphrase-file; to protect it: mipp protect {path} "
                    "--new-passphrase-file FILE",
                )
            return cls(path)
        with damaged_unless_sound(file, RESTORE_ALL):
            stretching, salt = Stretching(**fields["scrypt"]), bytes.fromhex(fields["salt"])
            if len(salt) != SALT_BYTES:
                raise ValueError("salt of the wrong length")
        passphrase = source.ask(path)
        if passphrase is None:
            raise PassphraseError(
                "is protected with a passphrase",
                path=path,
                hint="give --passphrase-file FILE, or run the command in a terminal, where it asks",
            )
        with errors_at(path):
            opened = cls(path, PassphraseKey.derive(check_passphrase(passphrase), stretching, salt))
            opened.read()
        return opened

    @classmethod
    def new(cls, path: Path) -> SecretsFile:
        """Return the secrets.json of a new directory, protected if the command was given a passphrase."""
        passphrase = _CURRENT.get().new
        return cls(path, None if passphrase is None else PassphraseKey.new(passphrase))

    def read(self) -> dict[str, Any]:
        """Return the keys, in hex; raises ConflictError if another command has changed the passphrase."""
        file = self.path / SECRETS_FILE
        fields = _read(file)
        if fields.get("salt") != (self.passphrase and self.passphrase.salt.hex()):
            raise ConflictError(
                "another command has just changed its passphrase",
                path=self.path,
                hint="run the command again",
            )
        if self.passphrase is None:
            return fields
        with damaged_unless_sound(file, RESTORE_ALL):
            sealed = base64.b64decode(fields["sealed"], validate=True)
        return dict(json.loads(self.passphrase.unseal(sealed, self._bound)))

    def write(self, fields: dict[str, Any]) -> None:
        """Write the keys, mode 0600, sealed under the passphrase if there is one; raises OutputError."""
        if self.passphrase is not None:
            sealed = self.passphrase.seal(json.dumps(fields).encode(), self._bound)
            fields = {
                "scrypt": asdict(self.passphrase.stretching),
                "salt": self.passphrase.salt.hex(),
                "sealed": base64.b64encode(sealed).decode("ascii"),
            }
        write_state(self.path / SECRETS_FILE, fields)

    @property
    def _bound(self) -> bytes:
        role = read_state(self.path / ROLE_FILE)
        return length_prefixed("mipp/1 secrets of a directory", str(role.get("role")), str(role.get("id")))


def _read(file: Path) -> dict[str, Any]:
    if not is_there(file):
        raise MissingKeyError("the file with the keys is missing", path=file, hint=RESTORE_ALL)
    return read_state(file)


def is_always_sealed(role: str, name: str) -> bool:
    """Return whether a JSON file of a role's directory is sealed under the directory's storage key."""
    folder, _, rest = name.rpartition("/")
    return rest.endswith(".json") and folder in _SEALED_FOLDERS.get(role, ())


def former_keys_left(path: Path, role: str) -> list[Path]:
    """Return former files with keys that were replaced in a directory but could not be removed."""
    folders = (path / folder for folder in _SEALED_FOLDERS.get(role, ()))
    return [*left_behind(path, SECRETS_FILE), *(each for folder in folders for each in left_behind(folder))]


def sealed_files(path: Path, role: str) -> list[str]:
    """Return the names of the files that are sealed under the storage key of a directory."""
    found = [file for folder in _SEALED_FOLDERS.get(role, ()) for file in paths_in(path / folder, ".json")]
    return sorted(file.relative_to(path).as_posix() for file in found)


def seal_fields(key: bytes, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return ``fields`` sealed, as the content of the file ``name`` of a directory."""
    sealed = seal(key, json.dumps(fields).encode(), _place(name))
    return {"sealed": base64.b64encode(sealed).decode("ascii")}


def unseal_fields(key: bytes, name: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fields that :func:`seal_fields` sealed; None if the key or the file name is another."""
    try:
        return dict(json.loads(unseal(key, base64.b64decode(fields["sealed"]), _place(name))))
    except TamperedError:
        return None


def _place(name: str) -> bytes:
    return length_prefixed("mipp/1 file of a directory", name)
