"""Runs experiments one by one into an output folder, skipping finished ones."""

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
from mipp_cli.errors import InterruptedWorkError, InvalidRequestError, MippError
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.plots.drawings import draw
from mipp_cli.experiments.plots.style import plots_possible
from mipp_cli.experiments.report.provenance import provenance
from mipp_cli.experiments.report.report import write_report
from mipp_cli.experiments.report.table_files import write_tables
from mipp_cli.experiments.report.workspace import Record, Workspace
from mipp_cli.report import Output

NO_PLOTS = "no plots were drawn, because matplotlib is not installed: pip install matplotlib, then run again"
_PACKAGES = ("numpy", "pillow", "gmpy2", "h5py", "cryptography", "matplotlib", "onnxruntime")


@dataclass(frozen=True)
class Task:
    """An experiment to run: its name, its recorded options, and the function that runs it."""

    experiment: str
    options: Mapping[str, Any]
    run: Callable[[], Sequence[Result]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: results of the experiments asked for, files, and how many were skipped."""

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
    """Run unfinished experiments, store each when it is finished, then write files and the report.

    ``dataset`` describes the data set, ``command`` is the command line, for the report. Raises OutputError,
    before anything is run, if the folder has one of the experiments with other options; InterruptedWorkError
    if it was interrupted.
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
                workspace.remove_if_empty()
                raise InterruptedWorkError(
                    f"interrupted in {task.experiment}; {_kept(workspace)}",
                    path=folder,
                    hint="run the same command again to resume",
                ) from None
            except MippError as error:
                workspace.remove_if_empty()
                if workspace.records():
                    hint = f"{_kept(workspace)} in {folder}: run the same command again to resume"
                    error.hint = f"{error.hint}; {hint}" if error.hint else hint
                raise
            seconds = time.perf_counter() - begin
            environment = {**provenance(command), **describe_environment()}
            workspace.keep(Record(task.experiment, task.options, dataset, environment, seconds, results))
    return _write(workspace, tasks, sum(record is not None for record in done.values()), plots=plots)


def _kept(workspace: Workspace) -> str:
    return f"{len(workspace.records())} finished experiments are kept"


def _write(workspace: Workspace, tasks: Sequence[Task], skipped: int, *, plots: bool) -> Outcome:
    """Write the report on all experiments in the folder, and the files of those asked for; return these."""
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
    """Return the processor's name from /proc/cpuinfo, or else from Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def recorded(options: object) -> Any:
    """Return options as JSON fields, to compare them when a run is resumed.

    Parallelism does not affect results and is left out; a file is represented by its digest.
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
            f"cannot be read: {error.strerror}", path=path, hint="check the path and its permissions"
        ) from error
