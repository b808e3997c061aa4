"""The command that protects a directory with a passphrase."""

from __future__ import annotations

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

    Sealed is secrets.json (AES-256-GCM under scrypt), and with it what it holds the key to: the owners' image
    keys at a KMC, and what a user keeps of queries. Everything else stays as it is, but the commands that
    work in DIR then demand the passphrase: --passphrase-file, or a terminal asks.

    Nobody opens DIR without its passphrase, so keep that in a safe place too.
    """
    from mipp_cli.workdir.protect import protect_directory
    from mipp_cli.workdir.secrets_file import Passphrases, passphrases_from

    if remove and new_passphrase_file is not None:
        raise click.UsageError("--remove and --new-passphrase-file cannot go together")
    old = None if passphrase_file is None else read_passphrase(passphrase_file)
    new = None if new_passphrase_file is None else read_passphrase(new_passphrase_file)
    # the new one may be what DIR has already, if this is run a second time
    source = Passphrases(lambda path: old or ask_passphrase(path) or new, old is not None and not remove)
    with passphrases_from(source):
        choose = None if remove else lambda: new or choose_passphrase("--new-passphrase-file")
        return protect_directory(directory, choose)
