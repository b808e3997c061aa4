"""`-v`: what steps log, on stderr, with the local date and time."""

from __future__ import annotations

from contextlib import suppress

import click

from mipp_cli.cli.messages import say
from mipp_cli.sanitize import printable

_ROOT = "mipp_cli"


def _show_log(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """Show what is logged until the command ends, unless it is shown already."""
    if not wanted or shows_log():
        return
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with suppress(OSError):  # nobody is there to read it, and the work goes on
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
    """Say whether somebody listens to what steps log."""
    import logging

    return logging.getLogger(_ROOT).isEnabledFor(logging.INFO)


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_show_log,
    help="Show on stderr which steps are done and how long each takes; never a secret.",
)
