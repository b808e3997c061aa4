"""The command that lists the images an owner sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipp_cli.cli.messages import print_table
from mipp_cli.cli.options import NUMBER, directory_argument, prints_report, refuse_with_json
from mipp_cli.report import Report, Streamed
from mipp_cli.sanitize import printable

if TYPE_CHECKING:
    from mipp_cli.owner.listing import ListedImage


@click.command("list")
@directory_argument("OWNER")
@click.option("--deleted", is_flag=True, help="List the images that were deleted.")
@click.option(
    "--upload", metavar="NUMBER", type=NUMBER, help="List the images of the upload or deletion NUMBER."
)
@click.option(
    "--match",
    metavar="GLOB",
    help="List only images whose path, or name shown to users, matches, e.g. 'brain/*'; * also matches /.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line per image.")
@prints_report
def list_images(
    directory: Path, deleted: bool, upload: int | None, match: str | None, as_csv: bool
) -> Report:
    """List the owner's live images: path, name shown to users, wire name, upload, group, key.

    The list comes from OWNER's own record. With --upload, images replaced or deleted by a newer message are
    listed too, as superseded. Deleted images are listed under the number of their deletion.
    """
    from mipp_cli.owner.listing import ListedImage, ListFilter, listing_of

    if as_csv:
        refuse_with_json("--csv")
    found = listing_of(directory, ListFilter(deleted, upload, match))
    if as_csv:
        print_table(ListedImage._fields, found.rows())
        return Report(warnings=found.warnings)
    images = Streamed(found.count, lambda: (row._asdict() for row in found.rows()))
    return Report(
        counts={"images": found.count},
        warnings=found.warnings,
        details={"images": images},
        lines=_lines(found.rows()),
    )


def _lines(rows: Iterable[ListedImage]) -> Iterator[str]:
    """Yield a line for each message, followed by one for each of its images."""
    from mipp_cli.workdir.replay import moment

    last = None
    for row in rows:
        if row.upload != last:
            last = row.upload
            kind = "deletion" if row.key is None else "upload"
            key = "" if row.key is None else f", key {row.key}"
            yield f"{kind} {row.upload} ({moment(row.upload)}){key}"
        group = "" if row.group is None else f"  group {row.group}"
        shown = "" if row.shown_as == row.path else f"  shown as {printable(row.shown_as)}"
        yield f"  {row.state}{group}  {printable(row.image_id)}  {printable(row.path)}{shown}"
