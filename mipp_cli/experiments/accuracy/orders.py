"""Whole rankings of a data set for many queries at once: what each distance makes of a descriptor.

Every distance breaks ties as the KMC does, by a hash under the query's id. An id is random; the query's name
stands for it, so that figures come out the same again. In the order of names ties would be ranked by
category, with which names begin. One order for all queries would be one draw, where intervals take each
query for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.accuracy.measures import Figures, Hits, joined, ranking_measures
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import both_sums
from mipp_cli.scheme.nearest import Nearest, squared_distances
from mipp_cli.scheme.similarity import sim_numerators

VECTORS, CODES, EXACT, SIM = "vectors", "codes", "exact", "sim"
_AT_A_TIME = 1 << 22  # distances in memory together
_DIGITS = 12  # of a cosine: like vectors tie then, whatever order a processor adds in

Queries = NDArray[np.int64]
Orders = NDArray[np.int64]
Features = NDArray[np.uint8]


@dataclass(frozen=True)
class Ranker:
    """A way to order all images: ``orders`` gives for queries, shape (q,), the other images, (q, n − 1).

    ``name`` stands in tables and files, ``label`` in legends, ``about`` says in a sentence what it is.
    """

    name: str
    label: str
    about: str
    orders: Callable[[Queries], Orders]


def rankers(dataset: DataSet) -> list[Ranker]:
    """Return every way in which the images of a data set are ordered by its descriptor."""
    features, names = dataset.features, dataset.names
    found = [] if dataset.vectors is None else [by_vectors(dataset.vectors, names)]
    return [*found, by_codes(features, names), by_exact(features, names), by_sim(features, names)]


def by_vectors(vectors: NDArray[np.float32], names: Sequence[str]) -> Ranker:
    """Order by Euclidean distance of the vectors divided by their norms, which is the order of cosines."""
    wide = vectors.astype(np.float64)
    units = wide / np.linalg.norm(wide, axis=1, keepdims=True)

    def distances(queries: Queries) -> Figures:
        return np.asarray(-np.round(units[queries] @ units.T, _DIGITS))

    about = (
        f"{VECTORS}: Euclidean distance of the real numbers before they are quantised, divided by their norm."
    )
    return Ranker(VECTORS, "vectors before quantisation", about, _nearest_first(distances, names))


def by_codes(features: Features, names: Sequence[str]) -> Ranker:
    """Order by Eq. 7, EucDis of the codes."""
    about = f"{CODES}: EucDis of the codes (Eq. 7)."
    return Ranker(CODES, "codes (Eq. 7)", about, _nearest_first(_squared(features), names))


def by_exact(features: Features, names: Sequence[str]) -> Ranker:
    """Order by Eq. 7 with the code that the KMC ranks by under scheme `exact`; nothing is encrypted."""

    def orders(queries: Queries) -> Orders:
        found = []
        for query in queries.tolist():
            nearest = Nearest(len(features), _key(names[query]))
            nearest.add(squared_distances(features[query], features), 0)
            found.append([row for _, row in nearest.nearest() if row != query])
        return np.array(found, dtype=np.int64)

    about = (
        f"{EXACT}: Eq. 7 by the code that the KMC ranks with under scheme exact, on plain codes; "
        "descriptors-exact has the check on an encrypted sample."
    )
    return Ranker(EXACT, "KMC's own code (Eq. 7)", about, orders)


def by_sim(features: Features, names: Sequence[str]) -> Ranker:
    """Order by Eq. 9, the cloud's Sim, by the same integers as the cloud's."""
    sum1, sum2 = both_sums(features).T
    l = features.shape[1]

    def distances(queries: Queries) -> NDArray[np.int64]:
        pairs = zip(sum1[queries].tolist(), sum2[queries].tolist(), strict=True)
        return np.stack([sim_numerators(sum1, sum2, first, second, l) for first, second in pairs])

    about = f"{SIM}: what the cloud ranks by under the other schemes, Sim (Eq. 9), on plain codes."
    return Ranker(SIM, "cloud's Sim (Eq. 9)", about, _nearest_first(distances, names))


def figures_of(
    ranker: Ranker, labels: NDArray[np.int64], queries: Queries, returned: int
) -> dict[str, Figures]:
    """Return every measure of a ranker's answers, each of shape (q,), in the order of the queries."""
    return joined([ranking_measures(hits, returned) for hits in _hits(ranker, labels, queries)])


def _hits(ranker: Ranker, labels: NDArray[np.int64], queries: Queries) -> Iterator[Hits]:
    """Yield, for some queries at a time, whether the image at each rank is of the query's category."""
    step = max(1, _AT_A_TIME // len(labels))
    for begin in range(0, len(queries), step):
        some = queries[begin : begin + step]
        yield labels[ranker.orders(some)] == labels[some][:, np.newaxis]


def _squared(features: Features) -> Callable[[Queries], Figures]:
    """Return Eq. 7 squared: |x|² + |y|² − 2xy.

    Every sum is a whole number below 2^53, and so exact in float64, in whatever order it is added.
    """
    wide = features.astype(np.float64)
    squares = np.einsum("ij,ij->i", wide, wide)

    def distances(queries: Queries) -> Figures:
        return np.asarray(squares + squares[queries][:, np.newaxis] - 2 * (wide[queries] @ wide.T))

    return distances


def _nearest_first(
    distances: Callable[[Queries], NDArray[np.number]], names: Sequence[str]
) -> Callable[[Queries], Orders]:
    """Order by distance, without the query itself."""

    def orders(queries: Queries) -> Orders:
        found = []
        for query, row in zip(queries.tolist(), distances(queries), strict=True):
            ties = _ties(names[query], len(row))
            order = ties[np.argsort(row[ties], kind="stable")]
            found.append(order[order != query])
        return np.stack(found)

    return orders


def _ties(query: str, images: int) -> NDArray[np.int64]:
    """Return all images in the order in which the KMC's own code has them if all are equally far."""
    nearest = Nearest(images, _key(query))
    nearest.add(np.zeros(images, dtype=np.uint32), 0)
    return np.array([row for _, row in nearest.nearest()], dtype=np.int64)


def _key(query: str) -> bytes:
    """Return what the KMC's hash of ties is keyed by: the query, and which of its images is asked for."""
    return f"{query} 0".encode()
