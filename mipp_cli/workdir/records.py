"""Read and write the JSON files of a role's directory: its keys and other records, sealed if secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from mipp_cli.errors import (
    MissingKeyError,
    ReplayedError,
    TamperedError,
)
from mipp_cli.files.folders import is_there
from mipp_cli.files.json_state import RESTORE, damaged_unless_sound, read_state, write_state
from mipp_cli.files.locks import locked
from mipp_cli.files.system_errors import output_error
from mipp_cli.scheme.passphrase import PassphraseKey
from mipp_cli.scheme.secret_keys import KEY_BYTES, generate_key
from mipp_cli.workdir.secrets_file import (
    RESTORE_ALL,
    SECRETS_FILE,
    SecretsFile,
    is_always_sealed,
    seal_fields,
    sealed_files,
    unseal_fields,
)

Result = TypeVar("Result")
Keys = Mapping[str, bytes | Sequence[bytes]]  # a sequence for keys of which there may be any number

_KEY_BYTES = {"signing": 32, "image": KEY_BYTES, "identifier": KEY_BYTES, "sealing": 96, "storage": KEY_BYTES}
_KEY_BYTES |= {"former_images": KEY_BYTES, "former_sealing": 96, "former_storage": KEY_BYTES}


@dataclass(frozen=True)
class Records:
    """The records of a role's directory at ``path``."""

    path: Path
    role: str
    passphrase: PassphraseKey | None = None  # seals its keys, if it is protected

    def file(self, name: str) -> Path:
        """Return the path of a file in the directory."""
        return self.path / name

    def folder(self, name: str) -> Path:
        """Return the path of a folder in the directory, after making it if it is missing."""
        folder = self.path / name
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise output_error(error, folder) from error
        return folder

    def secret(self, name: str) -> bytes:
        """Return one of the directory's keys; raises MissingKeyError if it is missing."""
        return self._keys(name, [self._secrets.get(name)])[0]

    def secret_list(self, name: str) -> list[bytes]:
        """Return keys of which there may be any number, oldest first; raises MissingKeyError if invalid."""
        return self._keys(name, self._secrets.get(name, []))

    def _keys(self, name: str, listed: Any) -> list[bytes]:
        try:
            keys = [bytes.fromhex(key) for key in listed]
        except (ValueError, TypeError):
            keys = [b""]
        if any(len(key) != _KEY_BYTES[name] for key in keys):
            raise MissingKeyError(f"lacks the {name} key", path=self.file(SECRETS_FILE), hint=RESTORE_ALL)
        return keys

    @cached_property
    def _secrets(self) -> dict[str, Any]:
        return SecretsFile(self.path, self.passphrase).read()

    def write_secrets(self, keys: Keys) -> None:
        """Write the keys of a new directory, and a storage key with them."""
        SecretsFile(self.path, self.passphrase).write(_in_hex({"storage": generate_key(), **keys}))

    def change_secrets(self, changes: Keys) -> None:
        """Replace some of the directory's keys and keep the others."""
        kept = SecretsFile(self.path, self.passphrase).read()
        SecretsFile(self.path, self.passphrase).write(kept | _in_hex(changes))
        self.forget_secrets()

    def forget_secrets(self) -> None:
        """Drop the cached keys, so that secrets.json is read again."""
        self.__dict__.pop("_secrets", None)

    def protect(self, passphrase: PassphraseKey | None) -> Self:
        """Seal the keys under another passphrase, or none, with a fresh storage key; return the new records.

        The former storage key is kept for the files that :meth:`seal_anew` has not yet sealed again.
        """
        kept = SecretsFile(self.path, self.passphrase).read()
        former = [*kept.get("former_storage", []), kept["storage"]]
        fresh = {"storage": generate_key().hex(), "former_storage": former}
        SecretsFile(self.path, passphrase).write({**kept, **fresh})
        return type(self)(self.path, self.role, passphrase)

    def seal_anew(self) -> None:
        """Seal all secret files under the storage key and drop former keys; can be interrupted and rerun."""
        for name in sealed_files(self.path, self.role):
            self._write_sealed(name, self.read_json(name))
        self.change_secrets({"former_storage": []})

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the directory; raises MalformedError if even one byte is damaged."""
        fields = read_state(self.file(name))
        if not is_always_sealed(self.role, name):
            return fields
        for key in (self.secret("storage"), *self.secret_list("former_storage")):
            with damaged_unless_sound(self.file(name)):
                opened = unseal_fields(key, name, fields)
            if opened is not None:
                return opened
        SecretsFile(self.path, self.passphrase).read()  # raises ConflictError if the key was just replaced
        raise TamperedError("is not sealed with a key of this directory", path=self.file(name), hint=RESTORE)

    def load(self, name: str, parse: Callable[[dict[str, Any]], Result], hint: str = RESTORE) -> Result:
        """Parse a JSON file with ``parse``; raises MalformedError if that fails or the file is damaged."""
        fields = self.read_json(name)
        with damaged_unless_sound(self.file(name), hint):
            return parse(fields)

    def write_json(self, name: str, fields: dict[str, Any]) -> None:
        """Replace a JSON file of the directory, mode 0600, sealed if it is one that contains secrets."""
        if not is_always_sealed(self.role, name):
            write_state(self.file(name), fields)
            return
        with locked(self.path, shared=True):  # no command can replace the storage key meanwhile
            self.forget_secrets()
            self._write_sealed(name, fields)

    def _write_sealed(self, name: str, fields: dict[str, Any]) -> None:
        write_state(self.file(name), seal_fields(self.secret("storage"), name, fields))

    def record(self, folder: str, name: str, content: str) -> None:
        """Record ``content`` under ``name``, for example an answered query, before the output is written.

        Raises ReplayedError if other content is recorded there.
        """
        with locked(self.folder(folder)):
            if self.recorded(folder, name) not in (None, content):
                raise ReplayedError(
                    "another command has given the same query a different answer", hint="make a new query"
                )
            self.write_json(_record_file(folder, name), {"content": content})

    def recorded(self, folder: str, name: str) -> str | None:
        """Return what :meth:`record` recorded, or None; raises MalformedError if it is damaged."""
        file = _record_file(folder, name)
        return str(self.read_json(file).get("content")) if is_there(self.file(file)) else None


def _in_hex(keys: Keys) -> dict[str, Any]:
    return {
        name: key.hex() if isinstance(key, bytes) else [each.hex() for each in key]
        for name, key in keys.items()
    }


def _record_file(folder: str, name: str) -> str:
    return f"{folder}/{name}.json"
