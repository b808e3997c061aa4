"""Runs experiments one after the other into an output folder, skipping those that are done."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mipp_cli import __version__
from mipp_cli.compute.cores import all_cores
from mipp_cli.compute.processes import Parallelism
from mipp_cli.errors import InterruptedWorkError, InvalidRequestError
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.plots.drawings import draw
from mipp_cli.experiments.plots.style import plots_possible
from mipp_cli.experiments.report.provenance import provenance
from mipp_cli.experiments.report.report import write_report
from mipp_cli.experiments.report.table_files import write_tables
from mipp_cli.experiments.report.workspace import Record, Workspace
from mipp_cli.report import Output

NO_PLOTS = "no plots were drawn: matplotlib is not installed; pip install 'mipp-cli[plots]' and run it again"
_PACKAGES = ("numpy", "pillow", "gmpy2", "h5py", "cryptography", "matplotlib", "onnxruntime")


@dataclass(frozen=True)
class Task:
    """An experiment to be run: its name, its options as they are recorded, and what runs it."""

    experiment: str
    options: Mapping[str, Any]
    run: Callable[[], Sequence[Result]]


@dataclass(frozen=True)
class Outcome:
    """What a run gave: results of the experiments asked for, files, and how many were done before."""

    results: tuple[Result, ...]
    outputs: tuple[Output, ...]
    skipped: int
    warnings: tuple[str, ...]


def run_tasks(
    tasks: Sequence[Task],
    dataset: Mapping[str, Any],
    folder: Path,
    *,
    force: bool,
    plots: bool,
    command: str = "",
) -> Outcome:
    """Run what is not done yet, keep each experiment as it ends, then write files and the report.

    ``dataset`` describes the data set, ``command`` is the command line, for the report. Raises OutputError,
    before anything is run, if the folder holds one of the experiments with other options;
    InterruptedWorkError if it was interrupted.
    """
    workspace = Workspace(folder, force=force)
    done = {
        task.experiment: workspace.finished(task.experiment, task.options, dataset["sha256"])
        for task in tasks
    }
    for task in tasks:
        if done[task.experiment] is None:
            workspace.forget(task.experiment)
            begin = time.perf_counter()
            try:
                results = tuple(task.run())
            except KeyboardInterrupt:
                finished = len(workspace.records())
                raise InterruptedWorkError(
                    f"interrupted in {task.experiment}; {finished} finished experiments are kept",
                    path=folder,
                    hint="run the same command again to go on",
                ) from None
            seconds = time.perf_counter() - begin
            environment = {**provenance(command), **describe_environment()}
            workspace.keep(Record(task.experiment, task.options, dataset, environment, seconds, results))
    return _write(workspace, tasks, sum(record is not None for record in done.values()), plots=plots)


def _write(workspace: Workspace, tasks: Sequence[Task], skipped: int, *, plots: bool) -> Outcome:
    """Write the files of all that the folder holds; what is returned is of the experiments asked for."""
    folder, records = workspace.folder, workspace.records()
    asked = {task.experiment for task in tasks}
    results = [result for record in records if record.experiment in asked for result in record.results]
    outputs = [Output(result.write_csv(folder), "observations") for result in results]
    outputs += [Output(path, "table") for result in results for path in write_tables(result, folder)]
    if plots and plots_possible():
        outputs += [Output(path, "plot") for path in draw(results, folder)]
    outputs += [Output(path, "report") for path in write_report(records, folder)]
    warnings = (NO_PLOTS,) if plots and not plots_possible() else ()
    return Outcome(tuple(results), tuple(outputs), skipped, warnings)


def describe_environment() -> dict[str, Any]:
    """Return versions and machine as JSON fields."""
    versions = {"mipp": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "processors allowed": all_cores(),
    }
    return {"versions": versions, "machine": machine}


def _processor() -> str:
    """Return the processor's name, from where Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def recorded(options: object) -> Any:
    """Return options as JSON fields: what they are compared by when a run continues.

    Where the work is done changes no figure and is left out; a file counts by its content.
    """
    if dataclasses.is_dataclass(options):
        fields = ((field.name, getattr(options, field.name)) for field in dataclasses.fields(options))
        return {name: recorded(value) for name, value in fields if not isinstance(value, Parallelism)}
    if isinstance(options, Path):
        return {"file": options.name, "sha256": _digest(options)}
    if isinstance(options, list | tuple):
        return [recorded(each) for each in options]
    if isinstance(options, dict):
        return {name: recorded(value) for name, value in options.items()}
    return options


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequestError(
            f"cannot be read: {error.strerror}", path=path, hint="check the path and the rights"
        ) from error
