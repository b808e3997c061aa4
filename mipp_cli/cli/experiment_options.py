"""Options that the experiments share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipp_cli.cli.options import (
    PATH,
    Decorator,
    bundled,
    device_option,
    parallelism_options,
    prints_report,
    together,
)
from mipp_cli.cli.progress import progress_option

if TYPE_CHECKING:
    from mipp_cli.compute.processes import Parallelism
    from mipp_cli.experiments.accuracy.comparison import ComparisonOptions
    from mipp_cli.experiments.base.sampling import QueryChoice
    from mipp_cli.progress import Progress

# Types of options: what they raise is said of the option whose value it is.


def words(value: str) -> tuple[str, ...]:
    """Return words that are separated by commas."""
    stripped = tuple(word.strip() for word in value.split(","))
    if not all(stripped):
        raise click.BadParameter(f"{value!r} is not a list; write a,b,c")
    return stripped


def numbers(value: str) -> tuple[int, ...]:
    """Return whole numbers from 1 on that are separated by commas."""
    found = [_positive(word.strip()) for word in value.split(",")]
    if not all(found):
        raise click.BadParameter(f"{value!r} is not a list of numbers; write 10,50,100")
    return tuple(found)


def _queries(value: str) -> int | None:
    """Return a number of queries, None for `all`."""
    if value != "all" and not _positive(value):
        raise click.BadParameter(f"{value!r} is no number of queries; write 5, or all")
    return None if value == "all" else int(value)


def _positive(text: str) -> int:
    """Return the number from 1 on that is written in a text; 0 if there is none."""
    return int(text) if text.isascii() and text.isdecimal() else 0


def at_least_one(name: str, what: str, *, default: int | None = None) -> Decorator:
    """An option that is a number from 1 on."""
    return click.option(
        name,
        metavar="N",
        type=click.IntRange(min=1),
        default=default,
        show_default=default is not None,
        help=what,
    )


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
    no_plots: bool
    parallelism: Parallelism
    progress: Progress

    def folder(self, subject: Path) -> Path:
        """Return the output folder: the one given, or one named after the data set or upload."""
        return self.output or Path(f"experiment-{subject.resolve().name.removesuffix('.h5')}")


place_options = together(
    click.option(
        "-o",
        "--output",
        metavar="DIR",
        type=PATH,
        help="Where figures and report go; an interrupted run goes on there.  [default: experiment-NAME]",
    ),
    click.option("--force", is_flag=True, help="Run again what the folder holds, and replace it."),
    click.option("--no-plots", is_flag=True, help="Draw no plots; they need matplotlib."),
    parallelism_options,
    progress_option,
    prints_report,
    bundled("place", Place),
)


@dataclass(frozen=True)
class DataSource:
    """The data set as the command line names it, and what describes its pictures."""

    folder: Path
    descriptors: tuple[str, ...]
    categories: tuple[str, ...] | None
    skip_unreadable: bool
    device: str


_DESCRIPTOR = "NAME|model:PATH|features:FILE"


def one_descriptor(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """Return the one descriptor of a command as the list that others take."""
    return (value,)


single_descriptor = click.option(
    "--descriptor",
    "descriptors",
    metavar=_DESCRIPTOR,
    default="edge-histogram",
    show_default=True,
    callback=one_descriptor,
    help="What describes the pictures: one of mipp's descriptors by name, an image model in ONNX form, or a "
    "file of your own: .npy or HDF5, where whole numbers are codes and floats are quantised as l2.",
)
several_descriptors = click.option(
    "--descriptor",
    "descriptors",
    metavar=_DESCRIPTOR,
    multiple=True,
    default=("edge-histogram",),
    show_default=True,
    help="A descriptor to measure, again for each: one of mipp's by name, an image model in ONNX form, or a "
    "file of your own: .npy or HDF5, where whole numbers are codes and floats are quantised as l2.",
)
_folder_options = together(
    click.argument("folder", metavar="DATASET", type=PATH),
    click.option(
        "--collection-categories",
        "categories",
        metavar="LIST",
        type=words,
        help="Search only these categories, or the first N by name.  [default: all]",
    ),
    click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be read."),
)
dataset_options = bundled("source", DataSource, _folder_options, single_descriptor, device_option)
datasets_options = bundled("source", DataSource, _folder_options, several_descriptors, device_option)


def _queried(queries: int | None, query_categories: int | None, seed: int) -> QueryChoice:
    from mipp_cli.experiments.base.sampling import QueryChoice

    return QueryChoice(queries, query_categories or (None if queries is None else 10), seed)


def _compared(
    queries: int | None,
    query_categories: int | None,
    seed: int,
    candidates: tuple[int, ...] | None,
    rankings: tuple[Path, ...],
) -> ComparisonOptions:
    from mipp_cli.experiments.accuracy.comparison import ComparisonOptions

    return ComparisonOptions(_queried(queries, query_categories, seed), candidates, rankings)


_query_options = together(
    click.option(
        "--queries",
        metavar="N|all",
        type=_queries,
        default="5",
        show_default=True,
        help="Queries in each category, or every image.",
    ),
    at_least_one(
        "--query-categories", "Categories that queries are drawn from.  [default: 10; of --queries all, all]"
    ),
    SEED,
)
query_options = bundled("queried", _queried, _query_options)
comparison_options = bundled(
    "compared",
    _compared,
    _query_options,
    click.option(
        "--candidates",
        metavar="LIST",
        type=numbers,
        help="Candidates of the end-to-end results.  [default: 100,200,500, as far as there are images]",
    ),
    click.option(
        "--rankings",
        metavar="FILE.csv",
        type=PATH,
        multiple=True,
        help="A method of your own, as query,rank,image; again for more.",
    ),
)
timing_options = together(
    click.option(
        "--sizes",
        metavar="LIST",
        type=numbers,
        default="100,250,500,1000",
        show_default=True,
        help="Numbers of images; above the data set's, its pictures come again.",
    ),
    at_least_one("--repeats", "Times that each point is measured.", default=5),
)


def scheme_options(schemes: str, modulus_bits: str) -> Decorator:
    """``--scheme`` and ``--modulus-bits``: lists, every scheme with every modulus."""
    return together(
        click.option(
            "--scheme",
            "schemes",
            metavar="LIST",
            type=words,
            default=schemes,
            show_default=True,
            help="Schemes that are really run.",
        ),
        click.option(
            "--modulus-bits",
            metavar="LIST",
            type=numbers,
            default=modulus_bits,
            show_default=True,
            help="Sizes of their moduli; small ones too, for experiments.",
        ),
    )


def sample_option(default: int, what: str) -> Decorator:
    """``--sample``: how many images are really encrypted."""
    return at_least_one("--sample", what, default=default)
