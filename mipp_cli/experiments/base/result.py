"""The results of an experiment: observations, and the paper's claims next to the measurements."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import OutputError
from mipp_cli.sanitize import table_cell

Observation = Mapping[str, Any]
"""A row of a CSV file: texts, numbers, booleans, or None."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and the measurement, whatever it turned out to be.

    ``measured`` has figures and intervals, in one line or several; ``where`` names the figure, table or
    section of the paper; ``conclusion`` is what follows, in a few words.
    """

    where: str
    claimed: str
    measured: str
    conclusion: str


@dataclass(frozen=True)
class Result:
    """One figure or table: all observations in long format, claims, and notes on the method.

    ``name`` is the name of its files (NAME.csv, NAME.png). All observations have the same keys.
    """

    name: str
    title: str
    observations: Sequence[Observation]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()

    def write_csv(self, folder: Path) -> Path:
        """Write the observations to NAME.csv, one per line; raises OutputError.

        Texts may be file names from others, so they are escaped against spreadsheet formulas.
        """
        path = folder / f"{self.name}.csv"
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, list(self.observations[0]) if self.observations else [])
                table.writeheader()
                table.writerows(map(_cells, self.observations))
        except OSError as error:
            raise OutputError(
                "cannot be written", path=path, hint="check the folder and its permissions"
            ) from error
        return path


def _cells(row: Observation) -> dict[str, Any]:
    return {name: table_cell(value) if isinstance(value, str) else value for name, value in row.items()}


def table(**columns: object) -> list[Observation]:
    """Return observations from columns; anything but a list, tuple, range or array is repeated in each."""
    lists = {
        name: each.tolist() if isinstance(each, np.ndarray) else each
        for name, each in columns.items()
        if isinstance(each, np.ndarray | list | tuple | range)
    }
    rows = zip(*lists.values(), strict=True)
    return [{**columns, **dict(zip(lists, row, strict=True))} for row in rows]


def where(observations: Iterable[Observation], **wanted: object) -> list[Observation]:
    """Return the observations that have these values."""
    return [row for row in observations if all(row[name] == value for name, value in wanted.items())]


def column(observations: Iterable[Observation], name: str) -> NDArray[np.float64]:
    """Return the numbers in a column of observations, shape (n,)."""
    return np.array([row[name] for row in observations], dtype=np.float64)


def distinct(observations: Iterable[Observation], name: str) -> list[Any]:
    """Return the distinct values of a column, in order of appearance."""
    return list(dict.fromkeys(row[name] for row in observations))
