"""The output folder: what each experiment gave is kept, so that an interrupted run continues."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mipp_cli.errors import MalformedError, OutputError
from mipp_cli.experiments.base.result import Claim, Result
from mipp_cli.experiments.plots.drawings import drawing_names
from mipp_cli.experiments.report.table_files import table_names
from mipp_cli.files.atomic import write_bytes

EXPERIMENTS = {
    "accuracy": "Accuracy (Fig. 3 and 4)",
    "positions": "Positions of similar images (Fig. 2)",
    "descriptors": "Descriptors compared",
    "timing": "Time (Fig. 5 to 8)",
    "storage": "Storage (Table 3)",
    "leakage": "What the cloud can work out (section 6.2)",
    "attack": "Reading features out of an upload",
}
"""What each is called, in the order of a report."""

_DONE = "done"


@dataclass(frozen=True)
class Record:
    """A finished experiment: what was asked, of which data set, on which machine, and what it gave."""

    experiment: str
    options: Mapping[str, Any]
    dataset: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    results: tuple[Result, ...]

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Record:
        """Make a record of its fields; KeyError, TypeError or the like if they are damaged."""
        results = tuple(
            Result(**{**each, "claims": [Claim(**claim) for claim in each["claims"]]})
            for each in fields["results"]
        )
        return cls(**{**fields, "results": results})


class Workspace:
    """An output folder of experiments on one data set."""

    def __init__(self, folder: Path, *, force: bool = False):
        """Make the folder, or take one that holds experiments; raises OutputError for any other."""
        self.folder, self._force = folder, force
        try:
            if folder.exists() and not (folder / _DONE).is_dir() and any(folder.iterdir()):
                raise OutputError(
                    "is not empty, and holds no experiments", path=folder, hint="give a new folder"
                )
            (folder / _DONE).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise OutputError(f"cannot be made: {reason}", path=folder, hint="give another folder") from error

    def finished(self, experiment: str, options: Mapping[str, Any], dataset: str) -> Record | None:
        """Return what is kept of an experiment; None if it is to be run.

        Raises OutputError if it was run with other options, or another data set was, unless forced.
        """
        if self._force:
            return None
        for record in self.records():
            if record.dataset["sha256"] != dataset and "attack" not in (record.experiment, experiment):
                raise OutputError(
                    f"holds experiments on another data set, {record.dataset['name']!r}",
                    path=self.folder,
                    hint="give another folder, or --force to replace them one by one",
                )
            if record.experiment == experiment:
                changed = _changed(record.options, options)
                if changed:
                    raise OutputError(
                        f"holds {experiment} with other options: {changed}",
                        path=self.folder,
                        hint="give another folder, or --force to replace it",
                    )
                return record
        return None

    def keep(self, record: Record) -> None:
        """Keep a finished experiment; from now on a run that continues skips it."""
        text = json.dumps(asdict(record), ensure_ascii=False)
        write_bytes(self.folder / _DONE / f"{record.experiment}.json", text.encode(), force=True)

    def forget(self, experiment: str) -> None:
        """Remove what earlier options of an experiment left: its record, and its files."""
        for record in self.records():
            if record.experiment == experiment:
                (self.folder / _DONE / f"{experiment}.json").unlink(missing_ok=True)
                for result in record.results:
                    for name in (f"{result.name}.csv", *table_names(result), *drawing_names(result)):
                        (self.folder / name).unlink(missing_ok=True)

    def records(self) -> list[Record]:
        """Return all that is kept, in the order of a report."""
        found = []
        for experiment in EXPERIMENTS:
            path = self.folder / _DONE / f"{experiment}.json"
            if not path.exists():
                continue
            try:
                found.append(Record.of(json.loads(path.read_bytes())))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                raise MalformedError(
                    "is damaged, or of another version",
                    path=path,
                    hint="remove it: the experiment is then run again",
                ) from None
        return found


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the options that differ, as in `seed 1 → 2`."""
    # as JSON has them: tuples and lists are the same there
    old, new = (json.loads(json.dumps(each)) for each in (before, now))
    return ", ".join(
        f"{name} {_short(old.get(name))} → {_short(new.get(name))}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
