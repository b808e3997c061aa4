"""What co-selection would tell of each descriptor, beside how well it ranks.

A cloud under scheme `exact` sees which groups of images are selected together; see `groups/leaks.py`.
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
    """How many queries the cloud watches; fewer than `leakage` has it watch, since each descriptor is."""

    watched: int = 2000
    seed: int = 1

    def __post_init__(self) -> None:
        if self.watched < 1:
            raise InvalidRequestError("at least one query is watched", hint="give --watched 1 or more")


def measure_co_selection(
    datasets: Sequence[DataSet], options: CoSelectionOptions, progress: Progress
) -> Result:
    """Watch the selections of each descriptor, in groups of 1 and of 8, and set them beside how it ranks.

    Data sets have the same images and differ in their descriptors; the queries are the same, too.
    """
    sizes = file_sizes(datasets[0])
    trial = GroupTrial(GROUP_SIZES, (options.watched,), MATCHES, 0, _PARTITIONS)
    rows: list[Observation] = []
    for dataset in datasets:
        rows.append(_ranked(dataset, options, progress))
        found = measure_groups(dataset, sizes, trial, options.seed, progress).observations
        rows += _told(dataset.label, found, options.watched)
    notes = (
        f"{options.watched:,} queries, images of the data set drawn with replacement from the seed; each "
        f"selects the groups of its {MATCHES} nearest images by Eq. 7, as the KMC ranks under scheme exact. "
        f"Groups of 8 are cut {_PARTITIONS} times over. The better of two attackers counts. More queries, "
        "sizes and attackers: mipp experiment leakage.",
        f"{RANKED}: how many of the {MATCHES} nearest images are of the query's category. {IMAGE}: how many "
        "of the 10 images most often selected with an image are of its category, mates left out. "
        f"{QUERIES}: how many of the 10 queries most alike to a query are of its category.",
    )
    title = "How well each descriptor ranks, and what co-selection tells of it"
    return Result(NAME, title, rows, _claims(rows, options.watched), notes)


def _ranked(dataset: DataSet, options: CoSelectionOptions, progress: Progress) -> Observation:
    """Say how well a descriptor ranks for the queries that are watched."""
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
    """Set how descriptors rank beside what their selections tell; one claim for each size of groups."""
    ranked = sorted(where(rows, measure=RANKED), key=lambda row: -float(row["share"]))
    claims = []
    for size in GROUP_SIZES:
        told = {row["descriptor"]: row for row in where(rows, measure=IMAGE, group_size=size)}
        pairs = [(row, told[row["descriptor"]]) for row in ranked if row["descriptor"] in told]
        if not pairs:
            continue
        measured = "\n".join(
            f"{row['descriptor']}: ranks {100 * row['share']:.1f} %, selections tell "
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
    """``told`` comes in the order of the descriptors, the one that ranks best first."""
    above = sum(row["low"] > row["chance"] for row in told)
    if not above:
        return "confirmed: no better than chance"
    follows = f"not confirmed: better than chance under {above} of {len(told)} descriptors"
    if len(told) > 1:
        best, worst = (interval_of(told[place]) for place in (0, -1))
        tells = "more" if best.low > worst.high else "less" if best.high < worst.low else ""
        follows += (
            f"; what ranks best tells {tells} than what ranks worst"
            if tells
            else "; between what ranks best and worst no difference is shown"
        )
    return follows
