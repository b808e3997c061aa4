"""The experiments as tasks: their recorded options, and the functions that run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mipp_cli.compute.processes import Parallelism
from mipp_cli.experiments.accuracy.accuracy import AccuracyOptions, run_accuracy
from mipp_cli.experiments.accuracy.descriptors import DescriptorsOptions, run_descriptors
from mipp_cli.experiments.accuracy.equality_check import EqualityOptions, check_equality
from mipp_cli.experiments.accuracy.exact_check import check_descriptors
from mipp_cli.experiments.accuracy.positions import PositionsOptions, run_positions
from mipp_cli.experiments.attack.attack import AttackOptions, attack_every_scheme, run_attack
from mipp_cli.experiments.base.dataset import DataSet, describe_descriptor
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.base.trial_deployment import SampleOptions, SchemeSetting
from mipp_cli.experiments.cost.storage import run_storage
from mipp_cli.experiments.cost.timing import TimingOptions, run_timing
from mipp_cli.experiments.leakage.co_selection import CoSelectionOptions, measure_co_selection
from mipp_cli.experiments.leakage.leakage import LeakageOptions, run_leakage
from mipp_cli.experiments.leakage.linking import LinkTrial
from mipp_cli.experiments.suite import Task, recorded
from mipp_cli.progress import Progress

_ATTACKED_CODES: Final = 800

Results = Sequence[Result]


def _task(experiment: str, dataset: DataSet, options: Any, run: Callable[[], Results]) -> Task:
    """Make a task on one data set; its descriptor is recorded with the options, and described in a note."""

    def told() -> Results:
        first, *others = run()
        about = [dataset.described.about] if dataset.described.about else []
        return [replace(first, notes=[*first.notes, *about]), *others]

    return Task(experiment, {**recorded(options), "descriptor": describe_descriptor(dataset)}, told)


def accuracy_task(
    dataset: DataSet, options: AccuracyOptions, check: EqualityOptions, progress: Progress
) -> Task:
    """Fig. 3 and 4, and the check that justifies measuring them on plaintext codes."""

    def run() -> list[Result]:
        return [*run_accuracy(dataset, options, progress), check_equality(dataset, check, progress)]

    return _task("accuracy", dataset, {**recorded(options), "check": recorded(check)}, run)


def positions_task(dataset: DataSet, options: PositionsOptions, progress: Progress) -> Task:
    """Fig. 2."""
    return _task("positions", dataset, options, lambda: run_positions(dataset, options, progress))


def descriptors_task(
    datasets: Sequence[DataSet],
    options: DescriptorsOptions,
    check: EqualityOptions,
    watched: CoSelectionOptions,
    progress: Progress,
) -> Task:
    """The comparison of descriptors, what co-selection reveals with each, and the checks on encrypted
    samples.
    """
    asked = {
        **recorded(options),
        "check": recorded(check),
        "co-selection": recorded(watched),
        "descriptors": [describe_descriptor(dataset) for dataset in datasets],
    }

    def run() -> list[Result]:
        return [
            *run_descriptors(datasets, options, progress),
            measure_co_selection(datasets, watched, progress),
            *check_descriptors(datasets, check, progress),
        ]

    return Task("descriptors", asked, run)


def timing_task(dataset: DataSet, options: TimingOptions, progress: Progress) -> Task:
    """Fig. 5 to 8; the number of processes is recorded, since it affects the results."""
    parallelism = {"jobs": options.parallelism.jobs, "scheduler": options.parallelism.scheduler}
    return _task(
        "timing",
        dataset,
        {**recorded(options), **parallelism},
        lambda: run_timing(dataset, options, progress),
    )


def storage_task(dataset: DataSet, options: SampleOptions, progress: Progress) -> Task:
    """Table 3."""
    return _task("storage", dataset, options, lambda: run_storage(dataset, options, progress))


def leakage_task(
    dataset: DataSet, seed: int, modulus_bits: int, parallelism: Parallelism, progress: Progress
) -> Task:
    """What the cloud can infer; two owners share as many pictures as the data set allows."""
    shared = max(1, min(LinkTrial().shared, len(dataset) // 3))
    links = LinkTrial(shared, SchemeSetting("dcr", modulus_bits))
    options = LeakageOptions(seed=seed, links=links, parallelism=parallelism)
    return _task("leakage", dataset, options, lambda: run_leakage(dataset, options, progress))


def attack_trial_task(dataset: DataSet, sample: SampleOptions, sheet: Path, progress: Progress) -> Task:
    """The attack on uploads made for it; ``sheet`` is the path of the pictures of the two-time pad.

    Fewer images are attacked if features are long: the time depends on the number of codes.
    """
    images = max(2, min(sample.images, _ATTACKED_CODES // dataset.described.descriptor.l))
    fewer = replace(sample, images=images)
    return _task("attack", dataset, fewer, lambda: attack_every_scheme(dataset, fewer, sheet, progress))


def attack_task(upload: Path, options: AttackOptions, progress: Progress) -> Task:
    """The attack on a given upload."""
    asked: dict[str, Any] = {
        "upload": recorded(upload),
        "kmc": recorded(options.kmc),
        "images": None if options.images is None else str(options.images),
        "limit": options.limit,
    }
    return Task("attack", asked, lambda: [run_attack(upload, options, progress)])
