"""How a command of experiments runs: the data set is described, tasks are run, and what came out is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mipp_cli.cli.experiment_options import (
    DataSource,
    Place,
    numbers,
)
from mipp_cli.cli.progress import progress_bar
from mipp_cli.report import Report

if TYPE_CHECKING:
    from mipp_cli.experiments.base.dataset import DataSet
    from mipp_cli.experiments.base.result import Result
    from mipp_cli.experiments.suite import Task

_RETURNED = click.option(
    "--returned", metavar="LIST", type=numbers, help="Numbers of images returned.  [default: 10,20,…,100]"
)
_CHECKED = "Images on which Sim over ciphertexts is checked to equal NewDis over plain codes."
_STORED_BITS = (1024, 2048, 3072)


def run_on(
    source: DataSource,
    place: Place,
    plan: Callable[[DataSet], Sequence[Task]],
    *,
    features: Path | None = None,
) -> Report:
    """Describe the data set, by ``features`` of one's own if there are any, and run what is planned on it."""
    from mipp_cli.experiments.base.dataset import describe_dataset, load_dataset

    dataset = load_dataset(
        source.folder,
        parallelism=place.parallelism,
        progress=progress_bar,
        collection_categories=source.categories,
        skip_unreadable=source.skip_unreadable,
        grey_bits=source.grey_bits,
        features_file=features,
    )
    skipped = [f"left out {each}" for each in dataset.skipped]
    described = describe_dataset(dataset)
    return carry_out(plan(dataset), described, place.folder(source.folder), place, skipped)


def carry_out(
    tasks: Sequence[Task],
    dataset: Mapping[str, Any],
    folder: Path,
    place: Place,
    warnings: Sequence[str] = (),
) -> Report:
    """Run tasks into the output folder, and say what was measured beside what the paper claims."""
    from mipp_cli.experiments.suite import run_tasks

    outcome = run_tasks(tasks, dataset, folder, force=place.force, plots=not place.no_plots)
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
    """Return the figures to look at first, and each claim of the paper with what was measured."""
    from mipp_cli.experiments.report.tables import key_table

    lines: list[str] = []
    for result in results:
        table = key_table(result, most_rows=12)
        if table is not None:
            lines += [result.title, *(f"  {line}" for line in table.lines()), ""]
        for claim in result.claims:
            measured = claim.measured.replace("\n", "\n              ")
            lines += [f"{claim.where}", f"  the paper:  {claim.claimed}", f"  measured:   {measured}", ""]
    return lines
