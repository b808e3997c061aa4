"""`-v`: prints the log of the steps on stderr, with the local date and time."""

from __future__ import annotations

from contextlib import suppress

import click

from mipp_cli.cli.messages import say
from mipp_cli.sanitize import printable

_ROOT = "mipp_cli"


def _show_log(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """Print the log until the command ends, unless it is printed already."""
    if not wanted or shows_log():
        return
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with suppress(OSError):  # a closed stream must not stop the work
                say(printable(self.format(record)), err=True)

    logger, handler = logging.getLogger(_ROOT), Handler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s.%(msecs)03d %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def end() -> None:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    context.call_on_close(end)


def shows_log() -> bool:
    """Return whether the log is printed, or handled by a program that uses the package."""
    import logging

    return logging.getLogger(_ROOT).isEnabledFor(logging.INFO)


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_show_log,
    help="Print each step and its duration on stderr; secrets are never printed.",
)
