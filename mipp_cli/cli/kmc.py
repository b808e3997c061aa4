"""Commands of the key management centre."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipp_cli.cli.options import (
    PATH,
    Spoken,
    directory_argument,
    files_argument,
    fingerprint_option,
    force_option,
    new_directory_argument,
    output_option,
    owner_argument,
    release_name_option,
    reported,
)
from mipp_cli.cli.progress import progress_bar

if TYPE_CHECKING:
    from mipp_cli.roles.report import Report


@click.group()
def kmc() -> None:
    """The key management centre: draw a deployment, enrol, re-encrypt."""


@kmc.command()
@new_directory_argument("KMC")
@click.option(
    "--scheme",
    type=click.Choice(["dcr", "mask", "paper"]),
    default="dcr",
    show_default=True,
    help="Feature cipher: dcr (Eq. 4 modulo N²), mask (zero-sum masks) or paper (as published: broken).",
)
@click.option(
    "--modulus-bits", metavar="BITS", type=int, help="Size of N or p, for dcr and paper.  [default: 3072]"
)
@click.option(
    "--descriptor",
    metavar="NAME:DIMENSION:LEVELS",
    help="What features are, if not edge histograms: 3 to 65535 codes of 2 to 256 levels, which owners and "
    "users give with --features.",
)
@click.option(
    "--grey-bits",
    type=click.IntRange(9, 16),
    default=16,
    show_default=True,
    help="Depth of grey pictures of more than 8 bits; 12 for many radiographs.",
)
@click.option(
    "--allow-insecure-modulus",
    is_flag=True,
    help="Admit a modulus of less than 2048 bits: insecure, for tests.",
)
@reported
def init(
    directory: Path,
    scheme: str,
    modulus_bits: int | None,
    descriptor: str | None,
    grey_bits: int,
    allow_insecure_modulus: bool,
) -> Report:
    """Make the directory KMC, and with it a deployment: KMC/kmc.pub, for everybody.

    Tell everybody the fingerprint over another channel than the file itself.
    """
    from mipp_cli.roles.kmc import init_kmc

    return init_kmc(
        directory,
        scheme=scheme,
        descriptor=descriptor,
        modulus_bits=modulus_bits,
        grey_bits=grey_bits,
        allow_insecure_modulus=allow_insecure_modulus,
    )


@kmc.command()
@directory_argument("KMC")
@files_argument("enrolment.h5|cloud.pub...")
@fingerprint_option
@reported
def enroll(directory: Path, files: tuple[Path, ...], fingerprints: tuple[str, ...]) -> Report:
    """Put owners' enrolments in force (keys and users), and make clouds known.

    All of the files are taken, or none. The first enrolment of an owner pins its name to its key: compare
    the fingerprint with what the owner's commands show, or demand it.
    """
    from mipp_cli.roles.kmc import enroll_at_kmc

    return enroll_at_kmc(directory, files, fingerprints=fingerprints)


@kmc.command()
@directory_argument("KMC")
@click.argument("results", metavar="results.h5", type=PATH)
@output_option("reencrypted.h5", "the matches, re-encrypted for the user")
@force_option
@reported
def reencrypt(directory: Path, results: Path, output: Path, force: bool) -> Report:
    """Re-encrypt the matches in results.h5 for the user who asked, and for nobody else.

    The KMC checks again that each image's owner authorised the user.
    """
    from mipp_cli.roles.kmc_reencrypt import reencrypt as step

    return step(directory, results, output, force=force, progress=progress_bar)


@kmc.command()
@directory_argument("KMC")
@reported
def status(directory: Path) -> Spoken:
    """Say which keys of which owners the KMC holds, which users, clouds and sealing keys; never a secret."""
    from mipp_cli.roles.kmc_status import kmc_status, status_lines

    report, details = kmc_status(directory)
    return Spoken(report, details, status_lines(details))


@kmc.command()
@directory_argument("KMC")
@reported
def check(directory: Path) -> Report:
    """Check every file of the KMC's directory, and say of each that is damaged, unknown or missing.

    Keys are set beside the public files that name them. Nothing is changed.
    """
    from mipp_cli.roles.kmc_check import check_kmc

    return check_kmc(directory)


@kmc.command()
@directory_argument("KMC")
@owner_argument
@release_name_option
@reported
def remove(directory: Path, owner: str, release_name: bool) -> Report:
    """End an owner's membership at the KMC: drop its image keys and its list of users.

    The owner may come back under the same key, with a newer enrolment. The cloud's part: mipp cloud remove.
    """
    from mipp_cli.roles.removal import remove_from_kmc

    return remove_from_kmc(directory, owner, release_name=release_name)


@kmc.command()
@directory_argument("KMC")
@click.option(
    "--drop-former", is_flag=True, help="Drop the former keys at once: what was sealed to them never opens."
)
@reported
def rotate(directory: Path, drop_former: bool) -> Report:
    """Renew the KMC's sealing key: KMC/sealing.pub, for all owners and users.

    The former key is kept, so that queries under way are still answered, until `mipp kmc forget-key`. A key
    that was dropped opens nothing that was recorded, whoever steals the KMC's keys later.
    """
    from mipp_cli.roles.renewal import rotate_kmc

    return rotate_kmc(directory, drop_former=drop_former)


@kmc.command("forget-key")
@directory_argument("KMC")
@reported
def forget_key(directory: Path) -> Report:
    """Drop the former sealing keys: what was sealed to them never opens again."""
    from mipp_cli.roles.renewal import forget_sealing_keys

    return forget_sealing_keys(directory)
