"""Experiments that take no time: results made up, and tasks that give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mipp_cli.experiments import suite
from mipp_cli.experiments.base.result import Claim, Result
from mipp_cli.experiments.suite import Task, run_tasks

DATASET = {"name": "stripes", "sha256": "a" * 64, "images": 3}
ACCURACY = Result(
    "accuracy",
    "Fig. 3 & 4",
    [
        {"method": method, "label": method.title(), "measure": measure, "returned": count,
         "mean": 0.5, "low": 0.25, "high": 0.75, "queries": 3}
        for method in ("euclidean", "chance")
        for measure in ("precision", "recall", "f1")
        for count in (1, 2)
    ],
    [Claim("Fig. 3", "10 % <lower>", "first\nsecond", "not & confirmed")],
    ["one note & another"],
)  # fmt: skip
STORAGE = Result("sizes", "Table 3", [{"what": "index", "bytes": 12345, "share": 0.25, "by": None}])


def task(experiment: str, result: Result, runs: list[str], options: dict[str, Any] | None = None) -> Task:
    """Make a task that gives a result, and notes in ``runs`` that it was run."""

    def run() -> list[Result]:
        runs.append(experiment)
        return [result]

    return Task(experiment, options or {"seed": 1}, run)


def run(folder: Path, tasks: Sequence[Task], **changes: Any) -> suite.Outcome:
    """Run tasks into a folder, without plots unless asked for."""
    return run_tasks(tasks, DATASET, folder, **{"force": False, "plots": False, **changes})
