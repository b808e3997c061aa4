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
    """Key management centre: enrol owners, rank queries, re-encrypt matches."""


@kmc.command()
@new_directory_argument("KMC")
@click.option(
    "--scheme",
    type=click.Choice(["exact", "dcr", "mask", "paper"]),
    default="exact",
    show_default=True,
    help="exact: the KMC stores the features and ranks (Eq. 7). In the others the cloud ranks (Eq. 9), on "
    "features encrypted by dcr (Eq. 4 modulo N²), mask (zero-sum masks) or paper (as published: broken).",
)
@click.option(
    "--group-size",
    metavar="G",
    type=click.IntRange(1, 1024),
    help="For exact: images per group. The cloud returns whole groups; 1 means no groups.  [default: 8]",
)
@click.option(
    "--modulus-bits", metavar="BITS", type=int, help="Size of N or p, for dcr and paper.  [default: 3072]"
)
@click.option(
    "--descriptor",
    metavar="DESCRIPTOR",
    help="The descriptor: edge-histogram (the default) or colour-edge, which mipp computes; or your own, "
    "NAME:DIMENSION[:LEVELS][:l2|:LOW..HIGH], whose features owners and users pass with --features: 3 to "
    "65535 codes of 2 to 256 levels, or real numbers that are quantised after L2 normalisation (l2) or "
    "from a range (LOW..HIGH).",
)
@click.option(
    "--model",
    metavar="PATH",
    type=PATH,
    help="Use an image model as the descriptor: a folder with a published ONNX model, or the .onnx file in "
    "it. Every owner and user needs a copy.",
)
@model_output_option
@model_pooling_option
@click.option(
    "--allow-insecure-modulus",
    is_flag=True,
    help="Allow a modulus below 2048 bits: insecure, only for tests.",
)
@prints_report
def init(directory: Path, **options: Any) -> Report:
    """Create a deployment: the directory KMC, with KMC/kmc.pub for all roles.

    Give all roles the fingerprint over another channel than the file itself.
    """
    from mipp_cli.kmc.init import init_kmc

    return init_kmc(directory, **options)


@kmc.command()
@directory_argument("KMC")
@files_argument("enrolment.h5|cloud.pub...")
@fingerprint_option
@prints_report
def enroll(directory: Path, files: tuple[Path, ...], fingerprints: tuple[str, ...]) -> Report:
    """Enrol owners (their keys and authorised users) and clouds.

    Either all files are applied or none. The first enrolment of an owner pins its name to its key. Compare
    the fingerprint with the one that the owner's commands print, or pass it with --fingerprint.
    """
    from mipp_cli.kmc.enroll import enroll_at_kmc

    return enroll_at_kmc(directory, files, fingerprints=fingerprints)


@kmc.command()
@directory_argument("KMC")
@files_argument("FILE...")
@progress_option
@prints_report
def index(directory: Path, files: tuple[Path, ...], progress: Progress) -> Report:
    """Verify and store owners' features for ranking (scheme exact); apply deletions.

    Each FILE is an upload.features.h5 or a delete.h5 of an owner. They may be applied in any order, late or
    twice: for each image, the newest message decides. A features file that was applied before repairs
    features that are damaged or missing here. Messages of an owner that have not arrived yet are reported.
    """
    from mipp_cli.kmc.index import index_at_kmc

    return index_at_kmc(directory, files, progress=progress)


@kmc.command()
@directory_argument("KMC")
@click.argument("query", metavar="query.h5", type=PATH)
@output_option("selection.h5", "the selection, for the cloud")
@click.option(
    "--cloud",
    metavar="cloud.pub",
    type=PATH,
    help="The cloud that the selection is for, if several are enrolled.",
)
@click.option(
    "--limit",
    metavar="SIZE",
    type=SIZE,
    default="10GB",
    show_default=True,
    help="Leave out the largest groups if the cloud would have to return more than this.",
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
    """Rank the images for a query by Euclidean distance (Eq. 7; scheme exact).

    Only images of owners who authorised the user are ranked. The selection names whole groups of images, and
    neither the user nor the query. The ranking is stored: the same query selects the same groups again.
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
    """Re-encrypt the matches in results.h5 for the user who sent the query.

    The KMC checks again that the owner of each image authorised the user.
    """
    from mipp_cli.kmc.reencrypt import reencrypt as step

    return step(directory, results, output, force=force, progress=progress)


@kmc.command()
@directory_argument("KMC")
@prints_report
def status(directory: Path) -> Report:
    """Show the owners, keys, users and clouds that the KMC knows, except secrets."""
    from mipp_cli.kmc.status import kmc_status

    report, details = kmc_status(directory)
    return replace(report, details={"status": details}, lines=list(_lines(details)))


def _lines(fields: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield one line per field, with the names of the JSON output."""
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
    """Check every file in KMC; report files that are damaged, unknown or missing.

    Compares keys with the public files that name them, and decrypts every block of features. Changes nothing.
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
    """Remove an owner from the KMC: its image keys, features and list of users.

    The owner may enrol again later with the same key and a newer enrolment. To remove the owner from the
    cloud, run mipp cloud remove.
    """
    from mipp_cli.kmc.remove import remove_from_kmc

    return remove_from_kmc(directory, owner, release_name=release_name, confirm=confirm)


@kmc.command()
@directory_argument("KMC")
@click.option(
    "--drop-former",
    is_flag=True,
    help="Drop the former keys at once: nothing sealed to them can be decrypted any more.",
)
@prints_report
def rotate_key(directory: Path, drop_former: bool) -> Report:
    """Rotate the KMC's sealing key; writes KMC/sealing.pub, for all owners and users.

    The former key is kept until `mipp kmc forget-key`, so that queries on their way can still be answered.
    Once it is dropped, recorded messages sealed to it stay secret even if the KMC's keys are stolen.
    """
    from mipp_cli.kmc.rotate import rotate_sealing_key

    return rotate_sealing_key(directory, drop_former=drop_former)


@kmc.command("forget-key")
@directory_argument("KMC")
@prints_report
def forget_key(directory: Path) -> Report:
    """Drop the former sealing keys: nothing sealed to them can be decrypted any more."""
    from mipp_cli.kmc.rotate import forget_sealing_keys

    return forget_sealing_keys(directory)
