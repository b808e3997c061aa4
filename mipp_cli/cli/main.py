"""The command `mipp`: subcommands are imported on use, and errors are caught in one place."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence
from errno import EAGAIN
from typing import Any, NoReturn

import click

from mipp_cli import __version__
from mipp_cli.cli.examples import examples_of
from mipp_cli.cli.messages import forget, report_error
from mipp_cli.cli.verbose import verbose_option
from mipp_cli.errors import InterruptedWorkError, MippError, OutputError
from mipp_cli.files.system_errors import unforeseen_error

_COMMANDS = {  # each is an object in the module of the same name
    "kmc": "Key management centre: enrol owners, rank queries, re-encrypt matches.",
    "cloud": "Cloud: store encrypted images, answer searches.",
    "user": "User: query by example image, decrypt the matches.",
    "owner": "Image owner: authorise users, encrypt and delete images, rotate keys.",
    "demo": "Run all roles on your own pictures and write a page of matches.",
    "features": "Print the features of images: their codes under a descriptor.",
    "inspect": "Show what a file or a role's directory contains, except secrets.",
    "protect": "Protect the keys of a role's directory with a passphrase.",
    "experiment": "Reproduce the paper's figures and tables on your own data set.",
}


_NO_THREAD = "can't start new thread"  # Python's message
_NO_MEMORY = InterruptedWorkError(
    "there is not enough memory", hint="free some, raise its limit (ulimit -v), or give fewer --jobs"
)


def _module_of(command: str) -> str:
    return f"mipp_cli.cli.{command}"


class MippGroup(click.Group):
    """The root group: imports subcommands on use, turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of first use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, and add the examples to its help."""
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_module_of(cmd_name)), cmd_name)
        if isinstance(command, click.Group):
            for name, each in command.commands.items():
                # the whole first line, which click would truncate
                each.short_help = each.short_help or (each.help or "").partition("\n")[0]
                each.epilog = examples_of(f"{cmd_name} {name}")
        elif isinstance(command, click.Command):
            command.epilog = examples_of(cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([*_COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; a closed pipe on stdout is not an error."""
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
            sys.exit(report_error(error, as_json=as_json, command=_command_in(words)))
        except click.UsageError as error:
            sys.exit(_report_usage(error, words, as_json=as_json))
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
    """Return the error for a failed system call that no step handles."""
    unwritable = _is_output_unwritable()  # first, or the interpreter fails again when it exits
    place = error.filename or ("standard output" if unwritable else None)
    return unforeseen_error(error, place)


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
    """Report that the command was interrupted; return the exit code."""
    interrupted = InterruptedWorkError("interrupted", hint="run the command again")
    return report_error(interrupted, as_json=as_json)


def _report_usage(error: click.UsageError, words: Sequence[str], *, as_json: bool) -> int:
    message = error.format_message()
    # A group without a subcommand: click shows its help.
    if error.ctx is not None and message == error.ctx.get_help():
        error.show()
        return error.exit_code
    return report_error(MippUsageError(message), as_json=as_json, command=_command_in(words))


def _command_in(words: Sequence[str]) -> str:
    """Return the command in a command line, such as `mipp kmc init`; not every error of click names it.

    Nothing is imported, which could fail: before its command is imported, an error is one of `mipp` itself.
    """
    path = "mipp"
    command: click.Command | None = mipp
    for word in words:
        if not isinstance(command, click.Group):
            break
        if word in _COMMANDS and command is mipp and _module_of(word) not in sys.modules:
            break
        if not word.startswith("-"):
            command = command.get_command(click.Context(command), word)
            path += f" {word}" if command is not None else ""
    return path


class MippUsageError(MippError):
    """Raised instead of click's usage error."""

    exit_code = 2


@click.group(cls=MippGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mipp")
@verbose_option
def mipp() -> None:
    """Search the encrypted pictures of several owners by example.

    Owners upload encrypted pictures to a cloud. A user whom they authorised sends an encrypted example image.
    The key management centre (KMC) ranks the pictures, the cloud returns the encrypted matches, and the KMC
    re-encrypts them for this user alone. Each role has its own directory, and the roles exchange files.

    \b
    A first run:
      mipp kmc init KMC
      mipp cloud init CLOUD --kmc KMC/kmc.pub
      mipp user init USER --id UID --kmc KMC/kmc.pub
      mipp owner init OWNER --id OID --kmc KMC/kmc.pub --authorize USER/user.pub
      mipp kmc enroll KMC OWNER/enrolment.h5 CLOUD/cloud.pub
      mipp cloud enroll CLOUD OWNER/members.h5
      mipp owner encrypt OWNER IMAGES -o upload.h5
      mipp cloud index CLOUD upload.h5
      mipp kmc index KMC upload.features.h5
      mipp user query USER IMAGE -o query.h5
      mipp kmc rank KMC query.h5 -o selection.h5
      mipp cloud search CLOUD selection.h5 -o results.h5
      mipp kmc reencrypt KMC results.h5 -o reencrypted.h5
      mipp user decrypt USER reencrypted.h5 -o DIR

    In the schemes dcr, mask and paper the cloud ranks: leave out kmc index and kmc rank, and give query.h5 to
    cloud search.
    """


def main() -> None:
    """Run `mipp`; the process starts in `entry.py`."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # undecodable input then counts as a wrong answer
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the terminal's encoding may lack characters
    mipp.main(prog_name="mipp")
