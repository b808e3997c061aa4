"""Output of commands: reports and errors, as text and (``--json``) as JSON."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TextIO

import click

from mipp_cli.errors import MippError
from mipp_cli.names import name_of
from mipp_cli.sanitize import decoded, printable, table_cell

if TYPE_CHECKING:
    from pathlib import Path

    from mipp_cli.report import Report

_HINTS = {
    3: "the file is corrupted or forged: ask its sender for it again",
    4: "ask the owner, the KMC or the cloud to enrol or authorise the party named here",
}


def say(line: str = "", *, err: bool = False) -> None:
    """Print a line in the encoding of its stream; click itself would write UTF-8 where that is ASCII."""
    click.echo(line, file=sys.stderr if err else sys.stdout)


def report_error(error: MippError, *, as_json: bool, command: str = "mipp") -> int:
    """Print what is wrong, where, and what to do; return the exit code."""
    hint = error.hint or _HINTS.get(error.exit_code, f"see {command} --help")
    if as_json:
        fields: dict[str, Any] = {
            "class": type(error).__name__,
            "code": error.exit_code,
            "path": None if error.path is None else name_of(error.path),
            "message": decoded(error.message),
            "hint": decoded(hint),
        }
        if error.problems:
            fields["problems"] = [
                {"path": name_of(problem.path), "message": decoded(problem.message)}
                for problem in error.problems
            ]
        _tell(json.dumps({"error": fields}), sys.stdout)
    for problem in error.problems:
        _tell(f"{error.problem_word}: {printable(f'{name_of(problem.path)}: {problem.message}')}", sys.stderr)
    place = f"{name_of(error.path)}: " if error.path is not None else ""
    _tell(f"error: {printable(place + error.message)}", sys.stderr)
    _tell(f"hint: {printable(hint)}", sys.stderr)
    return error.exit_code


def _tell(text: str, stream: TextIO) -> None:
    """Print a line; a closed stream is no error, because the exit code still tells."""
    try:
        click.echo(text, file=stream)
    except OSError:
        forget(stream)


@contextmanager
def _naming_output() -> Iterator[None]:
    """Name standard output in errors raised in the block; the system does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def forget(stream: TextIO) -> None:
    """Redirect a stream to the null device, so that the interpreter does not fail again at exit."""
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 -- not a file of ours
        os.dup2(nothing.fileno(), stream.fileno())


@_naming_output()
def report_success(command: str, report: Report, *, as_json: bool, seconds: float) -> None:
    """Print a report: one JSON object, or its lines, outputs, counts, notes and warnings."""
    if as_json:
        # in chunks, because a list may be Streamed
        sys.stdout.writelines(json.JSONEncoder().iterencode(_fields(command, report, seconds)))
        say()
        return
    for line in report.lines:
        say(line)
    for path, fingerprint in report.fingerprints.items():
        say(f"fingerprint of {printable(name_of(path))}: {fingerprint}")
    for output in report.outputs:
        size = f", {size_text(output.path.stat().st_size)}" if output.path.is_file() else ""
        say(f"wrote {printable(name_of(output.path))} ({output.kind}{size})")
    counts = ", ".join(f"{name}: {count}" for name, count in report.counts.items() if count)
    if counts:
        say(counts)
    for note in report.notes:
        say(f"note: {printable(note)}")
    for warning in report.warnings:
        say(f"warning: {printable(warning)}", err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | int | float | None]]) -> None:
    """Print rows as CSV; texts are escaped against terminal sequences and spreadsheet formulas."""
    rows = iter(rows)
    first = list(islice(rows, 1))  # an error in the first row is raised before any output
    table = csv.writer(sys.stdout, lineterminator="\n")
    for row in chain([columns], first, rows):
        with _naming_output():
            table.writerow([table_cell(cell) if isinstance(cell, str) else cell for cell in row])


def _fields(command: str, report: Report, seconds: float) -> dict[str, Any]:
    return {
        "command": command,
        "outputs": [
            {"path": name_of(output.path), "kind": output.kind, **_digest_and_size(output.path)}
            for output in report.outputs
        ],
        "counts": dict(report.counts),
        "seconds": round(seconds, 3),
        "warnings": [*map(decoded, report.warnings)],
        "fingerprints": {name_of(path): each for path, each in report.fingerprints.items()},
        "notes": [*map(decoded, report.notes)],
        **report.details,
    }


def _digest_and_size(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {
            "sha256": None,
            "bytes": sum(each.stat().st_size for each in path.rglob("*") if each.is_file()),
        }
    import hashlib

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def size_text(count: int) -> str:
    """Format a number of bytes: 892.5 kB."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
