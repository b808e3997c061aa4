"""What an experiment gives back: observations, what the paper claims, and what was measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.errors import OutputError

Value = str | int | float | bool | None
Observation = Mapping[str, Value]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper beside what was measured, whatever it turned out to be.

    ``measured`` says it with its figures and intervals, in one line or several; ``where`` names the
    figure, table or section of the paper.
    """

    where: str
    claimed: str
    measured: str


@dataclass(frozen=True)
class Result:
    """One figure or table: every observation in long format, claims, and notes on how it was done.

    ``name`` names its files (NAME.csv, NAME.png); every observation has the same keys.
    """

    name: str
    title: str
    observations: Sequence[Observation]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()

    def write_csv(self, folder: Path) -> Path:
        """Write the observations to NAME.csv, one a line; raises OutputError."""
        path = folder / f"{self.name}.csv"
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, list(self.observations[0]) if self.observations else [])
                table.writeheader()
                table.writerows(self.observations)
        except OSError as error:
            raise OutputError(
                "cannot be written", path=path, hint="check the folder and its rights"
            ) from error
        return path
