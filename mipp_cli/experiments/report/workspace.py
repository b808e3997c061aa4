"""The output folder: it stores finished experiments, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mipp_cli.errors import MalformedError, OutputError
from mipp_cli.experiments.base.result import Claim, Result
from mipp_cli.experiments.plots.drawings import drawing_names
from mipp_cli.experiments.report.table_files import table_names
from mipp_cli.files.atomic import write_bytes
from mipp_cli.files.folders import is_there

EXPERIMENTS = {
    "accuracy": "Accuracy (Fig. 3 and 4)",
    "positions": "Positions of similar images (Fig. 2)",
    "descriptors": "Descriptors compared",
    "timing": "Time (Fig. 5 to 8)",
    "storage": "Storage (Table 3)",
    "leakage": "What the cloud can infer (section 6.2)",
    "attack": "Recovering features from an upload",
}
"""Title of each experiment, in the order of the report."""

_DONE = "done"


@dataclass(frozen=True)
class Record:
    """A finished experiment: options, data set, environment, duration and results."""

    experiment: str
    options: Mapping[str, Any]
    dataset: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    results: tuple[Result, ...]

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Record:
        """Parse a record; raises KeyError, TypeError or the like if it is damaged."""
        results = tuple(
            Result(**{**each, "claims": [Claim(**claim) for claim in each["claims"]]})
            for each in fields["results"]
        )
        return cls(**{**fields, "results": results})


class Workspace:
    """An output folder with experiments on one data set."""

    def __init__(self, folder: Path, *, force: bool = False):
        """Create the folder, or open one with experiments; raises OutputError for any other."""
        self.folder, self._force, self._is_new = folder, force, not is_there(folder)
        try:
            if is_there(folder) and not (folder / _DONE).is_dir() and any(folder.iterdir()):
                raise OutputError(
                    "is not empty and contains no experiments", path=folder, hint="give a new folder with -o"
                )
            (folder / _DONE).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise OutputError(
                f"cannot be created: {reason}", path=folder, hint="give another folder with -o"
            ) from error

    def finished(self, experiment: str, options: Mapping[str, Any], dataset: str) -> Record | None:
        """Return the record of a finished experiment; None if it has to be run.

        Raises OutputError if it was run with other options, or the folder has another data set, unless
        forced.
        """
        if self._force:
            return None
        for record in self.records():
            if record.dataset["sha256"] != dataset and "attack" not in (record.experiment, experiment):
                raise OutputError(
                    f"contains experiments on another data set, {record.dataset['name']!r}",
                    path=self.folder,
                    hint="give another folder with -o, or replace them one by one with --force",
                )
            if record.experiment == experiment:
                changed = _changed(record.options, options)
                if changed:
                    raise OutputError(
                        f"contains {experiment} with other options: {changed}",
                        path=self.folder,
                        hint="give another folder with -o, or replace it with --force",
                    )
                return record
        return None

    def remove_if_empty(self) -> None:
        """Undo the creation of the folder if nothing was stored in it."""
        with suppress(OSError):  # it has content
            (self.folder / _DONE).rmdir()
            if self._is_new:
                self.folder.rmdir()

    def keep(self, record: Record) -> None:
        """Store a finished experiment; later runs skip it."""
        text = json.dumps(asdict(record), ensure_ascii=False)
        write_bytes(self.folder / _DONE / f"{record.experiment}.json", text.encode(), force=True)

    def forget(self, experiment: str) -> None:
        """Remove the record and the files of an earlier run of an experiment."""
        for record in self.records():
            if record.experiment == experiment:
                (self.folder / _DONE / f"{experiment}.json").unlink(missing_ok=True)
                for result in record.results:
                    for name in (f"{result.name}.csv", *table_names(result), *drawing_names(result)):
                        (self.folder / name).unlink(missing_ok=True)

    def records(self) -> list[Record]:
        """Return all records, in the order of the report."""
        found = []
        for experiment in EXPERIMENTS:
            path = self.folder / _DONE / f"{experiment}.json"
            if not is_there(path):
                continue
            try:
                found.append(Record.of(json.loads(path.read_bytes())))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                raise MalformedError(
                    "is damaged, or from another version",
                    path=path,
                    hint="delete this file to run the experiment again",
                ) from None
        return found


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the options that differ, as in `queries.seed 1 → 2`."""
    # by way of JSON, which makes lists of tuples
    old, new = (dict(_flat(json.loads(json.dumps(each)))) for each in (before, now))
    return ", ".join(
        f"{name} {_short(old.get(name))} → {_short(new.get(name))}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options nested in ``value`` under dotted names."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for number, each in enumerate(value):
            yield from _flat(each, f"{name}[{number}]")
    else:
        yield name, value


def _short(value: Any) -> str:
    text = "unset" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
