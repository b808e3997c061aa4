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

# Types of options: click adds the option's name to what they raise.


def words(value: str) -> tuple[str, ...]:
    """Return the words of a comma-separated list."""
    stripped = tuple(word.strip() for word in value.split(","))
    if not all(stripped):
        raise click.BadParameter(f"{value!r} is not a list; write a,b,c")
    return stripped


def numbers(value: str) -> tuple[int, ...]:
    """Return the positive integers of a comma-separated list."""
    found = [_positive(word.strip()) for word in value.split(",")]
    if not all(found):
        raise click.BadParameter(f"{value!r} is not a list of numbers; write 10,50,100")
    return tuple(found)


def _queries(value: str) -> int | None:
    """Return a number of queries, None for `all`."""
    if value != "all" and not _positive(value):
        raise click.BadParameter(f"{value!r} is not a number of queries; write 5, or all")
    return None if value == "all" else int(value)


def _positive(text: str) -> int:
    """Return the positive integer in a text; 0 if it is not one."""
    return int(text) if text.isascii() and text.isdecimal() else 0


def at_least_one(name: str, what: str, *, default: int | None = None) -> Decorator:
    """An option with a positive integer."""
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
    help="Seed for drawing queries, samples and intervals.",
)


@dataclass(frozen=True)
class Place:
    """The options of every experiment: output folder, plots, parallelism, progress."""

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
        help="Folder for figures and report; an interrupted run resumes there.  [default: experiment-NAME]",
    ),
    click.option("--force", is_flag=True, help="Run finished experiments again, and replace their results."),
    click.option("--no-plots", is_flag=True, help="Do not draw plots, which need matplotlib."),
    parallelism_options,
    progress_option,
    prints_report,
    bundled("place", Place),
)


@dataclass(frozen=True)
class DataSource:
    """The data set and its descriptors, as named on the command line."""

    folder: Path
    descriptors: tuple[str, ...]
    categories: tuple[str, ...] | None
    skip_unreadable: bool
    device: str


_DESCRIPTOR = "NAME|model:PATH|features:FILE"


def one_descriptor(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """Return the single descriptor of a command as a list."""
    return (value,)


single_descriptor = click.option(
    "--descriptor",
    "descriptors",
    metavar=_DESCRIPTOR,
    default="edge-histogram",
    show_default=True,
    callback=one_descriptor,
    help="The descriptor: edge-histogram, colour-edge, an ONNX image model, or your own features in .npy "
    "or HDF5 (integers are codes, floats are quantised as l2).",
)
several_descriptors = click.option(
    "--descriptor",
    "descriptors",
    metavar=_DESCRIPTOR,
    multiple=True,
    default=("edge-histogram",),
    show_default=True,
    help="A descriptor to measure; may be repeated: edge-histogram, colour-edge, an ONNX image model, or "
    "your own features in .npy or HDF5 (integers are codes, floats are quantised as l2).",
)
_folder_options = together(
    click.argument("folder", metavar="DATASET", type=PATH),
    click.option(
        "--collection-categories",
        "categories",
        metavar="LIST",
        type=words,
        help="Search only these categories, or the first N in order of name.  [default: all]",
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
        help="Queries per category; all makes every image a query.",
    ),
    at_least_one(
        "--query-categories", "Categories that queries are drawn from.  [default: 10; all with --queries all]"
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
        help="Candidates of the end-to-end methods.  [default: 100,200,500, up to the number of images]",
    ),
    click.option(
        "--rankings",
        metavar="FILE.csv",
        type=PATH,
        multiple=True,
        help="Rankings of your own method, as query,rank,image; may be repeated.",
    ),
)
timing_options = together(
    click.option(
        "--sizes",
        metavar="LIST",
        type=numbers,
        default="100,250,500,1000",
        show_default=True,
        help="Numbers of images; pictures are repeated above the size of the data set.",
    ),
    at_least_one("--repeats", "Measurements per point.", default=5),
)


def scheme_options(schemes: str, modulus_bits: str) -> Decorator:
    """``--scheme`` and ``--modulus-bits``: lists; every scheme is combined with every modulus."""
    return together(
        click.option(
            "--scheme",
            "schemes",
            metavar="LIST",
            type=words,
            default=schemes,
            show_default=True,
            help="Schemes to run.",
        ),
        click.option(
            "--modulus-bits",
            metavar="LIST",
            type=numbers,
            default=modulus_bits,
            show_default=True,
            help="Modulus sizes in bits; insecure sizes are allowed here.",
        ),
    )


def sample_option(default: int, what: str) -> Decorator:
    """``--sample``: the number of images to encrypt."""
    return at_least_one("--sample", what, default=default)
