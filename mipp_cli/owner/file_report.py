"""The file report of `owner encrypt`: a CSV table that accounts for every file seen."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mipp_cli.errors import ChangedImageError, InterruptedWorkError, MippError, Problem
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
    write_bytes(path, text.getvalue().encode(), force=force or is_file_report(path))


def is_file_report(path: Path) -> bool:
    """Return whether a file is such a table, which the next run may replace."""
    header = (",".join(COLUMNS) + "\n").encode()
    try:
        with path.open("rb") as file:
            return file.read(len(header)) == header
    except OSError:
        return False


@contextmanager
def reported(
    path: Path | None, rows: Callable[[MippError | None], Iterable[Row]], *, force: bool
) -> Iterator[None]:
    """Write the table, if one was requested, when the block has ended in whatever way.

    ``rows`` is called with the error of a block that failed or was interrupted.
    """
    if path is None:
        yield
        return
    try:
        yield
        write_file_report(path, rows(None), force=force)
    except (MippError, KeyboardInterrupt) as error:
        failed = error if isinstance(error, MippError) else InterruptedWorkError("interrupted")
        account = f"{path} lists what happened to each file"
        try:
            write_file_report(path, rows(failed), force=force)
        except MippError:
            raise error from error.__cause__  # it matters more
        failed.hint = f"{failed.hint}; {account}" if failed.hint else account
        raise failed from error.__cause__


def rows_of_run(
    images: Sequence[ImageFile],
    first: FirstPass,
    left_out: Sequence[Problem],
    passed_over: Sequence[Problem],
    failed: MippError | None = None,
) -> Iterator[Row]:
    """Yield a row for each file of a run or dry run: sent, not sent, unreadable, or passed over.

    If the run ``failed``, nothing was sent.
    """
    how = "was interrupted" if isinstance(failed, InterruptedWorkError) else "failed"
    changed = {failed.path: failed.message} if isinstance(failed, ChangedImageError) else {}
    to_send = {image.name for image in first.choice.sent} if failed else ()
    refused = {str(each.path): each.message for each in first.unreadable}
    no_pictures = {each.path: each.message for each in first.passed_over}
    for image in images:
        path = str(image.path)
        if image.name in first.work.done:
            reason = first.choice.reasons.get(image.name, WITH_ITS_GROUP)
            outcome = (KEPT, f"{reason}, but the run {how}") if failed else (SENT, reason)
            yield (path, *outcome, *first.work.facts(image.name))
        elif path in refused:
            yield _bare(path, SKIPPED, refused[path])
        elif path in no_pictures:
            yield _bare(path, PASSED_OVER, no_pictures[path])
        elif path in changed:
            yield _bare(path, KEPT, changed[path])
        else:
            reason = first.choice.reasons.get(image.name, "")
            yield _bare(path, KEPT, f"{reason}, but the run {how}" if image.name in to_send else reason)
    yield from _not_taken(left_out, passed_over)


def _not_taken(left_out: Sequence[Problem], passed_over: Sequence[Problem]) -> Iterator[Row]:
    yield from (_bare(each.path, SKIPPED, each.message) for each in left_out)
    yield from (_bare(each.path, PASSED_OVER, each.message) for each in passed_over)


def _bare(path: str, outcome: str, reason: str) -> Row:
    return (path, outcome, reason, *[""] * (len(COLUMNS) - 3))
