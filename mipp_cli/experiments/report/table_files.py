"""Key tables as files for a paper: CSV, and LaTeX that needs no package."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Final

from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.report.tables import Table, key_table
from mipp_cli.files.atomic import write_bytes
from mipp_cli.sanitize import table_cell

_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "[": "{[}",  # after a row a bracket would be read as a length
    "]": "{]}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "²": "$^2$",
    "·": r"$\cdot$",
    "√": r"$\surd$",
    "Σ": r"$\Sigma$",
    "→": r"$\to$",
    "…": r"\ldots{}",
    "\N{NO-BREAK SPACE}": "~",
    "\n": " ",
}
_ESCAPES: Final = str.maketrans(_SPECIAL)


def table_names(result: Result) -> list[str]:
    """Return the file names of a result's key table, whether or not it has one."""
    return [f"{result.name}-table.csv", f"{result.name}-table.tex"]


def write_tables(result: Result, folder: Path) -> list[Path]:
    """Write a result's key table as CSV and as LaTeX; return their paths, none if it has no key table.

    A result without notes is a plain list, for which no table is written.
    """
    table = key_table(result) if result.notes else None
    if table is None:
        return []
    paths = [folder / name for name in table_names(result)]
    for path, text in zip(paths, (as_csv(table), as_latex(table, result.title)), strict=True):
        write_bytes(path, text.encode(), force=True)
    return paths


def as_csv(table: Table) -> str:
    """Return a table as CSV, with cells as shown, and texts escaped against formulas."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(table_cell, table.header))
    for row in table.rows:
        # a number may begin with a minus
        cells = zip(row, table.numeric, strict=True)
        writer.writerow(cell if numeric else table_cell(cell) for cell, numeric in cells)
    return text.getvalue()


def as_latex(table: Table, title: str) -> str:
    """Return a table as a LaTeX tabular, with its title in a comment and numbers right-aligned."""
    columns = "".join("r" if right else "l" for right in table.numeric)
    head, *rows = (" & ".join(map(escaped, row)) + r" \\" for row in (table.header, *table.rows))
    comment = " ".join(title.split())
    body = "\n".join((rf"\begin{{tabular}}{{{columns}}}", r"\hline", head, r"\hline", *rows, r"\hline"))
    return f"% {comment}\n{body}\n\\end{{tabular}}\n"


def escaped(text: str) -> str:
    """Escape a text for LaTeX; mathematical symbols that plain LaTeX lacks become commands."""
    return text.translate(_ESCAPES)
