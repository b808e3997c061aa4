"""Results as small tables, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mipp_cli.experiments.accuracy.coarser import BITS, DIMENSIONS, FLOAT_BITS
from mipp_cli.experiments.accuracy.descriptors import DIFFERENCES
from mipp_cli.experiments.accuracy.descriptors import NAME as DESCRIPTORS
from mipp_cli.experiments.base.bootstrap import Interval
from mipp_cli.experiments.base.result import Observation, Result, distinct, where
from mipp_cli.experiments.leakage.co_selection import NAME as CO_SELECTION
from mipp_cli.experiments.leakage.groups.claims import (
    IMAGE,
    MORE_SEEN,
    QUERIES,
    READ,
    REPEATED,
    best,
    queries_of,
    setting_label,
    settings_of,
)
from mipp_cli.experiments.leakage.groups.claims import NAME as GROUPS
from mipp_cli.experiments.leakage.groups.images import SELECTIONS
from mipp_cli.experiments.leakage.groups.queries import EVERY, GOT, OWN
from mipp_cli.experiments.leakage.groups.watching import COSINE, EIGENVECTORS
from mipp_cli.report import in_columns

_MOST_ROWS = 40
_TERMINAL_COLUMNS = 120
# by the result's name: the keys of a row, the keys of a column, and the content of a cell
_PIVOTS: dict[str, tuple[Sequence[str], Sequence[str], Callable[[Observation], str]]] = {
    DESCRIPTORS: (("descriptor", "label"), ("measure",), lambda row: _interval(row, "mean")),
    BITS: (("descriptor", "measure"), ("bits",), lambda row: f"{row['mean']:.3f}"),
    DIMENSIONS: (("descriptor", "measure"), ("dimension",), lambda row: f"{row['mean']:.3f}"),
    "positions": (("range",), ("label",), lambda row: _interval(row, "mean")),
    CO_SELECTION: (("descriptor",), ("measure", "group_size"), lambda row: _interval(row, "share")),
}
_HEADERS = {"label": "distance"}
# columns of the table of groups: measure, attacker, and what it sees
_OF_GROUPS: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "image, cosine": (IMAGE, COSINE, (SELECTIONS,)),
    "image, eigenvectors": (IMAGE, EIGENVECTORS, (SELECTIONS,)),
    "with counts and sizes": (IMAGE, None, MORE_SEEN),
    "similar queries": (QUERIES, None, ()),
    "repeated": (REPEATED, None, ()),
    "guessed from images got": (READ, None, (GOT,)),
    "from every image": (READ, None, (EVERY,)),
    "from own queries": (READ, None, (OWN,)),
}


@dataclass(frozen=True)
class Table:
    """Column names and rows of text; ``numeric`` columns are right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool]

    def lines(self) -> list[str]:
        """Return the table as lines of text in columns, without intervals if these make it too wide."""
        right = {column for column, numeric in enumerate(self.numeric) if numeric}
        lines = in_columns((self.header, *self.rows), right)
        if len(lines[0]) <= _TERMINAL_COLUMNS:
            return lines
        means = [[cell.partition(" [")[0] for cell in row] for row in self.rows]
        return in_columns((self.header, *means), right)


def key_table(result: Result, *, most_rows: int = _MOST_ROWS) -> Table | None:
    """Return the key figures as a table; None if there are too many."""
    rows = result.observations
    if result.name == "accuracy":
        return _accuracy_table(rows)
    if result.name in _PIVOTS and rows:
        return _pivot(rows, *_PIVOTS[result.name])
    if result.name == DIFFERENCES and rows:
        return _difference_table(rows)
    if result.name == GROUPS and rows:
        return _group_table(rows)
    if not rows or len(rows) > most_rows:
        return None
    numeric = [all(isinstance(row[name], int | float | None) for row in rows) for name in rows[0]]
    texts = [[_text(value) for value in row.values()] for row in rows]
    return Table([name.replace("_", " ") for name in rows[0]], texts, numeric)


def _with_labels(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table(header, rows, [column > 0 for column in range(len(header))])


def _accuracy_table(rows: Sequence[Observation]) -> Table:
    """One row per method: each measure at the largest number returned, and precision at the smallest."""
    returned = sorted(distinct(rows, "returned"))
    columns = dict.fromkeys(
        [("precision", returned[0]), *((each, returned[-1]) for each in distinct(rows, "measure"))]
    )
    lines = []
    for label in distinct(rows, "label"):
        line = [label]
        for measure, count in columns:
            found = where(rows, label=label, measure=measure, returned=count)
            line.append("".join(Interval(row["mean"], row["low"], row["high"]).text for row in found))
        lines.append(line)
    return _with_labels(["method", *(f"{measure} at {count}" for measure, count in columns)], lines)


def _pivot(
    rows: Sequence[Observation],
    down: Sequence[str],
    across: Sequence[str],
    text: Callable[[Observation], str],
) -> Table:
    """One row per value of the columns ``down``, with one cell per value of the columns ``across``."""

    def key(row: Observation, names: Sequence[str]) -> tuple[Any, ...]:
        return tuple(row[name] for name in names)

    cells = {(key(row, down), key(row, across)): text(row) for row in rows}
    lines = dict.fromkeys(line for line, _ in cells)
    columns = list(dict.fromkeys(column for _, column in cells))
    if all(isinstance(each, int) for column in columns for each in column):
        columns.sort()
    texts = [[*map(_text, line), *(cells.get((line, column), "") for column in columns)] for line in lines]
    header = [_HEADERS.get(name, name) for name in down]
    header += [
        ", ".join(_head(*each) for each in zip(across, column, strict=True) if each[1] is not None)
        for column in columns
    ]
    return Table(header, texts, [False] * len(down) + [True] * len(columns))


def _head(name: str, value: Any) -> str:
    """Return the header of a column from its value, with a unit for numbers."""
    match name:
        case "bits":
            return "real numbers" if value == FLOAT_BITS else f"{value} bit{'s' if value > 1 else ''}"
        case "dimension":
            return f"l = {value}"
        case "group_size":
            return "no groups" if value == 1 else f"groups of {value}"
        case _:
            return str(value)


def _interval(row: Observation, mean: str) -> str:
    return Interval(row[mean], row["low"], row["high"]).text


def _difference_table(rows: Sequence[Observation]) -> Table:
    """One row per difference."""
    names = ("descriptor", "first", "second", "measure")
    lines = [[*(row[name] for name in names), _interval(row, "mean"), row["conclusion"]] for row in rows]
    return Table([*names, "first minus second", "conclusion"], lines, [False] * 4 + [True, False])


def _group_table(rows: Sequence[Observation]) -> Table:
    """One row per setting; each column is the better attacker at the most queries."""
    watched = max(queries_of(rows), default=0)
    lines = []
    for setting in settings_of(rows):
        line = [setting_label(setting)]
        for measure, attacker, seen in _OF_GROUPS.values():
            row = best(rows, measure, setting, watched, *seen, attacker=attacker)
            line.append("" if row is None else f"{row['share']:.3f}")
        lines.append(line)
    return _with_labels(["selections", *_OF_GROUPS], lines)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case int():
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        case _:
            return str(value)
