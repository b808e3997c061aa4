"""Commands that reproduce the paper's figures and tables on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipp_cli.cli.experiment_options import (
    SEED,
    DataSource,
    Place,
    at_least_one,
    comparison_options,
    dataset_options,
    datasets_options,
    numbers,
    place_options,
    query_options,
    sample_option,
    scheme_options,
    timing_options,
)
from mipp_cli.cli.experiment_run import carry_out, run_on, run_on_all
from mipp_cli.cli.options import PATH
from mipp_cli.report import Report

if TYPE_CHECKING:
    from mipp_cli.experiments.accuracy.comparison import ComparisonOptions
    from mipp_cli.experiments.base.dataset import DataSet
    from mipp_cli.experiments.base.sampling import QueryChoice
    from mipp_cli.experiments.suite import Task

_RETURNED = click.option(
    "--returned", metavar="LIST", type=numbers, help="Numbers of images returned.  [default: 10,20,…,100]"
)
_CHECKED = "Images to encrypt, to check that Sim on ciphertexts equals NewDis on codes."
_STORED_BITS = (1024, 2048, 3072)


@click.group()
def experiment() -> None:
    """Reproduce the paper's figures and tables on your own data set.

    DATASET is a folder with one subfolder of images per category. Every command writes CSV files, plots,
    report.html and report.json into one folder. Run it again to resume an interrupted run.
    """


@experiment.command()
@dataset_options
@comparison_options
@_RETURNED
@scheme_options("dcr,mask", "3072")
@sample_option(50, _CHECKED)
@place_options
def accuracy(
    source: DataSource,
    place: Place,
    compared: ComparisonOptions,
    returned: tuple[int, ...] | None,
    schemes: tuple[str, ...],
    modulus_bits: tuple[int, ...],
    sample: int,
) -> Report:
    """Measure precision, recall and F1 by number of images returned (Fig. 3 and 4)."""
    from mipp_cli.experiments.accuracy.accuracy import AccuracyOptions
    from mipp_cli.experiments.accuracy.equality_check import EqualityOptions
    from mipp_cli.experiments.base.trial_deployment import scheme_settings
    from mipp_cli.experiments.tasks import accuracy_task

    options = AccuracyOptions(compared.queries, compared.candidates, compared.rankings, returned)
    settings = tuple(scheme_settings(schemes, modulus_bits))
    check = EqualityOptions(settings, sample, compared.queries.seed, place.parallelism)
    return run_on(source, place, lambda dataset: [accuracy_task(dataset, options, check, place.progress)])


@experiment.command()
@dataset_options
@comparison_options
@click.option("--returned", metavar="N", type=int, help="The number of images returned.  [default: 100]")
@place_options
def positions(source: DataSource, place: Place, compared: ComparisonOptions, returned: int | None) -> Report:
    """Measure the ranks of truly similar images among those returned (Fig. 2)."""
    from mipp_cli.experiments.accuracy.positions import PositionsOptions
    from mipp_cli.experiments.tasks import positions_task

    options = PositionsOptions(compared.queries, compared.candidates, compared.rankings, returned)
    return run_on(source, place, lambda dataset: [positions_task(dataset, options, place.progress)])


@experiment.command()
@datasets_options
@query_options
@at_least_one("--returned", "The number k of images returned, for precision at k.", default=10)
@at_least_one("--watched", "Queries whose selections the cloud observes.", default=2000)
@scheme_options("dcr,mask", "3072")
@sample_option(50, _CHECKED)
@place_options
def descriptors(
    source: DataSource,
    place: Place,
    queried: QueryChoice,
    returned: int,
    watched: int,
    schemes: tuple[str, ...],
    modulus_bits: tuple[int, ...],
    sample: int,
) -> Report:
    """Compare descriptors: how well each ranks, and what selections reveal.

    Each descriptor ranks by its real numbers before quantisation, by Eq. 7, by the KMC's own code and by the
    cloud's Sim, which is checked on an encrypted sample. The measures are precision, recall, F1, nDCG, mAP
    and R-precision. They are also measured with fewer bits and with fewer numbers.
    """
    from mipp_cli.experiments.accuracy.descriptors import DescriptorsOptions
    from mipp_cli.experiments.accuracy.equality_check import EqualityOptions
    from mipp_cli.experiments.base.trial_deployment import scheme_settings
    from mipp_cli.experiments.leakage.co_selection import CoSelectionOptions
    from mipp_cli.experiments.tasks import descriptors_task

    options, seed = DescriptorsOptions(queried, returned), queried.seed
    settings = tuple(scheme_settings(schemes, modulus_bits))
    check = EqualityOptions(settings, sample, seed, place.parallelism)
    watch = CoSelectionOptions(watched, seed)
    return run_on_all(
        source, place, lambda datasets: [descriptors_task(datasets, options, check, watch, place.progress)]
    )


@experiment.command()
@dataset_options
@timing_options
@at_least_one("--candidates", "Matches that each query asks for.", default=100)
@scheme_options("dcr,mask", "3072")
@SEED
@place_options
def timing(
    source: DataSource,
    place: Place,
    sizes: tuple[int, ...],
    repeats: int,
    candidates: int,
    schemes: tuple[str, ...],
    modulus_bits: tuple[int, ...],
    seed: int,
) -> Report:
    """Measure the times of index construction and of retrieval (Fig. 5 to 8).

    Retrieval is measured on plaintext, on ciphertexts without the index, and with it.
    """
    from mipp_cli.experiments.base.trial_deployment import scheme_settings
    from mipp_cli.experiments.cost.timing import TimingOptions
    from mipp_cli.experiments.tasks import timing_task

    settings = tuple(scheme_settings(schemes, modulus_bits))
    options = TimingOptions(settings, sizes, repeats, candidates, seed, place.parallelism)
    return run_on(source, place, lambda dataset: [timing_task(dataset, options, place.progress)])


@experiment.command()
@dataset_options
@scheme_options("dcr,mask,paper", ",".join(map(str, _STORED_BITS)))
@sample_option(10, "Images to encrypt under each scheme and modulus.")
@SEED
@place_options
def storage(
    source: DataSource,
    place: Place,
    schemes: tuple[str, ...],
    modulus_bits: tuple[int, ...],
    sample: int,
    seed: int,
) -> Report:
    """Measure the size of features and index, per scheme and modulus (Table 3)."""
    from mipp_cli.experiments.base.trial_deployment import SampleOptions, scheme_settings
    from mipp_cli.experiments.tasks import storage_task

    settings = tuple(scheme_settings(schemes, modulus_bits))
    options = SampleOptions(settings, sample, seed, place.parallelism)
    return run_on(source, place, lambda dataset: [storage_task(dataset, options, place.progress)])


@experiment.command()
@dataset_options
@SEED
@place_options
def leakage(source: DataSource, place: Place, seed: int) -> Report:
    """Measure what an honest-but-curious cloud can infer (section 6.2).

    In the sum schemes it sees two sums of every image; in scheme exact it observes the groups of images that
    the KMC selects.
    """
    from mipp_cli.experiments.tasks import leakage_task
    from mipp_cli.scheme.parameters import DEFAULT_MODULUS_BITS

    return run_on(
        source,
        place,
        lambda dataset: [
            leakage_task(dataset, seed, DEFAULT_MODULUS_BITS, place.parallelism, place.progress)
        ],
    )


@experiment.command()
@click.argument("upload", metavar="UPLOAD", type=PATH)
@click.option("--kmc", metavar="kmc.pub", type=PATH, required=True, help="The deployment's public file.")
@click.option(
    "--images", metavar="DIR", type=PATH, help="The folder of the original images, to compare with."
)
@at_least_one("--limit", "Images to attack.", default=10)
@place_options
def attack(upload: Path, kmc: Path, images: Path | None, limit: int, place: Place) -> Report:
    """Recover the features in UPLOAD without a key (scheme paper is broken).

    The attack must succeed against scheme paper, and fail against the others.
    """
    from mipp_cli.experiments.attack.attack import AttackOptions
    from mipp_cli.experiments.plots.drawings import PAD_SHEET
    from mipp_cli.experiments.suite import recorded
    from mipp_cli.experiments.tasks import attack_task

    folder = place.folder(upload)
    sheet = None if images is None else folder / PAD_SHEET
    task = attack_task(upload, AttackOptions(kmc, images, limit, sheet, place.parallelism), place.progress)
    file = recorded(upload)
    return carry_out([task], {"name": file["file"], "sha256": file["sha256"]}, folder, place)


@experiment.command(name="all")
@dataset_options
@comparison_options
@_RETURNED
@timing_options
@scheme_options("dcr,mask", "3072")
@sample_option(50, _CHECKED)
@place_options
def every(
    source: DataSource,
    place: Place,
    compared: ComparisonOptions,
    returned: tuple[int, ...] | None,
    sizes: tuple[int, ...],
    repeats: int,
    schemes: tuple[str, ...],
    modulus_bits: tuple[int, ...],
    sample: int,
) -> Report:
    """Run all experiments except descriptors, and write one report.

    Storage is also measured under scheme paper and with moduli of 1024 and 2048 bits. The attack is run
    against every scheme.
    """
    from mipp_cli.experiments import tasks
    from mipp_cli.experiments.accuracy.accuracy import AccuracyOptions
    from mipp_cli.experiments.accuracy.equality_check import EqualityOptions
    from mipp_cli.experiments.accuracy.positions import PositionsOptions
    from mipp_cli.experiments.attack.attack import ATTACKED
    from mipp_cli.experiments.base.trial_deployment import SampleOptions, scheme_settings
    from mipp_cli.experiments.cost.timing import TimingOptions
    from mipp_cli.experiments.plots.drawings import PAD_SHEET
    from mipp_cli.scheme.parameters import SUM_SCHEMES

    seed, parallelism = compared.queries.seed, place.parallelism
    asked = max(compared.candidates or [100])
    measured = AccuracyOptions(compared.queries, compared.candidates, compared.rankings, returned)
    settings = tuple(scheme_settings(schemes, modulus_bits))
    check = EqualityOptions(settings, sample, seed, parallelism)
    spread = PositionsOptions(compared.queries, compared.candidates, compared.rankings)
    timed = TimingOptions(settings, sizes, repeats, asked, seed, parallelism)
    sizes_stored = tuple(sorted({*_STORED_BITS, *modulus_bits}))
    stored = SampleOptions(
        tuple(scheme_settings(SUM_SCHEMES, sizes_stored)), seed=seed, parallelism=parallelism
    )
    broken = tuple(scheme_settings(ATTACKED, modulus_bits[-1:]))
    attacked = SampleOptions(broken, seed=seed, parallelism=parallelism)
    sheet = place.folder(source.folder) / PAD_SHEET

    def planned(dataset: DataSet) -> list[Task]:
        return [
            tasks.accuracy_task(dataset, measured, check, place.progress),
            tasks.positions_task(dataset, spread, place.progress),
            tasks.timing_task(dataset, timed, place.progress),
            tasks.storage_task(dataset, stored, place.progress),
            tasks.leakage_task(dataset, seed, modulus_bits[-1], parallelism, place.progress),
            tasks.attack_trial_task(dataset, attacked, sheet, place.progress),
        ]

    return run_on(source, place, planned)
