"""Where the passphrase of a protected directory comes from, for whatever a command does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from mipp_cli.errors import InvalidRequestError, PassphraseError, errors_at
from mipp_cli.workdir.protection import SECRETS_FILE, Lock, Protection, refuse_lost_lock

MOST_PASSPHRASE_BYTES = 4096
_NOT_PROTECTED_HINT = "leave out --passphrase-file; to protect it: mipp protect {} --new-passphrase-file FILE"


@dataclass(frozen=True, repr=False)
class Passphrases:
    """Where a command gets passphrases from.

    ``ask`` returns that of a protected directory, or None if there is nobody to ask; ``given``: it was
    handed over for this very directory, which must then be protected; ``new`` protects a directory that
    the command makes.
    """

    ask: Callable[[Path], bytes | None] = lambda path: None
    given: bool = False
    new: bytes | None = None
    opened: dict[str, Protection] = field(default_factory=dict)  # so that one command stretches it once
    warnings: list[str] = field(default_factory=list)  # what whoever started the command should know


_CURRENT: ContextVar[Passphrases | None] = ContextVar("passphrases", default=None)


@contextmanager
def passphrases_from(source: Passphrases) -> Iterator[None]:
    """Have directories opened and made in the block get their passphrases from ``source``."""
    token = _CURRENT.set(source)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def check_passphrase(passphrase: bytes) -> bytes:
    """Return ``passphrase``; raises InvalidRequestError if it is empty, or too long to be one."""
    if not passphrase:
        raise InvalidRequestError("the passphrase is empty", hint="choose one that nobody guesses")
    if len(passphrase) > MOST_PASSPHRASE_BYTES:
        raise InvalidRequestError(
            "the passphrase is too long", hint=f"a passphrase has at most {MOST_PASSPHRASE_BYTES} bytes"
        )
    return passphrase


def protection_of(path: Path, role: str, name: str) -> Protection | None:
    """Return the protection of a directory that is opened, or None if it has none.

    Raises PassphraseError if the passphrase is wrong or nobody gave one, InvalidRequestError if one was
    given for a directory that is not protected.
    """
    source, lock = _CURRENT.get() or Passphrases(), Lock.read(path)
    if lock is None:
        if source.given:
            refuse_lost_lock(path, [SECRETS_FILE])
            raise InvalidRequestError(
                "is not protected with a passphrase", path=path, hint=_NOT_PROTECTED_HINT.format(path)
            )
        return None
    if lock.key_id not in source.opened:
        passphrase = source.ask(path)
        if passphrase is None:
            raise PassphraseError(
                "is protected with a passphrase",
                path=path,
                hint="give --passphrase-file FILE, or run the command in a terminal, where it asks",
            )
        with errors_at(path):
            protection = Protection.unlock(lock, role, name, check_passphrase(passphrase))
        source.opened[lock.key_id] = protection
        if not lock.finished:
            source.warnings.append(
                f"{path} may still hold keys in plain: protecting it was interrupted; run mipp protect again"
            )
    return source.opened[lock.key_id]


def protect_new(path: Path, role: str, name: str) -> Protection | None:
    """Protect a directory that is being made, if the command was told to."""
    source = _CURRENT.get()
    if source is None or source.new is None:
        return None
    protection = Protection.draw(role, name)
    protection.lock(source.new, finished=True).write(path)
    source.opened[protection.key_id] = protection
    return protection
