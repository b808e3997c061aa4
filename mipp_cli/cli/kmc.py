"""Commands of the key management centre."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mipp_cli.cli.options import (
    PATH,
    SIZE,
    directory_argument,
    files_argument,
    fingerprint_option,
    force_option,
    model_output_option,
    model_pooling_option,
    new_directory_argument,
    output_option,
    owner_argument,
    prints_report,
    release_name_option,
)
from mipp_cli.cli.progress import progress_option
from mipp_cli.cli.questions import confirm_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mipp_cli.progress import Progress
    from mipp_cli.report import Report
    from mipp_cli.workdir.removals import Confirm


@click.group()
def kmc() -> None:
    """The key management centre: draw a deployment, enrol, keep and rank features, re-encrypt."""


@kmc.command()
@new_directory_argument("KMC")
@click.option(
    "--scheme",
    type=click.Choice(["exact", "dcr", "mask", "paper"]),
    default="exact",
    show_default=True,
    help="exact: the KMC keeps the features and ranks (Eq. 7). In the others the cloud ranks (Eq. 9), with "
    "features under dcr (Eq. 4 modulo N²), mask (zero-sum masks) or paper (as published: broken).",
)
@click.option(
    "--group-size",
    metavar="G",
    type=click.IntRange(1, 1024),
    help="For exact: how many images make a group, which the cloud brings whole; 1 for no groups.  "
    "[default: 8]",
)
@click.option(
    "--modulus-bits", metavar="BITS", type=int, help="Size of N or p, for dcr and paper.  [default: 3072]"
)
@click.option(
    "--descriptor",
    metavar="DESCRIPTOR",
    help="What features are: edge-histogram (the default) or colour-edge, which are computed here; or "
    "features of your own, which owners and users give with --features, as "
    "NAME:DIMENSION[:LEVELS][:l2|:LOW..HIGH]: 3 to 65535 codes of 2 to 256 levels; or real numbers, which "
    "become codes once divided by their L2 norm (l2), or from a range.",
)
@click.option(
    "--model",
    metavar="PATH",
    type=PATH,
    help="Describe pictures by an image model instead: a folder as models are published in ONNX form, or the "
    ".onnx file in it. Owners and users need a copy each.",
)
@model_output_option
@model_pooling_option
@click.option(
    "--allow-insecure-modulus",
    is_flag=True,
    help="Admit a modulus of less than 2048 bits: insecure, for tests.",
)
@prints_report
def init(directory: Path, **options: Any) -> Report:
    """Make the directory KMC, and with it a deployment: KMC/kmc.pub, for everybody.

    Tell everybody the fingerprint over another channel than the file itself.
    """
    from mipp_cli.kmc.init import init_kmc

    return init_kmc(directory, **options)


@kmc.command()
@directory_argument("KMC")
@files_argument("enrolment.h5|cloud.pub...")
@fingerprint_option
@prints_report
def enroll(directory: Path, files: tuple[Path, ...], fingerprints: tuple[str, ...]) -> Report:
    """Put owners' enrolments in force (keys and users), and make clouds known.

    All of the files are taken, or none. The first enrolment of an owner pins its name to its key: compare
    the fingerprint with what the owner's commands show, or demand it.
    """
    from mipp_cli.kmc.enroll import enroll_at_kmc

    return enroll_at_kmc(directory, files, fingerprints=fingerprints)


@kmc.command()
@directory_argument("KMC")
@files_argument("FILE...")
@progress_option
@prints_report
def index(directory: Path, files: tuple[Path, ...], progress: Progress) -> Report:
    """Keep the features of owners' images, to rank them (scheme exact); delete what owners ask.

    Each FILE is an upload.features.h5 or a delete.h5 of an owner. They may come in any order, late or twice:
    of what they say of an image, the one made last counts. A features file that was applied before fills
    again what was damaged here or is missing. What an owner sent and has not come is named.
    """
    from mipp_cli.kmc.index import index_at_kmc

    return index_at_kmc(directory, files, progress=progress)


@kmc.command()
@directory_argument("KMC")
@click.argument("query", metavar="query.h5", type=PATH)
@output_option("selection.h5", "what the cloud is asked to bring")
@click.option(
    "--cloud",
    metavar="cloud.pub",
    type=PATH,
    help="The cloud that is asked, if several are enrolled.",
)
@click.option(
    "--limit",
    metavar="SIZE",
    type=SIZE,
    default="10GB",
    show_default=True,
    help="Leave out the largest groups if the cloud would have to bring more.",
)
@force_option
@progress_option
@prints_report
def rank(
    directory: Path,
    query: Path,
    output: Path,
    cloud: Path | None,
    limit: int,
    force: bool,
    progress: Progress,
) -> Report:
    """Rank the images of the owners who authorised the user, by exact distance (Eq. 7; scheme exact).

    The selection names whole groups of images, and neither the user nor the query. The ranking is remembered:
    the same query selects the same again.
    """
    from mipp_cli.kmc.rank import rank as step

    return step(directory, query, output, cloud=cloud, limit=limit, force=force, progress=progress)


@kmc.command()
@directory_argument("KMC")
@click.argument("results", metavar="results.h5", type=PATH)
@output_option("reencrypted.h5", "the matches, re-encrypted for the user")
@force_option
@progress_option
@prints_report
def reencrypt(directory: Path, results: Path, output: Path, force: bool, progress: Progress) -> Report:
    """Re-encrypt the matches in results.h5 for the user who asked, and for nobody else.

    The KMC checks again that each image's owner authorised the user.
    """
    from mipp_cli.kmc.reencrypt import reencrypt as step

    return step(directory, results, output, force=force, progress=progress)


@kmc.command()
@directory_argument("KMC")
@prints_report
def status(directory: Path) -> Report:
    """Say which keys of which owners the KMC holds, which users, clouds and sealing keys; never a secret."""
    from mipp_cli.kmc.status import kmc_status

    report, details = kmc_status(directory)
    return replace(report, details={"status": details}, lines=list(_lines(details)))


def _lines(fields: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield a line for each field, for people, by the names that scripts know."""
    for name, field in fields.items():
        if isinstance(field, dict) and field:
            yield f"{indent}{name}:"
            yield from _lines(field, indent + "  ")
        else:
            text = ", ".join(map(str, field)) if isinstance(field, list) else field
            yield f"{indent}{name}: {'none' if text in (None, '', {}) else text}"


@kmc.command()
@directory_argument("KMC")
@progress_option
@prints_report
def check(directory: Path, progress: Progress) -> Report:
    """Check every file of the KMC's directory, and say of each that is damaged, unknown or missing.

    Keys are set beside the public files that name them, and every block of features is opened. Nothing is
    changed.
    """
    from mipp_cli.kmc.check import check_kmc

    return check_kmc(directory, progress=progress)


@kmc.command()
@directory_argument("KMC")
@owner_argument
@release_name_option
@confirm_option
@prints_report
def remove(directory: Path, owner: str, release_name: bool, confirm: Confirm) -> Report:
    """End an owner's membership at the KMC: drop its image keys, its features and its list of users.

    The owner may come back under the same key, with a newer enrolment. The cloud's part: mipp cloud remove.
    """
    from mipp_cli.kmc.remove import remove_from_kmc

    return remove_from_kmc(directory, owner, release_name=release_name, confirm=confirm)


@kmc.command()
@directory_argument("KMC")
@click.option(
    "--drop-former", is_flag=True, help="Drop the former keys at once: what was sealed to them never opens."
)
@prints_report
def rotate_key(directory: Path, drop_former: bool) -> Report:
    """Renew the KMC's sealing key: KMC/sealing.pub, for all owners and users.

    The former key is kept, so that queries under way are still answered, until `mipp kmc forget-key`. A key
    that was dropped opens nothing that was recorded, whoever steals the KMC's keys later.
    """
    from mipp_cli.kmc.rotate import rotate_sealing_key

    return rotate_sealing_key(directory, drop_former=drop_former)


@kmc.command("forget-key")
@directory_argument("KMC")
@prints_report
def forget_key(directory: Path) -> Report:
    """Drop the former sealing keys: what was sealed to them never opens again."""
    from mipp_cli.kmc.rotate import forget_sealing_keys

    return forget_sealing_keys(directory)
