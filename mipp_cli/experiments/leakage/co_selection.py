"""What co-selection reveals with each descriptor, next to how well the descriptor ranks.

In scheme `exact` the cloud sees which groups of images are selected together; see `groups/leaks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.bootstrap import Interval, mean_interval
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import answers, euclidean
from mipp_cli.experiments.base.result import Claim, Observation, Result, where
from mipp_cli.experiments.base.seeds import Purpose, generator
from mipp_cli.experiments.leakage.groups.claims import IMAGE, QUERIES, best, interval_of
from mipp_cli.experiments.leakage.groups.images import SELECTIONS
from mipp_cli.experiments.leakage.groups.leaks import measure_groups
from mipp_cli.experiments.leakage.groups.partition import GroupTrial, file_sizes
from mipp_cli.progress import Progress

NAME: Final = "descriptors-leakage"
RANKED: Final = "matches of the query's category"
MATCHES: Final = 10
GROUP_SIZES: Final = (1, 8)
_PARTITIONS: Final = 3
_SEEN: Final = {IMAGE: (SELECTIONS,), QUERIES: ()}


@dataclass(frozen=True)
class CoSelectionOptions:
    """The number of queries the cloud observes; fewer than in `leakage`, as it is done per descriptor."""

    watched: int = 2000
    seed: int = 1

    def __post_init__(self) -> None:
        if self.watched < 1:
            raise InvalidRequestError("--watched must be at least 1", hint="give --watched 1 or more")


def measure_co_selection(
    datasets: Sequence[DataSet], options: CoSelectionOptions, progress: Progress
) -> Result:
    """Observe the selections of each descriptor, in groups of 1 and of 8, and compare with how it ranks.

    The data sets have the same images and different descriptors; the queries are the same.
    """
    sizes = file_sizes(datasets[0])
    trial = GroupTrial(GROUP_SIZES, (options.watched,), MATCHES, 0, _PARTITIONS)
    rows: list[Observation] = []
    for dataset in datasets:
        rows.append(_ranked(dataset, options, progress))
        found = measure_groups(dataset, sizes, trial, options.seed, progress).observations
        rows += _told(dataset.label, found, options.watched)
    notes = (
        f"{options.watched:,} queries are drawn from the data set with replacement. Each selects the "
        f"groups of its {MATCHES} nearest images by Eq. 7, as in scheme exact. Groups of 8 are formed at "
        f"random {_PARTITIONS} times. The better of two attackers counts. For more queries, sizes and "
        "attackers, run mipp experiment leakage.",
        f"{RANKED}: the share of the {MATCHES} nearest images that are of the query's category. {IMAGE}: "
        "the share of the 10 images most often selected with an image that are of its category, without "
        f"images of its own group. {QUERIES}: the share of the 10 queries most similar to a query that are "
        "of its category.",
    )
    title = "How well each descriptor ranks, and what co-selection reveals"
    return Result(NAME, title, rows, _claims(rows, options.watched), notes)


def _ranked(dataset: DataSet, options: CoSelectionOptions, progress: Progress) -> Observation:
    """Return how well a descriptor ranks for the observed queries."""
    drawn = generator(options.seed, Purpose.WATCHED_QUERIES).integers(len(dataset), size=options.watched)
    queries = np.unique(drawn)
    matches = np.stack(answers(euclidean(dataset.features, dataset.ties), queries, MATCHES, progress))
    right = (dataset.labels[matches] == dataset.labels[queries][:, np.newaxis]).mean(axis=1)
    own = np.bincount(dataset.labels)[dataset.labels[queries]]
    chance = float(((own - 1) / (len(dataset) - 1)).mean())
    return _row(dataset.label, RANKED, None, mean_interval(right, options.seed), chance)


def _told(descriptor: str, rows: Sequence[Observation], watched: int) -> list[Observation]:
    found = [
        (measure, size, best(rows, measure, (size, 0), watched, *seen))
        for measure, seen in _SEEN.items()
        for size in GROUP_SIZES
    ]
    return [
        _row(descriptor, measure, size, interval_of(row), row["chance"])
        for measure, size, row in found
        if row is not None
    ]


def _row(descriptor: str, measure: str, size: int | None, share: Interval, chance: float) -> Observation:
    return {
        "descriptor": descriptor,
        "measure": measure,
        "group_size": size,
        "share": share.mean,
        "low": share.low,
        "high": share.high,
        "chance": chance,
    }


def _claims(rows: Sequence[Observation], watched: int) -> list[Claim]:
    """Compare how descriptors rank with what their selections reveal; one claim per group size."""
    ranked = sorted(where(rows, measure=RANKED), key=lambda row: -float(row["share"]))
    claims = []
    for size in GROUP_SIZES:
        told = {row["descriptor"]: row for row in where(rows, measure=IMAGE, group_size=size)}
        pairs = [(row, told[row["descriptor"]]) for row in ranked if row["descriptor"] in told]
        if not pairs:
            continue
        measured = "\n".join(
            f"{row['descriptor']}: ranks {100 * row['share']:.1f} %, selections reveal "
            f"{interval_of(seen).percent}"
            for row, seen in pairs
        )
        groups = "no groups" if size == 1 else f"groups of {size}"
        claims.append(
            Claim(
                "section 6.2",
                f"the similarity of images does not leak to the cloud (scheme exact, {groups}, {watched:,} "
                "queries, by descriptor)",
                f"{measured}\nchance {100 * pairs[0][1]['chance']:.1f} %",
                _conclusion([seen for _, seen in pairs]),
            )
        )
    return claims


def _conclusion(told: Sequence[Observation]) -> str:
    """Return the conclusion; ``told`` is sorted by how well the descriptors rank, best first."""
    above = sum(row["low"] > row["chance"] for row in told)
    if not above:
        return "confirmed: no better than chance"
    follows = f"not confirmed: better than chance under {above} of {len(told)} descriptors"
    if len(told) > 1:
        best, worst = (interval_of(told[place]) for place in (0, -1))
        tells = "more" if best.low > worst.high else "less" if best.high < worst.low else ""
        follows += (
            f"; the best-ranking descriptor reveals {tells} than the worst"
            if tells
            else "; no difference shown between the best-ranking descriptor and the worst"
        )
    return follows
