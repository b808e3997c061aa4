"""What an inspection gives: named values, and a table whose rows are made when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Fields = list[tuple[str, str]]
Row = Sequence[str | int | float]


@dataclass(frozen=True)
class Table:
    """The main table of what was inspected: column names, and rows made when asked for."""

    columns: tuple[str, ...]
    rows: Callable[[], Iterable[Row]]


Found = tuple[Fields, Table | None]
