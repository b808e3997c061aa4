"""Leakage (b): images ranked by a distance on the two sums, against Sim and EucDis (section 6.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.bootstrap import mean_interval
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Order, answers, cloud_sim, euclidean
from mipp_cli.experiments.base.result import Claim, Observation, Result, column, where
from mipp_cli.experiments.leakage.cloud_view import chance_precision, sums_distance
from mipp_cli.progress import Progress

NAME = "leakage-ranking"
RETURNED = (10, 100)


def measure_ranking(dataset: DataSet, queries: Order, seed: int, progress: Progress) -> Result:
    """Measure the precision of each method at 10 and 100 images returned, the query left out."""
    observations: list[Observation] = []
    returned = [count for count in RETURNED if count < len(dataset)]
    chances = chance_precision(dataset, queries).tolist()
    labels = dataset.labels
    for make in (euclidean, cloud_sim, sums_distance):
        method = make(dataset.features)
        found = np.stack(answers(method, queries, RETURNED[-1], progress))
        relevant = labels[found] == labels[queries][:, np.newaxis]
        for count in returned:
            precisions = relevant[:, :count].mean(axis=1).tolist()
            observations += [
                {
                    "method": method.name,
                    "returned": count,
                    "query": dataset.names[query],
                    "precision": precision,
                    "chance": chance,
                }
                for query, precision, chance in zip(queries.tolist(), precisions, chances, strict=True)
            ]
    notes = (
        "sums: the Euclidean distance of (Σx, Σx²), each with mean 0 and deviation 1. The cloud needs "
        "nothing for it but its index and the two sums of the query.",
        f"{len(queries)} queries over {len(dataset)} images, the query left out of its answer. Similar "
        "means: of the same category.",
    )
    claims = [_claim(observations, count, seed) for count in returned]
    return Result(NAME, "Similarity, ranked by the two sums alone", observations, claims, notes)


def precisions_of(observations: Sequence[Observation], method: str, returned: int) -> NDArray[np.float64]:
    """Return the precision of each query by one method."""
    return column(where(observations, method=method, returned=returned), "precision")


def _claim(observations: Sequence[Observation], returned: int, seed: int) -> Claim:
    by = {name: precisions_of(observations, name, returned) for name in ("euclidean", "sim", "sums")}
    found = {name: mean_interval(values, seed) for name, values in by.items()}
    chance = float(column(observations, "chance").mean())
    gain = mean_interval(by["sums"] - by["sim"], seed)
    if found["sums"].low <= chance:
        follows = "The sums rank no better than chance here, which does not speak against the claim."
    elif gain.low > 0:
        follows = (
            f"From the same two numbers the cloud ranks better than Sim, by {gain.points}, and better than "
            "chance: part of what Sim loses is lost to the user alone, and not kept from the cloud."
        )
    else:
        follows = (
            "The cloud ranks better than chance by the sums, so it learns similarity; not better than by "
            "Sim itself."
        )
    return Claim(
        "section 6.2",
        "the cloud may get the wrong similarity relation, so the similarity of images does not leak to it",
        f"precision at {returned}: by the sums {found['sums'].percent}, by Sim {found['sim'].percent}, by "
        f"EucDis {found['euclidean'].percent}, chance {100 * chance:.1f} %. {follows}",
    )
