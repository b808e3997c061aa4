"""Leakage (d): the ranks of similar images in the answer (Fig. 2), and after reordering by the cloud."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.bootstrap import Interval, mean_interval, mean_intervals
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Order, cloud_sim, end_to_end, euclidean
from mipp_cli.experiments.base.result import Claim, Observation, Result, column, table, where
from mipp_cli.experiments.leakage.two_sums import sums_distance
from mipp_cli.progress import Progress

NAME = "leakage-positions"
PARTS = 10
EUCLIDEAN, BY_SIM = "euclidean", "sim"
BY_SUMS_AGAIN, BY_USER = "sim, reordered by sums", "sim, reordered by user"
ORDERS = (EUCLIDEAN, BY_SIM, BY_SUMS_AGAIN, BY_USER)
_CLAIMED = (
    "by EucDis similar images are in the first tenth, by Sim they are uniform, which misleads the cloud"
)


def measure_positions(
    dataset: DataSet, queries: Order, returned: int, seed: int, progress: Progress
) -> Result:
    """Count the similar images in each tenth of the answers, in four orders.

    As in Fig. 2: the answer by EucDis, and the cloud's answer by Sim. Then the answer by Sim reordered by the
    cloud with a distance on the sums, and by the user with EucDis.
    """
    answered = min(returned, len(dataset) - 1) // PARTS * PARTS
    observations: list[Observation] = []
    with progress("ranking similar images", len(queries), "query") as advance:
        orders = _orders(dataset, answered)
        for query in queries.tolist():
            for name, order in orders.items():
                similar = dataset.labels[order(query)] == dataset.labels[query]
                observations += table(
                    order=name,
                    query=dataset.names[query],
                    tenth=range(1, PARTS + 1),
                    similar=similar.reshape(PARTS, -1).sum(axis=1),
                )
            advance(1)
    notes = (
        f"{len(queries)} queries over {len(dataset)} images, {answered} returned, without the query; "
        "tenths are counted from the beginning of the answer.",
        "Shares are computed per query and then averaged; queries without a similar image in the answer "
        "are left out.",
        "Reordered: the same images as by Sim, in another order.",
    )
    title = "Ranks of similar images in the answer, and after reordering by the cloud"
    return Result(NAME, title, observations, (_claim(observations, seed),), notes)


def _orders(dataset: DataSet, answered: int) -> dict[str, Callable[[int], Order]]:
    features, ties = dataset.features, dataset.ties
    plain, cloud, sums = (make(features, ties) for make in (euclidean, cloud_sim, sums_distance))

    def reordered(query: int) -> Order:
        order = sums.order(query)
        return order[np.isin(order, cloud.order(query)[:answered])]

    return {
        EUCLIDEAN: lambda query: plain.order(query)[:answered],
        BY_SIM: lambda query: cloud.order(query)[:answered],
        BY_SUMS_AGAIN: reordered,
        BY_USER: end_to_end(features, ties, answered).order,
    }


def shares_by_tenth(observations: Sequence[Observation], order: str) -> NDArray[np.float64]:
    """Return the spread of similar images for each query that has some in its answer: shape (queries, 10)."""
    counts = column(where(observations, order=order), "similar").reshape(-1, PARTS)
    totals = counts.sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = (counts / np.maximum(totals, 1))[totals[:, 0] > 0]
    return found


def spread(observations: Sequence[Observation], order: str, seed: int) -> list[Interval]:
    """Return the mean share of similar images in each tenth, with intervals; empty if there are none."""
    shares = shares_by_tenth(observations, order)
    return mean_intervals(shares, seed) if len(shares) else []


def _claim(observations: Sequence[Observation], seed: int) -> Claim:
    shares = {order: shares_by_tenth(observations, order) for order in ORDERS}
    if not all(map(len, shares.values())):
        measured = "no similar image was returned, so there are no ranks to compare."
        return Claim("Fig. 2, section 6.2", _CLAIMED, measured, "nothing shown")
    first = {order: mean_interval(values[:, 0], seed) for order, values in shares.items()}
    half = mean_interval(shares[BY_SIM][:, : PARTS // 2].sum(axis=1), seed)
    as_read, moved = first[BY_SIM], first[BY_SUMS_AGAIN]
    if half.high < 1 / 2:
        reading = "are not uniform: they are towards the end, so the cloud reads the answer backwards"
        conclusion = "not confirmed: towards the end"
    elif half.low > 1 / 2:
        reading = "are not uniform: they are towards the front"
        conclusion = "not confirmed: towards the front"
    elif not as_read.low <= 1 / PARTS <= as_read.high:
        reading = "are even over the two halves, but not in the first tenth"
        conclusion = "not confirmed: uneven in the first tenth"
    else:
        reading = "cannot be distinguished from uniform, neither in the first tenth nor in the first half"
        conclusion = "uniform as far as shown"
    if moved.low > 1 / PARTS:
        follows = "but the cloud moves them to the front with the same sums, so the order does not mislead it"
        conclusion += "; the cloud reorders by its sums"
    else:
        follows = "and reordering by the sums does not bring them to the front here"
    return Claim(
        "Fig. 2, section 6.2",
        _CLAIMED,
        "share of the similar images in the first tenth of the answer: "
        f"by EucDis {first[EUCLIDEAN].percent}, "
        f"by Sim {as_read.percent} (in the first half {half.percent}), "
        f"by Sim and reordered by the cloud {moved.percent}, "
        f"by Sim and reordered by the user {first[BY_USER].percent}; uniform would be {100 / PARTS:.0f} %. "
        f"So by Sim they {reading}; {follows}.",
        conclusion,
    )
