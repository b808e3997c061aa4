"""What became of every file that `owner encrypt` saw, as a table for whoever has to account for them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mipp_cli.errors import Problem
from mipp_cli.files.atomic import write_bytes
from mipp_cli.images.collection import ImageFile
from mipp_cli.names import name_of
from mipp_cli.owner.describing import FirstPass
from mipp_cli.sanitize import table_cell

COLUMNS = ("path", "outcome", "reason", "kind", "width", "height", "bits", "frame", "flat", "edgeless")
SENT, SKIPPED, PASSED_OVER, KEPT = "sent", "unreadable", "passed over", "not sent"
WITH_ITS_GROUP = "with its group"

Row = tuple[object, ...]


def write_file_report(path: Path, rows: Iterable[Row], *, force: bool) -> None:
    """Write the table as CSV, in UTF-8, sorted by path; raises OutputError."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for path_on_disk, *others in sorted(rows, key=lambda row: os.fsencode(str(row[0]))):
        row = (name_of(str(path_on_disk)), *others)
        table.writerow([table_cell(each) if isinstance(each, str) else each for each in row])
    write_bytes(path, text.getvalue().encode(), force=force)


def rows_of_run(
    images: Sequence[ImageFile], first: FirstPass, left_out: Sequence[Problem], passed_over: Sequence[Problem]
) -> Iterator[Row]:
    """Yield a row for each file that a run or a dry run saw: sent, not sent, unreadable, or no picture."""
    refused = {str(each.path): each.message for each in first.unreadable}
    no_pictures = {each.path: each.message for each in first.passed_over}
    for image in images:
        path = str(image.path)
        if image.name in first.work.done:
            yield (
                path,
                SENT,
                first.choice.reasons.get(image.name, WITH_ITS_GROUP),
                *first.work.facts(image.name),
            )
        elif path in refused:
            yield _bare(path, SKIPPED, refused[path])
        elif path in no_pictures:
            yield _bare(path, PASSED_OVER, no_pictures[path])
        else:
            yield _bare(path, KEPT, first.choice.reasons.get(image.name, ""))
    yield from _not_taken(left_out, passed_over)


def _not_taken(left_out: Sequence[Problem], passed_over: Sequence[Problem]) -> Iterator[Row]:
    yield from (_bare(each.path, SKIPPED, each.message) for each in left_out)
    yield from (_bare(each.path, PASSED_OVER, each.message) for each in passed_over)


def _bare(path: str, outcome: str, reason: str) -> Row:
    return (path, outcome, reason, *[""] * (len(COLUMNS) - 3))
