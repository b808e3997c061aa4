"""Runs an experiment command: describes the pictures, runs the tasks, prints the results."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipp_cli.cli.experiment_options import DataSource, Place
from mipp_cli.names import as_called
from mipp_cli.report import Report

if TYPE_CHECKING:
    from mipp_cli.experiments.base.dataset import DataSet
    from mipp_cli.experiments.base.result import Result
    from mipp_cli.experiments.suite import Task


def run_on(source: DataSource, place: Place, plan: Callable[[DataSet], Sequence[Task]]) -> Report:
    """Describe the data set by a single descriptor, and run the planned tasks on it."""
    return run_on_all(source, place, lambda datasets: plan(datasets[0]))


def run_on_all(
    source: DataSource, place: Place, plan: Callable[[Sequence[DataSet]], Sequence[Task]]
) -> Report:
    """Describe the data set by every descriptor named, and run the planned tasks on all of them."""
    from mipp_cli.experiments.base.dataset import describe_dataset, load_datasets

    datasets = load_datasets(
        source.folder,
        source.descriptors,
        parallelism=place.parallelism,
        progress=place.progress,
        collection_categories=source.categories,
        skip_unreadable=source.skip_unreadable,
        device=source.device,
    )
    skipped = [f"left out {each}" for each in datasets[0].skipped]
    described = describe_dataset(datasets[0])
    return carry_out(plan(datasets), described, place.folder(source.folder), place, skipped)


def carry_out(
    tasks: Sequence[Task],
    dataset: Mapping[str, Any],
    folder: Path,
    place: Place,
    warnings: Sequence[str] = (),
) -> Report:
    """Run tasks into the output folder, and report measurements next to the paper's claims."""
    from mipp_cli.experiments.suite import run_tasks

    # the command line of an experiment contains no secret: experiments take no passphrases
    command = shlex.join(["mipp", *map(as_called, sys.argv[1:])])
    outcome = run_tasks(tasks, dataset, folder, force=place.force, plots=not place.no_plots, command=command)
    counts = {"experiments": len(tasks), "done before": outcome.skipped}
    if "images" in dataset:
        counts["images"] = dataset["images"]
    told = (*warnings, *outcome.warnings)
    details = {"results": _as_json(outcome.results)}
    return Report(outcome.outputs, counts, told, details=details, lines=_as_lines(outcome.results))


def _as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [
        {
            "name": result.name,
            "title": result.title,
            "claims": [vars(claim) for claim in result.claims],
            "notes": list(result.notes),
        }
        for result in results
    ]


def _as_lines(results: Sequence[Result]) -> list[str]:
    """Return the key figures, and each claim of the paper with what was measured."""
    from mipp_cli.experiments.report.tables import key_table

    lines: list[str] = []
    for result in results:
        table = key_table(result, most_rows=12)
        if table is not None:
            lines += [result.title, *(f"  {line}" for line in table.lines()), ""]
        for claim in result.claims:
            measured = claim.measured.replace("\n", "\n              ")
            lines += [f"{claim.where}", f"  the paper:  {claim.claimed}", f"  measured:   {measured}"]
            lines += [f"  conclusion: {claim.conclusion}", ""]
    return lines
