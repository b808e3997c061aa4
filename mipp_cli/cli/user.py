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
    """A user: query by example, decrypt the matches."""


@user.command()
@new_directory_argument("USER")
@click.option("--id", "name", metavar="UID", required=True, help="The user's name, as owners will read it.")
@kmc_option
@model_option
@fingerprint_option
@prints_report
def init(directory: Path, name: str, kmc: Path, **arguments: Any) -> Report:
    """Make the directory USER, and USER/user.pub for the owners who shall authorise the user."""
    from mipp_cli.user.user import init_user

    return init_user(directory, name, kmc, **arguments)


@user.command()
@directory_argument("USER")
@files_argument("IMAGE...")
@output_option("query.h5", "the query, for the KMC in scheme exact, else for the cloud")
@click.option(
    "--candidates",
    metavar="N",
    type=int,
    default=100,
    show_default=True,
    help="How many matches to ask for, for each query image.",
)
@click.option(
    "--owner",
    "owners",
    metavar="OID",
    multiple=True,
    help="Search the images of this owner; again for more.  [default: all owners who authorised the user]",
)
@features_option
@moved_model_option
@device_option
@force_option
@prints_report
def query(directory: Path, files: tuple[Path, ...], output: Path, **arguments: Any) -> Report:
    """Make an encrypted query of one or several example images, and a key for its answer alone.

    A folder stands for all pictures in it; each one is a query image of its own.
    """
    from mipp_cli.images.collection import collect_examples
    from mipp_cli.user.user import make_query

    return make_query(directory, collect_examples(files), output, **arguments)


@user.command()
@directory_argument("USER")
@click.argument("reencrypted", metavar="reencrypted.h5", type=PATH)
@output_option("DIR", "matches.csv, the images and a contact sheet")
@click.option(
    "--top",
    metavar="N",
    type=int,
    default=10,
    show_default=True,
    help="How many matches to keep, per query image.",
)
@click.option(
    "--per-series",
    metavar="N",
    type=int,
    help="Of DICOM files of one series, keep the N nearest, and the next ones of others in their place.",
)
@force_option
@progress_option
@prints_report
def decrypt(directory: Path, reencrypted: Path, output: Path, **arguments: Any) -> Report:
    """Decrypt the matches of a query, ranked by Euclidean distance of their features (Eq. 7).

    In scheme exact the KMC ranked them; in the others they are ranked here. matches.csv has the UIDs of
    study and series where a match is a DICOM file (--payload file).
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
    """Drop what USER keeps of queries: keys, features and small pictures.

    A QUERY is the id of one, query.h5, or reencrypted.h5. Answers to come can then not be read.
    """
    from mipp_cli.user.forget import forget_queries

    if forget_all == bool(queries):
        raise click.UsageError("name queries, or give --all")
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
    """Take over the KMC's renewed sealing key; queries are sealed to it from now on."""
    from mipp_cli.user.user import update_kmc_key as step

    return step(directory, sealing)
