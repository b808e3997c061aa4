"""Descriptors beside each other: how well each ranks a data set, by every distance that there is of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.accuracy.coarser import measure_bits, measure_dimensions
from mipp_cli.experiments.accuracy.measures import (
    MEAN_AVERAGE_PRECISION,
    NDCG,
    PRECISION,
    Figures,
    chance_measures,
    measure_label,
)
from mipp_cli.experiments.accuracy.orders import CODES, EXACT, SIM, VECTORS, Ranker, figures_of, rankers
from mipp_cli.experiments.base.bootstrap import Interval, mean_interval, mean_intervals
from mipp_cli.experiments.base.conclusions import about_lower, which_is_better
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Claim, Observation, Result, table
from mipp_cli.experiments.base.sampling import QueryChoice, draw_queries
from mipp_cli.progress import Progress, silent

NAME, DIFFERENCES, EACH = "descriptors", "descriptors-differences", "descriptors-queries"
CHANCE: Final = "chance"
_CLAIMED_DROP: Final = 0.10
_COMPARED: Final = (PRECISION, MEAN_AVERAGE_PRECISION, NDCG)
_PAIRS: Final = ((VECTORS, CODES), (CODES, EXACT), (CODES, SIM))

Key = tuple[str, str]
"""The label of a descriptor, and the name of a distance."""


@dataclass(frozen=True)
class DescriptorsOptions:
    """Which images are queries, and how many images are returned, the k of precision at k."""

    queries: QueryChoice = field(default_factory=QueryChoice)
    returned: int = 10

    def __post_init__(self) -> None:
        if self.returned < 1:
            raise InvalidRequestError("at least one image is returned", hint="give --returned 1 or more")


@dataclass(frozen=True)
class Measured:
    """Every measure of every descriptor by every distance, of shape (queries,) each."""

    queries: NDArray[np.int64]
    returned: int
    figures: Mapping[Key, Mapping[str, Figures]]
    labels: Mapping[str, str]
    chance: Mapping[str, Figures]


def run_descriptors(
    datasets: Sequence[DataSet], options: DescriptorsOptions, progress: Progress = silent
) -> list[Result]:
    """Measure data sets that have the same images and differ in their descriptors.

    Returns means with intervals and claims, differences, what fewer bits and fewer numbers cost, and each
    query's figures. Raises InvalidRequestError if more images are asked for than are searched.
    """
    first, seed = datasets[0], options.queries.seed
    if options.returned >= len(first):
        raise InvalidRequestError(
            f"{options.returned} images cannot be returned: {len(first) - 1} are searched for a query",
            path=first.folder,
            hint=f"give --returned {len(first) - 1} or less",
        )
    queries = draw_queries(first, options.queries)
    measured, ways = _measure(datasets, queries, options.returned, progress)
    title = "How well each ranks: measures of the whole ranking and of its beginning"
    notes = [*_notes(first, measured, seed), *ways, *(each.described.about for each in datasets)]
    means = Result(NAME, title, _mean_rows(measured, seed), _claims(measured, seed), notes)
    differences = Result(
        DIFFERENCES,
        "What quantisation, Sim and the descriptor change",
        _difference_rows(measured, [each.label for each in datasets], seed),
        (),
        (
            "Differences are taken query by query: the first less the second, with intervals over queries. "
            "Between descriptors it is codes by Eq. 7. The KMC's own code computes the same distances in "
            "another way: a difference would be a fault.",
        ),
    )
    coarser = (
        measure_bits(datasets, queries, options.returned, seed, progress),
        measure_dimensions(datasets, queries, options.returned, seed, progress),
    )
    each = Result(EACH, "Every measure of each query", _query_rows(first, measured))
    return [means, differences, *(result for result in coarser if result.observations), each]


def _measure(
    datasets: Sequence[DataSet], queries: NDArray[np.int64], returned: int, progress: Progress
) -> tuple[Measured, list[str]]:
    """Measure every way to rank; return the figures, and a sentence on each way."""
    work: list[tuple[DataSet, Ranker]] = [(each, ranker) for each in datasets for ranker in rankers(each)]
    figures: dict[Key, Mapping[str, Figures]] = {}
    with progress("ranking", len(work), "ranking") as advance:
        for dataset, ranker in work:
            found = figures_of(ranker, dataset.labels, queries, returned)
            figures[dataset.label, ranker.name] = found
            advance(1)
    labels = datasets[0].labels
    relevant = np.bincount(labels)[labels[queries]] - 1
    chance = chance_measures(relevant, len(labels) - 1, returned)
    names = {ranker.name: ranker.label for _, ranker in work}
    about = list(dict.fromkeys(f"Distance {ranker.about}" for _, ranker in work))
    return Measured(queries, returned, figures, names, chance), about


def _mean_rows(measured: Measured, seed: int) -> list[Observation]:
    rows: list[Observation] = []
    for (descriptor, method), figures in measured.figures.items():
        rows += _means(descriptor, method, measured.labels[method], figures, measured, seed)
    return [*rows, *_means(CHANCE, CHANCE, CHANCE, measured.chance, measured, seed)]


def _means(
    descriptor: str, method: str, label: str, figures: Mapping[str, Figures], measured: Measured, seed: int
) -> list[Observation]:
    intervals = mean_intervals(np.stack(list(figures.values()), axis=1), seed)
    return table(
        descriptor=descriptor,
        method=method,
        label=label,
        measure=[measure_label(measure, measured.returned) for measure in figures],
        **dict(zip(Interval._fields, zip(*intervals, strict=True), strict=True)),
        queries=len(measured.queries),
    )


def _query_rows(dataset: DataSet, measured: Measured) -> list[Observation]:
    rows: list[Observation] = []
    names = [dataset.names[query] for query in measured.queries]
    for (descriptor, method), figures in measured.figures.items():
        named = {measure_label(measure, measured.returned): each for measure, each in figures.items()}
        rows += table(descriptor=descriptor, method=method, query=names, **named)
    return rows


def _difference_rows(measured: Measured, descriptors: Sequence[str], seed: int) -> list[Observation]:
    pairs = [
        ((descriptor, one), (descriptor, other), measured.labels[one], measured.labels[other])
        for descriptor in descriptors
        for one, other in _PAIRS
        if (descriptor, one) in measured.figures  # codes from the start were never vectors
    ]
    reference = descriptors[0]
    pairs += [((each, CODES), (reference, CODES), each, reference) for each in descriptors[1:]]
    return [
        _difference(measured, one, other, (first, second), measure, seed)
        for one, other, first, second in pairs
        for measure in _COMPARED
    ]


def _difference(
    measured: Measured, one: Key, other: Key, names: tuple[str, str], measure: str, seed: int
) -> Observation:
    gain = mean_interval(measured.figures[one][measure] - measured.figures[other][measure], seed)
    return {
        "descriptor": one[0],
        "first": names[0],
        "second": names[1],
        "measure": measure_label(measure, measured.returned),
        "mean": gain.mean,
        "low": gain.low,
        "high": gain.high,
        "conclusion": which_is_better(*names, gain),
    }


def _claims(measured: Measured, seed: int) -> list[Claim]:
    """Weigh the paper's claim on precision for each descriptor, the paper's own among them or not."""
    claims = []
    for descriptor in dict.fromkeys(descriptor for descriptor, _ in measured.figures):
        by = {name: measured.figures[descriptor, name][PRECISION] for name in (CODES, SIM)}
        plain, cloud = (mean_interval(each, seed) for each in by.values())
        drop = mean_interval(by[CODES] - by[SIM], seed)
        claims.append(
            Claim(
                "Fig. 3",
                "retrieval accuracy about 10 % lower than by Euclidean distance, on average",
                f"{descriptor}, precision at {measured.returned}: by Euclidean distance {plain.percent}, by "
                f"the cloud's Sim {cloud.percent}, {drop.points} lower",
                about_lower(_CLAIMED_DROP, drop, plain.mean),
            )
        )
    return claims


def _notes(dataset: DataSet, measured: Measured, seed: int) -> list[str]:
    categories = len(np.unique(dataset.labels[measured.queries]))
    notes = [
        f"{len(measured.queries)} queries from {categories} of {len(dataset.categories)} categories (seed "
        f"{seed}); {len(dataset)} images are ranked, the query itself left out; an image is relevant if it "
        "is of the query's category. Intervals are 95 % percentile bootstrap intervals over the queries, "
        "2,000 resamples. Ties are broken alike for every distance, as the KMC breaks them: by a hash under "
        "the query, for which its name stands. Names themselves begin with the category.",
        f"Precision, recall, F1 (Eq. 10–12) and nDCG are of the first {measured.returned} images. mAP: the "
        "mean over queries of average precision over the whole ranking (Manning, Raghavan and Schütze, "
        "Introduction to Information Retrieval, 2008). nDCG: Järvelin and Kekäläinen, 2002, with binary "
        "relevance and the discount log2(1 + rank). R-precision: precision at the number of relevant images. "
        "Chance: the mean of a random ranking, computed and not drawn.",
    ]
    if dataset.skipped:
        notes.append(
            "Images that could not be read, or that a descriptor could not describe, are left out of all: "
            f"{len(dataset.skipped)}."
        )
    return notes
