"""Confirmation of commands that cannot be undone: at a terminal, on stderr."""

from __future__ import annotations

from collections.abc import Callable

import click

from mipp_cli.cli.options import bundled
from mipp_cli.cli.passphrases import at_terminal
from mipp_cli.errors import DeclinedError, InvalidRequestError


def _confirmation(yes: bool) -> Callable[[str], None]:
    """Return the function that asks for confirmation; with ``yes`` it accepts."""
    return _accept if yes else _ask


def _accept(question: str) -> None:
    """Confirm without asking."""


def _ask(question: str) -> None:
    if not at_terminal():
        raise InvalidRequestError(
            "this cannot be undone, and there is no terminal for confirmation", hint="give --yes"
        )
    if not click.confirm(question, err=True):
        raise DeclinedError("nothing was changed: the answer was no", hint="answer y, or give --yes")


confirm_option = bundled(
    "confirm",
    _confirmation,
    click.option("--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal."),
)
