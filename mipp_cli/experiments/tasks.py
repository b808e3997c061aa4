"""Each experiment as a task: its options as they are recorded, and what runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mipp_cli.compute.processes import Parallelism
from mipp_cli.experiments.accuracy.accuracy import AccuracyOptions, run_accuracy
from mipp_cli.experiments.accuracy.equality_check import EqualityOptions, check_equality
from mipp_cli.experiments.accuracy.positions import PositionsOptions, run_positions
from mipp_cli.experiments.attack.attack import AttackOptions, attack_every_scheme, run_attack
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.base.trial_deployment import SampleOptions, SchemeSetting
from mipp_cli.experiments.cost.storage import run_storage
from mipp_cli.experiments.cost.timing import TimingOptions, run_timing
from mipp_cli.experiments.leakage.leakage import LeakageOptions, run_leakage
from mipp_cli.experiments.leakage.linking import LinkTrial
from mipp_cli.experiments.suite import Task, recorded
from mipp_cli.progress import Progress


def accuracy_task(
    dataset: DataSet, options: AccuracyOptions, check: EqualityOptions, progress: Progress
) -> Task:
    """Fig. 3 and 4, and the check that allows to measure them on plain codes."""

    def run() -> list[Result]:
        return [*run_accuracy(dataset, options, progress), check_equality(dataset, check, progress)]

    return Task("accuracy", {**recorded(options), "check": recorded(check)}, run)


def positions_task(dataset: DataSet, options: PositionsOptions, progress: Progress) -> Task:
    """Fig. 2."""
    return Task("positions", recorded(options), lambda: run_positions(dataset, options, progress))


def timing_task(dataset: DataSet, options: TimingOptions, progress: Progress) -> Task:
    """Fig. 5 to 8; how many processes work is part of what is measured."""
    parallelism = {"jobs": options.parallelism.jobs, "scheduler": options.parallelism.scheduler}
    return Task(
        "timing", {**recorded(options), **parallelism}, lambda: run_timing(dataset, options, progress)
    )


def storage_task(dataset: DataSet, options: SampleOptions, progress: Progress) -> Task:
    """Table 3."""
    return Task("storage", recorded(options), lambda: run_storage(dataset, options, progress))


def leakage_task(
    dataset: DataSet, seed: int, modulus_bits: int, parallelism: Parallelism, progress: Progress
) -> Task:
    """What the cloud can work out; two owners share as many pictures as the data set has for them."""
    shared = max(1, min(LinkTrial().shared, len(dataset) // 3))
    links = LinkTrial(shared, SchemeSetting("dcr", modulus_bits))
    options = LeakageOptions(seed=seed, links=links, parallelism=parallelism)
    return Task("leakage", recorded(options), lambda: run_leakage(dataset, options, progress))


def attack_trial_task(dataset: DataSet, sample: SampleOptions, sheet: Path, progress: Progress) -> Task:
    """The attack on uploads made for it; ``sheet`` is where the pictures of the two-time pad go."""
    return Task("attack", recorded(sample), lambda: attack_every_scheme(dataset, sample, sheet, progress))


def attack_task(upload: Path, options: AttackOptions, progress: Progress) -> Task:
    """The attack on an upload that somebody made."""
    asked: dict[str, Any] = {
        "upload": recorded(upload),
        "kmc": recorded(options.kmc),
        "images": None if options.images is None else str(options.images),
        "limit": options.limit,
    }
    return Task("attack", asked, lambda: [run_attack(upload, options, progress)])
