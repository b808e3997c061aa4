"""The comparison shared by accuracy and positions: queries, methods, and the answers of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.accuracy.rankings import read_rankings
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Method, answers, cloud_sim, end_to_end, euclidean
from mipp_cli.experiments.base.result import Result, table
from mipp_cli.experiments.base.sampling import QueryChoice, draw_queries
from mipp_cli.progress import Progress

DEFAULT_CANDIDATES = (100, 200, 500)


@dataclass(frozen=True)
class ComparisonOptions:
    """Queries and methods: ``candidates`` of the end-to-end methods, ``rankings`` of your own methods.

    ``candidates`` defaults to numbers suited to the size of the data set.
    """

    queries: QueryChoice = field(default_factory=QueryChoice)
    candidates: tuple[int, ...] | None = None
    rankings: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if any(count < 1 for count in self.candidates or ()):
            raise InvalidRequestError("--candidates must be at least 1", hint="give --candidates 1 or more")


@dataclass(frozen=True)
class Comparison:
    """The methods on the same queries and features."""

    dataset: DataSet
    queries: NDArray[np.int64]
    methods: tuple[Method, ...]

    @cached_property
    def relevant(self) -> NDArray[np.int64]:
        """For each query, the number of other images of its category: TP + FN."""
        return np.bincount(self.dataset.labels)[self.dataset.labels[self.queries]] - 1

    @property
    def others(self) -> int:
        """The number of images searched for a query: all but itself."""
        return len(self.dataset) - 1

    def hits(self, method: Method, depth: int, progress: Progress) -> list[NDArray[np.bool_]]:
        """Return for each query which of the first ``depth`` images of the answer are similar to it."""
        labels, found = self.dataset.labels, answers(method, self.queries, depth, progress)
        return [labels[answer] == labels[query] for query, answer in zip(self.queries, found, strict=True)]

    def notes(self, seed: int) -> list[str]:
        """Return notes on how the comparison was done."""
        dataset = self.dataset
        categories = len(np.unique(dataset.labels[self.queries]))
        said = [
            f"{len(self.queries)} queries from {categories} of {len(dataset.categories)} categories (seed "
            f"{seed}). {len(dataset)} images are searched, without the query itself. An image is similar "
            "to a query if both are of the same category.",
            "Intervals are 95 % percentile bootstrap intervals over queries, with 2,000 resamples.",
            *(f"Method {method.name}: {method.about}" for method in self.methods),
            "The answers of an end-to-end method have no more images than candidates, so its curve ends "
            "there.",
            "For every method, ties are broken by a digest of the image's name, as at the cloud. (The KMC "
            "uses a hash of image and query, and the user of a sum scheme the name itself, which here "
            "would reveal the category.)",
        ]
        if dataset.edgeless:
            said.append(f"Images without edges, whose features are identical: {dataset.edgeless}.")
        if dataset.skipped:
            said.append(f"Images left out because they could not be read: {len(dataset.skipped)}.")
        return said


def compare(dataset: DataSet, options: ComparisonOptions) -> Comparison:
    """Draw the queries and set up the methods; raises what draw_queries and read_rankings raise."""
    queries = draw_queries(dataset, options.queries)
    features, ties = dataset.features, dataset.ties
    methods = [euclidean(features, ties), cloud_sim(features, ties)]
    methods += [end_to_end(features, ties, count) for count in _candidates(dataset, options.candidates)]
    for path in options.rankings:
        given = read_rankings(path, dataset, queries)
        if given.name in {method.name for method in methods}:
            raise InvalidRequestError(
                f"there already is a method named {given.name!r}", path=path, hint="rename the file"
            )
        methods.append(given)
    return Comparison(dataset, queries, tuple(methods))


def _candidates(dataset: DataSet, wanted: Sequence[int] | None) -> list[int]:
    """Return the numbers of candidates, ascending; by default only those below the number of images."""
    if wanted is not None:
        return sorted(set(wanted))
    others = len(dataset) - 1
    return [count for count in DEFAULT_CANDIDATES if count < others] or [max(1, others // 2)]


def query_list(comparison: Comparison) -> Result:
    """List the queries, for use with --rankings."""
    dataset = comparison.dataset
    rows = table(
        query=[dataset.names[query] for query in comparison.queries],
        category=[dataset.categories[label] for label in dataset.labels[comparison.queries]],
    )
    return Result("queries", "The queries", rows)
