"""A role's directory: made whole or not at all, readable by its owner alone, and locked while it changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mipp_cli.containers.base.container import Sender
from mipp_cli.containers.base.header import FORMAT_LINE, IDENTIFIER, wrong_format
from mipp_cli.containers.messages.public_files import Deployment, load_deployment, load_renewal
from mipp_cli.errors import (
    ConflictError,
    InvalidRequestError,
    MissingKeyError,
    NotInitialisedError,
    OutputError,
    ReplayedError,
    TamperedError,
    errors_at,
)
from mipp_cli.files.atomic import new_folder, output_error, sweep
from mipp_cli.files.json_state import RESTORE, damaged_unless_sound, read_state, write_state
from mipp_cli.files.locks import LockedError, locked
from mipp_cli.scheme.keys import SealingPublicKey, SigningKey
from mipp_cli.scheme.passphrase import PassphraseKey
from mipp_cli.scheme.secret_keys import KEY_BYTES, generate_key
from mipp_cli.workdir.secrets_file import (
    RESTORE_ALL,
    ROLE_FILE,
    SECRETS_FILE,
    SecretsFile,
    is_always_sealed,
    seal_fields,
    sealed_files,
    unseal_fields,
)

Result = TypeVar("Result")
Keys = Mapping[str, bytes | Sequence[bytes]]  # a list is one of keys of which there may be any number

ROLES = ("kmc", "cloud", "user", "owner")
STATE_FILE = "state.json"
KMC_FILE = "kmc.pub"
SEALING_FILE = "sealing.pub"
_KEY_BYTES = {"signing": 32, "image": KEY_BYTES, "identifier": KEY_BYTES, "sealing": 96, "storage": KEY_BYTES}
_KEY_BYTES |= {"former_images": KEY_BYTES, "former_sealing": 96, "former_storage": KEY_BYTES}


def check_identifier(name: str, what: str) -> None:
    """Refuse an OID or UID that is not one; raises InvalidRequestError."""
    if not IDENTIFIER.fullmatch(name):
        raise InvalidRequestError(
            f"{name!r} cannot be {what}",
            hint="1 to 64 letters, digits, dots, hyphens or underscores, the first a letter or digit",
        )


@contextmanager
def new_directory(path: Path, role: str, name: str) -> Iterator[RoleDirectory]:
    """Make a role's directory, mode 0700: filled beside its place, and renamed there when the block succeeds.

    Raises OutputError if ``path`` exists: a role's directory is never replaced.
    """
    if os.path.lexists(path):
        raise OutputError(
            "exists; a role's directory is never replaced",
            path=path,
            hint="choose another name, or move the old directory away",
        )
    with new_folder(path) as building:
        write_state(building / ROLE_FILE, {"format": FORMAT_LINE, "role": role, "id": name})
        yield RoleDirectory(building, role, SecretsFile.new(building).passphrase)


@dataclass(frozen=True)
class RoleDirectory:
    """The directory of a role: its identity, its deployment, its secrets and its state."""

    path: Path
    role: str
    passphrase: PassphraseKey | None = None  # under which its keys are sealed, if they are

    @classmethod
    def open(cls, path: Path, role: str) -> RoleDirectory:
        """Open the directory of ``role`` at ``path``, with its passphrase if it is protected.

        Raises NotInitialisedError if it is none, PassphraseError if the passphrase is wrong or missing.
        """
        found = role_of(path)
        if found is None:
            raise NotInitialisedError(
                f"is not the directory of {with_article(role)}",
                path=path,
                hint=f"make one with: mipp {role} init {path}",
            )
        if found != role:
            raise NotInitialisedError(
                f"is the directory of {with_article(found)}, not of {with_article(role)}",
                path=path,
                hint=f"name the {role}'s directory",
            )
        return cls(path, role, SecretsFile.open(path).passphrase)

    @cached_property
    def name(self) -> str:
        """The OID or UID."""
        return self.load(ROLE_FILE, _name_of)

    @cached_property
    def deployment(self) -> Deployment:
        """The deployment, from the directory's own copy of kmc.pub."""
        return load_deployment(self.path / KMC_FILE)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings that every command repeats, such as that scheme `paper` hides nothing."""
        return tuple(self.deployment.parameters.warnings)

    @property
    def sealing_key(self) -> SealingPublicKey:
        """The key to seal to: that of sealing.pub once the KMC renewed it, until then that of kmc.pub."""
        renewed = self.file(SEALING_FILE)
        if renewed.exists():
            return load_renewal(renewed, self.deployment).sealing_key
        return self.deployment.sealing_key

    @cached_property
    def sender(self) -> Sender:
        """The role as a sender of containers."""
        return Sender(self.name, SigningKey(self.secret("signing")), self.deployment.fingerprint)

    def file(self, name: str) -> Path:
        """Return the path of a file in the directory."""
        return self.path / name

    def folder(self, name: str) -> Path:
        """Return the path of a folder in the directory, made if it is not there."""
        folder = self.path / name
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise output_error(error, folder) from error
        return folder

    def refuse_inside(self, output: Path) -> None:
        """Refuse an output that lies in the directory, whose files are the role's own; raises OutputError."""
        if output.resolve().is_relative_to(self.path.resolve()):
            raise OutputError(
                f"lies in the directory of {with_article(self.role)}, which keeps its own files there",
                path=output,
                hint="choose a place outside it",
            )

    def secret(self, name: str) -> bytes:
        """Return one of the directory's keys; raises MissingKeyError."""
        return self._keys(name, [self._secrets.get(name)])[0]

    def secret_list(self, name: str) -> list[bytes]:
        """Return keys of which there may be any number, oldest first; raises MissingKeyError."""
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
        """Write the keys of a directory that is being made, and beside them its storage key."""
        SecretsFile(self.path, self.passphrase).write(_in_hex({"storage": generate_key(), **keys}))

    def change_secrets(self, changes: Keys) -> None:
        """Replace some of the directory's keys; the others stay."""
        kept = SecretsFile(self.path, self.passphrase).read()
        SecretsFile(self.path, self.passphrase).write(kept | _in_hex(changes))
        self.forget_secrets()

    def forget_secrets(self) -> None:
        """Read secrets.json again when a key is next asked for."""
        self.__dict__.pop("_secrets", None)

    def protect(self, passphrase: PassphraseKey | None) -> RoleDirectory:
        """Put the keys under another passphrase, or in plain, and draw a fresh storage key; return it so.

        The former storage key opens what :meth:`seal_anew` has not sealed under the fresh one yet.
        """
        kept = SecretsFile(self.path, self.passphrase).read()
        former = [*kept.get("former_storage", []), kept["storage"]]
        fresh = {"storage": generate_key().hex(), "former_storage": former}
        SecretsFile(self.path, passphrase).write({**kept, **fresh})
        return RoleDirectory(self.path, self.role, passphrase)

    def seal_anew(self) -> None:
        """Seal everything under the storage key, and drop former ones; may be broken off and run again."""
        for name in sealed_files(self.path, self.role):
            self._write_sealed(name, self.read_json(name))
        self.change_secrets({"former_storage": []})

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the directory; raises MalformedError if it is damaged in one byte."""
        fields = read_state(self.file(name))
        if not is_always_sealed(self.role, name):
            return fields
        for key in (self.secret("storage"), *self.secret_list("former_storage")):
            with damaged_unless_sound(self.file(name)):
                opened = unseal_fields(key, name, fields)
            if opened is not None:
                return opened
        SecretsFile(self.path, self.passphrase).read()  # or else say that there is a newer key
        raise TamperedError("is not sealed with a key of this directory", path=self.file(name), hint=RESTORE)

    def load(self, name: str, parse: Callable[[dict[str, Any]], Result], hint: str = RESTORE) -> Result:
        """Return what ``parse`` makes of a JSON file; MalformedError if it cannot, or the file is damaged."""
        fields = self.read_json(name)
        with damaged_unless_sound(self.file(name), hint):
            return parse(fields)

    def write_json(self, name: str, fields: dict[str, Any]) -> None:
        """Replace a JSON file of the directory, mode 0600; sealed if it is of those that hold secrets."""
        if not is_always_sealed(self.role, name):
            write_state(self.file(name), fields)
            return
        with locked(self.path, shared=True):  # nobody draws another storage key meanwhile
            self.forget_secrets()
            self._write_sealed(name, fields)

    def _write_sealed(self, name: str, fields: dict[str, Any]) -> None:
        write_state(self.file(name), seal_fields(self.secret("storage"), name, fields))

    def record(self, folder: str, name: str, content: str) -> None:
        """Remember ``content`` under ``name``, as answered queries are, before what it is about is out.

        Raises ReplayedError if another command remembered other content.
        """
        with locked(self.folder(folder)):
            if self.recorded(folder, name) not in (None, content):
                raise ReplayedError(
                    "another command answered the same query otherwise meanwhile", hint="make a new query"
                )
            self.write_json(_record_file(folder, name), {"content": content})

    def recorded(self, folder: str, name: str) -> str | None:
        """Return what :meth:`record` remembered, or None; raises MalformedError if it is damaged."""
        file = _record_file(folder, name)
        return str(self.read_json(file).get("content")) if self.file(file).exists() else None

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Keep others from changing the directory meanwhile; raises ConflictError if another one is.

        ``shared`` is for commands that change nothing that another one of them reads: they run side by
        side, and keep out those that take the lock for themselves alone. The latter also clear away what
        killed commands left, which may be keys.
        """
        try:
            with locked(self.file(ROLE_FILE), shared=shared, wait=False):
                self.forget_secrets()  # another command may have changed them before
                if not shared:
                    self.sweep()
                yield
        except LockedError:
            raise ConflictError(
                "another command is changing it", path=self.path, hint="wait until it is done, then try again"
            ) from None

    def sweep(self) -> None:
        """Remove the temporary files of killed commands from the directory and its folders."""
        for folder in (self.path, *(each for each in self.path.iterdir() if each.is_dir())):
            sweep(folder)


def role_of(path: Path) -> str | None:
    """Return which role's directory ``path`` is, or None.

    Raises MalformedError if role.json is damaged, or of another format than this version reads.
    """
    file = path / ROLE_FILE
    if not file.exists():
        return None
    fields = read_state(file)
    with errors_at(file):
        if fields.get("format") != FORMAT_LINE:
            raise wrong_format(fields.get("format"))
    role = fields.get("role")
    return role if role in ROLES else None


def with_article(role: str) -> str:
    """Return "a kmc", "an owner" and so on."""
    return f"an {role}" if role == "owner" else f"a {role}"


def _in_hex(keys: Keys) -> dict[str, Any]:
    return {
        name: key.hex() if isinstance(key, bytes) else [each.hex() for each in key]
        for name, key in keys.items()
    }


def _name_of(fields: dict[str, Any]) -> str:
    name = fields["id"]
    if not IDENTIFIER.fullmatch(name):
        raise ValueError("no OID or UID")
    return str(name)


def _record_file(folder: str, name: str) -> str:
    return f"{folder}/{name}.json"
