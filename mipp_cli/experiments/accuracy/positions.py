"""Fig. 2: the ranks of the truly similar images among those returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.accuracy.comparison import Comparison, ComparisonOptions, compare
from mipp_cli.experiments.base.bootstrap import interval_columns, mean_interval
from mipp_cli.experiments.base.conclusions import CONFIRMED, NO_DIFFERENCE
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Method
from mipp_cli.experiments.base.result import Claim, Observation, Result, table
from mipp_cli.progress import Progress, silent

RANGES = 10
RANGE_NAMES = [f"{100 // RANGES * number}–{100 // RANGES * (number + 1)} %" for number in range(RANGES)]
_DEFAULT_RETURNED = 100

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class PositionsOptions(ComparisonOptions):
    """The comparison, and the number of images returned (None: 100, or all of a smaller data set)."""

    returned: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.returned is not None and self.returned < RANGES:
            raise InvalidRequestError(
                f"{self.returned} images returned cannot be divided into {RANGES} ranges",
                hint=f"give --returned {RANGES} or more",
            )


def position_shares(hits: Sequence[NDArray[np.bool_]], returned: int) -> Shares:
    """Return the share of each answer's similar images in each tenth of the answer.

    ``hits`` says for each answer which of its images are similar. Returns shape (queries, 10); nan for a
    query without similar images in its answer.
    """
    tenth = np.arange(returned) * RANGES // returned
    counts = np.stack([np.bincount(tenth[: len(row)][row], minlength=RANGES) for row in hits])
    totals = counts.sum(axis=1, keepdims=True)
    shares: Shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    return shares


def run_positions(dataset: DataSet, options: PositionsOptions, progress: Progress = silent) -> list[Result]:
    """Measure Fig. 2 for every method that returns enough images: means with intervals, and each query."""
    comparison = compare(dataset, options)
    returned = _returned(comparison, options.returned)
    spreads: dict[Method, Shares] = {}
    for method in comparison.methods:
        hits = comparison.hits(method, returned, progress)
        if min(map(len, hits)) == returned:
            spreads[method] = position_shares(hits, returned)
    seed = options.queries.seed
    title = f"Fig. 2: ranks of similar images among the {returned} returned"
    notes = [*comparison.notes(seed), *_notes(spreads, returned)]
    means = Result("positions", title, _mean_rows(spreads, returned, seed), _claims(spreads, seed), notes)
    each = Result("positions-queries", f"{title}, per query", _query_rows(comparison, spreads, returned))
    return [means, each]


def _returned(comparison: Comparison, wanted: int | None) -> int:
    others = comparison.others
    if wanted is None and others >= RANGES:
        return min(_DEFAULT_RETURNED, others)
    if wanted is None or wanted > others:
        raise InvalidRequestError(
            f"{wanted or RANGES} images cannot be returned: only {others} are searched per query",
            path=comparison.dataset.folder,
            hint=f"Fig. 2 needs {RANGES} or more: use a larger data set or a smaller --returned",
        )
    return wanted


def _answered(shares: Shares) -> Shares:
    """Leave out queries without similar images in their answer."""
    return shares[~np.isnan(shares[:, 0])]


def _mean_rows(spreads: Mapping[Method, Shares], returned: int, seed: int) -> list[Observation]:
    rows: list[Observation] = []
    for method, shares in spreads.items():
        if len(answered := _answered(shares)):
            rows += table(
                method=method.name,
                label=method.label,
                range=RANGE_NAMES,
                returned=returned,
                **interval_columns(answered, seed),
                queries=len(answered),
            )
    return rows


def _query_rows(comparison: Comparison, spreads: Mapping[Method, Shares], returned: int) -> list[Observation]:
    names = comparison.dataset.names
    rows: list[Observation] = []
    for method, shares in spreads.items():
        common = {"method": method.name, "range": RANGE_NAMES, "returned": returned}
        for query, share in zip(comparison.queries, shares, strict=True):
            if not np.isnan(share[0]):
                rows += table(query=names[query], **common, share=share)
    return rows


def _claims(spreads: Mapping[Method, Shares], seed: int) -> list[Claim]:
    claimed = {
        "euclidean": "by Euclidean distance, most similar images are in the first tenth, ever fewer later",
        "sim": "by the scheme's distance, similar images are spread evenly over the answer",
    }
    return [
        Claim("Fig. 2, section 6.2", claimed[method.name], *_slope(method, answered, seed))
        for method, shares in spreads.items()
        if method.name in claimed and len(answered := _answered(shares))
    ]


def _slope(method: Method, shares: Shares, seed: int) -> tuple[str, str]:
    """Return the shares of similar images in the first and last tenth as text, and the conclusion.

    By Euclidean distance the share is claimed to fall, by the scheme's distance to be even.
    """
    first, last = (mean_interval(shares[:, number], seed) for number in (0, -1))
    fall = mean_interval(shares[:, 0] - shares[:, -1], seed)
    verdict = "falling" if fall.low > 0 else "rising" if fall.high < 0 else NO_DIFFERENCE
    measured = (
        f"{method.label}: {first.percent} of similar images in the first tenth, {last.percent} in the last\n"
        f"difference {fall.points} ({verdict}); an even spread has 10 % in each tenth"
    )
    if method.name == "euclidean":
        words = {"falling": CONFIRMED, "rising": "not confirmed: rising"}
        conclusion = words.get(verdict, NO_DIFFERENCE)
    elif verdict == NO_DIFFERENCE:
        conclusion = f"not refuted: {NO_DIFFERENCE} between the first tenth and the last"
    else:
        conclusion = f"not confirmed: {verdict}, the difference is {fall.points}"
    return measured, conclusion


def _notes(spreads: Mapping[Method, Shares], returned: int) -> list[str]:
    return [
        f"The {returned} images returned are divided into ten ranges by rank. Each figure is the share of a "
        "query's similar images in a range, averaged over queries. Methods that return fewer images are left "
        "out.",
        *(
            f"{method.label}: {unanswered} of the queries had no similar image in the answer and are left "
            "out."
            for method, shares in spreads.items()
            if (unanswered := int(np.isnan(shares[:, 0]).sum()))
        ),
    ]
