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
@click.option("--remove", is_flag=True, help="Remove the protection: store the keys in plaintext again.")
@click.option("--passphrase-file", metavar="FILE", type=PATH, help="Read the present passphrase from FILE.")
@click.option("--new-passphrase-file", metavar="FILE", type=PATH, help="Read the new passphrase from FILE.")
@prints_report
def protect(
    directory: Path, remove: bool, passphrase_file: Path | None, new_passphrase_file: Path | None
) -> Report:
    """Protect the keys of a role's directory with a passphrase.

    Run it again to change the passphrase; --remove removes it. The command encrypts secrets.json (AES-256-GCM
    with a key from scrypt), which protects everything encrypted under keys in it: the owners' image keys at a
    KMC, and what a user stores of queries. All other files stay as they are. Commands on DIR then need the
    passphrase, from --passphrase-file or at a terminal.

    A lost passphrase cannot be recovered: keep it in a safe place.
    """
    from mipp_cli.workdir.protect import protect_directory
    from mipp_cli.workdir.secrets_file import Passphrases, passphrases_from

    if remove and new_passphrase_file is not None:
        raise click.UsageError("--remove and --new-passphrase-file cannot be combined")
    old = None if passphrase_file is None else read_passphrase(passphrase_file)
    new = None if new_passphrase_file is None else read_passphrase(new_passphrase_file)
    # on a second run DIR may already have the new passphrase
    source = Passphrases(lambda path: old or ask_passphrase(path) or new, old is not None and not remove)
    with passphrases_from(source):
        choose = None if remove else lambda: new or choose_passphrase("--new-passphrase-file")
        return protect_directory(directory, choose)
