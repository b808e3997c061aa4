"""Commands of the cloud."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipp_cli.cli.options import (
    PATH,
    directory_argument,
    files_argument,
    fingerprint_option,
    force_option,
    kmc_option,
    new_directory_argument,
    output_option,
    owner_argument,
    parallelism_options,
    prints_report,
    release_name_option,
)
from mipp_cli.cli.progress import progress_option
from mipp_cli.cli.questions import confirm_option

if TYPE_CHECKING:
    from mipp_cli.compute.processes import Parallelism
    from mipp_cli.progress import Progress
    from mipp_cli.report import Report
    from mipp_cli.workdir.removals import Confirm


@click.group()
def cloud() -> None:
    """Cloud: store encrypted images, answer searches."""


@cloud.command()
@new_directory_argument("CLOUD")
@kmc_option
@fingerprint_option
@prints_report
def init(directory: Path, kmc: Path, fingerprints: tuple[str, ...]) -> Report:
    """Create the directory CLOUD, with CLOUD/cloud.pub for the KMC."""
    from mipp_cli.cloud.cloud import init_cloud

    return init_cloud(directory, kmc, fingerprints=fingerprints)


@cloud.command()
@directory_argument("CLOUD")
@files_argument("members.h5...")
@fingerprint_option
@prints_report
def enroll(directory: Path, files: tuple[Path, ...], fingerprints: tuple[str, ...]) -> Report:
    """Enrol owners: apply their lists of authorised users.

    Either all files are applied or none. The first enrolment of an owner pins its name to its key. Compare
    the fingerprint with the one that the owner's commands print, or pass it with --fingerprint.
    """
    from mipp_cli.cloud.cloud import enroll_at_cloud

    return enroll_at_cloud(directory, files, fingerprints=fingerprints)


@cloud.command()
@directory_argument("CLOUD")
@click.option("--sums", is_flag=True, help="Also recompute all sums and compare them with the index.")
@parallelism_options
@progress_option
@prints_report
def check(directory: Path, sums: bool, parallelism: Parallelism, progress: Progress) -> Report:
    """Check every file in CLOUD; report files that are damaged, unknown or missing.

    Reads every stored block, verifies every signature, and compares the index with the images. Changes
    nothing. --jobs and --scheduler apply only with --sums.
    """
    from mipp_cli.cloud.check import check_cloud

    return check_cloud(directory, with_sums=sums, parallelism=parallelism, progress=progress)


@cloud.command()
@directory_argument("CLOUD")
@owner_argument
@release_name_option
@confirm_option
@prints_report
def remove(directory: Path, owner: str, release_name: bool, confirm: Confirm) -> Report:
    """Remove an owner from the cloud: its users, images, features and sums.

    The owner may enrol again later with the same key and a newer members.h5. To remove the owner from the
    KMC, run mipp kmc remove.
    """
    from mipp_cli.cloud.remove import remove_from_cloud

    return remove_from_cloud(directory, owner, release_name=release_name, confirm=confirm)


@cloud.command()
@directory_argument("CLOUD")
@files_argument("CONTAINER...", required=False)
@click.option("--rebuild", is_flag=True, help="Rebuild the index from CLOUD/segments; takes no CONTAINER.")
@click.option(
    "--drop-damaged",
    is_flag=True,
    help="With --rebuild: permanently drop segments that are damaged or whose owner is not enrolled.",
)
@parallelism_options
@progress_option
@prints_report
def index(
    directory: Path,
    files: tuple[Path, ...],
    rebuild: bool,
    drop_damaged: bool,
    parallelism: Parallelism,
    progress: Progress,
) -> Report:
    """Verify, store and index uploads (IndexConstruct, Table 2); apply deletions.

    Each CONTAINER is an owner's upload or deletion. They may be applied in any order, late or twice: for each
    image, the newest message decides. Either all are applied or none; those applied before are skipped. The
    ciphertexts, names and sums of deleted and replaced images are removed from CLOUD. Messages of an owner
    that have not arrived yet are reported.

    Use --rebuild if index.h5 or parts of the index are lost or damaged: everything applied before is verified
    and indexed again.
    """
    if rebuild:
        if files:
            raise click.UsageError("--rebuild takes no CONTAINER: it rebuilds the index from CLOUD/segments")
        from mipp_cli.cloud.rebuild import rebuild_index

        return rebuild_index(directory, drop_damaged=drop_damaged, parallelism=parallelism, progress=progress)
    if drop_damaged:
        raise click.UsageError("--drop-damaged needs --rebuild")
    if not files:
        raise click.UsageError("Missing argument 'CONTAINER...'.")
    from mipp_cli.cloud.index import index_containers

    return index_containers(directory, files, parallelism=parallelism, progress=progress)


@cloud.command()
@directory_argument("CLOUD")
@click.argument("request", metavar="selection.h5|query.h5", type=PATH)
@output_option("results.h5", "the encrypted matches, for the KMC")
@click.option(
    "--without-index",
    is_flag=True,
    help="Decrypt all sums again instead of reading the index, to compare times; same answer.",
)
@parallelism_options
@force_option
@progress_option
@prints_report
def search(
    directory: Path,
    request: Path,
    output: Path,
    without_index: bool,
    parallelism: Parallelism,
    force: bool,
    progress: Progress,
) -> Report:
    """Return the groups of images that a selection of the KMC names (scheme exact).

    In the other schemes: find the images most similar to a query, among the owners who authorised its user
    (ImageRetrieval). --without-index is only for those schemes, and --jobs and --scheduler apply only with
    it: the index itself is searched in one process.
    """
    from mipp_cli.cloud.search import search as step

    return step(
        directory,
        request,
        output,
        without_index=without_index,
        parallelism=parallelism,
        force=force,
        progress=progress,
    )
