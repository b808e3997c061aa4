"""Results as small tables, for a terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mipp_cli.experiments.accuracy.measures import MEASURES
from mipp_cli.experiments.base.result import Observation, Result, Value
from mipp_cli.experiments.leakage import group_claims
from mipp_cli.report import in_columns

_MOST_ROWS = 40


@dataclass(frozen=True)
class Table:
    """Column names and rows of text; ``numeric`` says which columns are set to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]

    def lines(self) -> list[str]:
        """Return the table as lines of text in columns."""
        right = {column for column, numeric in enumerate(self.numeric) if numeric}
        return in_columns((self.header, *self.rows), right)


def key_table(result: Result, *, most_rows: int = _MOST_ROWS) -> Table | None:
    """Return the figures to look at first; None where there are too many to be a table."""
    if result.name == "accuracy":
        return _accuracy_table(result.observations)
    if result.name == group_claims.NAME and result.observations:
        header, rows = group_claims.group_table(result.observations)
        return Table(header, rows, (False, *(True for _ in header[1:])))
    if not result.observations or len(result.observations) > most_rows:
        return None
    header = tuple(result.observations[0])
    numeric = tuple(
        all(isinstance(row[name], int | float | None) for row in result.observations) for name in header
    )
    rows = tuple(tuple(_text(row[name]) for name in header) for row in result.observations)
    return Table(tuple(name.replace("_", " ") for name in header), rows, numeric)


def _accuracy_table(rows: Sequence[Observation]) -> Table:
    """One line a method: each measure at the most images returned, precision at the fewest too."""
    returned = sorted({int(row["returned"] or 0) for row in rows})
    cells = {
        (
            row["label"],
            row["measure"],
            row["returned"],
        ): f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        for row in rows
    }
    columns = list(dict.fromkeys([("precision", returned[0]), *((each, returned[-1]) for each in MEASURES)]))
    labels = dict.fromkeys(str(row["label"]) for row in rows)
    lines = tuple(
        (label, *(cells.get((label, measure, count), "") for measure, count in columns)) for label in labels
    )
    header = ("method", *(f"{measure} at {count}" for measure, count in columns))
    return Table(header, lines, (False, *(True for _ in columns)))


def _text(value: Value) -> str:
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
