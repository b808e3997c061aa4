"""Passphrases on the command line: read from a file or prompted for, never an argument."""

from __future__ import annotations

import functools
import os
import stat
import sys
from codecs import BOM_UTF8
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from mipp_cli.errors import InvalidRequestError, errors_at
from mipp_cli.names import name_of
from mipp_cli.sanitize import printable

Function = TypeVar("Function", bound=Callable[..., Any])
_WARNINGS = "mipp.passphrase warnings"
_PATH = click.Path(path_type=Path)


def passphrase_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--passphrase-file``: the passphrase of a protected directory; without it, prompt at a terminal."""

    @functools.wraps(function)
    def run(*args: Any, passphrase_file: Path | None, **kwargs: Any) -> Any:
        from mipp_cli.workdir.secrets_file import Passphrases, passphrases_from

        given = None if passphrase_file is None else read_passphrase(passphrase_file)
        with passphrases_from(Passphrases(lambda path: given or ask_passphrase(path), given is not None)):
            return function(*args, **kwargs)

    help_text = "Read the passphrase of a protected directory from FILE.  [default: ask at a terminal]"
    return _last(click.option("--passphrase-file", metavar="FILE", type=_PATH, help=help_text)(run))


def new_passphrase_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--passphrase-file`` and ``--protect``: protect the directory that the command creates."""

    @functools.wraps(function)
    def run(*args: Any, passphrase_file: Path | None, protect: bool, **kwargs: Any) -> Any:
        from mipp_cli.workdir.secrets_file import Passphrases, passphrases_from

        new = read_passphrase(passphrase_file) if passphrase_file is not None else None
        if protect and new is None:
            new = choose_passphrase("--passphrase-file")
        with passphrases_from(Passphrases(lambda path: new, new=new)):
            return function(*args, **kwargs)

    asking = click.option("--protect", is_flag=True, help="Ask for a passphrase to protect the directory.")
    help_text = "Protect the directory with the passphrase in FILE."
    return _last(
        click.option("--passphrase-file", metavar="FILE", type=_PATH, help=help_text)(_last(asking(run)))
    )


def _last(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show the option added last after the command's own; click would show it first."""
    parameters: list[click.Parameter] = vars(function)["__click_params__"]
    parameters.insert(0, parameters.pop())
    return function


def read_passphrase(path: Path) -> bytes:
    """Return the one line of a passphrase file; InvalidRequestError if it is not a passphrase.

    The line ending (LF or CR LF) and a leading byte order mark are not part of it.
    """
    from mipp_cli.workdir.secrets_file import MOST_PASSPHRASE_BYTES, check_passphrase

    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(len(BOM_UTF8) + MOST_PASSPHRASE_BYTES + 3)
    except OSError as error:
        raise InvalidRequestError(
            f"the passphrase cannot be read: {error.strerror}",
            path=path,
            hint="name a file that you can read",
        ) from None
    if stat.S_ISREG(mode) and mode & 0o077:
        warnings = click.get_current_context().meta.setdefault(_WARNINGS, [])
        warnings.append(f"others may read or change {path}: chmod 600 {path}")
    with errors_at(path):
        line = content.removeprefix(BOM_UTF8).removesuffix(b"\n").removesuffix(b"\r")
        return check_passphrase(line)


def ask_passphrase(path: Path) -> bytes | None:
    """Prompt for the passphrase of a directory; None if there is no terminal."""
    if not at_terminal():
        return None
    return _prompt(f"Passphrase of {printable(name_of(path))}")


def choose_passphrase(option: str) -> bytes:
    """Prompt for a new passphrase twice; InvalidRequestError without a terminal, or if the two differ."""
    from mipp_cli.workdir.secrets_file import check_passphrase

    if not at_terminal():
        raise InvalidRequestError(
            "there is no terminal at which to ask for a passphrase", hint=f"give {option} FILE"
        )
    first = check_passphrase(_prompt("New passphrase"))
    if check_passphrase(_prompt("New passphrase again")) != first:
        raise InvalidRequestError("the two passphrases differ", hint="nothing was changed; try again")
    return first


def _prompt(text: str) -> bytes:
    try:
        typed = str(click.prompt(text, default="", show_default=False, hide_input=True, err=True))
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"what was typed is not text in this locale ({error.encoding})",
            hint="choose a locale of the terminal's encoding, such as LC_ALL=C.UTF-8, or give a file",
        ) from None
    return typed.encode(errors="surrogateescape")


def at_terminal() -> bool:
    """Return whether there is a terminal to prompt at."""
    with suppress(ValueError):  # a stdin that was closed
        return sys.stdin is not None and sys.stdin.isatty()
    return False


def passphrase_warnings() -> list[str]:
    """Return the warnings about the passphrases of this command."""
    return list(click.get_current_context().meta.get(_WARNINGS, []))
