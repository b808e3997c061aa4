"""The command `mipp`: commands are loaded when asked for, and errors are caught in one place."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence
from errno import EAGAIN
from typing import Any, NoReturn

import click

from mipp_cli import __version__
from mipp_cli.cli.messages import forget, report_error
from mipp_cli.cli.verbose import verbose_option
from mipp_cli.errors import InterruptedWorkError, MippError, OutputError

_COMMANDS = {  # each is the object of its name in the module of its name
    "kmc": "The key management centre: enrol, keep and rank features, re-encrypt.",
    "cloud": "The cloud: enrol owners, keep their pictures, bring what was found.",
    "user": "A user: query by example, decrypt the matches.",
    "owner": "An image owner: authorise users, encrypt and delete images, renew keys.",
    "demo": "Play all roles on pictures of your own, and end with the page of matches.",
    "features": "Print what pictures are compared by: their codes, by any descriptor.",
    "inspect": "Say what a file or a role's directory holds; never a secret.",
    "protect": "Protect the keys in a role's directory with a passphrase.",
    "experiment": "The paper's figures and tables, measured on your own data set.",
}


_NO_THREAD = "can't start new thread"  # what Python says
_NO_MEMORY = InterruptedWorkError(
    "there is not enough memory", hint="free some, raise its limit (ulimit -v), or give fewer --jobs"
)


class MippGroup(click.Group):
    """The root: subcommands are imported when used, errors become messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a newcomer meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"mipp_cli.cli.{cmd_name}"), cmd_name)
        if isinstance(command, click.Group):
            for each in command.commands.values():  # the first line as it stands, not cut to the terminal
                each.short_help = each.short_help or (each.help or "").partition("\n")[0]
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([*_COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; if whoever reads our output has gone, that is no failure."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            forget(sys.stdout)
            raise click.exceptions.Exit(0) from None

    def main(self, args: Sequence[str] | None = None, *arguments: Any, **options: Any) -> NoReturn:
        """Run a command line and exit with its code."""
        words = list(sys.argv[1:] if args is None else args)
        options["standalone_mode"] = False
        as_json = "--json" in words
        try:
            code = super().main(words, *arguments, **options)
        except MippError as error:
            sys.exit(report_error(error, as_json=as_json))
        except click.UsageError as error:
            sys.exit(_report_usage(error, as_json=as_json))
        except (click.Abort, KeyboardInterrupt):
            sys.exit(report_interrupt(as_json=as_json))
        except MemoryError:
            sys.exit(report_error(_NO_MEMORY, as_json=as_json))
        except ImportError as error:
            sys.exit(report_error(_not_loaded(error), as_json=as_json))
        except OSError as error:
            sys.exit(report_error(_system_error(error), as_json=as_json))
        except RuntimeError as error:
            if str(error) != _NO_THREAD:
                raise
            sys.exit(report_error(_system_error(BlockingIOError(EAGAIN, _NO_THREAD)), as_json=as_json))
        sys.exit(code if isinstance(code, int) else 0)


def _system_error(error: OSError) -> OutputError:
    """Return the error for what the system says in answer to something that no step expects to fail."""
    from mipp_cli.files.atomic import hint_of

    place = error.filename or ("standard output" if _is_output_unwritable() else None)
    hint = hint_of(error, "check the path, the rights, and the space on the disk")
    return OutputError(error.strerror or str(error), path=place, hint=hint)


def _not_loaded(error: ImportError) -> InterruptedWorkError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return InterruptedWorkError(
        f"a library cannot be loaded: {lines[-1].strip() if lines else error.name}",
        hint="install mipp again, or give it more memory (ulimit -v)",
    )


def _is_output_unwritable() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        forget(sys.stdout)
        return True
    return False


def report_interrupt(*, as_json: bool) -> int:
    """Say that the command was interrupted; return the exit code."""
    interrupted = InterruptedWorkError("interrupted", hint="run the command again")
    return report_error(interrupted, as_json=as_json)


def _report_usage(error: click.UsageError, *, as_json: bool) -> int:
    message = error.format_message()
    if error.ctx is not None and message == error.ctx.get_help():  # a group alone: no mistake, a question
        error.show()
        return error.exit_code
    command = error.ctx.command_path if error.ctx is not None else "mipp"
    return report_error(MippUsageError(message, hint=f"{command} --help says what it takes"), as_json=as_json)


class MippUsageError(MippError):
    """Raised in the place of click's usage error."""

    exit_code = 2


@click.group(cls=MippGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mipp")
@verbose_option
def mipp() -> None:
    """Search the encrypted pictures of several owners by example.

    Owners put encrypted pictures on a cloud. A user whom they authorised asks with an encrypted example.
    The key management centre (KMC) ranks, the cloud brings what was found without seeing any of it, and the
    KMC re-encrypts it for that user alone. Each role works in a directory of its own; they hand each other
    files.

    \b
    The order of a first run:
      mipp kmc init KMC                          the deployment: KMC/kmc.pub, for everybody
      mipp cloud init CLOUD --kmc kmc.pub        mipp user init USER --id UID --kmc kmc.pub
      mipp owner init OWNER --id OID --kmc kmc.pub --authorize user.pub
      mipp kmc enroll KMC enrolment.h5 cloud.pub mipp cloud enroll CLOUD members.h5
      mipp owner encrypt OWNER IMAGES -o upload.h5
      mipp cloud index CLOUD upload.h5           mipp kmc index KMC upload.features.h5
      mipp user query USER IMAGE -o query.h5
      mipp kmc rank KMC query.h5 -o selection.h5
      mipp cloud search CLOUD selection.h5 -o results.h5
      mipp kmc reencrypt KMC results.h5 -o reencrypted.h5
      mipp user decrypt USER reencrypted.h5 -o DIR

    In schemes dcr, mask and paper the cloud ranks: there is no kmc index and no kmc rank, and cloud search
    takes query.h5.
    """


def main() -> None:
    """Run `mipp`; `entry.py` is where a process begins."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # an answer that is no text is a wrong answer
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every letter
    mipp.main(prog_name="mipp")
