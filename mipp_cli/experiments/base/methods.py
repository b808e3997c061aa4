"""The methods compared: how each ranks the other images of a data set for a query.

``ties`` are all images in the order that breaks ties; see `DataSet.ties`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.progress import Progress
from mipp_cli.scheme.nearest import squared_distances
from mipp_cli.scheme.similarity import euclidean_distances, sim_numerators

Features = NDArray[np.uint8]
Order = NDArray[np.int64]


@dataclass(frozen=True)
class Method:
    """A method: ``name`` is used in tables and files, ``label`` in legends; ``about`` describes it.

    ``order`` returns the positions of the images in the answer to a query, nearest first, without the query.
    """

    name: str
    label: str
    order: Callable[[int], Order]
    about: str = ""


def euclidean(features: Features, ties: Order) -> Method:
    """Eq. 7: all images by EucDis of the plaintext features."""

    def order(query: int) -> Order:
        return nearest_first(squared_distances(features[query], features), query, ties)

    about = "EucDis of the plaintext codes (Eq. 7), by which the KMC ranks in scheme exact."
    return Method("euclidean", "Euclidean distance (Eq. 7)", order, about)


def cloud_sim(features: Features, ties: Order) -> Method:
    """Eq. 8 and 9: all images by NewDis, which is the cloud's Sim, with the same integers as the cloud."""
    sum1, sum2 = both_sums(features).T

    def order(query: int) -> Order:
        numerators = sim_numerators(sum1, sum2, int(sum1[query]), int(sum2[query]), features.shape[1])
        return nearest_first(numerators, query, ties)

    about = "NewDis of the plaintext codes (Eq. 8), which the cloud computes on ciphertexts as Sim (Eq. 9)."
    return Method("sim", "cloud's Sim (Eq. 9)", order, about)


def end_to_end(features: Features, ties: Order, candidates: int) -> Method:
    """What the user gets: the cloud's first candidates by Sim, re-ranked by EucDis.

    Ties are broken as elsewhere, not by name as the user does, since names reveal the category.
    """
    cloud, places = cloud_sim(features, ties), np.argsort(ties)

    def order(query: int) -> Order:
        first = cloud.order(query)[:candidates]
        return first[np.lexsort((places[first], euclidean_distances(features[first], features[query])))]

    about = f"the cloud's first {candidates} images by Sim, re-ranked by the user by EucDis."
    return Method(f"end-to-end-{candidates}", f"end to end, {candidates} candidates", order, about)


def both_sums(features: Features) -> NDArray[np.int64]:
    """Return (Σx, Σx²) of each feature, shape (n, 2): the rows of Table 2."""
    wide = features.astype(np.int64)
    return np.stack([wide.sum(axis=1), (wide * wide).sum(axis=1)], axis=1)


def nearest_first(distances: NDArray[np.number], query: int, ties: Order) -> Order:
    """Return all images but the query, sorted by distance."""
    return without(query, ties[np.argsort(distances[ties], kind="stable")])


def without(query: int, order: Order) -> Order:
    """Return an order without the query itself, which the paper does not count in answers."""
    return np.asarray(order[order != query])


def answers(method: Method, queries: Order, depth: int, progress: Progress) -> list[Order]:
    """Return the first ``depth`` images of the method's answer to each query."""
    found = []
    with progress(f"ranking by {method.name}", len(queries), "query") as advance:
        for query in queries.tolist():
            found.append(method.order(query)[:depth].copy())  # a view would keep the whole order in memory
            advance(1)
    return found
