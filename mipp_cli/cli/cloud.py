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
    """The cloud: enrol owners, keep their pictures, bring what was found."""


@cloud.command()
@new_directory_argument("CLOUD")
@kmc_option
@fingerprint_option
@prints_report
def init(directory: Path, kmc: Path, fingerprints: tuple[str, ...]) -> Report:
    """Make the directory CLOUD, and CLOUD/cloud.pub for the KMC."""
    from mipp_cli.cloud.cloud import init_cloud

    return init_cloud(directory, kmc, fingerprints=fingerprints)


@cloud.command()
@directory_argument("CLOUD")
@files_argument("members.h5...")
@fingerprint_option
@prints_report
def enroll(directory: Path, files: tuple[Path, ...], fingerprints: tuple[str, ...]) -> Report:
    """Put owners' lists of authorised users in force.

    All of the files are taken, or none. The first enrolment of an owner pins its name to its key: compare
    the fingerprint with what the owner's commands show, or demand it.
    """
    from mipp_cli.cloud.cloud import enroll_at_cloud

    return enroll_at_cloud(directory, files, fingerprints=fingerprints)


@cloud.command()
@directory_argument("CLOUD")
@click.option("--sums", is_flag=True, help="Compute all sums again, too, and compare them with the index.")
@parallelism_options
@progress_option
@prints_report
def check(directory: Path, sums: bool, parallelism: Parallelism, progress: Progress) -> Report:
    """Check every file of the cloud's directory, and say of each that is damaged, unknown or missing.

    Every block of what is stored is read, every signature verified, and the index compared with the
    images. Nothing is changed. --jobs and --scheduler matter only with --sums.
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
    """End an owner's membership at the cloud: users, images, features and sums are gone from CLOUD.

    The owner may come back under the same key, with newer members.h5. The KMC's part: mipp kmc remove.
    """
    from mipp_cli.cloud.remove import remove_from_cloud

    return remove_from_cloud(directory, owner, release_name=release_name, confirm=confirm)


@cloud.command()
@directory_argument("CLOUD")
@files_argument("CONTAINER...", required=False)
@click.option("--rebuild", is_flag=True, help="Make the index anew from CLOUD/segments; takes no CONTAINER.")
@click.option(
    "--drop-damaged",
    is_flag=True,
    help="With --rebuild: leave out, for good, what is damaged or of an owner who is not enrolled.",
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
    """Verify uploads, keep and index them (IndexConstruct, Table 2); delete what owners ask.

    Each CONTAINER is an owner's upload or deletion. They may come in any order, late or twice: of what they
    say of an image, the one made last counts. All of them are applied or none; those that were applied
    before are skipped. Of images that are deleted or replaced, ciphertext, name and sums are gone from CLOUD
    afterwards. What an owner sent and has not come is named.

    With --rebuild, when index.h5 or the parts of the index were lost or damaged, everything that was
    applied is verified and indexed again.
    """
    if rebuild:
        if files:
            raise click.UsageError("--rebuild takes no CONTAINER: it makes the index from CLOUD/segments")
        from mipp_cli.cloud.rebuild import rebuild_index

        return rebuild_index(directory, drop_damaged=drop_damaged, parallelism=parallelism, progress=progress)
    if drop_damaged:
        raise click.UsageError("--drop-damaged goes with --rebuild")
    if not files:
        raise click.UsageError("Missing argument 'CONTAINER...'.")
    from mipp_cli.cloud.index import index_containers

    return index_containers(directory, files, parallelism=parallelism, progress=progress)


@cloud.command()
@directory_argument("CLOUD")
@click.argument("request", metavar="selection.h5|query.h5", type=PATH)
@output_option("results.h5", "what was found, for the KMC")
@click.option(
    "--without-index", is_flag=True, help="Decrypt all sums again, to compare; the answer is the same."
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
    """Bring the groups of images that a selection of the KMC names (scheme exact).

    In the other schemes, find the images most similar to a query, among the owners who authorised its user
    (ImageRetrieval). --without-index, --jobs and --scheduler matter there alone: the index itself is searched
    in one process.
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
