"""The command that protects a directory with a passphrase."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipp_cli.cli.options import PATH, prints_report
from mipp_cli.cli.passphrases import ask_passphrase, choose_passphrase, read_passphrase

if TYPE_CHECKING:
    from mipp_cli.report import Report


@click.command()
@click.argument("directory", metavar="DIR", type=PATH)
@click.option("--remove", is_flag=True, help="End the protection: the keys stand in plain again.")
@click.option(
    "--passphrase-file", metavar="FILE", type=PATH, help="Take the passphrase that DIR has from FILE."
)
@click.option(
    "--new-passphrase-file", metavar="FILE", type=PATH, help="Take the passphrase that DIR gets from FILE."
)
@prints_report
def protect(
    directory: Path, remove: bool, passphrase_file: Path | None, new_passphrase_file: Path | None
) -> Report:
    """Protect the keys in a role's directory with a passphrase, change it, or end that.

    Sealed are secrets.json, the owners' image keys at a KMC, and what a user keeps of queries (AES-256-GCM
    under a key of the directory's own, and that under scrypt). Everything else stays as it is, but the
    commands that work in DIR then demand the passphrase: --passphrase-file, or a terminal asks.

    Nobody opens DIR without its passphrase, so keep that in a safe place too. What was interrupted is
    finished by the same command again.
    """
    from mipp_cli.workdir.protect import protect_directory, unprotect_directory

    if remove and new_passphrase_file is not None:
        raise click.UsageError("--remove and --new-passphrase-file cannot go together")
    old = None if passphrase_file is None else read_passphrase(passphrase_file)
    new = None if new_passphrase_file is None else read_passphrase(new_passphrase_file)
    ask = functools.partial(ask_passphrase, directory)
    if remove:
        return unprotect_directory(directory, old, ask)
    return protect_directory(directory, old, ask, lambda: new or choose_passphrase("--new-passphrase-file"))
