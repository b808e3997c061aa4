"""Make, open and lock a role's directory, which is private and is made completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os.path import realpath
from pathlib import Path
from typing import Any

from mipp_cli.containers.base.header import FORMAT_LINE, IDENTIFIER, wrong_format
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.public_files import Deployment, load_deployment, load_renewal
from mipp_cli.errors import (
    ConflictError,
    InvalidRequestError,
    NotInitialisedError,
    OutputError,
    errors_at,
)
from mipp_cli.files.atomic import new_folder, sweep
from mipp_cli.files.folders import is_there
from mipp_cli.files.json_state import read_state, write_state
from mipp_cli.files.locks import LockedError, locked
from mipp_cli.log import timed
from mipp_cli.scheme.keys import SealingPublicKey, SigningKey
from mipp_cli.workdir.records import Records
from mipp_cli.workdir.secrets_file import (
    ROLE_FILE,
    SECRETS_FILE,
    SecretsFile,
    former_keys_left,
)

ROLES = ("kmc", "cloud", "user", "owner")
STATE_FILE = "state.json"
KMC_FILE = "kmc.pub"
SEALING_FILE = "sealing.pub"


def check_identifier(name: str, what: str) -> None:
    """Raise InvalidRequestError if ``name`` is not a valid OID or UID."""
    if not IDENTIFIER.fullmatch(name):
        raise InvalidRequestError(
            f"{name!r} cannot be {what}",
            hint="use 1 to 64 letters (a to z), digits or . - _ + @, beginning with a letter or digit",
        )


@contextmanager
def new_directory(path: Path, role: str, name: str) -> Iterator[RoleDirectory]:
    """Make a role's directory, mode 0700, under a temporary name; rename it when the block succeeds.

    Raises OutputError if ``path`` exists: a role's directory is never replaced.
    """
    if os.path.lexists(path):
        raise OutputError(
            "already exists; a role's directory is never replaced",
            path=path,
            hint="choose another name, or move the old directory away",
        )
    with new_folder(path) as building:
        write_state(building / ROLE_FILE, {"format": FORMAT_LINE, "role": role, "id": name})
        yield RoleDirectory(building, role, SecretsFile.new(building).passphrase)


@dataclass(frozen=True)
class RoleDirectory(Records):
    """The directory of a role: its identity, deployment, keys and other records."""

    @classmethod
    @timed("opening the directory {path} of the {role}")
    def open(cls, path: Path, role: str) -> RoleDirectory:
        """Open the directory of ``role`` at ``path``, with its passphrase if it is protected.

        Raises NotInitialisedError if it is not such a directory, PassphraseError if the passphrase is wrong
        or missing.
        """
        found = role_of(path)
        if found is None:
            raise NotInitialisedError(
                f"is not the directory of {with_article(role)}" if is_there(path) else "does not exist",
                path=path,
                hint=f"name the {role}'s directory, or make one with mipp {role} init",
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
        return (*self.deployment.parameters.warnings, *self._exposed(), *self.key_warnings)

    def _exposed(self) -> list[str]:
        """Return a warning if others can read the keys, as on file systems that ignore modes."""
        file = self.file(SECRETS_FILE)
        if self.passphrase is not None or not is_there(file):
            return []
        mode = file.stat().st_mode & 0o777
        if not mode & 0o077 or not self.path.stat().st_mode & 0o011:
            return []
        return [
            f"other accounts can read the keys in {file} (mode {mode:04o}): chmod 600 it; where that has no "
            "effect, as on FAT or SMB, move the directory, or protect it with a passphrase: mipp protect"
        ]

    @property
    def key_warnings(self) -> tuple[str, ...]:
        """Warnings of replaced files that could not be removed and may contain forgotten keys."""
        return tuple(
            f"{path} may contain former keys but could not be removed: remove it"
            for path in former_keys_left(self.path, self.role)
        )

    @property
    def sealing_key(self) -> SealingPublicKey:
        """The KMC's key to seal to: from sealing.pub if the KMC has renewed it, else from kmc.pub."""
        renewed = self.file(SEALING_FILE)
        if is_there(renewed):
            return load_renewal(renewed, self.deployment).sealing_key
        return self.deployment.sealing_key

    @cached_property
    def sender(self) -> Sender:
        """The role as a sender of containers."""
        return Sender(self.name, SigningKey(self.secret("signing")), self.deployment.fingerprint)

    def refuse_inside(self, output: Path) -> None:
        """Raise OutputError if ``output`` is inside the directory, which is for the role's own files."""
        place = Path(realpath(output))  # Path.resolve raises RuntimeError for a link to itself
        if any(map(self._is_at, (place, *place.parents))):
            raise OutputError(
                f"is inside the directory of {with_article(self.role)}, which is for the role's own files",
                path=output,
                hint="choose a path outside it",
            )

    def _is_at(self, path: Path) -> bool:
        try:
            return path.samefile(self.path)  # some file systems ignore case, so names do not tell
        except OSError:
            return False

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Lock the directory; raises ConflictError if another command has locked it.

        ``shared`` is for commands that change nothing that other such commands read: they run side by side,
        but not beside one with an exclusive lock. Exclusive locks also remove what killed commands left,
        which may be keys.
        """
        try:
            with locked(self.file(ROLE_FILE), shared=shared, wait=False):
                self.forget_secrets()  # another command may have changed them
                if not shared:
                    self.sweep()
                    # otherwise a command could report that no former keys are left
                    for path in former_keys_left(self.path, self.role):
                        raise OutputError(
                            "may contain former keys but cannot be removed",
                            path=path,
                            hint="check whether its disk is read-only or damaged, and remove it",
                        )
                yield
        except LockedError:
            raise ConflictError(
                "is in use by another command", path=self.path, hint="wait until that is done, then try again"
            ) from None

    def sweep(self) -> None:
        """Remove the temporary files of killed commands from the directory and its folders."""
        for folder in (self.path, *(each for each in self.path.iterdir() if each.is_dir())):
            sweep(folder)


def role_of(path: Path) -> str | None:
    """Return the role whose directory ``path`` is, or None.

    Raises MalformedError if role.json is damaged or has a format that this version cannot read.
    """
    file = path / ROLE_FILE
    if not is_there(file):
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


def _name_of(fields: dict[str, Any]) -> str:
    name = fields["id"]
    if not IDENTIFIER.fullmatch(name):
        raise ValueError("not an OID or UID")
    return str(name)
