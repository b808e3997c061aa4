"""Options that the experiments share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mipp_cli.cli.lists import NUMBERS, QUERIES, WORDS
from mipp_cli.cli.options import PATH, parallelism_options, prints_report

if TYPE_CHECKING:
    from mipp_cli.compute.processes import Parallelism
    from mipp_cli.experiments.base.dataset import DataSet

Function = TypeVar("Function", bound=Callable[..., Any])


SEED = click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="What queries, samples and intervals are drawn from.",
)


@dataclass(frozen=True)
class Place:
    """Where an experiment is done and what is written: the options of every experiment."""

    output: Path | None
    force: bool
    plots: bool
    parallelism: Parallelism

    def folder(self, subject: Path) -> Path:
        """Return the output folder: the one given, or one named after the data set or upload."""
        return self.output or Path(f"experiment-{subject.resolve().name.removesuffix('.h5')}")


@dataclass(frozen=True)
class DataSource:
    """The data set as the command line names it."""

    folder: Path
    categories: tuple[str, ...] | None
    skip_unreadable: bool
    grey_bits: int
    features: Path | None = None

    def load(self, parallelism: Parallelism) -> DataSet:
        """Describe its images."""
        from mipp_cli.cli.progress import progress_bar
        from mipp_cli.experiments.base.dataset import load_dataset

        return load_dataset(
            self.folder,
            parallelism=parallelism,
            progress=progress_bar,
            collection_categories=self.categories,
            skip_unreadable=self.skip_unreadable,
            grey_bits=self.grey_bits,
            features_file=self.features,
        )


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``-o``, ``--force``, ``--no-plots``, ``--jobs``, ``--scheduler`` and ``--json``."""

    @click.option(
        "-o",
        "--output",
        metavar="DIR",
        type=PATH,
        help="Where figures and report go; an interrupted run goes on there.  [default: experiment-NAME]",
    )
    @click.option("--force", is_flag=True, help="Run again what the folder holds, and replace it.")
    @click.option("--no-plots", is_flag=True, help="Draw no plots; they need matplotlib.")
    @parallelism_options
    @prints_report
    @functools.wraps(function)
    def run(
        *args: Any, output: Path | None, force: bool, no_plots: bool, parallelism: Parallelism, **kwargs: Any
    ) -> Any:
        return function(*args, place=Place(output, force, not no_plots, parallelism), **kwargs)

    return run


def dataset_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The DATASET and what is taken of it."""

    @click.argument("dataset", metavar="DATASET", type=PATH)
    @click.option(
        "--collection-categories",
        "categories",
        metavar="LIST",
        type=WORDS,
        help="Search only these categories, or the first N by name.  [default: all]",
    )
    @click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be read.")
    @click.option(
        "--grey-bits", type=click.IntRange(9, 16), default=16, show_default=True, help="As in kmc init."
    )
    @functools.wraps(function)
    def run(
        *args: Any,
        dataset: Path,
        categories: tuple[str, ...] | None,
        skip_unreadable: bool,
        grey_bits: int,
        **kwargs: Any,
    ) -> Any:
        return function(*args, source=DataSource(dataset, categories, skip_unreadable, grey_bits), **kwargs)

    return run


def query_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--queries``, ``--query-categories`` and ``--seed``: the paper's protocol unless told."""

    @click.option(
        "--queries",
        metavar="N|all",
        type=QUERIES,
        default="5",
        show_default=True,
        help="Queries in each category, or every image.",
    )
    @click.option(
        "--query-categories",
        metavar="N",
        type=click.IntRange(min=1),
        help="Categories that queries are drawn from.  [default: 10; of --queries all, all]",
    )
    @SEED
    @functools.wraps(function)
    def run(*args: Any, queries: int | str, query_categories: int | None, seed: int, **kwargs: Any) -> Any:
        from mipp_cli.experiments.base.sampling import QueryChoice

        every = isinstance(queries, str)
        categories = query_categories or (None if every else 10)
        choice = QueryChoice(None if isinstance(queries, str) else queries, categories, seed)
        return function(*args, choice=choice, **kwargs)

    return run


def method_options(function: Function) -> Function:
    """``--candidates`` and ``--rankings``: which methods are compared."""
    candidates = click.option(
        "--candidates",
        metavar="LIST",
        type=NUMBERS,
        help="Candidates of the end-to-end results.  [default: 100,200,500, as far as there are images]",
    )
    rankings = click.option(
        "--rankings",
        metavar="FILE.csv",
        type=PATH,
        multiple=True,
        help="A method of your own, as query,rank,image; again for more.",
    )
    return candidates(rankings(function))


def scheme_options(schemes: str, modulus_bits: str) -> Callable[[Function], Function]:
    """``--scheme`` and ``--modulus-bits``: lists, every scheme with every modulus."""

    def decorate(function: Function) -> Function:
        scheme = click.option(
            "--scheme",
            "schemes",
            metavar="LIST",
            type=WORDS,
            default=schemes,
            show_default=True,
            help="Schemes that are really run.",
        )
        modulus = click.option(
            "--modulus-bits",
            metavar="LIST",
            type=NUMBERS,
            default=modulus_bits,
            show_default=True,
            help="Sizes of their moduli; small ones too, for experiments.",
        )
        return scheme(modulus(function))

    return decorate


def sample_option(default: int, what: str) -> Callable[[Function], Function]:
    """``--sample``: how many images are really encrypted."""
    return click.option(
        "--sample", metavar="N", type=click.IntRange(min=1), default=default, show_default=True, help=what
    )


def timing_options(function: Function) -> Function:
    """``--sizes`` and ``--repeats``: the points of Fig. 5 to 8."""
    sizes = click.option(
        "--sizes",
        metavar="LIST",
        type=NUMBERS,
        default="100,250,500,1000",
        show_default=True,
        help="Numbers of images; above the data set's, its pictures come again.",
    )
    repeats = click.option(
        "--repeats",
        metavar="N",
        type=click.IntRange(min=1),
        default=5,
        show_default=True,
        help="Times that each point is measured.",
    )
    return sizes(repeats(function))
