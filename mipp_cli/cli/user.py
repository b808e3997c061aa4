"""Commands of a user."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mipp_cli.cli.options import (
    PATH,
    device_option,
    directory_argument,
    features_option,
    files_argument,
    fingerprint_option,
    force_option,
    kmc_option,
    model_option,
    moved_model_option,
    new_directory_argument,
    output_option,
    prints_report,
)
from mipp_cli.cli.progress import progress_option
from mipp_cli.report import Report, in_columns
from mipp_cli.sanitize import printable

if TYPE_CHECKING:
    from mipp_cli.user.matches import WrittenMatch


@click.group()
def user() -> None:
    """User: query by example image, decrypt the matches."""


@user.command()
@new_directory_argument("USER")
@click.option("--id", "name", metavar="UID", required=True, help="The user's name, as owners see it.")
@kmc_option
@model_option
@fingerprint_option
@prints_report
def init(directory: Path, name: str, kmc: Path, **arguments: Any) -> Report:
    """Create the directory USER, with USER/user.pub for owners to authorise."""
    from mipp_cli.user.user import init_user

    return init_user(directory, name, kmc, **arguments)


@user.command()
@directory_argument("USER")
@files_argument("IMAGE...")
@output_option("query.h5", "the query, for the KMC (scheme exact) or the cloud (other schemes)")
@click.option(
    "--candidates",
    metavar="N",
    type=int,
    default=100,
    show_default=True,
    help="Matches to ask for, per query image.",
)
@click.option(
    "--owner",
    "owners",
    metavar="OID",
    multiple=True,
    help="Search only this owner's images (the exact name); may be repeated.  [default: all owners who "
    "authorised the user]",
)
@features_option
@moved_model_option
@device_option
@force_option
@prints_report
def query(directory: Path, files: tuple[Path, ...], output: Path, **arguments: Any) -> Report:
    """Encrypt a query of one or more example images.

    Each picture is a query image, and a folder stands for all pictures in it. The answer will be encrypted
    under a key of this query alone.
    """
    from mipp_cli.images.collection import collect_examples
    from mipp_cli.user.user import make_query

    return make_query(directory, collect_examples(files), output, **arguments)


@user.command()
@directory_argument("USER")
@click.argument("reencrypted", metavar="reencrypted.h5", type=PATH)
@output_option("DIR", "the images, matches.html, matches.csv and a contact sheet")
@click.option(
    "--top",
    metavar="N",
    type=int,
    default=10,
    show_default=True,
    help="Matches to keep, per query image.",
)
@click.option(
    "--per-series",
    metavar="N",
    type=int,
    help="Keep at most the N nearest DICOM files of a series; files of other series take their place.",
)
@force_option
@progress_option
@prints_report
def decrypt(directory: Path, reencrypted: Path, output: Path, **arguments: Any) -> Report:
    """Decrypt the matches of a query, ranked by Euclidean distance (Eq. 7).

    In scheme exact the KMC has ranked them; in the other schemes this command does. For DICOM files
    (encrypted with --payload file) matches.csv has the study and series UIDs.
    """
    from mipp_cli.user.decrypt import decrypt_answer

    report, matches = decrypt_answer(directory, reencrypted, output, **arguments)
    details = {**report.details, "matches": [asdict(match) for match in matches]}
    return replace(report, details=details, lines=_table(matches))


@user.command()
@directory_argument("USER")
@click.argument("queries", metavar="[QUERY...]", nargs=-1)
@click.option("--all", "forget_all", is_flag=True, help="Forget all queries.")
@prints_report
def forget(directory: Path, queries: tuple[str, ...], forget_all: bool) -> Report:
    """Delete what USER stores of queries: keys, features and thumbnails.

    A QUERY is a query id, query.h5 or reencrypted.h5. Answers that arrive later can then not be decrypted.
    """
    from mipp_cli.user.forget import forget_queries

    if forget_all == bool(queries):
        raise click.UsageError("name one or more queries, or give --all")
    return forget_queries(directory, None if forget_all else queries)


def _table(matches: list[WrittenMatch]) -> list[str]:
    rows = [(str(each.rank), f"{each.distance:.3f}", each.owner, printable(each.name)) for each in matches]
    lines, last = [], None
    for match, line in zip(matches, in_columns(rows, right={0, 1}), strict=True):
        if match.query != last:
            lines.append(f"query {printable(match.query)}")
            last = match.query
        lines.append(f"  {line}")
    return lines


@user.command()
@directory_argument("USER")
@click.argument("sealing", metavar="sealing.pub", type=PATH)
@prints_report
def update_kmc_key(directory: Path, sealing: Path) -> Report:
    """Use the KMC's rotated sealing key for queries from now on."""
    from mipp_cli.user.user import update_kmc_key as step

    return step(directory, sealing)
